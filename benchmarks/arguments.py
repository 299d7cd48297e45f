"""Large arguments that wait: time and memory of 100 calls with an array of 64 MiB each.

    mpiexec -n 2 python benchmarks/arguments.py

    the same, time      100 calls by `submit`, all with one array that does not change,
                        until the last result is there
    different, time     100 calls with another array each, made just before its call
    reused, time        100 calls with one array, filled anew before each
    ..., submitting     how much of that passes until the last call is submitted
    ..., master         what the peak of rank 0 is above what it had before, the array
                        included

The task returns one number. Only mpitasks is measured: each peer copies in its own way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import tasks
from bench import Bench, parser
from pools import OURS, Futures
from results import Figure

MIB = 1 << 20
KINDS = ("the same", "different", "reused")

FIGURES = [
    figure
    for kind in KINDS
    for figure in (
        Figure(f"{kind}, time", "ms", lower=True),
        Figure(f"{kind}, submitting", "ms", lower=True),
        Figure(f"{kind}, master", "MiB", lower=True),
    )
]


def measure(pool: Futures, kind: str, count: int, nbytes: int) -> Mapping[str, float]:
    """Measure one kind of calls."""
    import numpy as np

    pool.call(tasks.last, np.zeros(nbytes // 8))
    array = np.zeros(nbytes // 8)

    def different(number: int) -> Any:
        return np.full(nbytes // 8, float(number))

    def reused(number: int) -> Any:
        array[:] = number
        return array

    ways: dict[str, Callable[[int], Any]] = {
        "the same": lambda number: array,
        "different": different,
        "reused": reused,
    }
    submit = pool.executor.submit
    before = tasks.reset_peak()
    start = time.perf_counter()
    futures = [submit(tasks.last, ways[kind](number)) for number in range(count)]
    submitted = time.perf_counter() - start
    values = [future.result() for future in futures]
    seconds = time.perf_counter() - start
    expected = [0.0 if kind == "the same" else number for number in range(count)]
    if values != expected:
        print(f"{kind}: WRONG VALUES, as of a library that copies nothing")
    return {
        f"{kind}, time": seconds * 1e3,
        f"{kind}, submitting": submitted * 1e3,
        f"{kind}, master": (tasks.memory("VmHWM") - before) / MIB,
    }


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("arguments", FIGURES, options, measure)
    count, nbytes = (5, MIB) if bench.quick else (100, 64 * MIB)
    for _ in bench.rounds():
        for kind in KINDS:
            bench.note(OURS, bench.run(OURS, kind=kind, count=count, nbytes=nbytes))
    bench.finish()


if __name__ == "__main__":
    main()
