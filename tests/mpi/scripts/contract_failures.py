"""Checks of what a user can ask for tasks that fail: other attempts, limits, an end."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from support import Gate, Log, raises, until

import mpitasks as mt


class Odd(Exception):
    """What some of the tasks raise."""


def flaky(log: Log | None, bad: int, value: Any) -> tuple[Any, int]:
    """Task: raise in so many attempts, then return the value and the attempt."""
    attempt = mt.current_task().attempt
    if log is not None:
        log.append(f"{value} {attempt} {time.monotonic()}")
    if attempt <= bad:
        raise Odd(value, attempt)
    return value, attempt


def flaky_thirds(value: int) -> tuple[int, int]:
    """Task: each third value needs two attempts."""
    return flaky(None, value % 3 == 0, value)


def odd_only(value: int) -> int:
    """Task: raise for even values."""
    if value % 2 == 0:
        raise Odd(value)
    return value


def spin(value: int) -> int:
    """Task: 3 takes for ever."""
    while value == 3:
        pass
    return value


def swallow() -> str:
    """Task: does not let itself be ended by one exception."""
    try:
        spin(3)
    except BaseException:
        spin(3)
    return "never"


def who() -> tuple[mt.CurrentTask, str, int]:
    """Task: tell what it knows of itself, and where it really is."""
    return mt.current_task(), os.uname().nodename, os.getpid()


def check_a_call_is_tried_again(executor: mt.Executor) -> None:
    view = executor.with_options(retries=2)
    assert view.submit(flaky, None, 2, "a").result() == ("a", 3)
    error = raises(Odd, view.submit(flaky, None, 3, "b").result)
    assert error.args == ("b", 3)


def check_the_last_error_carries_the_others(executor: mt.Executor) -> None:
    future = executor.with_options(retries=2, label="fit").submit(flaky, None, 9, "c")
    attempts = []
    error: BaseException | None = raises(Odd, future.result)
    while error is not None:
        if isinstance(error, Odd):
            attempts.append(error.args[1])
        else:
            assert "'fit'" in str(error), error
        error = error.__cause__
    assert attempts == [3, 2, 1]


def check_only_what_is_worth_it_is_tried_again(executor: mt.Executor) -> None:
    view = executor.with_options(retries=5, retry_on=(KeyError, OSError))
    assert raises(Odd, view.submit(flaky, None, 1, "d").result).args == ("d", 1)
    view = view.with_options(retry_on=Odd)
    assert view.submit(flaky, None, 1, "d").result() == ("d", 2)


def check_attempts_wait_longer_each_time(executor: mt.Executor) -> None:
    log = Log()
    view = executor.with_options(retries=3, retry_delay=0.1)
    assert view.submit(flaky, log, 3, "e").result() == ("e", 4)
    times = [float(line.split()[2]) for line in log.lines()]
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert len(pauses) == 3
    assert all(p >= d for p, d in zip(pauses, [0.1, 0.2, 0.4], strict=True)), pauses


def check_others_run_while_an_attempt_waits(executor: mt.Executor) -> None:
    waiting = executor.with_options(retries=1, retry_delay=60.0).submit(
        flaky, None, 1, "f"
    )
    assert [executor.submit(abs, -n).result() for n in range(20)] == list(range(20))
    until(waiting.cancel, "the first attempt has failed, and the next one waits")


def check_items_are_tried_again_alone(executor: mt.Executor) -> None:
    for chunksize in (1, 7, None):
        view = executor.with_options(retries=1, chunksize=chunksize)
        values = list(view.map(flaky_thirds, range(300)))
        assert values == [(n, 1 + (n % 3 == 0)) for n in range(300)]
    indexed = dict(
        executor.with_options(retries=1).map_unordered(flaky_thirds, range(9))
    )
    assert indexed == {n: (n, 1 + (n % 3 == 0)) for n in range(9)}


def check_time_limit(executor: mt.Executor) -> None:
    view = executor.with_options(timeout=0.2)
    for task in (spin, swallow):
        args = (3,) if task is spin else ()
        error = raises(mt.TaskTimeout, view.submit(task, *args).result)
        assert "0.2 s" in str(error), error
        assert isinstance(error, TimeoutError)
    assert executor.submit(spin, 2).result() == 2


def check_time_limit_of_items(executor: mt.Executor) -> None:
    view = executor.with_options(timeout=0.3, return_exceptions=True)
    for chunksize in (1, 20):
        values = list(view.map(spin, range(20), chunksize=chunksize))
        assert isinstance(values.pop(3), mt.TaskTimeout)
        assert values == [n for n in range(20) if n != 3]


def check_a_late_task_is_tried_again(executor: mt.Executor) -> None:
    future = executor.with_options(timeout=0.2, retries=1).submit(spin, 3)
    assert isinstance(future.exception(), mt.TaskTimeout)


def check_exceptions_as_values(executor: mt.Executor) -> None:
    values = list(executor.map(odd_only, range(9), return_exceptions=True))
    assert values[1::2] == [1, 3, 5, 7]
    assert [error.args for error in values[::2]] == [(0,), (2,), (4,), (6,), (8,)]
    assert all("odd_only" in str(error.__cause__) for error in values[::2])


def check_so_many_failures_and_no_more(executor: mt.Executor) -> None:
    enough = executor.with_options(max_failures=5, return_exceptions=True)
    assert [type(v) for v in enough.map(odd_only, range(4))] == [Odd, int, Odd, int]
    error = raises(mt.TooManyFailures, lambda: list(enough.map(odd_only, range(999))))
    assert "max_failures=5" in str(error)
    assert isinstance(error.__cause__, Odd)
    assert executor.submit(abs, -1).result() == 1


def check_fail_fast(executor: mt.Executor) -> None:
    if executor.num_workers < 2:
        return  # the first item keeps the only worker
    gate = Gate()

    def hold_or_raise(n: int) -> int:
        if n == 0:
            return gate.hold(n)
        raise Odd(n)

    results = executor.with_options(fail_fast=True, chunksize=1).map(
        hold_or_raise, range(50)
    )
    assert raises(Odd, lambda: next(results)).args != (0,)  # and 0 is held still
    gate.open()


def check_current_task(executor: mt.Executor) -> None:
    error = raises(mt.ConfigurationError, mt.current_task)
    assert "outside a task" in str(error)
    first, host, pid = executor.with_options(label="one").submit(who).result()
    second, *_ = executor.submit(who).result()
    assert (first.label, first.attempt) == ("one", 1)
    assert (second.label, second.attempt) == (None, 1)
    assert first.id != second.id
    assert (first.rank == 0) == (pid == os.getpid())
    assert first.host == host
    ids = [task.id for task, *_ in executor.map(lambda _: who(), range(3), chunksize=1)]
    assert len(set(ids)) == 3


def check_cancel_of_a_running_isolated_task(executor: mt.Executor) -> None:
    log = Log()

    def note_and_hang() -> None:
        log.append("begun")
        while True:
            pass

    future = executor.with_options(isolate=True).submit(note_and_hang)
    until(log.lines, "it has begun")
    assert future.running()
    assert future.cancel()
    assert future.cancelled()
    assert executor.with_options(isolate=True).submit(abs, -2).result() == 2


def check_shutdown_ends_isolated_tasks() -> None:
    log = Log()

    def note_and_hang() -> None:
        log.append("begun")
        while True:
            pass

    executor = mt.Executor(isolate=True)
    future = executor.submit(note_and_hang)
    until(log.lines, "it has begun")
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()
