"""Checks of num_workers, with_options and priorities."""

from __future__ import annotations

import os
import threading

from support import Gate, Log, Occupied, double, echo, fresh, raises, until

import mpitasks as mt


def check_all_workers_work(ex: mt.Executor) -> None:
    gate = Gate()
    futures = [ex.submit(fresh(_hold_here), gate) for _ in range(ex.num_workers)]
    until(lambda: gate.waiting == ex.num_workers, "every worker has a task")
    gate.open()
    places = {future.result(120) for future in futures}
    assert len(places) == ex.num_workers


def _hold_here(gate: Gate) -> tuple[int, int]:
    gate.hold()
    return os.getpid(), threading.get_ident()


def check_tasks_of_one_worker_are_in_one_thread(ex: mt.Executor) -> None:
    places = set(ex.map(_where, range(200)))
    assert len(places) <= ex.num_workers
    assert len({pid for pid, _ in places}) == len(places)


def _where(_: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def check_views(ex: mt.Executor) -> None:
    view = ex.with_options(priority=3)
    assert isinstance(view, mt.Executor)
    both = view.with_options(label="fit", chunksize=4)
    default = mt.TaskOptions(isolate=ex.options.isolate)  # of the command line
    assert both.options == default.replace(chunksize=4, label="fit", priority=3)
    assert view.options == default.replace(priority=3)
    assert ex.options == default
    assert both.num_workers == ex.num_workers
    assert both.submit(double, 2).result(120) == 4
    assert list(both.map(double, range(9))) == list(range(0, 18, 2))
    assert sorted(both.map_unordered(double, [1])) == [(0, 2)]
    assert list(both.starmap(pow, [(2, 3)])) == [8]


def check_options_of_the_executor() -> None:
    with mt.Executor(priority=2, label="all") as ex:
        default = mt.TaskOptions(isolate=ex.options.isolate)  # of the command line
        assert ex.options == default.replace(priority=2, label="all")
        assert ex.submit(double, 2).result(120) == 4


def check_options_of_one_map(ex: mt.Executor) -> None:
    bad = [3, "x", 4]
    asked = {"max_failures": 0, "chunksize": 1}
    raises(mt.TooManyFailures, lambda: list(ex.map(abs, bad, **asked)))
    raises(TypeError, lambda: list(ex.starmap(abs, zip(bad), fail_fast=True)))
    values = dict(ex.map_unordered(abs, bad, return_exceptions=True))
    assert type(values.pop(1)) is TypeError
    assert values == {0: 3, 2: 4}
    raises(TypeError, lambda: ex.map(abs, bad, colour="red"))
    raises(mt.OptionError, lambda: ex.map(abs, bad, max_failures=-1))


def check_wrong_options(ex: mt.Executor) -> None:
    raises(TypeError, lambda: ex.with_options(colour="red"))
    for wrong in (
        {"chunksize": 0},
        {"chunksize": 1.5},
        {"priority": "high"},
        {"priority": True},
        {"label": 3},
    ):
        name = next(iter(wrong))
        error = raises(mt.OptionError, lambda wrong=wrong: ex.with_options(**wrong))
        assert isinstance(error, ValueError)
        assert isinstance(error, mt.ConfigurationError)
        assert name in str(error)


def check_wrong_options_leave_no_executor_open() -> None:
    raises(mt.OptionError, lambda: mt.Executor(priority=1.5))
    raises(TypeError, lambda: mt.Executor(workers=4))
    with mt.Executor() as ex:
        assert ex.submit(echo, 1).result(120) == 1


def check_priorities(ex: mt.Executor) -> None:
    log = Log()
    with Occupied(ex) as occupied:
        for priority in (0, 5, -1, 5, 7, 0):
            view = ex.with_options(priority=priority)
            for number in range(3):
                view.submit(fresh(log.append), (priority, number))
        occupied.gates[0].open()  # one worker runs them all, so there is an order
        until(lambda: len(log.lines()) == 18, "one worker has run all tasks")
    expected = [
        str((priority, number))
        for priority in (7, 5, 5, 0, 0, -1)
        for number in range(3)
    ]
    assert log.lines() == expected, log.lines()


def check_priority_of_a_map(ex: mt.Executor) -> None:
    log = Log()
    with Occupied(ex) as occupied:
        low = ex.map(fresh(log.append), ["low"] * 5, chunksize=1)
        ex.submit(fresh(log.append), "middle")
        high = ex.with_options(priority=1).map(
            fresh(log.append), ["high"] * 5, chunksize=2
        )
        occupied.gates[0].open()
        until(lambda: len(log.lines()) == 11, "one worker has run all tasks")
    assert log.lines()[:5] == ["high"] * 5
    assert sorted(log.lines()[5:]) == ["low"] * 5 + ["middle"]
    assert list(low) == list(high) == [None] * 5
