"""Tasks that need results of other tasks, or share data: futures as arguments.

    mpiexec -n 2 python benchmarks/graphs.py

    chain                       1,000 tasks; each adds 1 to the result of the one before
    tree                        1,024 tasks add 1 to a number, then 1,023 tasks add
                                their results in pairs, until one is left
    64 MiB to 100 tasks         an array is shared, and each task reads an element
    a sum of 10^6 floats        `map_reduce` beside `sum(map(...))`, items a second
    one waiting task            memory of rank 0 for a task and its future, the average
                                of 100,000 that wait for one task, which is not done
    one waiting task, process   by how much the process grows for each; one run

The first two are the time from the first submit to the last result, divided by the
number of tasks. The script submits all tasks before it waits for the last one. We run
chain and tree nine times in a round, and the median counts; the peers take seconds, and
run them once. With n ranks there are n - 1 workers, and each peer gets as many.

    raw MPI, chain   a pickled number to the worker and back, by send and recv, for each
                     task: the messages alone, if each result goes through rank 0

A process keeps memory that a round has freed, and grows less in the next one. So
`tracemalloc` counts what the objects take, and the process is looked at once, before
all rounds. Peers keep their tasks in other processes: memory is measured of us alone.
"""

from __future__ import annotations

import functools
import gc
import operator
import statistics
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import raw
from bench import Bench, median_time, parser
from pools import DASK, OURS, RAW, RAY, Futures, GraphPool
from results import Figure
from tasks import add, element, identity, increment, memory, wait_until_gone

FIGURES = [
    Figure("chain", "us a task", lower=True, aim=20),
    Figure("tree", "us a task", lower=True, aim=10),
    Figure("64 MiB to 100 tasks", "ms", lower=True, aim=30),
    Figure("a sum, by map_reduce", "items/s", aim=1e6),
    Figure("a sum, by sum(map)", "items/s"),
    Figure("one waiting task", "bytes", lower=True, aim=1024),
    Figure("one waiting task, process", "bytes", lower=True, aim=1024),
]

CHAIN, LEAVES, WAITING = 1000, 1024, 100_000
SHARED, SUMMED = 64 << 20, 10**6
REPEATS = {OURS: 9, RAY: 1, DASK: 1}


def measure(pool: Any, what: str, **sizes: Any) -> Mapping[str, float]:
    """Measure one thing."""
    ways: dict[str, Callable[..., Mapping[str, float]]]
    ways = {"graphs": graph_times, "sum": sum_rates, "memory": waiting_memory}
    return ways[what](pool, **sizes)


def graph_times(
    pool: GraphPool, chain: int, leaves: int, nbytes: int, repeats: int
) -> dict[str, float]:
    """Return the microseconds a task of both graphs, and the milliseconds to share."""
    pool.stream(identity, range(20))
    run_chain(pool, 10)  # so that the functions are sent and known
    run_tree(pool, 16)
    return {
        "chain": 1e6 * median_time(repeats, run_chain, pool, chain) / chain,
        "tree": 1e6 * median_time(repeats, run_tree, pool, leaves) / (2 * leaves - 1),
        "64 MiB to 100 tasks": 1e3 * median_time(repeats, run_shared, pool, nbytes),
    }


def run_chain(pool: GraphPool, length: int) -> None:
    """Run so many tasks, each of which needs the one before."""
    future = pool.submit(increment, 0)
    for _ in range(length - 1):
        future = pool.submit(increment, future)
    check("chain", pool.result(future), length)


def run_tree(pool: GraphPool, leaves: int) -> None:
    """Run a tree with so many leaves, a power of 2."""
    level = [pool.submit(increment, number) for number in range(leaves)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [pool.submit(add, left, right) for left, right in pairs]
    check("tree", pool.result(level[0]), leaves * (leaves + 1) // 2)


def run_shared(pool: GraphPool, nbytes: int) -> None:
    """Share an array, and have a hundred tasks read an element of it."""
    array = pool.share(np.arange(nbytes // 8, dtype=np.float64))
    futures = [pool.submit(element, array, number) for number in range(100)]
    total = sum(int(pool.result(future)) for future in futures)
    check("array", total, 99 * 100 // 2)


def sum_rates(pool: Futures, count: int) -> dict[str, float]:
    """Return the items a second of both ways to add up."""
    executor: Any = pool.executor
    numbers = range(count)

    def tree() -> None:
        executor.map_reduce(float, numbers, operator.add)

    def loop() -> None:
        sum(executor.map(float, numbers))

    tree()
    return {
        "a sum, by map_reduce": count / median_time(3, tree),
        "a sum, by sum(map)": count / median_time(3, loop),
    }


def check(what: str, result: int, expected: int) -> None:
    """Raise an error if a graph came to something else than it should."""
    if result != expected:
        raise RuntimeError(f"the {what} came to {result!r} instead of {expected}")


def waiting_memory(pool: Futures, count: int, *, trace: bool) -> dict[str, float]:
    """Return the bytes of a task that waits; a worker runs its input meanwhile."""
    submit = pool.submit
    pool.result(submit(identity, submit(identity, 0)))
    name = "one waiting task" if trace else "one waiting task, process"
    used = traced if trace else functools.partial(memory, "VmRSS")
    with tempfile.NamedTemporaryFile() as file:
        needed = submit(wait_until_gone, file.name)
        gc.collect()
        if trace:
            tracemalloc.start()
        before = used()
        futures = [submit(identity, needed) for _ in range(count)]
        grown = used() - before
        tracemalloc.stop()
        if needed.done():
            raise RuntimeError("the task that the others wait for has ended too soon")
        for future in futures:
            future.cancel()
    pool.result(needed)
    return {name: grown / count}


def traced() -> int:
    """Return how many bytes `tracemalloc` has seen that are in use."""
    return tracemalloc.get_traced_memory()[0]


def raw_chain(comm: Any, length: int) -> dict[str, float]:
    """Return the microseconds a message there and back."""
    seconds = raw.object_trips(comm, length)
    return {"chain": 1e6 * statistics.mean(seconds)} if seconds else {}


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("graphs", FIGURES, options, measure, peers=[RAY, DASK])
    chain, leaves, waiting = (50, 16, 100) if bench.quick else (CHAIN, LEAVES, WAITING)
    shared, summed = (2 << 20, 5000) if bench.quick else (SHARED, SUMMED)
    bench.note(OURS, bench.run(OURS, what="memory", count=waiting, trace=False))
    for _ in bench.rounds():
        bench.note(RAW, bench.raw(raw_chain, chain))
        for who in [OURS, *bench.peers]:
            repeats = 1 if bench.quick else REPEATS[who]
            sizes = {"chain": chain, "leaves": leaves, "nbytes": shared}
            sizes["repeats"] = repeats
            bench.note(who, bench.run(who, what="graphs", **sizes))
        bench.note(OURS, bench.run(OURS, what="sum", count=summed))
        bench.note(OURS, bench.run(OURS, what="memory", count=waiting, trace=True))
    bench.finish()


if __name__ == "__main__":
    main()
