"""Results are what they were when the task returned, whatever the next task does."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import SerializationError
from mpitasks.runner.chunks import map_plain
from mpitasks.wire import codec
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.messages import MAP_PLAIN, STARMAP_PLAIN
from mpitasks.wire.outcomes import Failure, Sealed, decode_outcome, encode_result
from mpitasks.wire.ownership import copied, is_inert, unshared
from working import WHERE, Running, chunk, error_of, framed, framed_chunk, plain, run

SMALL = np.zeros(3)
LARGE = np.zeros(THRESHOLD)
BYTES = bytearray(THRESHOLD)
STATE = {"n": 0, "list": [0]}


class Held:
    """Has a large array, and spoils it when it dies."""

    def __init__(self, n: int) -> None:
        LARGE[:] = n
        self.array = LARGE

    def __del__(self) -> None:
        LARGE[:] = -1


def small(n: int) -> Any:
    SMALL[:] = n
    return SMALL


def large(n: int) -> Any:
    LARGE[:] = n
    return LARGE


def part_of_large(n: int) -> Any:
    LARGE[:] = n
    return n, {"a": LARGE[10:]}


def read_only_view(n: int) -> Any:
    LARGE[:] = n
    view = LARGE[:]
    view.flags.writeable = False
    return view


def held(n: int) -> Any:
    return Held(n)


def large_bytes(n: int) -> Any:
    BYTES[:] = bytes([n]) * len(BYTES)
    return BYTES


def over_bytes(n: int) -> Any:
    return np.frombuffer(large_bytes(n), np.uint8)


def state(n: int) -> Any:
    STATE["n"] = n
    STATE["list"][0] = n  # type: ignore[index]
    return STATE


def now_and_then(n: int) -> Any:
    return n if n % 3 else large(n)


def raised(n: int) -> Any:
    LARGE[:] = n
    raise ValueError(LARGE)


def _number(value: Any) -> Any:
    """Return the one number that is everywhere in a value."""
    if type(value) is Failure:
        return _number(value.error.args[0])
    if isinstance(value, Held):
        number = float(value.array[0])
        assert (value.array == number).all()
        return number
    if isinstance(value, dict):
        assert value["list"] == [value["n"]]
        return value["n"]
    if isinstance(value, tuple):
        return _number(value[1]["a"])
    values = np.asarray(value).reshape(-1)
    assert (values == values[0]).all()
    return values[0]


REUSING: list[Callable[[int], Any]] = [
    small,
    large,
    part_of_large,
    read_only_view,
    held,
    large_bytes,
    over_bytes,
    state,
    now_and_then,
    raised,
]


@pytest.mark.parametrize("task", REUSING)
def test_results_of_calls_are_what_they_were(task: Any) -> None:
    outcomes = run(*[framed(n, task, n) for n in range(6)])
    assert [_number(outcomes[n]) for n in range(6)] == list(range(6))


@pytest.mark.parametrize("make", [chunk, framed_chunk])
@pytest.mark.parametrize("task", REUSING)
def test_results_of_items_are_what_they_were(make: Any, task: Any) -> None:
    values = run(make(0, task, list(range(6))))[0]
    assert [_number(value) for value in values] == list(range(6))


# Going through a chunk.


class _Unhashable(type):
    """Classes that have no hash, which `pickle` does not take."""

    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None  # type: ignore[assignment]


class _Odd(metaclass=_Unhashable):
    pass


SHARED = [0]


def _kind(kind: str, n: int) -> Any:
    if kind == "stop":
        raise StopIteration
    if kind == "raise":
        raise KeyError(n)
    if kind == "list":
        SHARED[0] = n
        return SHARED
    if kind == "none":
        return None
    if kind == "text":
        return str(n)
    if kind == "odd":
        return _Odd()
    return n


def _expected(kind: str, n: int) -> Any:
    if kind == "stop":
        return StopIteration
    if kind == "raise":
        return KeyError
    if kind == "odd":
        return SerializationError
    return [n] if kind == "list" else _kind(kind, n)


def _opened(value: Any) -> Any:
    if type(value) is not Sealed:
        return value
    form, payload, buffers = value.form
    value = decode_outcome(form, payload, list(buffers))
    return type(value.error) if type(value) is Failure else value


KINDS = ["int", "none", "list", "stop", "raise"]


@pytest.mark.parametrize("mode", [MAP_PLAIN, STARMAP_PLAIN])
@pytest.mark.parametrize("kinds", [*product(KINDS, repeat=4)], ids="-".join)
def test_each_item_has_the_outcome_of_its_own(kinds: Any, mode: int) -> None:
    assert _went_through(kinds, mode) == [
        _expected(kind, n) for n, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize("first", [*KINDS, "odd", "text"])
@pytest.mark.parametrize("second", [*KINDS, "odd", "text"])
def test_long_runs_of_a_kind(first: str, second: str) -> None:
    kinds = [*[first] * 40, *[second] * 40, *[first] * 3]
    assert _went_through(kinds, MAP_PLAIN) == [
        _expected(kind, n) for n, kind in enumerate(kinds)
    ]


def _went_through(kinds: Any, mode: int) -> list[Any]:
    """Return the outcomes of a chunk, each item of which was run once, in order."""
    ran = []
    values: list[Any] = []

    def task(n: int) -> Any:
        # The listener goes by this, when it takes off what is not begun.
        assert len(values) == n
        ran.append(n)
        return _kind(kinds[n], n)

    items: list[Any] = list(range(len(kinds)))
    if mode == STARMAP_PLAIN:
        items = [(n,) for n in items]
    map_plain(mode, task, items, values, WHERE)
    assert ran == list(range(len(kinds)))
    return [_opened(value) for value in values]


# What is copied, and what is not.


def _sent(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Return the addresses of a result's memory, and of what is sent."""
    box = [make()]
    _, buffers = codec.encode(box[0], "it")
    before = [np.frombuffer(buffer, np.uint8).ctypes.data for buffer in buffers]
    del buffers
    _, _, own = encode_result(box, WHERE)
    assert box == []
    return before, [np.frombuffer(buffer, np.uint8).ctypes.data for buffer in own]


