"""What isolation costs: tasks in a child process of their rank, against tasks in it.

    mpiexec -n 2 python benchmarks/isolate.py

    submit to result     one null task, waited for, and again; median
    one by one, map      null tasks, as many as there are
    N MiB out and back   an array there and back again
    first task           submit to result where the child has to be started first
    after a crash        from the submit of a task that crashes to the result of the
                         next one, which needs a new child; median

The candidate "mpitasks" is isolated, "not isolated" is mpitasks as well; the ratios are
the price.
"""

from __future__ import annotations

import os
import statistics
from typing import Any

import numpy as np

from bench import Bench, median_time, parser, timed
from pools import OURS, Futures
from results import Figure
from tasks import identity

PLAIN = "not isolated"
MIB = 1 << 20
FIGURES = [
    Figure("submit to result", "us", lower=True, against={PLAIN: None}),
    Figure("one by one", "tasks/s", against={PLAIN: None}),
    Figure("map", "items/s", against={PLAIN: None}),
    Figure("1 MiB out and back", "ms", lower=True, against={PLAIN: None}),
    Figure("64 MiB out and back", "ms", lower=True, against={PLAIN: None}),
    Figure("first task", "ms", lower=True, aim=1000),
    Figure("after a crash", "ms", lower=True, aim=100),
]


def crash(_: Any) -> None:
    """End the process."""
    os.abort()


def measure(
    pool: Futures, isolate: bool, trips: int, tasks: int, items: int
) -> dict[str, float]:
    """Measure one of the two.

    Args:
        pool: Ours.
        isolate: Which of the two.
        trips: Calls one after the other.
        tasks: Calls all at once.
        items: Items of the map.
    """
    pool = Futures(pool.executor.with_options(isolate=isolate))
    first = timed(pool.call, identity, 0)
    for _ in range(20):
        pool.call(identity, 0)
    values = {
        "submit to result": 1e6 * median_time(trips, pool.call, identity, 1),
        "one by one": tasks / timed(pool.stream, identity, range(tasks)),
        "map": items / timed(pool.map, identity, range(items)),
    }
    for size in (1, 64):
        array = np.ones(size * MIB, np.uint8)
        pool.call(identity, array)
        seconds = median_time(max(trips // 100 // size, 3), pool.call, identity, array)
        values[f"{size} MiB out and back"] = 1e3 * seconds
    if isolate:
        values["first task"] = 1e3 * first
        values["after a crash"] = 1e3 * statistics.median(
            timed(crash_and_go_on, pool) for _ in range(max(trips // 100, 2))
        )
    return values


def crash_and_go_on(pool: Futures) -> None:
    """Lose a task and run the next one."""
    failed = pool.executor.submit(crash, 0).exception()
    assert type(failed).__name__ == "TaskCrashed", failed
    pool.call(identity, 0)


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("isolate", FIGURES, options, measure)
    sizes = {"trips": 2000, "tasks": 20_000, "items": 500_000}
    if bench.quick:
        sizes = {"trips": 50, "tasks": 100, "items": 1000}
    for _ in bench.rounds():
        bench.note(PLAIN, bench.run(OURS, isolate=False, **sizes))
        bench.note(OURS, bench.run(OURS, isolate=True, **sizes))
    bench.finish()


if __name__ == "__main__":
    main()
