"""What it brings that a unresponsive worker gives back what it has not begun.

    mpiexec -n 5 python -m mpitasks benchmarks/give_back.py

With MPI4PY_RC_THREAD_LEVEL=serialized in the environment it shows how it is without:
the listener needs MPI_THREAD_MULTIPLE. Wall time over the best possible for lists of
sleeping tasks, three runs each, by `map` and by `submit`. A sleep counts as 60 us at
least, which is what the system adds to it. Each run has a function that nothing is
known about. By hand only: no part of `run.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import mpitasks

RUNS = 3
SECONDS = 1.5
"""Work for each worker in the log-normal list."""

LEAST_SLEEP = 60e-6


def log_normal(count: int, workers: int) -> list[float]:
    """Return lengths with sigma 2, in seconds."""
    draw = random.Random(3).lognormvariate
    lengths = [draw(0.0, 2.0) for _ in range(count)]
    scale = SECONDS * workers / sum(lengths)
    return [scale * length for length in lengths]


def sleeper() -> Callable[[float], None]:
    """Return a function that is new to the scheduler."""

    def sleep(seconds: float) -> None:
        time.sleep(seconds)

    return sleep


def by_map(executor: mpitasks.Executor, lengths: Sequence[float]) -> None:
    """Run the list as one map."""
    list(executor.map(sleeper(), lengths))


def by_submit(executor: mpitasks.Executor, lengths: Sequence[float]) -> None:
    """Run the list as calls of their own."""
    sleep = sleeper()
    for future in [executor.submit(sleep, length) for length in lengths]:
        future.result()


def main() -> None:
    """Print a line for each list and way."""
    with mpitasks.Executor() as executor:
        workers = executor.num_workers
        lists = {
            "4,000 log-normal, sigma 2": log_normal(4000, workers),
            "3,000 of 1 us, then 12 of 0.3 s": [1e-6] * 3000 + [0.3] * 12,
        }
        for name, lengths in lists.items():
            work = sum(max(length, LEAST_SLEEP) for length in lengths)
            best = max(work / workers, max(lengths))
            for way in (by_map, by_submit):
                ratios = []
                for _ in range(RUNS):
                    start = time.perf_counter()
                    way(executor, lengths)
                    ratios.append((time.perf_counter() - start) / best)
                values = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
                print(f"{workers} workers, {name}, {way.__name__}: {values}")


if __name__ == "__main__":
    main()
