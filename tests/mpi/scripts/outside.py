"""`mpitasks.start` in a plain script: what holds of the run, and how it ends.

Each part starts jobs of its own, one after the other. The first argument is the MPI.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mpitasks as mt

SECONDS = 600.0  # of a task that is ended before
LARGE = 3 << 20


def double(x: int) -> int:
    return 2 * x


def row(k: int) -> Any:
    return np.full(LARGE // 64, k, dtype=float)


def rank_0() -> int:
    """Return the process of rank 0: it and the worker have the same parent."""
    parent = os.getppid()
    siblings = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return min(int(word) for word in siblings)


def write(text: str) -> None:
    print(text)
    print(f"{text}, as an error", file=sys.stderr)


def note(text: str) -> None:
    logging.getLogger("of the task").warning(text)


def draw() -> float:
    return float(mt.rng().random())


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def fail(point: Point) -> None:
    raise LookupError(point)


def until(condition: Callable[[], bool]) -> None:
    while not condition():  # or the job ends by its limit
        time.sleep(0.001)


@contextlib.contextmanager
def raising(kind: type[BaseException], part: str = "") -> Iterator[None]:
    raised = None
    try:
        yield
    except kind as error:
        raised = error
    assert raised is not None, f"no {kind.__name__}"
    assert part in str(raised), f"{part!r} is not in {raised}"


def values() -> None:
    with mt.start(2, seed=5) as executor:
        assert executor.num_workers == 2
        numbers = [executor.submit(draw).result() for _ in range(3)]
        assert sum(executor.map(double, range(1000))) == 999_000
        assert executor.submit(double, executor.submit(double, 3)).result() == 12
        pids = {executor.submit(os.getpid).result() for _ in range(20)}
        assert os.getpid() not in pids
        point = executor.submit(Point, 3).result()
        assert type(point) is Point
        error = executor.submit(fail, point).exception()
        assert type(error) is LookupError
        assert type(error.args[0]) is Point
        assert "in fail" in str(error.__cause__)
        futures = [executor.submit(double, k) for k in range(10)]
        assert sum(f.result() for f in mt.as_completed(futures)) == 90
        with raising(mt.TaskCrashed):
            executor.with_options(isolate=True).submit(os._exit, 3).result()
        array = np.arange(LARGE, dtype=float)
        again = executor.submit(np.add, array, 1).result()
        assert np.array_equal(again, array + 1)
        again[0] = 7  # it is ours
        several = [executor.submit(np.multiply, array, k) for k in range(8)]
        for k, future in enumerate(several):
            assert np.array_equal(future.result(), array * k)
        shared = executor.share(array)
        assert executor.submit(np.sum, shared).result() == array.sum()
        kept = executor.with_options(keep=True).submit(np.add, array, 2)
        assert executor.submit(np.sum, kept).result() == (array + 2).sum()
        assert np.array_equal(kept.result(), array + 2)
        out = np.empty((20, LARGE // 64))
        executor.map_into(out, row, range(20))
        assert np.array_equal(out[:, 0], np.arange(20))
    with raising(mt.ExecutorClosedError, "after shutdown"):
        executor.submit(double, 1)
    with mt.start(1, seed=5) as executor:  # the same numbers on any number of workers
        assert [executor.submit(draw).result() for _ in range(3)] == numbers


def output() -> None:
    """What ranks print goes to what `sys.stdout` is here, which may be no file."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        with mt.start(1, logging=True) as executor:
            executor.submit(note, "well").result()
            executor.submit(write, "a line").result()
            executor.submit(write, "x" * 100_000).result()
            printed, errors = sys.stdout, sys.stderr
    finally:
        sys.stdout, sys.stderr = out, err
    lines = printed.getvalue().splitlines()
    assert lines == ["a line", "x" * 100_000], lines
    told = [line for line in errors.getvalue().splitlines() if "take turns" not in line]
    assert told == ["a line, as an error", f"{'x' * 100_000}, as an error"], told
    logging.getLogger().removeHandler(handler)
    assert [record.getMessage() for record in records] == ["well"]


def one_at_a_time() -> None:
    executor = mt.start(1, env={"OF_THE_RANKS": "there"})
    assert executor.submit(os.getenv, "OF_THE_RANKS").result() == "there"
    assert "OF_THE_RANKS" not in os.environ
    with raising(mt.ConfigurationError, "was called before"):
        mt.start(1)
    with raising(mt.ConfigurationError, "a task runs on a worker"):
        executor.submit(mt.start, 1).result()
    with mt.Executor() as other:
        assert other.submit(double, 4).result() == 8
    assert executor.submit(double, 4).result() == 8
    waiting = executor.submit(time.sleep, 0.2)
    executor.shutdown(wait=False)
    assert waiting.result() is None
    until(lambda: executor._run.is_over)


