"""Checks of an Executor's beginning and end."""

from __future__ import annotations

import concurrent.futures
import copy
import gc
from concurrent.futures import CancelledError

from support import Gate, Log, Occupied, double, echo, fail, fresh, raises, until

import mpitasks as mt


def check_is_a_stdlib_executor(ex: mt.Executor) -> None:
    assert isinstance(ex, concurrent.futures.Executor)


def check_context_manager() -> None:
    log = Log()
    with mt.Executor() as ex:
        for number in range(20):
            ex.submit(log.append, number)
        ex.map(log.append, range(20))
    assert len(log.lines()) == 40


def check_context_manager_with_error() -> None:
    log = Log()

    def script() -> None:
        with mt.Executor() as ex:
            ex.submit(log.append, 1)
            raise LookupError("in the block")

    raises(LookupError, script)
    assert log.lines() == ["1"]


def check_refuses_after_shutdown() -> None:
    ex = mt.Executor()
    view = ex.with_options(priority=3)
    ex.shutdown()
    for action in (
        lambda: ex.submit(echo, 1),
        lambda: view.submit(echo, 1),
        lambda: ex.with_options(label="late").submit(echo, 1),
        lambda: ex.map(echo, [1]),
        lambda: ex.map(echo, []),
        lambda: ex.starmap(pow, [(1, 2)]),
        lambda: ex.map_unordered(echo, [1]),
    ):
        error = raises(mt.ExecutorClosedError, action)
        assert isinstance(error, RuntimeError)
        assert "after shutdown" in str(error)


def check_shutdown_of_a_view_is_everybodys() -> None:
    ex = mt.Executor()
    ex.with_options(priority=3).shutdown()
    raises(RuntimeError, lambda: ex.submit(echo, 1))


def check_shutdown_twice() -> None:
    ex = mt.Executor()
    future = ex.submit(double, 2)
    ex.shutdown()
    assert future.done()
    ex.shutdown()
    ex.shutdown(wait=False)
    ex.shutdown(cancel_futures=True)
    with ex:
        pass
    assert future.result() == 4


def check_shutdown_without_any_work() -> None:
    mt.Executor().shutdown()
    mt.Executor().shutdown(wait=False)
    with mt.Executor():
        pass


def check_shutdown_waits() -> None:
    gate = Gate()
    ex = mt.Executor()
    futures = [ex.submit(fresh(gate.hold), n) for n in range(5)]
    ex.shutdown(wait=False)
    assert not all(f.done() for f in futures)
    gate.open()
    ex.shutdown(wait=True)
    assert all(f.done() for f in futures)
    assert [f.result() for f in futures] == list(range(5))


def check_shutdown_without_waiting() -> None:
    gate = Gate()
    ex = mt.Executor()
    futures = [ex.submit(fresh(gate.hold), n) for n in range(5)]
    results = ex.map(double, range(5))
    ex.shutdown(wait=False)
    gate.open()
    assert [f.result(120) for f in futures] == list(range(5))
    assert list(results) == [0, 2, 4, 6, 8]


def check_shutdown_that_cancels() -> None:
    ex = mt.Executor()
    log = Log()
    with Occupied(ex) as occupied:
        queued = [ex.submit(fresh(log.append), n) for n in range(10)]
        results = ex.map(fresh(log.append), range(10))
        ex.shutdown(wait=False, cancel_futures=True)
        assert all(f.cancelled() for f in queued)
        killed = [ex.options.isolate] * len(occupied.futures)
        assert [f.cancelled() for f in occupied.futures] == killed
    ex.shutdown()
    if not ex.options.isolate:
        assert all(f.result(120) is None for f in occupied.futures)
    raises(CancelledError, lambda: list(results))
    assert log.lines() == []


def check_shutdown_that_cancels_and_waits() -> None:
    ex = mt.Executor()
    futures = [ex.submit(fresh(double), n) for n in range(50)]
    ex.shutdown(wait=True, cancel_futures=True)
    assert all(f.done() for f in futures)
    for number, future in enumerate(futures):
        assert future.cancelled() or future.result() == 2 * number


def check_map_survives_shutdown() -> None:
    with mt.Executor() as ex:
        results = ex.map(double, range(100))
        failing = ex.map(fail, [ValueError])
    assert list(results) == list(range(0, 200, 2))
    raises(ValueError, lambda: list(failing))


