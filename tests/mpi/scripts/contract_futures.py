"""Checks of the Future: its states, its methods, its callbacks, its memory."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import threading
import weakref
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
from support import Gate, Occupied, capture, double, echo, fail, fresh, raises, until

import mpitasks as mt


def check_result(ex: mt.Executor) -> None:
    future = ex.submit(pow, 2, 10)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 1024
    assert future.result(0) == 1024
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()


def check_keywords_of_any_name(ex: mt.Executor) -> None:
    future = ex.submit(capture, 1, self=2, fn=3)
    assert future.result() == ((1,), {"fn": 3, "self": 2})
    raises(TypeError, lambda: ex.submit())  # type: ignore[call-arg]
    raises(TypeError, lambda: ex.submit(fn=echo, arg=1))  # type: ignore[call-arg]


def check_exception(ex: mt.Executor) -> None:
    future = ex.submit(fail, KeyError, "k")
    error = future.exception()
    assert type(error) is KeyError
    assert error.args == ("k",)
    assert raises(KeyError, future.result) is error
    assert future.done()


def check_states_of_running_and_queued(ex: mt.Executor) -> None:
    with Occupied(ex) as occupied:
        running = occupied.futures[0]
        assert running.running()
        assert not running.done()
        if not ex.options.isolate:  # such tasks can be killed
            assert not running.cancel()
        assert not running.cancelled()
        queued = ex.submit(fresh(echo), 1)
        assert not queued.running()
        assert not queued.done()
        assert queued.cancel()
        assert queued.cancel()
        assert queued.cancelled()
        assert queued.done()
        raises(CancelledError, queued.result)
        raises(CancelledError, queued.exception)
    assert running.result(120) is None
    assert not running.running()


def check_cancelled_is_never_run(ex: mt.Executor) -> None:
    gate = Gate()
    with Occupied(ex):
        futures = [ex.submit(fresh(gate.hold)) for _ in range(20)]
        assert all(future.cancel() for future in futures)
    assert ex.submit(echo, 1).result(120) == 1
    assert gate.waiting == 0


def check_timeouts(ex: mt.Executor) -> None:
    gate = Gate()
    future = ex.submit(fresh(gate.hold), 5)
    raises(concurrent.futures.TimeoutError, lambda: future.result(0))
    raises(concurrent.futures.TimeoutError, lambda: future.result(0.01))
    raises(concurrent.futures.TimeoutError, lambda: future.exception(0))
    raises(concurrent.futures.TimeoutError, lambda: future.exception(timeout=0.01))
    gate.open()
    assert future.result(timeout=120) == 5


def check_repr(ex: mt.Executor) -> None:
    with Occupied(ex) as occupied:
        assert "running" in repr(occupied.futures[0]), repr(occupied.futures[0])
        queued = ex.submit(fresh(echo), 1)
        assert "pending" in repr(queued), repr(queued)
        queued.cancel()
        assert "cancelled" in repr(queued), repr(queued)
    done = ex.submit(echo, 1)
    done.result()
    assert "finished returned int" in repr(done), repr(done)
    failed = ex.submit(fail, ValueError)
    failed.exception()
    assert "finished raised ValueError" in repr(failed), repr(failed)


def check_callback_before_and_after(ex: mt.Executor) -> None:
    gate = Gate()
    called: list[tuple[str, Any]] = []
    future = ex.submit(fresh(gate.hold), 7)
    future.add_done_callback(lambda f: called.append(("first", f.result())))
    future.add_done_callback(lambda f: called.append(("second", f.result())))
    assert not called
    gate.open()
    until(lambda: len(called) == 2, "both callbacks are called")
    assert called == [("first", 7), ("second", 7)]
    future.add_done_callback(lambda f: called.append(("late", f.result())))
    assert called[2:] == [("late", 7)]


def check_callback_of_cancelled(ex: mt.Executor) -> None:
    called = []
    with Occupied(ex):
        future = ex.submit(fresh(echo), 1)
        future.add_done_callback(called.append)
        assert future.cancel()
        until(lambda: called == [future], "the callback is called")


def check_callback_of_failed(ex: mt.Executor) -> None:
    called = []
    future = ex.submit(fail, OSError, 5)
    future.add_done_callback(lambda f: called.append(type(f.exception())))
    until(lambda: bool(called), "the callback is called")
    assert called == [OSError]


def check_callback_that_raises(ex: mt.Executor) -> None:
    logger = logging.getLogger("concurrent.futures")
    records: list[logging.LogRecord] = []
    logger.addFilter(lambda record: bool(records.append(record)))
    called = threading.Event()

    def wrong(_: object) -> None:
        raise ArithmeticError("wrong")

    try:
        gate = Gate()
        future = ex.submit(fresh(gate.hold))
        future.add_done_callback(wrong)
        future.add_done_callback(lambda _: called.set())
        gate.open()
        assert called.wait(120)
        future.add_done_callback(wrong)
    finally:
        for entry in logger.filters[:]:
            logger.removeFilter(entry)
    assert len(records) == 2
    assert ex.submit(echo, 1).result(120) == 1


def check_callback_that_submits(ex: mt.Executor) -> None:
    done = threading.Event()
    seen = []

    def more(future: concurrent.futures.Future[int]) -> None:
        seen.append(future.result())
        if future.result() < 50:
            ex.submit(pow, future.result() + 1, 1).add_done_callback(more)
        else:
            done.set()

    ex.submit(pow, 1, 1).add_done_callback(more)
    assert done.wait(120)
    assert seen == list(range(1, 51))


def check_callback_that_waits(ex: mt.Executor) -> None:
    results: list[int] = []
    for number in range(20):
        future = ex.submit(echo, number)
        future.add_done_callback(
            lambda f: results.append(f.result() + ex.submit(echo, 2).result(120))
        )
        assert future.result(120) == number
    until(lambda: len(results) == 20, "the callbacks got their other results")
    assert sorted(results) == list(range(2, 22))


def check_callback_that_maps(ex: mt.Executor) -> None:
    results: list[list[int]] = []
    future = ex.submit(echo, 3)
    future.add_done_callback(
        lambda f: results.append(list(ex.map(double, range(f.result()))))
    )
    until(lambda: results == [[0, 2, 4]], "the callback got its map")


def check_many_futures_in_any_order(ex: mt.Executor) -> None:
    futures = [ex.submit(double, number) for number in range(2000)]
    for number, future in reversed(list(enumerate(futures))):
        assert future.result(120) == 2 * number


def check_submit_in_the_depth(ex: mt.Executor) -> None:
    for number in range(300):
        assert ex.submit(echo, number).result(120) == number


def check_futures_are_freed(ex: mt.Executor) -> None:
    future = ex.submit(echo, np.arange(100_000))
    result = weakref.ref(future.result())
    seen = weakref.ref(future)
    del future
    gc.collect()
    assert seen() is None, gc.get_referrers(seen())
    assert result() is None, gc.get_referrers(result())


def check_unwanted_futures_are_freed(ex: mt.Executor) -> None:
    seen = [weakref.ref(ex.submit(double, number)) for number in range(200)]
    assert ex.submit(echo, 1).result(120) == 1

    def gone() -> bool:
        gc.collect()
        return not any(ref() for ref in seen)

    until(gone, "the futures that nobody keeps are freed")


def check_arguments_are_freed(ex: mt.Executor) -> None:
    array = np.ones(200_000)
    argument = weakref.ref(array)
    future = ex.submit(np.sum, array)
    del array
    assert future.result(120) == 200_000

    def gone() -> bool:
        gc.collect()
        return argument() is None

    until(gone, "the argument is freed")


def check_raised_exceptions_are_freed(ex: mt.Executor) -> None:
    class Local:
        pass

    marker = Local()
    seen = weakref.ref(marker)

    def wait_for(future: mt.Future, keep: object) -> None:
        raises(ValueError, future.result)

    wait_for(ex.submit(fail, ValueError), marker)
    del marker
    gc.collect()
    assert seen() is None


def check_futures_travel_as_arguments_only(ex: mt.Executor) -> None:
    future = ex.submit(echo, 1)
    assert ex.submit(echo, future).result(120) == 1
    error = ex.submit(lambda: future).exception(120)
    assert isinstance(error, mt.SerializationError), error
    assert "result()" in str(error), error
    assert future.result() == 1