def deaths() -> None:
    """A death is an exception in the next wait, and the next start works."""
    for what in ("a worker", "rank 0", "mpiexec"):
        executor = mt.start(2)
        mpiexec = executor._run._job._process.pid
        pid = mpiexec
        if what != "mpiexec":
            asked = rank_0 if what == "rank 0" else os.getpid
            pid = executor.submit(asked).result()
        futures = [executor.submit(time.sleep, SECONDS) for _ in range(4)]
        os.kill(pid, signal.SIGKILL)
        with raising(mt.WorkerLost, "mpitasks.start(...) starts others"):
            futures[0].result()
        for future in futures:
            assert isinstance(future.exception(), mt.WorkerLost)
        with raising(mt.WorkerLost):
            executor.submit(double, 1).result()
        with raising(mt.WorkerLost):
            list(executor.map(double, range(3)))
        if what == "mpiexec":
            said = str(futures[0].exception())
            assert "mpiexec was killed by SIGKILL" in said, said
            executor.shutdown()  # it need not be
    with mt.start(1) as executor:
        assert executor.submit(double, 2).result() == 4


def interrupts() -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt_soon(condition: Callable[[], bool]) -> threading.Thread:
        def send() -> None:
            until(condition)
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=send)
        thread.start()
        return thread

    with mt.start(1) as executor:
        isolated = executor.with_options(isolate=True)
        running = isolated.submit(time.sleep, SECONDS)
        queued = [executor.submit(double, k) for k in range(10)]
        thread = interrupt_soon(lambda: executor._handle.event_loop.driven)
        with raising(KeyboardInterrupt):
            running.result()
        thread.join()
        assert running.cancelled()
        assert all(future.cancelled() for future in queued)
        assert list(executor.map(double, range(5))) == [0, 2, 4, 6, 8]
        # At any moment of submitting and of waiting: the engine is whole afterwards.
        came = 0
        for round in range(60):
            before = executor._handle.event_loop.polls
            limit = before + 3 * round
            thread = interrupt_soon(
                lambda limit=limit: executor._handle.event_loop.polls > limit
            )
            try:
                try:
                    for _ in range(100):
                        sum(executor.map(double, range(50)))
                        executor.submit(double, 1).result()
                finally:
                    thread.join()
            except KeyboardInterrupt:
                came += 1
        assert came == 60, came
        assert list(executor.map(double, range(5))) == [0, 2, 4, 6, 8]
    with raising(KeyboardInterrupt), mt.start(1) as executor:
        executor.submit(time.sleep, SECONDS)  # it ends with its rank
        raise KeyboardInterrupt


def no_starts(mpi: str) -> None:
    with raising(mt.ConfigurationError, "no program 'nonsense'"):
        mt.start(1, mpiexec="nonsense")
    with raising(mt.OptionError, "workers"):
        mt.start(0)
    with raising(mt.ConfigurationError, "needs an allocation"):
        mt.start(1, slurm=True)
    with raising(mt.LaunchError, "--nonsense" if mpi == "openmpi" else "nonsense"):
        mt.start(1, mpiexec_args=["--nonsense"])
    with raising(mt.LaunchError, "mpi4py finds no MPI library"):
        mt.start(1, env={"MPI4PY_MPIABI": "nonsense"})
    with raising(TypeError, "bogus"):
        mt.start(1, bogus=1)
    if mpi == "openmpi":
        with raising(mt.LaunchError, "slots"):
            mt.start(9, mpiexec_args=["--map-by", "slot:NOOVERSUBSCRIBE"])
    with mt.start(1) as executor:
        assert executor.submit(double, 2).result() == 4


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mpi = sys.argv[1]
    parts: dict[str, Callable[[], object]] = {
        "values": values,
        "deaths": deaths,
        "no starts": lambda: no_starts(mpi),
    }
    if mpi == "mpich":  # the other starts slowly, and these depend on no MPI
        parts |= {
            "output": output,
            "one at a time": one_at_a_time,
            "interrupts": interrupts,
        }
    for name, part in parts.items():
        part()
        print(name, "ok", flush=True)
    print("all parts ran")
