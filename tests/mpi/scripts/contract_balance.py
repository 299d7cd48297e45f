"""Checks of max_workers, and that nothing waits behind a task that takes long."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from support import Gate, Log, echo, fresh, raises, until

import mpitasks as mt

ITEMS = 60


def _all_workers() -> int:
    with mt.Executor() as ex:
        return ex.num_workers


def check_max_workers() -> None:
    there = _all_workers()
    for count in (1, there, there + 3, None):
        with mt.Executor(max_workers=count) as ex:
            used = there if count is None else min(count, there)
            assert ex.num_workers == used, (count, ex.num_workers)
            assert ex.with_options(priority=1).num_workers == used
            gate = Gate()
            tasks = [ex.submit(fresh(_hold_here), gate) for _ in range(used + 2)]
            until(lambda gate=gate, n=used: gate.waiting == n, "all in use have one")
            gate.open()
            assert len({task.result(120) for task in tasks}) == used
            assert list(ex.map(echo, range(100))) == list(range(100))


def _hold_here(gate: Gate) -> tuple[int, int]:
    gate.hold()
    return os.getpid(), threading.get_ident()


def check_max_workers_are_always_the_same() -> None:
    places = set()
    for _ in range(3):
        with mt.Executor(1, label="one") as ex:
            assert ex.options.label == "one"
            places |= set(ex.map(_here, range(50)))
            places |= {ex.submit(_here, n).result(120) for n in range(5)}
    assert len(places) == 1, places


def _here(_: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def check_wrong_max_workers() -> None:
    for wrong in (0, -1):
        error = raises(mt.OptionError, lambda wrong=wrong: mt.Executor(wrong))
        assert "max_workers" in str(error)
    for kind in ("2", True, 2.0):
        raises(TypeError, lambda kind=kind: mt.Executor(max_workers=kind))
    with mt.Executor() as ex:
        assert ex.submit(echo, 1).result(120) == 1


# Some items wait until all others have run, those behind them in the same batch too.
# There are fewer of them than workers, so that there is always one to run the others.


def _run(log: Log, waiting: range, item: Any) -> int:
    number = int(item)
    if number >= 0:
        log.append(number)
    if number in waiting:
        others = {str(n) for n in range(ITEMS)} - {str(n) for n in waiting}
        until(lambda: others <= set(log.lines()), "the other items are run")
    return 2 * number


def _task(ex: mt.Executor, log: Log) -> Callable[[Any], int]:
    """Return a task some items of which wait for the others, next to each other."""
    return fresh(partial(_run, log, range(7, 7 + ex.num_workers - 1)))


def _each_ran_once(log: Log) -> None:
    lines = log.lines()
    assert sorted(map(int, lines)) == list(range(ITEMS)), lines


def check_items_behind_a_long_one(ex: mt.Executor) -> None:
    for chunksize in (ITEMS, 20):
        log = Log()
        results = ex.map(_task(ex, log), range(ITEMS), chunksize=chunksize)
        assert list(results) == list(range(0, 2 * ITEMS, 2))
        _each_ran_once(log)


def check_items_of_any_kind_behind_a_long_one(ex: mt.Executor) -> None:
    log = Log()
    items = [np.full((), n) for n in range(ITEMS)]
    results = ex.map_unordered(_task(ex, log), items, chunksize=ITEMS, buffersize=ITEMS)
    assert sorted(results) == [(n, 2 * n) for n in range(ITEMS)]
    _each_ran_once(log)


def check_calls_behind_a_long_one(ex: mt.Executor) -> None:
    log = Log()
    task = _task(ex, log)
    for _ in range(3):  # so that it is known to be quick
        assert ex.submit(task, -1).result(120) == -2
    futures = [ex.submit(task, n) for n in range(ITEMS)]
    assert [future.result(120) for future in futures] == list(range(0, 2 * ITEMS, 2))
    _each_ran_once(log)
