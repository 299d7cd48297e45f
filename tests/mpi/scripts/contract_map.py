"""Checks of map, starmap and map_unordered."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
from support import Gate, Log, Occupied, double, echo, fail, fresh, raises, until

import mpitasks as mt


def _invert(number: float) -> float:
    return 1 / number


def _array(number: int) -> np.ndarray[Any, Any]:
    return np.full(20_000, number)


class _Counting:
    """An endless iterator that counts how many items were taken from it."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> _Counting:
        return self

    def __next__(self) -> int:
        self.taken += 1
        return self.taken - 1


def check_order(ex: mt.Executor) -> None:
    assert list(ex.map(double, range(5000))) == list(range(0, 10000, 2))
    assert list(ex.map(pow, range(50), range(50))) == [n**n for n in range(50)]


def check_is_lazy_to_read_and_eager_to_take(ex: mt.Executor) -> None:
    log = Log()
    source = iter(range(10))
    results = ex.map(log.append, source)
    assert next(source, "empty") == "empty"
    until(lambda: len(log.lines()) == 10, "all calls are made unasked")
    assert list(results) == [None] * 10


def check_shapes_of_input(ex: mt.Executor) -> None:
    assert list(ex.map(double, [])) == []
    assert list(ex.map(pow)) == []  # type: ignore[arg-type]
    assert list(ex.map(pow, [2, 3, 4], [3, 2])) == [8, 9]
    assert list(ex.map(pow, [2, 3], itertools.count(1))) == [2, 9]
    assert list(ex.map(double, "abc")) == ["aa", "bb", "cc"]
    assert list(ex.map(double, (n for n in (1, 2)))) == [2, 4]
    assert sorted(ex.map(double, {1: "x", 2: "y"})) == [2, 4]
    assert list(ex.map(echo, [(1, 2), (3, 4)])) == [(1, 2), (3, 4)]


def check_chunksizes(ex: mt.Executor) -> None:
    expected = [double(n) for n in range(100)]
    for chunksize in (1, 7, 100, 1000):
        assert list(ex.map(double, range(100), chunksize=chunksize)) == expected
        assert list(ex.with_options(chunksize=chunksize).map(double, range(100))) == (
            expected
        )
        assert list(ex.map(pow, range(9), range(9), chunksize=chunksize)) == (
            [n**n for n in range(9)]
        )
    for wrong in (0, -1):
        raises(ValueError, lambda wrong=wrong: ex.map(double, [1], chunksize=wrong))
    raises(ValueError, lambda: ex.map(double, [1], chunksize="3"))  # type: ignore[arg-type]


def check_exception_at_its_place(ex: mt.Executor) -> None:
    for chunksize in (None, 1, 3):
        results = ex.map(_invert, [1, 2, 0, 4], chunksize=chunksize)
        assert next(results) == 1
        assert next(results) == 0.5
        error = raises(ZeroDivisionError, lambda results=results: next(results))
        assert "_invert" in str(error.__cause__)
        raises(StopIteration, lambda results=results: next(results))


def check_stop_iteration(ex: mt.Executor) -> None:
    assert type(ex.submit(fail, StopIteration, 5).exception(120)) is StopIteration
    raises(RuntimeError, lambda: list(ex.map(fail, [StopIteration])))
    raises(RuntimeError, lambda: list(ex.map(next, [iter([1]), iter([])])))


def check_timeout(ex: mt.Executor) -> None:
    gate = Gate()
    results = ex.map(fresh(gate.hold), range(3), timeout=0.05)
    raises(concurrent.futures.TimeoutError, lambda: list(results))
    gate.open()
    assert list(ex.map(double, range(3), timeout=20)) == [0, 2, 4]


def check_timeout_after_first_results(ex: mt.Executor) -> None:
    gate = Gate()
    wait = {0: False, 1: True}
    results = ex.map(
        fresh(_hold_if), [gate] * 2, wait.values(), chunksize=1, timeout=1.0
    )
    if ex.num_workers > 1:
        assert next(results) == "at once"
    raises(concurrent.futures.TimeoutError, lambda: list(results))
    gate.open()


def _hold_if(gate: Gate, wait: bool) -> str:
    if wait:
        gate.hold()
    return "held" if wait else "at once"


def check_source_that_raises(ex: mt.Executor) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("dry")

    raises(LookupError, lambda: list(ex.map(double, numbers())))
    results = ex.map(double, numbers(), buffersize=1)
    assert next(results) == 2
    raises(LookupError, lambda: next(results))
    assert ex.submit(echo, 1).result(120) == 1


def check_buffersize(ex: mt.Executor) -> None:
    for buffersize in (1, 2, 10, 1000):
        source = _Counting()
        results = ex.map(double, source, buffersize=buffersize)
        assert source.taken == buffersize
        assert next(results) == 0
        assert source.taken == 1 + buffersize, source.taken  # before it is waited for
        for number in range(1, 100):
            assert next(results) == 2 * number
            assert source.taken <= number + 1 + buffersize, source.taken
        results.close()  # type: ignore[attr-defined]
    assert list(ex.map(double, range(10), buffersize=3)) == list(range(0, 20, 2))
    assert list(ex.map(pow, [1, 2], [3], buffersize=9)) == [1]
    assert list(ex.map(pow, [1, 2], [3, 4], buffersize=1, chunksize=5)) == [1, 16]
    assert list(ex.map(double, [], buffersize=1)) == []


