"""What a worker gives back while user code takes long, and what it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import SerializationError
from mpitasks.runner import chunks
from mpitasks.runner.chunks import cut, map_plain
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.messages import (
    MAP_PLAIN,
    STARMAP,
    STARMAP_PLAIN,
    Outcomes,
    Returned,
)
from working import (
    PATIENCE,
    WHERE,
    Gate,
    Running,
    chunk,
    double,
    double_or_hold,
    error_of,
    framed,
    framed_chunk,
    hold,
    plain,
)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def master() -> Running:
    return Running()


# Calls.


def test_calls_that_are_not_begun_are_given_back(master: Running, gate: Gate) -> None:
    master.send(
        plain(0, double, 1),
        plain(1, hold, gate.number, "held"),
        plain(2, hold, gate.number),
        framed(3, double, [1]),
    )
    gate.await_task()
    master.give_back()
    assert master.receive(Returned) == Returned(1, [2, 3], None)
    gate.open()
    assert master.finish() == {0: 2, 1: "held"}
    assert gate.seen == ["held"]


def test_results_that_are_there_are_sent_before(master: Running, gate: Gate) -> None:
    master.send(plain(7, double, 4), plain(8, hold, gate.number), plain(9, double, "a"))
    gate.await_task()
    master.give_back()
    done = master.receive(Outcomes)
    assert (done.batches, done.ids, done.values) == (0, [7], [8])
    assert [cost[1] for cost in done.costs] == [1]
    assert master.receive(Returned).ids == [9]
    gate.open()
    last = master.receive(Outcomes)
    assert (last.batches, last.ids) == (1, [8])
    master.finish()


def test_with_nothing_to_give_back_results_are_sent_all_the_same(
    master: Running, gate: Gate
) -> None:
    master.send(plain(7, double, 4), plain(8, hold, gate.number))
    gate.await_task()
    master.give_back()
    master.give_back()
    assert master.receive(Outcomes).ids == [7]
    gate.open()
    assert master.finish() == {7: 8, 8: None}
    assert master.returned == []
    assert [reply.ids for reply in master.replies] == [[7], [8]]


def test_buffers_of_calls_given_back_are_let_go(master: Running, gate: Gate) -> None:
    array = np.arange(float(THRESHOLD))
    master.send(
        framed(0, np.sum, array),
        plain(1, hold, gate.number),
        framed(2, np.sum, array * 2),
    )
    gate.await_task()
    master.give_back()
    master.send(framed(3, np.sum, array * 3))
    gate.open()
    assert master.finish() == {0: array.sum(), 1: None, 3: array.sum() * 3}


def test_a_call_may_be_given_back_and_sent_again(master: Running, gate: Gate) -> None:
    master.send(plain(0, hold, gate.number), plain(1, double, 4))
    gate.await_task()
    master.give_back()
    gate.open()
    master.send(plain(1, double, 4))
    assert master.finish() == {0: None, 1: 8}
    assert [reply.batches for reply in master.replies] == [1, 1]


# The batch sent ahead.


def test_the_batch_sent_ahead_is_given_back_too(master: Running, gate: Gate) -> None:
    master.send(plain(0, hold, gate.number), plain(1, double, 1))
    gate.await_task()
    master.send(plain(2, double, 2), plain(3, double, 3))
    master.give_back()
    assert master.receive(Returned) == Returned(1, [1, 2, 3], None)
    gate.open()
    assert master.finish() == {0: None}
    # Each batch is answered, also one of which nothing is left.
    assert [(reply.batches, reply.ids) for reply in master.replies] == [
        (1, [0]),
        (1, []),
    ]


def test_a_batch_that_comes_later_is_given_back_at_the_next_look(
    master: Running, gate: Gate
) -> None:
    master.send(plain(0, hold, gate.number))
    gate.await_task()
    master.give_back()
    master.send(plain(1, double, 1))
    master.give_back()
    assert master.receive(Returned) == Returned(1, [1], None)
    gate.open()
    assert master.finish() == {0: None}


def test_functions_of_a_batch_given_back_are_learned(
    master: Running, gate: Gate
) -> None:
    array = np.arange(float(THRESHOLD))

    def pick(at: int) -> Any:
        return array[at]

    def forgotten() -> None: ...

    master.send(plain(0, hold, gate.number), plain(1, forgotten))
    gate.await_task()
    master.send(plain(2, pick, 5), framed(3, np.sum, array), forget=[forgotten])
    master.give_back()
    assert master.receive(Returned).ids == [1, 2, 3]
    gate.open()
    master.send(plain(4, pick, 7))  # the function is not sent again
    master.send(plain(5, forgotten))
    outcomes = master.finish()
    assert outcomes[4] == 7.0
    error = error_of(outcomes[5])  # which no master asks for
    assert isinstance(error, SerializationError)
    assert "KeyError" in str(error)
    assert sorted(outcomes) == [0, 4, 5]


def test_a_stop_that_comes_meanwhile_is_kept(master: Running, gate: Gate) -> None:
    master.send(plain(0, hold, gate.number))
    gate.await_task()
    finish = threading.Thread(target=master.finish)
    finish.start()  # it sends the dismissal first
    while not master.worker.state._kept:
        master.give_back()
    gate.open()
    finish.join(PATIENCE)
    assert not finish.is_alive()
    assert [reply.ids for reply in master.replies] == [[0]]


# Chunks.


@pytest.mark.parametrize("make", [chunk, framed_chunk])
@pytest.mark.parametrize(("at", "kept"), [(0, 1), (3, 4), (8, 9)])
def test_the_rest_of_a_chunk_is_given_back(
    master: Running, gate: Gate, make: Callable[..., Any], at: int, kept: int
) -> None:
    task = partial(double_or_hold, gate.number, at)
    master.send(make(5, task, list(range(10))), plain(6, double, 1))
    gate.await_task()
    master.give_back()
    # What is kept counts from the first item that was not reported.
    assert master.receive(Returned) == Returned(1, [6], (5, 1))
    gate.open()
    assert master.finish() == {5: [2 * n for n in range(kept)]}
    assert gate.seen == list(range(kept))
    costs = [cost[1] for reply in master.replies for cost in reply.costs]
    assert costs == ([at, 1] if at else [1])


@pytest.mark.parametrize("make", [chunk, framed_chunk])
def test_the_last_item_of_a_chunk_leaves_nothing_to_give_back(
    master: Running, gate: Gate, make: Callable[..., Any]
) -> None:
    task = partial(double_or_hold, gate.number, 4)
    master.send(make(5, task, list(range(5))))
    gate.await_task()
    master.give_back()
    gate.open()
    assert master.finish() == {5: [0, 2, 4, 6, 8]}
    assert master.returned == []


@pytest.mark.parametrize(
    ("make", "mode"), [(chunk, STARMAP_PLAIN), (framed_chunk, STARMAP)]
)
def test_the_rest_of_a_chunk_of_arguments_is_given_back(
    master: Running, gate: Gate, make: Callable[..., Any], mode: int
) -> None:
    items = [(gate.number, 2, n) for n in range(6)]
    master.send(make(5, double_or_hold, items, mode))
    gate.await_task()
    master.give_back()
    assert master.receive(Returned).split == (5, 1)
    gate.open()
    assert master.finish() == {5: [0, 2, 4]}


def test_buffers_of_items_given_back_are_let_go(master: Running, gate: Gate) -> None:
    number = gate.number

    def total(item: Any) -> Any:
        return hold(number) if item is None else item.sum()

    array = np.arange(float(THRESHOLD))
    items = [array, None, array * 2, array * 3]
    master.send(framed_chunk(0, total, items), framed(1, np.sum, array * 4))
    gate.await_task()
    master.give_back()
    assert master.receive(Returned) == Returned(1, [1], (0, 1))
    master.send(framed(2, np.sum, array * 5))
    gate.open()
    assert master.finish() == {0: [array.sum(), None], 2: array.sum() * 5}


def test_a_chunk_is_cut_again_only_if_something_is_left(
    master: Running, gate: Gate
) -> None:
    task = partial(double_or_hold, gate.number, 2)
    master.send(chunk(5, task, list(range(6))))
    gate.await_task()
    master.give_back()
    master.give_back()
    gate.open()
    assert master.finish() == {5: [0, 2, 4]}
    assert master.returned == [Returned(1, [], (5, 1))]


@pytest.mark.parametrize("make", [chunk, framed_chunk])
@pytest.mark.parametrize("kind", [StopIteration, ValueError, SystemExit])
def test_bad_items_before_and_at_the_long_one_fail_alone(
    master: Running, gate: Gate, make: Callable[..., Any], kind: type[BaseException]
) -> None:
    number = gate.number

    def task(x: int) -> int:
        value: int = double_or_hold(number, 3, x)
        if x in (1, 3):
            raise kind
        return value

    master.send(make(5, task, list(range(8))))
    gate.await_task()
    master.give_back()
    assert master.receive(Returned).split == (5, 1)
    gate.open()
    values = master.finish()[5]
    assert [type(error_of(values[at])) for at in (1, 3)] == [kind, kind]
    assert [values[0], values[2]] == [0, 4]
    assert len(values) == 4


# Cutting, while another thread goes through the list.


@pytest.mark.parametrize("done", range(7))
def test_a_cut_leaves_what_is_begun(done: int) -> None:
    items = list(range(6))
    rest = cut(items, [None] * done)
    assert items + rest == list(range(6))
    assert len(items) == min(done + 1, 6)


class _Growing(list[Any]):
    """Results, one more of which is there at each look."""

    def __len__(self) -> int:
        length = super().__len__()
        self.append(None)
        return length


def test_a_cut_that_came_too_late_is_undone() -> None:
    items = list(range(6))
    assert cut(items, _Growing([None, None])) == []
    assert items == list(range(6))


def test_a_shorter_list_ends_the_run_and_an_undone_cut_goes_on_with_it() -> None:
    items = list(range(8))
    rest: list[int] = []
    seen = []

    def task(x: int) -> int:
        seen.append(x)
        if x == 2:  # as another thread does
            rest.extend(items[3:])
            del items[3:]
        return x * 2

    values: list[int] = []
    map_plain(MAP_PLAIN, task, items, values, WHERE)
    assert values == [0, 2, 4]
    items.extend(rest)
    map_plain(MAP_PLAIN, task, items, values, WHERE)
    assert values == [2 * n for n in range(8)]
    assert seen == list(range(8))


def test_a_cut_that_is_undone_at_once_is_not_noticed() -> None:
    items = list(range(8))

    def task(x: int) -> int:
        rest = items[x + 1 :]
        del items[x + 1 :]
        items.extend(rest)
        return x * 2

    values: list[int] = []
    map_plain(MAP_PLAIN, task, items, values, WHERE)
    assert values == [2 * n for n in range(8)]


class _Racing:
    """The results of a chunk, while which are looked at, the worker goes on."""

    def __init__(self, values: list[Any], gate: Gate) -> None:
        self._values = values
        self._gate = gate
        self._looks = 0

    def __len__(self) -> int:
        self._looks += 1
        if self._looks == 2:
            before = len(self._values)
            self._gate.open()
            end = time.monotonic() + PATIENCE
            while len(self._values) == before:
                assert time.monotonic() < end
        return len(self._values)


def test_a_worker_that_goes_on_meanwhile_keeps_its_items(
    monkeypatch: pytest.MonkeyPatch, master: Running, gate: Gate
) -> None:
    def race(items: list[Any], values: list[Any]) -> list[Any]:
        return cut(items, _Racing(values, gate))  # type: ignore[arg-type]

    monkeypatch.setattr(chunks, "cut", race)
    task = partial(double_or_hold, gate.number, 3)
    master.send(chunk(5, task, list(range(10))), plain(6, double, 1))
    gate.await_task()
    master.give_back()
    assert master.receive(Returned) == Returned(1, [6], None)
    assert master.finish() == {5: [2 * n for n in range(10)]}
    assert gate.seen == list(range(10))
