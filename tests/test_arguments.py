"""Large arguments are what they were when `submit` or the iteration took them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import InternalError, SerializationError
from mpitasks.master import argument_memory as argument_memories
from mpitasks.master.argument_memory import ArgumentMemory, nbytes_of
from mpitasks.master.item_source import Packed, is_steady, take_steady
from mpitasks.wire import codec
from mpitasks.wire.codec import THRESHOLD

NBYTES = 8 * THRESHOLD


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(1)
    yield hands
    hands.close()


def _array(number: float) -> Any:
    return np.full(THRESHOLD, float(number))


def _arrived(batches: list[Any]) -> list[float]:
    """Return the number that fills each array that a worker was sent."""
    numbers = []
    for batch in batches:
        for buffer in batch.buffers:
            values = np.frombuffer(buffer, float)
            assert (values == values[0]).all()
            numbers.append(float(values[0]))
    return numbers


def _answer(hands: Hands, batches: list[Any]) -> None:
    for batch in batches:
        for call in batch.calls:
            value: Any = 0
            if type(call[3]) is list:
                value = [0] * len(call[3])
            hands.reply(1, call, value, batches=int(call is batch.calls[-1]))


def _work_off(hands: Hands) -> list[float]:
    """Play the worker until it gets nothing more; return what it was sent."""
    numbers = []
    while batches := hands.batches(1):
        numbers += _arrived(batches)
        _answer(hands, batches)
    return numbers


def test_an_array_is_sent_at_once_from_its_own_memory(hands: Hands) -> None:
    executor = Executor()
    array = _array(1)
    future = executor.submit(np.sum, array)
    assert future.buffers == []  # it is not ours any more
    assert hands.event_loop.argument_memory.nbytes == 0
    array[:] = 2
    assert _work_off(hands) == [1.0]
    assert future.result() == 0


def test_an_array_that_waits_is_copied(hands: Hands) -> None:
    executor = Executor()
    array = _array(0)
    for number in range(4):
        array[:] = number
        executor.submit(np.sum, array)
    array[:] = 9
    assert _work_off(hands) == [0.0, 1.0, 2.0, 3.0]


def test_it_is_copied_once_while_it_is_unchanged(hands: Hands) -> None:
    executor = Executor()
    array = _array(0)
    executor.submit(np.sum, array)
    for _ in range(3):
        executor.submit(np.sum, array)
        executor.submit(np.sum, (1, array))
    assert hands.event_loop.argument_memory.nbytes == NBYTES
    array[-1] = 5
    executor.submit(np.sum, array)
    assert hands.event_loop.argument_memory.nbytes == 2 * NBYTES
    array[:] = 5
    executor.submit(np.sum, array[1:])  # other memory
    assert hands.event_loop.argument_memory.nbytes == 3 * NBYTES - 8


def test_copies_are_let_go_of_when_their_calls_are_done(hands: Hands) -> None:
    executor = Executor()
    futures = [executor.submit(np.sum, _array(n)) for n in range(5)]
    assert hands.event_loop.argument_memory.nbytes == 4 * NBYTES
    assert futures[4].cancel()
    assert hands.event_loop.argument_memory.nbytes == 3 * NBYTES
    assert _work_off(hands) == [0.0, 1.0, 2.0, 3.0]
    gc.collect()
    assert hands.event_loop.argument_memory.nbytes == 0


def test_a_call_that_may_be_tried_again_has_a_copy(hands: Hands) -> None:
    executor = Executor(retries=1)
    array = _array(1)
    future = executor.submit(np.sum, array)
    array[:] = 2
    assert np.frombuffer(future.buffers[0], float).max() == 1
    assert hands.event_loop.argument_memory.nbytes == NBYTES
    assert _work_off(hands) == [1.0]


def test_bytes_are_never_copied(hands: Hands) -> None:
    text = bytes(NBYTES)
    _, buffers = codec.encode(text, "it")
    argument_memory = hands.event_loop.argument_memory
    assert argument_memory.keep(buffers)[0].obj is text
    assert argument_memory.keep_of([text], buffers)[0].obj is text
    assert argument_memory.nbytes == nbytes_of(buffers) == 0


def test_submit_does_not_wait_in_a_broken_engine(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(argument_memories, "WAITING_BYTES", NBYTES)
    executor = Executor()
    futures = [executor.submit(np.sum, _array(n)) for n in range(2)]
    error = InternalError("broken")
    hands.event_loop.engine.fail(error)
    futures.append(executor.submit(np.sum, _array(3)))
    assert [future.exception(0) for future in futures] == [error] * 3


def test_no_memory_for_a_copy_fails_the_call(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor()
    executor.submit(np.sum, _array(0))

    def full(*args: Any) -> Any:
        raise MemoryError("full")

    monkeypatch.setattr(argument_memories, "copied", full)
    future = executor.submit(np.sum, _array(1))
    assert isinstance(future.exception(), MemoryError)
    values = executor.map(np.sum, iter([_array(2), 3]), return_exceptions=True)
    monkeypatch.undo()
    _work_off(hands)
    assert values


@pytest.fixture
def driven(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have a worker play along while somebody waits; return what it was sent."""
    sent: list[float] = []

    def drive(done: Callable[[], bool], *rest: Any) -> bool:
        for _ in range(100):
            if done():
                return True
            batches = hands.batches(1)
            sent.extend(_arrived(batches))
            _answer(hands, batches)
            del batches
        raise AssertionError("it would wait for ever")

    monkeypatch.setattr(hands.event_loop, "drive", drive)
    return sent


