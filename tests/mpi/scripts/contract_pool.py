"""Checks of `mpitasks.Pool`: what CPython's own tests (`cpython_pool.py`) leave open.

Where it is not said otherwise, `multiprocessing.Pool` passes them, too.
"""

from __future__ import annotations

import copy
import functools
import gc
import itertools
import multiprocessing
import multiprocessing.pool
import os
import pickle
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
from support import Gate, Log, double, echo, fail, fresh, raises, until

import mpitasks as mt

SET_UP: list[object] = []


def set_up(value: object) -> None:
    SET_UP.append(value)


def told() -> list[object]:
    return SET_UP


def fail_if_odd(number: int) -> int:
    if number % 2:
        raise LookupError(number)
    return number


def leave(_: object = None) -> None:
    sys.exit(3)


def crash(_: object = None) -> None:
    os._exit(3)


def process_id(_: object = None) -> int:
    return os.getpid()


def check_calls() -> None:
    with mt.Pool() as pool:
        assert pool.apply(divmod, (7, 2)) == (3, 1)
        assert pool.apply(dict, kwds={"self": 1, "fn": 2}) == {"self": 1, "fn": 2}
        assert pool.apply(lambda x: x + 1, [2]) == 3
        result = pool.apply_async(double, (4,))
        assert result.get(120) == 8
        assert result.get() == 8
        assert result.ready()
        assert result.successful()
        result.wait(0)


def check_maps() -> None:
    with mt.Pool() as pool:
        assert pool.map(double, range(1000)) == [2 * n for n in range(1000)]
        assert pool.map(double, iter([1, 2]), chunksize=1) == [2, 4]
        assert pool.map(double, {3: 4}) == [6]
        rows = pool.map(np.sum, np.arange(6.0).reshape(3, 2))
        assert rows == [1.0, 5.0, 9.0]
        assert pool.starmap(pow, [(2, 3), [3, 2], iter((1, 1))]) == [8, 9, 1]
        assert pool.map_async(double, [1]).get(120) == [2]
        assert pool.starmap_async(pow, [(2, 3)]).get(120) == [8]
        assert pool.map(echo, [ValueError("a value")])[0].args == ("a value",)
        assert pool.map(double, []) == []


def check_all_items_are_done_before_the_first_error() -> None:
    log = Log()

    def work(number: int) -> int:
        log.append(number)
        return fail_if_odd(number)

    with mt.Pool() as pool:
        error = raises(LookupError, lambda: pool.map(work, range(20)))
        assert error.args == (1,)
        assert sorted(map(int, log.lines())) == list(range(20))
        result = pool.starmap_async(work, [(4,), (7,)])
        assert raises(LookupError, lambda: result.get(120)).args == (7,)
        assert not result.successful()
        assert raises(LookupError, result.get) is raises(LookupError, result.get)


def check_errors_have_the_traceback_of_the_worker() -> None:
    with mt.Pool() as pool:
        for get in (
            lambda: pool.apply(fail_if_odd, (3,)),
            lambda: pool.map(fail_if_odd, [3]),
            lambda: next(pool.imap(fail_if_odd, [3])),
        ):
            cause = raises(LookupError, get).__cause__
            assert type(cause) is multiprocessing.pool.RemoteTraceback
            assert "raise LookupError(number)" in cause.tb
        assert raises(SystemExit, lambda: pool.apply(leave)).code == 3


def check_time_limits() -> None:
    gate = Gate()
    with mt.Pool() as pool:
        result = pool.apply_async(gate.hold, (1,))
        several = pool.map_async(gate.hold, [2])
        items = pool.imap(gate.hold, [3, 4])
        timeout = multiprocessing.TimeoutError
        raises(timeout, lambda: result.get(0.01))
        raises(timeout, lambda: several.get(timeout=0))
        raises(timeout, lambda: items.next(timeout=0.01))
        assert not result.ready()
        error = raises(ValueError, several.successful)
        assert str(error).endswith("not ready")
        gate.open()
        assert items.next(timeout=120) == 3
        assert next(items) == 4
        assert result.get(120) == 1
        assert several.get(120) == [2]


