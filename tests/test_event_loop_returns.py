"""What a worker gives back, as the master sees it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import WorkerLost
from mpitasks.wire import codec
from mpitasks.wire.messages import MAP, MAP_PLAIN, SURROUNDINGS, Goodbye, Returned


@pytest.fixture
def one() -> Iterator[Hands]:
    hands = Hands(1)
    yield hands
    hands.close()


@pytest.fixture
def two() -> Iterator[Hands]:
    hands = Hands(2)
    yield hands
    hands.close()


def _first(hands: Hands) -> tuple[int, Any]:
    """Return the worker that was sent the only call, and the call."""
    found = [(rank, call) for rank in hands.ends for call in hands.calls(rank)]
    assert len(found) == 1
    return found[0]


def test_the_rest_of_a_chunk_is_sent_to_another_worker(two: Hands) -> None:
    results = Executor().map(abs, range(0, -10, -1), chunksize=10)
    unresponsive, call = _first(two)
    two.say(unresponsive, Returned(unresponsive, [], (call[0], 4)))
    other, rest = _first(two)
    assert other != unresponsive
    assert rest[0] != call[0]
    assert rest[1:3] == (call[1], MAP_PLAIN)
    assert codec.decode(rest[3]) == range(-4, -10, -1)
    two.reply(other, rest, [4, 5, 6, 7, 8, 9])
    assert two.event_loop.outstanding == 4
    two.reply(unresponsive, call, [0, 1, 2, 3])
    assert list(results) == list(range(10))
    assert two.event_loop.outstanding == 0


def test_items_of_any_kind_are_encoded_again(two: Hands) -> None:
    items = [[at] for at in range(6)]
    results = Executor().map(len, items, chunksize=6)
    unresponsive, call = _first(two)
    assert call[2] == MAP
    two.say(unresponsive, Returned(unresponsive, [], (call[0], 1)))
    other, rest = _first(two)
    assert [codec.decode(frame) for frame, _ in rest[3]] == items[1:]
    two.reply(unresponsive, call, [1])
    two.reply(other, rest, [1] * 5)
    assert list(results) == [1] * 6


def _two_calls(hands: Hands) -> tuple[list[Any], int, list[Any]]:
    """Return two futures, and the worker that was sent their calls in one batch."""
    executor = Executor()
    known = executor.submit(abs, 0)  # so that the next ones share a batch
    rank, call = _first(hands)
    blocker = executor.with_options(priority=1).submit(len, "")
    (other,) = (other for other in hands.ends if other != rank)
    (blocking,) = hands.calls(other)
    futures = [executor.submit(abs, -at) for at in range(2)]
    hands.reply(rank, call, 0)
    calls = hands.calls(rank)
    assert [call[3] for call in calls] == [(0,), (-1,)]
    hands.reply(other, blocking, 0)
    assert known.done()
    assert blocker.done()
    return futures, rank, calls


def test_a_returned_call_is_sent_to_another_worker_as_it_was(two: Hands) -> None:
    futures, unresponsive, calls = _two_calls(two)
    two.say(unresponsive, Returned(unresponsive, [calls[1][0]], None))
    other, again = _first(two)
    assert other != unresponsive
    assert again == calls[1]
    assert not futures[1].done()
    two.reply(other, again, 1)
    assert futures[1].result(0) == 1
    two.reply(unresponsive, calls[0], 0)
    assert futures[0].result(0) == 0
    assert two.event_loop.outstanding == 0


def test_a_worker_that_lacks_the_function_is_sent_it(two: Hands) -> None:
    Executor().map(abs, range(10), chunksize=10)
    unresponsive, call = _first(two)
    two.say(unresponsive, Returned(unresponsive, [], (call[0], 4)))
    (other,) = (rank for rank in two.ends if rank != unresponsive)
    (batch,) = two.batches(other)
    sent = [(number, name) for number, name, *_ in batch.functions]
    assert sent == [(0, SURROUNDINGS), (call[1], None)]


def test_a_returned_call_can_be_cancelled(one: Hands) -> None:
    executor = Executor()
    executor.submit(abs, 0)
    _, call = _first(one)
    futures = [executor.submit(abs, -at) for at in range(3)]
    one.reply(1, call, 0)
    calls = one.calls(1)
    assert len(calls) == 3
    assert not futures[2].cancel()  # it is with the worker
    one.say(1, Returned(1, [calls[1][0], calls[2][0]], None))
    assert futures[2].cancel()
    one.reply(1, calls[0], 0)
    assert [again[0] for again in one.calls(1)] == [calls[1][0]]


def test_a_map_whose_returned_items_are_cancelled_ends(one: Hands) -> None:
    executor = Executor()
    results = executor.map(abs, range(0, -10, -1), chunksize=10)
    _, call = _first(one)
    one.say(1, Returned(1, [], (call[0], 4)))
    assert one.event_loop.outstanding == 10
    executor.shutdown(wait=False, cancel_futures=True)
    assert one.event_loop.outstanding == 4
    one.reply(1, call, [0, 1, 2, 3])
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(CancelledError):
        next(results)
    assert one.calls(1) == []


def test_a_map_ends_although_none_of_its_results_will_come(one: Hands) -> None:
    executor = Executor()
    executor.submit(abs, 0)
    _, first = _first(one)
    executor.submit(abs, 0)
    results = executor.map(abs, [1, 2], chunksize=2)
    one.reply(1, first, 0)
    begun, chunk = one.calls(1)
    one.say(1, Returned(1, [chunk[0]], None))
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        next(results)
    one.reply(1, begun, 0)
    executor.shutdown()


def test_returned_items_fail_with_the_last_worker(one: Hands) -> None:
    executor = Executor()
    results = executor.map(abs, range(0, -10, -1), chunksize=10)
    _, call = _first(one)
    one.say(1, Returned(1, [], (call[0], 4)))
    one.event_loop.close(0.0)
    one.say(1, Goodbye())
    with pytest.raises(WorkerLost):
        list(results)
    assert one.event_loop.outstanding == 0
