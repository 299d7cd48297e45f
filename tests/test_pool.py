"""`Pool` on rank 0, with workers that a test plays: what depends on who answers when.

What its users see is checked by `tests/mpi/scripts/contract_pool.py` and by CPython's
own tests (`tests/mpi/test_cpython_pool.py`).
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.api.pool import Pool
from mpitasks.api.pool_iterators import AHEAD_PER_WORKER, in_whole_chunks
from mpitasks.errors import ExecutorClosedError
from mpitasks.task_spec import TaskSpec
from mpitasks.wire import codec
from mpitasks.wire.messages import Cancel, Outcomes
from mpitasks.wire.outcomes import Sealed, encode_error, encode_items

SECONDS = 60.0


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(2)
    yield hands
    hands.close()


@pytest.fixture
def pool(hands: Hands) -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.terminate()
    pool.join()


def chunks(hands: Hands) -> list[tuple[int, Any]]:
    """Return the chunks that went out since the last look, each with its rank."""
    return [(rank, call) for rank in (1, 2) for call in hands.calls(rank)]


def items_of(call: Any) -> list[Any]:
    return list(codec.decode(call[3]))


def answer(hands: Hands, rank: int, call: Any, *values: Any) -> None:
    """Have a worker report a chunk; exceptions are what items have raised."""
    forms = [
        Sealed(encode_error(value, f"rank {rank}"))
        if isinstance(value, BaseException)
        else value
        for value in values
    ]
    form, payload, _ = encode_items(forms, f"rank {rank}")
    costs = [(call[1], len(values), 1e-5, 0)]
    report = Outcomes(rank, 1, [call[0]], [], costs, [payload], {0: (form, 0)})
    hands.say(rank, report)


def test_a_map_is_ready_when_all_items_are_done(hands: Hands, pool: Pool) -> None:
    result = pool.map_async(abs, [-1, -2], chunksize=1)
    (first, one), (second, two) = sorted(
        chunks(hands), key=lambda e: -items_of(e[1])[0]
    )
    answer(hands, second, two, KeyError("second"))
    assert not result.ready()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0)
    answer(hands, first, one, KeyError("first"))
    assert result.ready()
    assert not result.successful()
    with pytest.raises(KeyError, match="first"):
        result.get()


def test_an_exception_that_is_returned_is_a_value(hands: Hands, pool: Pool) -> None:
    result = pool.map_async(abs, [-1, -2], chunksize=2)
    [(rank, call)] = chunks(hands)
    error = KeyError("a value")
    hands.reply(rank, call, [1, error])
    one, other = result.get(timeout=0)
    assert (one, other.args) == (1, error.args)
    assert result.get() is result.get()


def test_results_come_in_order_or_as_they_come(hands: Hands, pool: Pool) -> None:
    for imap, order in ((pool.imap, [10, 20]), (pool.imap_unordered, [20, 10])):
        values = imap(abs, [1, 2])
        sent: dict[int, tuple[int, Any]] = {}
        while len(sent) < 2:
            hands.event_loop.nudge()
            for rank, call in chunks(hands):
                assert len(items_of(call)) == 1  # it was never measured
                sent[items_of(call)[0]] = rank, call
        answer(hands, *sent[2], 20)
        if imap == pool.imap:
            with pytest.raises(multiprocessing.TimeoutError):
                values.next(timeout=0)
        answer(hands, *sent[1], 10)
        assert [values.next(timeout=0) for _ in range(2)] == order
        with pytest.raises(StopIteration):
            values.next(timeout=0)


def test_an_item_is_not_the_end_of_an_iterator(hands: Hands, pool: Pool) -> None:
    values = pool.imap(abs, iter([1, 2]), chunksize=2)
    sent: list[Any] = []
    while not sent:
        hands.event_loop.nudge()
        sent = chunks(hands)
    [(rank, call)] = sent
    answer(hands, rank, call, OSError("one"), 2)
    with pytest.raises(OSError, match="one"):
        next(values)
    assert next(values) == 2


def test_it_takes_no_more_items_than_fit(hands: Hands, pool: Pool) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    values = pool.imap(abs, items())
    ahead = AHEAD_PER_WORKER * 2
    while len(taken) < ahead:
        hands.event_loop.nudge()
    rank, call = next(each for each in chunks(hands) if items_of(each[1]) == [0])
    answer(hands, rank, call, 0)
    assert next(values) == 0
    while len(taken) < ahead + 1:
        hands.event_loop.nudge()
    assert len(taken) == ahead + 1


def test_a_chunk_counts_as_a_task_of_a_child(hands: Hands) -> None:
    pool = Pool(maxtasksperchild=3)
    result = pool.map_async(abs, range(81))
    batches = [batch for rank in (1, 2) for batch in hands.batches(rank)]
    spec = TaskSpec(isolate=True, max_tasks_per_child=3)
    for batch in batches:
        assert {TaskSpec(*each) for each in (batch.task_spec or {}).values()} == {spec}
        assert {len(items_of(call)) for call in batch.calls} == {11}  # 81 / (4 * 2)
    pool.terminate()
    assert [type(message) for message in hands.messages(1)] == [Cancel]
    with pytest.raises((CancelledError, ExecutorClosedError)):
        result.get(timeout=0)


def test_its_size(hands: Hands) -> None:
    sizes = []
    for wanted in (None, 1, 2, 8):
        other = Executor()
        pool = Pool(wanted)
        sizes.append((pool.size, pool._processes, len(pool._pool)))
        pool.terminate()
        other.shutdown()
    assert sizes == [(2, 2, 2), (1, 1, 1), (2, 2, 2), (2, 2, 2)]


def test_what_terminate_leaves_is_told_at_once(hands: Hands) -> None:
    pool = Pool()
    seen: list[object] = []
    call = pool.apply_async(abs, (-1,), {}, seen.append, seen.append)
    rest = pool.map_async(abs, range(100), None, seen.append, seen.append)
    whole = pool.apply_async(abs, (-1,))
    pool.terminate()
    for result in (call, rest, whole):
        result.wait(SECONDS)
        assert result.ready()
        with pytest.raises((CancelledError, ExecutorClosedError)):
            result.get(timeout=0)
    pool.join()
    assert seen == []


@pytest.mark.parametrize(("number", "before"), [(0, 0), (1, 0), (3, 3), (5, 3), (7, 6)])
def test_a_chunk_whose_iteration_raises_is_lost(number: int, before: int) -> None:
    def items() -> Iterator[int]:
        yield from range(number)
        raise KeyError(number)

    assert list(in_whole_chunks(range(number), 3)) == list(range(number))
    taken = in_whole_chunks(items(), 3)
    assert [next(taken) for _ in range(before)] == list(range(before))
    with pytest.raises(KeyError):
        next(taken)
