"""dask on the workers, with and without results that stay there; by hand.

    mpiexec -n 3 python -m mpitasks benchmarks/dask_shuffle.py
    mpiexec -n 3 python -m mpitasks benchmarks/dask_shuffle.py --size 0.01 --rounds 1

    transpose   the sum of x + x.T, of 4,000 x 4,000 doubles in chunks of 500 x 500
    groupby     200,000 integers of a bag in 16 partitions, grouped by 100 keys
    shuffle     10^6 rows of a data frame in 16 partitions, shuffled by a column

In each round all schedulers follow each other, and the figure is the median of the
rounds. A first run of each is not counted.

    kept        `mpitasks.integrations.dask.get`
    executor    `scheduler=executor`: all results come to rank 0
    processes   dask's own scheduler, with as many processes as there are workers. They
                are started before, and halted by nobody: they wait while others run.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd

import mpitasks as mt
from mpitasks.integrations.dask import get


def transpose(side: int) -> Callable[[], None]:
    """Return what sums an array and its transpose."""
    x = da.ones((side, side), chunks=(-(-side // 8), -(-side // 8)))
    total = (x + x.T).sum()

    def run() -> None:
        assert total.compute() == 2 * side * side

    return run


def groupby(count: int) -> Callable[[], None]:
    """Return what groups integers."""
    groups = db.range(count, npartitions=16).groupby(lambda n: n % 100)
    sizes = groups.map(lambda group: len(group[1]))

    def run() -> None:
        assert sum(sizes.compute()) == count

    return run


def shuffle(rows: int) -> Callable[[], None]:
    """Return what shuffles a data frame."""
    frame = pd.DataFrame({"key": np.arange(rows) % 997, "value": np.arange(rows)})
    shuffled = dd.from_pandas(frame, npartitions=16).shuffle("key")
    total = shuffled.map_partitions(lambda part: part.value.sum(), meta=("s", "i8"))

    def run() -> None:
        assert total.compute().sum() == rows * (rows - 1) // 2

    return run


def measure(work: Callable[[], None], scheduler: dict[str, Any]) -> float:
    """Return the milliseconds of some work."""
    with dask.config.set(scheduler):
        start = time.perf_counter()
        work()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=float, default=1.0, help="share of the work")
    options = parser.parse_args()
    works = {
        "transpose": transpose(int(4000 * options.size)),
        "groupby": groupby(int(200_000 * options.size)),
        "shuffle": shuffle(int(1_000_000 * options.size)),
    }
    with mt.Executor() as executor:
        workers = executor.num_workers
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn) as processes:
            schedulers = {
                "kept": {"scheduler": functools.partial(get, executor=executor)},
                "executor": {"scheduler": executor},
                "processes": {"scheduler": "processes", "pool": processes},
            }
            print(
                f"{'ms, ' + str(workers) + ' workers':>16}",
                *map("{:>10}".format, schedulers),
            )
            for name, work in works.items():
                times: dict[str, list[float]] = {each: [] for each in schedulers}
                for number in range(options.rounds + 1):
                    for each, scheduler in schedulers.items():
                        spent = measure(work, scheduler)
                        if number:
                            times[each].append(spent)
                medians = [statistics.median(spent) for spent in times.values()]
                print(f"{name:>16}", *map("{:>10.1f}".format, medians), flush=True)


if __name__ == "__main__":
    main()