def check_buffersize_out_of_range(ex: mt.Executor) -> None:
    for wrong in (0, -1):
        raises(ValueError, lambda wrong=wrong: ex.map(echo, [1], buffersize=wrong))
    for kind in ("1", 1.5):
        raises(TypeError, lambda kind=kind: ex.map(echo, [1], buffersize=kind))


def check_close_drops_the_rest(ex: mt.Executor) -> None:
    log = Log()
    gate = Gate()
    results = ex.map(_log_and_hold, [log] * 50, [gate] * 50, range(50), chunksize=1)
    gate_of_first = ex.num_workers
    until(lambda: gate.waiting >= gate_of_first, "each worker has one")
    closer = threading.Thread(target=lambda: next(results))
    closer.start()
    gate.open()
    closer.join(120)
    results.close()  # type: ignore[attr-defined]
    assert ex.submit(echo, 3).result(120) == 3
    assert list(ex.map(double, range(3))) == [0, 2, 4]


def _log_and_hold(log: Log, gate: Gate, number: int) -> None:
    log.append(number)
    gate.hold()


def check_unstarted_results_may_be_dropped(ex: mt.Executor) -> None:
    ex.map(double, range(100))
    gc.collect()
    assert ex.submit(echo, 3).result(120) == 3


def check_several_at_once(ex: mt.Executor) -> None:
    maps = [ex.map(pow, range(100), [n] * 100) for n in range(5)]
    futures = [ex.submit(pow, n, 2) for n in range(50)]
    for row in zip(range(100), *maps, strict=True):
        base, *powers = row
        assert powers == [base**n for n in range(5)]
    assert [f.result(120) for f in futures] == [n * n for n in range(50)]


def check_submits_between_results(ex: mt.Executor) -> None:
    for number, value in enumerate(ex.map(double, range(50))):
        assert value == 2 * number
        assert ex.submit(echo, number).result(120) == number
        assert list(ex.map(double, [number])) == [2 * number]


def check_results_that_nobody_keeps_are_freed(ex: mt.Executor) -> None:
    for options in ({}, {"chunksize": 4}, {"buffersize": 2}):
        for array in ex.map(_array, range(8), **options):  # type: ignore[arg-type]
            seen = weakref.ref(array)
            del array
            gc.collect()
            assert seen() is None, options


def check_items_are_freed(ex: mt.Executor) -> None:
    seen = []

    def arrays() -> Iterator[np.ndarray[Any, Any]]:
        for number in range(8):
            array = np.full(20_000, number)
            seen.append(weakref.ref(array))
            yield array

    results = ex.map(np.sum, arrays())
    assert list(results) == [20_000 * n for n in range(8)]

    def gone() -> bool:
        gc.collect()
        return not any(ref() is not None for ref in seen)

    until(gone, "the items are freed")


def check_starmap(ex: mt.Executor) -> None:
    assert list(ex.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
    assert list(ex.starmap(pow, ([n, 2] for n in range(9)), chunksize=2)) == (
        [n * n for n in range(9)]
    )
    assert list(ex.starmap(dict, [(), ([(1, 2)],)])) == [{}, {1: 2}]
    endless = ex.starmap(pow, ((n, 2) for n in itertools.count()), buffersize=3)
    assert list(itertools.islice(endless, 5)) == [0, 1, 4, 9, 16]
    raises(TypeError, lambda: list(ex.starmap(pow, [(1, 2), 3])))  # type: ignore[list-item]


def check_map_unordered(ex: mt.Executor) -> None:
    pairs = list(ex.map_unordered(double, range(500)))
    assert sorted(pairs) == [(n, 2 * n) for n in range(500)]
    pairs = list(ex.map_unordered(pow, range(5), range(9), chunksize=2))
    assert sorted(pairs) == [(n, n**n) for n in range(5)]
    assert list(ex.map_unordered(double, [])) == []


def check_map_unordered_yields_what_is_there(ex: mt.Executor) -> None:
    if ex.num_workers < 2:
        return
    gate = Gate()
    held = [True, False, False]
    results = ex.map_unordered(fresh(_hold_if), [gate] * 3, held, chunksize=1)
    assert sorted(itertools.islice(results, 2)) == [(1, "at once"), (2, "at once")]
    gate.open()
    assert list(results) == [(0, "held")]


def check_map_unordered_without_end(ex: mt.Executor) -> None:
    for options in ({}, {"buffersize": 5}):
        source = _Counting()
        results = ex.map_unordered(double, source, **options)  # type: ignore[arg-type]
        for index, value in itertools.islice(results, 1000):
            assert value == 2 * index
        assert source.taken < 100_000, source.taken


def check_map_unordered_with_exception(ex: mt.Executor) -> None:
    def values() -> list[tuple[int, float]]:
        return list(ex.map_unordered(_invert, [1, 2, 0, 4]))

    raises(ZeroDivisionError, values)


def check_cancelled_queue_ends_maps(ex: mt.Executor) -> None:
    with Occupied(ex) as occupied:
        results = ex.map(fresh(double), range(10))
        ex.shutdown(wait=False, cancel_futures=True)
        occupied.release()
        raises(CancelledError, lambda: list(results))


def check_mixed_results(ex: mt.Executor) -> None:
    items = [1, "two", 3.0, None, b"4", [5], {"six": 6}, np.arange(7), (8,)]
    back = list(ex.map(echo, items))
    assert back[:7] == items[:7]
    assert (back[7] == items[7]).all()
    assert back[8] == (8,)
    assert list(map(type, back)) == list(map(type, items))