def check_buffered_map_ends_with_shutdown() -> None:
    with mt.Executor() as ex:
        results = ex.map(double, range(100), buffersize=3)
    raises(RuntimeError, lambda: list(results))


def check_shutdown_in_a_callback() -> None:
    ex = mt.Executor()
    gate = Gate()
    called = []

    def shut(_: object) -> None:
        ex.shutdown(wait=False)
        called.append(True)

    future = ex.submit(fresh(gate.hold))
    future.add_done_callback(shut)
    gate.open()
    until(lambda: bool(called), "the callback is called")
    raises(RuntimeError, lambda: ex.submit(echo, 1))


def check_one_after_another() -> None:
    for number in range(20):
        with mt.Executor() as ex:
            assert ex.submit(double, number).result(120) == 2 * number


def _draw() -> float:
    return float(mt.rng().random())


def check_two_at_once() -> None:
    with mt.Executor(seed=5) as alone:
        draws = [alone.submit(_draw).result(120) for _ in range(3)]
    with mt.Executor() as outer:
        first = outer.submit(echo, 0)
        with mt.Executor(seed=5) as inner:
            got = []
            for number in range(3):  # the calls of the other change no numbers of it
                assert outer.submit(echo, number).result(120) == number
                got.append(inner.submit(_draw).result(120))
            assert got == draws
            assert list(inner.map(double, range(5))) == [0, 2, 4, 6, 8]
        raises(RuntimeError, lambda: inner.submit(echo, 1))
        assert list(outer.map(double, range(5))) == [0, 2, 4, 6, 8]
        assert first.result(120) == 0
    with mt.Executor() as ex:
        assert ex.submit(echo, 2).result(120) == 2


def _library_call() -> list[int]:
    executor = mt.Executor()
    executor.submit(echo, 1)
    return list(executor.map(abs, [-1, -2]))


def check_one_that_was_dropped_keeps_nobody_out() -> None:
    for _ in range(3):
        assert _library_call() == [1, 2]
    ring = [mt.Executor()]
    ring.append(ring)  # type: ignore[arg-type]
    future = ring[0].submit(echo, 3)
    del ring
    with mt.Executor() as ex:
        assert ex.submit(echo, 4).result(20) == 4
        assert future.result(20) == 3
    gc.collect()  # until then it counts as open, and wants all workers


def _make_executor() -> None:
    mt.Executor()


def _use_executor() -> object:
    with mt.Executor() as ex:
        return ex.submit(echo, 1).result()


def check_a_task_has_its_own(ex: mt.Executor) -> None:
    assert ex.submit(_make_executor).result(120) is None
    assert ex.submit(_use_executor).result(120) == 1
    assert ex.submit(echo, 1).result(120) == 1


class Sampler:
    """An object that carries an Executor along, as those of many libraries do."""

    def __init__(self, pool: mt.Executor) -> None:
        self.pool = pool
        self.map = pool.map

    def log_likelihood(self, x: float) -> float:
        return -x * x

    def uses_it(self, how: str) -> object:
        if how == "with":
            with self.pool:
                return None
        if how == "num_workers":
            return self.pool.num_workers
        if how == "view":
            return self.pool.with_options(retries=1).submit(echo, 1)
        if how == "shutdown":
            return self.pool.shutdown()
        return list(self.map(echo, [1]))


def check_one_may_be_carried_to_a_task(ex: mt.Executor) -> None:
    sampler = Sampler(ex)
    assert list(ex.map(sampler.log_likelihood, range(3))) == [0, -1, -4]
    for how in ("with", "num_workers", "view", "shutdown", "map"):
        error = ex.submit(sampler.uses_it, how).exception(120)
        assert type(error) is RuntimeError, error
        assert "inside a task" in str(error), error
    back = ex.submit(echo, sampler).result(120)
    assert isinstance(back.pool, mt.Executor)
    error = raises(RuntimeError, lambda: back.map(echo, [1]))
    assert "inside a task" in str(error), error
    assert copy.deepcopy(sampler).pool is ex
    assert ex.submit(echo, 1).result(120) == 1


def check_none_captured_by_a_task(ex: mt.Executor) -> None:
    error = ex.submit(lambda: ex.submit(echo, 1)).exception(120)
    assert type(error) is RuntimeError, error
    assert "inside a task" in str(error), error