def _fresh() -> Any:
    return np.zeros(THRESHOLD)


def _received() -> Any:
    frame, buffers = codec.encode(LARGE, "it")
    return codec.decode(frame, [copied(buffer) for buffer in buffers])


UNSHARED: list[Callable[[], Any]] = [
    _fresh,
    _received,
    lambda: _fresh()[5:],
    lambda: _fresh().reshape(2, -1).T,
    lambda: (1, [_fresh(), {"a": _fresh()}]),
    lambda: bytearray(THRESHOLD),
    lambda: bytes(THRESHOLD),
]


@pytest.mark.parametrize("make", UNSHARED)
def test_what_nobody_else_refers_to_is_not_copied(make: Any) -> None:
    before, after = _sent(make)
    assert before == after
    assert before


_kept: list[Any] = []


def _keeps_a_view() -> Any:
    array = _fresh()
    _kept[:] = [memoryview(array)]
    return array


def _in_a_cycle() -> Any:
    box: list[Any] = [_fresh()]
    box.append(box)
    return box[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: LARGE,
        lambda: LARGE[7:],
        lambda: BYTES,
        lambda: np.frombuffer(BYTES, np.uint8),
        lambda: Held(3),
        _keeps_a_view,
        _in_a_cycle,
    ],
)
def test_what_somebody_else_may_refer_to_is_copied(make: Any) -> None:
    gc.disable()
    try:
        before, after = _sent(make)
    finally:
        gc.enable()
    assert not set(before) & set(after)
    assert len(before) == len(after)


def test_an_array_that_a_weak_reference_finds_is_copied() -> None:
    import weakref

    cache: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def cached() -> Any:
        array = cache[0] = _fresh()
        return array[:]

    before, after = _sent(cached)
    assert before != after


def test_a_mapped_file_is_copied() -> None:
    import mmap

    memory = mmap.mmap(-1, THRESHOLD)
    before, after = _sent(lambda: np.frombuffer(memory, np.uint8))
    assert before != after


def test_memory_in_doubt_is_shared() -> None:
    assert not unshared(np.zeros(3))
    assert not unshared(memoryview(np.zeros(3)).cast("B")[1:].toreadonly()[::2].obj)
    assert not is_inert(Held(1))
    assert not is_inert([[[[[1]]]]])
    assert not is_inert(np.array([Held(1)]))


# Anything may be raised while a result is pickled.


class Panic(BaseException):
    pass


class Raises:
    """Raises while it is pickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __getstate__(self) -> Any:
        raise self.kind


ALL = [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError, Panic]


def _raises(name: str) -> Any:
    return Raises({kind.__name__: kind for kind in ALL}[name])


@pytest.mark.parametrize("kind", ALL)
def test_an_error_while_a_result_is_pickled_is_the_calls(
    kind: type[BaseException],
) -> None:
    name = kind.__name__
    outcomes = run(
        plain(0, _raises, name),
        plain(1, abs, -1),
        chunk(2, lambda x: _raises(name) if x == 1 else x, [0, 1, 2]),
        framed_chunk(3, lambda x: _raises(name) if x == 1 else [x], [0, 1, 2]),
    )
    error = error_of(outcomes[0])
    assert type(error).__name__ == "SerializationError"
    assert name in str(error) or kind is RecursionError  # which pickle calls otherwise
    assert outcomes[1] == 1
    assert [outcomes[2][0], outcomes[2][2]] == [0, 2]
    assert [outcomes[3][0], outcomes[3][2]] == [[0], [2]]
    for value in (outcomes[2][1], outcomes[3][1]):
        assert str(error_of(value)) == str(error)


class RaisesOnArrival:
    """Raises while it is unpickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return _throw, (self.kind,)


def _throw(kind: type[BaseException]) -> None:
    raise kind


@pytest.mark.parametrize("kind", ALL)
def test_an_error_while_arguments_are_unpickled_is_the_calls(
    kind: type[BaseException],
) -> None:
    outcomes = run(
        framed(0, abs, RaisesOnArrival(kind)),
        plain(1, abs, -1),
        framed_chunk(2, abs, [-1, RaisesOnArrival(kind), -2]),
    )
    assert error_of(outcomes[0])
    assert outcomes[1] == 1
    assert [outcomes[2][0], outcomes[2][2]] == [1, 2]
    assert error_of(outcomes[2][1])


def test_user_code_does_not_run_under_the_workers_lock() -> None:
    master = Running()
    seen: list[bool] = []

    def look() -> None:
        seen.append(master.worker.lock.locked())

    _looks.append(look)
    try:
        master.send(framed(0, _make_looking), framed_chunk(1, _make_looking_of, [[1]]))
        master.finish()
    finally:
        _looks.clear()
    assert seen
    assert not any(seen)


_looks: list[Callable[[], None]] = []


class Looking:
    """Has a look while it is pickled."""

    def __reduce__(self) -> Any:
        _looks[0]()
        return int, ()


def _make_looking() -> Any:
    return Looking()


def _make_looking_of(item: Any) -> Any:
    return Looking()