class Order:
    """Notes what its callbacks see."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.result: Any = None
        self.made = threading.Event()

    def callback(self, value: object) -> None:
        assert self.made.wait(120)
        self.seen.append((value, self.result.ready(), threading.current_thread()))

    def set(self, result: Any) -> Any:
        self.result = result
        self.made.set()
        result.wait(120)
        assert result.ready()
        [(value, ready, thread)] = self.seen
        assert not ready
        assert thread is not threading.current_thread()
        return value


def check_callbacks() -> None:
    with mt.Pool() as pool:
        order = Order()
        result = pool.apply_async(double, (2,), callback=order.callback)
        assert order.set(result) == 4
        order = Order()
        result = pool.apply_async(fail, callback=leave, error_callback=order.callback)
        assert isinstance(order.set(result), Exception)
        order = Order()
        result = pool.map_async(double, range(500), callback=order.callback)
        assert order.set(result) is result.get()
        order = Order()
        result = pool.starmap_async(
            fail_if_odd, [(1,), (2,)], None, leave, order.callback
        )
        assert order.set(result).args == (1,)
        raises(LookupError, result.get)
        empty: list[object] = []
        result = pool.map_async(double, [], callback=empty.append)
        assert result.ready()
        assert result.get() == []
        assert empty == []


def check_all_callbacks_are_called_before_join_returns() -> None:
    pool = mt.Pool()
    seen: list[int] = []
    for number in range(200):
        pool.apply_async(echo, (number,), callback=seen.append)
        pool.map_async(echo, [number], callback=seen.extend)
    pool.close()
    pool.join()
    assert sorted(seen) == sorted([*range(200)] * 2)


def check_a_callback_that_raises_costs_nothing() -> None:
    """In the standard library the pool hangs."""
    shown = []
    before, threading.excepthook = threading.excepthook, shown.append
    try:
        with mt.Pool() as pool:
            for callback in (fail, leave):
                result = pool.apply_async(double, (2,), callback=callback)
                assert result.get(120) == 4
                result = pool.map_async(double, [2], callback=callback)
                assert result.get(120) == [4]
            assert pool.apply_async(double, (3,), callback=id).get(120) == 6
    finally:
        threading.excepthook = before
    assert len(shown) == 4


def check_a_callback_may_submit_and_wait() -> None:
    with mt.Pool() as pool:
        got: list[object] = []

        def callback(value: object) -> None:
            got.append(pool.apply(double, (value,)))
            other = pool.apply_async(double, (1,), callback=id)
            got.append(raises(RuntimeError, other.get))  # it is called after this one
            got.append(raises(RuntimeError, result.get))

        result = pool.apply_async(double, (2,), callback=callback)
        assert result.get(120) == 4
        assert got[0] == 8
        assert all("callback" in str(error) for error in got[1:])
        assert len(got) == 3


def check_iterators() -> None:
    with mt.Pool() as pool:
        assert list(pool.imap(double, range(300))) == [2 * n for n in range(300)]
        assert sorted(pool.imap_unordered(double, range(300), 7)) == [
            2 * n for n in range(300)
        ]
        items = pool.imap(fail_if_odd, iter(range(4)))
        assert next(items) == 0
        raises(LookupError, lambda: next(items))
        assert next(items) == 2  # the one after it can be had
        raises(LookupError, lambda: next(items))
        raises(StopIteration, lambda: next(items))
        raises(StopIteration, lambda: next(items))
        for wrong in (0, -1):
            raises(ValueError, lambda wrong=wrong: pool.imap(double, [1], wrong))


def check_an_iterable_may_wait_for_results() -> None:
    """A well-known way to keep the standard library from taking all items at once."""
    room = threading.Semaphore(3)

    def items() -> Iterator[int]:
        for number in range(200):
            assert room.acquire(timeout=120)
            yield number

    with mt.Pool() as pool:
        for imap in (pool.imap, pool.imap_unordered):
            got = []
            for value in imap(double, items()):
                got.append(value)
                room.release()
            assert sorted(got) == [2 * n for n in range(200)]


def check_endless_iterables() -> None:
    """In the standard library they fill the memory."""
    taken = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    with mt.Pool() as pool:
        values = pool.imap(double, items())
        assert list(itertools.islice(values, 1000)) == [2 * n for n in range(1000)]
        until(lambda: _is_steady(taken), "no more items are taken")
        del values
        until(lambda: len(taken) > 5000, "what nobody fetches is run, too")
    until(lambda: _is_steady(taken), "no more items are taken")


def _is_steady(taken: list[int]) -> bool:
    before = len(taken)
    with mt.Executor() as executor:
        executor.submit(double, 1).result(120)
    return len(taken) == before


def check_what_nobody_fetches_is_run() -> None:
    log = Log()
    pool = mt.Pool()
    pool.imap(log.append, range(700))
    kept = pool.imap_unordered(log.append, iter(range(700)))
    pool.map_async(log.append, range(10))
    pool.apply_async(log.append, (0,))
    pool.close()
    pool.join()
    assert len(log.lines()) == 1411
    assert list(kept) == [None] * 700


def check_errors_of_iterables() -> None:
    def items(number: int) -> Iterator[int]:
        yield from range(number)
        raise KeyError("items")

    with mt.Pool() as pool:
        raises(KeyError, lambda: pool.map(double, items(3)))
        raises(KeyError, lambda: pool.map_async(double, items(3), callback=fail))
        for chunksize, before in ((1, 7), (3, 6)):
            values = pool.imap(double, items(7), chunksize)
            got = [next(values) for _ in range(before)]
            assert got == [2 * n for n in range(before)]
            raises(KeyError, lambda values=values: next(values))
            raises(StopIteration, lambda values=values: next(values))
        assert pool.map(double, [1]) == [2]


def check_initializer() -> None:
    with mt.Pool(initializer=set_up, initargs=("ready",)) as pool:
        assert pool.apply(told) == ["ready"]
        assert pool.map(len, [[1]] * 50) == [1] * 50
        assert set(map(len, pool.starmap(told, [()] * 50))) == {1}
        here = pool.apply(process_id) == os.getpid()
    assert here or SET_UP == []
    with mt.Pool(initializer=fail) as pool:
        raises(mt.InitializerError, lambda: pool.apply(told))
        raises(mt.InitializerError, lambda: pool.map(double, range(10)))


def check_close_and_join() -> None:
    pool = mt.Pool()
    error = raises(ValueError, pool.join)
    assert str(error) == "Pool is still running"
    gate = Gate()
    results = [pool.apply_async(fresh(gate.hold), (n,)) for n in range(3)]
    pool.close()
    pool.close()
    for use in (
        lambda: pool.apply(double, (1,)),
        lambda: pool.apply_async(double, (1,)),
        lambda: pool.map(double, [1]),
        lambda: pool.map_async(double, [1]),
        lambda: pool.starmap(pow, [(1, 2)]),
        lambda: pool.imap(double, [1]),
        lambda: pool.imap_unordered(double, [1], 2),
        lambda: pool.__enter__(),
    ):
        assert str(raises(ValueError, use)) == "Pool not running"
    gate.open()
    pool.join()
    pool.join()
    assert [result.get() for result in results] == [0, 1, 2]
    pool.terminate()
    pool.join()


def check_terminate_ends_isolated_tasks() -> None:
    pool = mt.Pool(isolate=True)
    gate = Gate()
    seen: list[object] = []
    results = [pool.apply_async(fresh(gate.hold), callback=seen.append)]
    results += [pool.map_async(fresh(gate.hold), range(100), 1, seen.append)]
    values = pool.imap(fresh(gate.hold), iter(range(1000)))
    until(lambda: gate.waiting, "a task is at its gate")
    pool.terminate()
    pool.join()
    ended = (CancelledError, mt.ExecutorClosedError)
    for result in results:
        raises(ended, lambda result=result: result.get(120))  # type: ignore[arg-type]
    raises(ended, lambda: next(values))  # type: ignore[arg-type]
    raises(ValueError, lambda: pool.apply(double, (1,)))
    assert seen == []
    with mt.Pool() as other:
        assert other.map(double, range(20)) == [2 * n for n in range(20)]


def check_terminate_cuts_iterators_off_with_an_error() -> None:
    pool = mt.Pool()
    values = pool.imap(double, itertools.count())
    fetched = list(itertools.islice(values, 100))
    assert fetched == [2 * n for n in range(100)]
    whole = pool.imap(double, [1, 2])
    assert list(whole) == [2, 4]
    pool.terminate()
    pool.join()
    raises(CancelledError, lambda: list(values))
    raises(CancelledError, lambda: list(values))
    assert list(whole) == []


def check_terminate_waits_for_no_task() -> None:
    pool = mt.Pool()
    gate = Gate()
    result = pool.apply_async(fresh(gate.hold), callback=fail)
    rest = pool.map_async(fresh(gate.hold), range(20))
    until(lambda: gate.waiting, "a task is at its gate")
    with pool:
        pass  # as terminate
    pool.join()
    raises((CancelledError, mt.ExecutorClosedError), result.get)  # type: ignore[arg-type]
    raises((CancelledError, mt.ExecutorClosedError), rest.get)  # type: ignore[arg-type]
    gate.open()
    with mt.Pool() as other:
        assert other.map(double, range(20)) == [2 * n for n in range(20)]


def check_children_are_replaced() -> None:
    with mt.Pool(1, maxtasksperchild=2) as pool:
        ids = [pool.apply(process_id) for _ in range(6)]
        assert len(set(ids)) >= 3
        if pool.size == 1 and mt.Executor().num_workers == 1:
            assert [ids.index(each) for each in ids] == [0, 0, 2, 2, 4, 4]
        futures = [pool.apply_async(process_id) for _ in range(6)]
        counts = [future.get() for future in futures]
        assert max(map(counts.count, counts)) <= 2
        assert pool.map(double, range(30)) == [2 * n for n in range(30)]
        raises(mt.TaskCrashed, lambda: pool.apply(crash))
        assert pool.apply(double, (1,)) == 2


def check_arguments() -> None:
    for wrong in (0, -1):
        error = raises(ValueError, lambda wrong=wrong: mt.Pool(wrong))
        assert str(error) == "Number of processes must be at least 1"
        raises(ValueError, lambda wrong=wrong: mt.Pool(maxtasksperchild=wrong))
    raises(TypeError, lambda: mt.Pool(initializer=1))
    raises(mt.OptionError, lambda: mt.Pool(fail_fast=True))
    raises(mt.OptionError, lambda: mt.Pool(isolate=False, maxtasksperchild=1))
    context = multiprocessing.get_context("spawn")
    with mt.Pool(1, None, (), None, context) as pool:
        assert pool._processes == 1


def check_what_samplers_look_for() -> None:
    workers = mt.Executor().num_workers
    pool = mt.Pool()
    assert pool.size == pool._processes == len(pool._pool) == workers
    assert pool.rank == 0
    assert pool.enabled()
    if not pool.is_master():
        pool.wait()
        sys.exit(0)
    assert not pool.is_worker()
    seen: list[int] = []
    assert pool.map(double, [1, 2], callback=seen.append) == [2, 4]
    assert pool.map(double, [3], seen.append) == [6]  # as schwimmbad's MPIPool
    assert sorted(seen) == [2, 4, 6]
    seen.clear()
    error = raises(
        LookupError, lambda: pool.map(fail_if_odd, range(9), callback=seen.append)
    )
    assert error.args == (1,)
    assert sorted(seen) == [0, 2, 4, 6, 8]
    error = raises(SystemExit, lambda: pool.map(double, [1], callback=leave))
    assert error.code == 3
    pool.close()
    pool.join()


def check_a_callback_of_map_does_not_wait_for_others() -> None:
    gate = Gate()
    with mt.Pool() as pool:
        got: list[object] = []

        def callback(value: object) -> None:
            got.append(value)
            gate.open()

        work = [functools.partial(echo, 0), functools.partial(gate.hold, 1)]
        assert pool.map(_call, work, 1, callback) == [0, 1]
        assert got == [0, 1]


def _call(function: Callable[[], Any]) -> Any:
    return function()


class Sampler:
    """An object that carries its pool along."""

    def __init__(self, pool: mt.Pool) -> None:
        self.pool = pool
        self.map = pool.map

    def log_probability(self, x: float) -> float:
        return -x * x

    def uses_it(self, name: str) -> object:
        if name == "map":
            return self.map(double, [1])
        used: Callable[[], object] = getattr(self.pool, name)
        return used()


def _square(x: int) -> int:
    return x * x


def _use_pool() -> list[int]:
    with mt.Pool() as pool:
        called: list[int] = []
        pool.apply_async(_square, (4,), callback=called.append).get(60)
        assert called == [16]
        return pool.map(_square, range(3))


def check_a_pool_may_be_carried_to_a_task() -> None:
    with mt.Pool() as pool:
        sampler = Sampler(pool)
        assert pool.map(sampler.log_probability, range(3)) == [0, -1, -4]
        for name in ("map", "close", "terminate", "join", "__enter__"):
            use = (sampler.uses_it, (name,))
            error = raises(RuntimeError, lambda use=use: pool.apply(*use))
            assert "a Pool" in str(error)
            assert "inside a task" in str(error)
        assert copy.deepcopy(sampler).pool is pool
        copied = pickle.loads(pickle.dumps(pool))
        assert raises(RuntimeError, lambda: copied.size)
        assert "state=INIT" in repr(copied)
        assert pool.apply(_use_pool) == [0, 1, 4]


def check_results_keep_their_pool() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert list(mt.Pool().imap(double, range(300))) == [2 * n for n in range(300)]
        assert mt.Pool().map_async(double, [1]).get(120) == [2]
        seen: list[int] = []
        pool = mt.Pool(1)
        results = [
            pool.apply_async(double, (1,), callback=seen.append),
            pool.map_async(double, [2], callback=seen.extend),
        ]
        left = weakref.ref(pool)
        del pool
        gc.collect()
        assert [result.get(120) for result in results] == [2, [4]]
        assert sorted(seen) == [2, 4]
        gc.disable()  # it is not left to the garbage collector
        try:
            del results
            until(lambda: left() is None, "the pool is gone")
        finally:
            gc.enable()


def check_an_unclosed_pool_warns() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool = mt.Pool()
        text = repr(pool)
        assert text.startswith("<mpitasks.api.pool.Pool state=RUN pool_size=")
        del pool
        mt.Pool().terminate()
    [warning] = caught
    assert warning.category is ResourceWarning
    assert str(warning.message) == f"unclosed running multiprocessing pool {text}"


def check_several_threads() -> None:
    with mt.Pool() as pool:
        result = pool.map_async(double, range(100))
        values = pool.imap_unordered(double, range(500))
        got: list[Any] = []

        def work() -> None:
            got.append(result.get(120))
            got.extend(values)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        lists = [value for value in got if type(value) is list]
        assert [each is lists[0] for each in lists] == [True] * 4
        numbers = [value for value in got if type(value) is int]
        assert sorted(numbers) == [2 * n for n in range(500)]
