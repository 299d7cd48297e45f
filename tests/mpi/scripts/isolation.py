"""Isolated tasks on real ranks: crashes, kills, limits, cancelling, arrays, output.

Usage: isolation.py WORKERS
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import support
from support import echo, raises, until

import mpitasks as mt


def crash(x: Any) -> Any:
    """Crash with every fourth."""
    if x % 4 == 1:
        ctypes.string_at(0)
    return x


def hang(path: Path | None = None) -> NoReturn:
    """Never return; say that it began."""
    if path is not None:
        path.write_text(str(os.getpid()))
    while True:
        time.sleep(3600)


def where() -> tuple[int, int, mt.CurrentTask]:
    """Say which process this is, and which task."""
    return os.getpid(), os.getppid(), mt.current_task()


def check_it_is_another_process(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True, label="here")
    pid, _, task = view.submit(where).result(120)
    own, _, other = ex.submit(where).result(120)
    assert pid != own
    assert task.label == "here"
    assert task.host == other.host
    assert task.attempt == 1


def check_crashes_cost_one_task_each(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True, label="fit")
    futures = [view.submit(crash, x) for x in range(40)]
    for x, future in enumerate(futures):
        if x % 4 == 1:
            error = raises(mt.TaskCrashed, lambda future=future: future.result(120))
            assert error.signal == signal.SIGSEGV
            assert error.label == "fit"
            assert "in crash" in str(error.__cause__)
        else:
            assert future.result(120) == x


def check_crashes_cost_one_item_each(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True, return_exceptions=True, chunksize=20)
    values = list(view.map(crash, range(100)))
    assert len(values) == 100
    for x, value in enumerate(values):
        assert type(value) is mt.TaskCrashed if x % 4 == 1 else value == x


def check_a_crash_is_tried_again(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True, retries=2)
    assert view.submit(_crash_at_first).result(120) == 3


def _crash_at_first() -> int:
    attempt = mt.current_task().attempt
    if attempt < 3:
        os.abort()
    return attempt


def check_limits(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True)
    slow = [view.with_options(timeout=0.3).submit(hang) for _ in range(3)]
    big = view.with_options(memory_limit=300_000_000).submit(np.ones, 50_000_000)
    for future in slow:
        raises(mt.TaskTimeout, lambda future=future: future.result(120))
    assert raises(mt.TaskMemoryExceeded, big.result).limit == 300_000_000


def check_cancelling_kills(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True)
    path = support.scratch / f"pid-{os.getpid()}-{time.monotonic_ns()}"
    future = view.submit(hang, path)
    until(lambda: path.exists() and path.read_text() != "", "it hangs")
    assert future.running()
    assert future.cancel()
    assert future.cancelled()
    pid = path.read_text()
    until(lambda: not Path(f"/proc/{pid}").exists(), "it is killed")
    assert view.submit(echo, 3).result(120) == 3


def check_the_rest_of_a_chunk_goes_elsewhere(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True, chunksize=10)
    if ex.num_workers == 1:
        return
    gate = support.Gate()
    results = view.map_unordered(_hold_at, [(gate, x, 0) for x in range(10)])
    rest = sorted(index for index, _ in (next(results) for _ in range(9)))
    assert rest == list(range(1, 10))
    gate.open()
    assert next(results) == (0, 0)


def _hold_at(item: tuple[support.Gate, int, int]) -> int:
    gate, x, at = item
    return int(gate.hold(x)) if x == at else x


def check_arrays(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True)
    arrays = [np.arange(float(n)) for n in (0, 10, 10_000, 100_000, 3_000_000)]
    for array in arrays:
        back = view.submit(np.negative, array).result(120)
        np.testing.assert_array_equal(back, -array)
        back[...] = 0.0


def check_many_arrays(ex: mt.Executor) -> None:
    view = ex.with_options(isolate=True)
    arrays = [np.full(100_000, float(x)) for x in range(60)]
    for x, back in enumerate(view.map(np.negative, arrays)):
        assert (back == -x).all()


def check_shutdown_ends_what_hangs() -> None:
    ex = mt.Executor(isolate=True)
    futures = [ex.submit(hang) for _ in range(5)]
    until(lambda: any(f.running() for f in futures), "one runs")
    ex.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def check_output_arrives(ex: mt.Executor) -> None:
    ex.with_options(isolate=True).submit(print, "said in a child").result(120)


if __name__ == "__main__":
    sys.exit(support.run_checks([sys.modules["__main__"]], ""))