@pytest.mark.parametrize("room", [0, NBYTES // 2, NBYTES, 2 * NBYTES + 1])
def test_submit_waits_for_room(
    hands: Hands, monkeypatch: pytest.MonkeyPatch, driven: list[float], room: int
) -> None:
    monkeypatch.setattr(argument_memories, "WAITING_BYTES", room)
    executor = Executor()
    array = _array(0)
    for number in range(9):
        array[:] = number
        executor.submit(np.sum, array)
        assert hands.event_loop.argument_memory.nbytes <= max(room, NBYTES)
    array[:] = -1
    assert [*driven, *_work_off(hands)] == list(range(9))


@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("room", [0, NBYTES, 2 * NBYTES + 1, 1 << 30])
def test_pulling_waits_for_room(
    hands: Hands,
    monkeypatch: pytest.MonkeyPatch,
    driven: list[float],
    room: int,
    star: bool,
) -> None:
    monkeypatch.setattr(argument_memories, "WAITING_BYTES", room)
    array = _array(0)

    def items() -> Iterator[Any]:
        for number in range(9):
            array[:] = number
            yield array
            assert hands.event_loop.argument_memory.nbytes <= max(room, NBYTES)

    executor = Executor()
    if star:
        results = executor.map(np.subtract, items(), range(9))
    else:
        results = executor.map(np.sum, items())
    array[:] = -1
    assert [*driven, *_work_off(hands)] == list(range(9))
    assert results


def test_nobody_waits_for_a_map_that_has_ended(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(argument_memories, "WAITING_BYTES", NBYTES)
    executor = Executor()

    def drive(done: Callable[[], bool], *rest: Any) -> bool:
        hands.event_loop.cancel_queue()
        assert done()
        return True

    monkeypatch.setattr(hands.event_loop, "drive", drive)
    executor.submit(abs, 1)
    executor.map(np.sum, (_array(n) for n in range(99)))


def test_the_items_that_were_pulled_are_let_go_of(hands: Hands) -> None:
    executor = Executor()
    results: Any = executor.map(np.sum, [_array(n) for n in range(4)])
    assert hands.event_loop.argument_memory.nbytes == 4 * NBYTES
    next_one = iter(results)
    next_one.close()
    batches = hands.batches(1)
    _answer(hands, batches)
    del results, next_one, batches
    gc.collect()
    assert hands.event_loop.argument_memory.nbytes <= 4 * NBYTES


def test_a_fresh_array_of_a_generator_is_not_copied() -> None:
    argument_memory = ArgumentMemory()
    array = _array(1)
    address = array.ctypes.data
    box = [array]
    del array
    _, buffers = codec.encode(box[0], "it")
    (kept,) = argument_memory.keep_of(box, buffers)
    assert np.frombuffer(kept, np.uint8).ctypes.data == address
    assert argument_memory.nbytes == NBYTES
    del kept, buffers
    assert argument_memory.nbytes == 0


# Items, as they are taken.


def _mutable(kinds: tuple[str, ...], star: bool) -> tuple[list[Any], list[Any]]:
    """Return what a generator yields, and what each item is at that time."""
    shared: list[Any] = [None]
    plain = {"int": 1, "text": "x" * 2000, "none": None}

    def part(kind: str, at: int) -> Any:
        if kind == "list":
            shared[0] = at
            return shared
        return plain[kind]

    def items() -> Iterator[Any]:
        for at, kind in enumerate(kinds):
            yield (at, part(kind, at)) if star else part(kind, at)

    def then(at: int, kind: str) -> Any:
        value = [at] if kind == "list" else plain[kind]
        return (at, value) if star else value

    return items(), [then(at, kind) for at, kind in enumerate(kinds)]  # type: ignore[return-value]


@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("limit", [None, 1, 3])
@pytest.mark.parametrize(
    "kinds", [*product(["int", "text", "list", "none"], repeat=3)], ids="-".join
)
def test_items_are_what_they_were(kinds: Any, limit: int | None, star: bool) -> None:
    from test_bulk_job import carve, make, offer

    source, expected = _mutable((*kinds, *kinds, "int"), star)
    job = make(source, star=star)
    while not job.source.is_exhausted:
        offer(job, limit)
    got: list[Any] = []
    while job.bulk.ready:
        got += _decoded(job, carve(job, 4))
    assert got == expected


def _decoded(job: Any, chunk: Any) -> list[Any]:
    payload = job.encode(chunk)[0][3]
    if isinstance(payload, bytes):
        return list(codec.decode(payload))
    return [codec.decode(frame) for frame, _ in payload]


def test_tuples_of_any_width() -> None:
    shared = [0]
    rows = [(), (1,), (1, 2), (shared,), (3, shared), (), (4, 5, 6)]
    source = iter(rows)
    found = []
    while True:
        items: list[Any] = []
        more = take_steady(source, items, True)
        found.append(items)
        if not more:
            break
    assert found == [rows[:4], rows[4:5], rows[5:]]
    assert [is_steady(row, True) for row in rows] == [1, 1, 1, 0, 0, 1, 1]


def test_an_item_that_cannot_be_pickled_fails_alone_when_it_is_pulled() -> None:
    from test_bulk_job import carve, make, offer

    class Rude:
        nbytes = property(lambda self: 1 / 0)

        def __reduce__(self) -> Any:
            raise SystemExit(3)

    job = make([1, Rude(), 2])
    while not job.source.is_exhausted:
        offer(job)
    items = job.items_of(carve(job, 3))
    assert [type(item) for item in items] == [int, Packed, int]
    error = codec.decode(items[1].frame).error
    assert type(error) is SerializationError
    assert "item 1 cannot be pickled" in str(error)


def test_ctrl_c_while_an_item_is_pickled_ends_the_pulling() -> None:
    import signal

    from test_bulk_job import make

    class Interrupts:
        def __reduce__(self) -> Any:
            signal.raise_signal(signal.SIGINT)
            return int, ()

    with pytest.raises(KeyboardInterrupt):
        make([1, Interrupts(), 2]).pull(None)
