"""What the journal costs: small results and arrays, with it and without it.

    mpiexec -n 2 python benchmarks/journal.py

    10,000/s, wall     10,000 calls a second are submitted for 3 s, by the clock: the
                       seconds until the script has all results
    10,000/s, rank 0   CPU seconds of rank 0, with its threads, for a second of that
    by submit, by map  null calls a second, as fast as they go
    1 GB/s, wall       arrays of 8 MiB, 1 GB of them a second for 2 s, by the clock:
                       the seconds until the script has all of them
    arrays             GB/s of the same arrays, as fast as they go
    1 GB/s, on disk    seconds from the last result until all are synced
    back, calls        results a second that come back from the journal by submit
    back, arrays       GB/s of arrays that come back
    disk               what the disk can do: one file of 1 GB, written and synced

Each pair runs in the same round, the journal in a fresh file in --folder. The last
four have nothing beside them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tasks
from bench import Bench, parser
from pools import OURS, Futures
from results import Figure

WITHOUT = "no journal"
ARRAY = 8 << 20
TICK = 0.01

FIGURES = [
    Figure("10,000/s, wall", "s", lower=True),
    Figure("10,000/s, rank 0", "CPU s/s", lower=True),
    Figure("by submit", "calls/s"),
    Figure("by map", "calls/s"),
    Figure("1 GB/s, wall", "s", lower=True),
    Figure("arrays", "GB/s"),
    Figure("1 GB/s, on disk", "s", lower=True),
    Figure("back, calls", "results/s"),
    Figure("back, arrays", "GB/s"),
    Figure("disk", "GB/s"),
]


def make(number: int) -> Any:
    """Return an array; the worker's own memory, used again and again."""
    array = _kept.get("array")
    if array is None:
        import numpy as np

        array = _kept["array"] = np.ones(ARRAY // 8)
    array[0] = number
    return array


_kept: dict[str, Any] = {}


def measure(
    pool: Futures, folder: str, kept: bool, seconds: float, calls: int
) -> Mapping[str, float]:
    """Measure one candidate, in a fresh folder."""
    import mpitasks

    pool.executor.shutdown()
    path = Path(folder) / "run.db"
    if path.parent.exists():
        shutil.rmtree(path.parent)
    path.parent.mkdir(parents=True)
    journal = {"journal": path} if kept else {}
    values: dict[str, float] = {}
    try:
        with mpitasks.Executor(**journal) as executor:  # type: ignore[arg-type]
            executor.submit(make, 0).result()
            values |= small(executor, seconds, calls)
            values |= arrays(executor, seconds)
            done = time.perf_counter()
        if kept:
            values["1 GB/s, on disk"] = time.perf_counter() - done
            with mpitasks.Executor(**journal) as executor:  # type: ignore[arg-type]
                values |= back(executor, calls, int(seconds * 1e9 / ARRAY))
            values["disk"] = disk(
                Path(folder) / "disk", 10**9 if calls > 1000 else 10**6
            )
    finally:
        shutil.rmtree(path.parent)
    return values


def small(executor: Any, seconds: float, calls: int) -> dict[str, float]:
    """Measure small results."""
    cpu, start = time.process_time(), time.perf_counter()
    futures = []
    for tick in range(int(1.5 * seconds / TICK)):
        futures += [
            executor.submit(tasks.identity, 1_000_000 + tick * 100 + n)
            for n in range(int(10_000 * TICK))
        ]
        time.sleep(max(start + (tick + 1) * TICK - time.perf_counter(), 0))
    for future in futures:
        future.result()
    wall = time.perf_counter() - start
    values = {
        "10,000/s, wall": wall,
        "10,000/s, rank 0": (time.process_time() - cpu) / wall,
    }
    start = time.perf_counter()
    for future in [executor.submit(tasks.identity, n) for n in range(calls)]:
        future.result()
    values["by submit"] = calls / (time.perf_counter() - start)
    start = time.perf_counter()
    for _ in executor.map(tasks.identity, range(-5 * calls, 0)):
        pass
    values["by map"] = 5 * calls / (time.perf_counter() - start)
    return values


def arrays(executor: Any, seconds: float) -> dict[str, float]:
    """Measure arrays, none of which is kept."""
    count = int(seconds * 1e9 / ARRAY)
    start = time.perf_counter()
    for _ in executor.map_unordered(make, range(1, count), buffersize=4):
        pass
    values = {"arrays": count * ARRAY / (time.perf_counter() - start) / 1e9}
    start = time.perf_counter()
    waiting = []
    for number in range(count):
        waiting.append(executor.submit(make, -number))
        if len(waiting) > 4:
            waiting.pop(0).result()
        time.sleep(max(start + number * ARRAY / 1e9 - time.perf_counter(), 0))
    for future in waiting:
        future.result()
    values["1 GB/s, wall"] = time.perf_counter() - start
    return values


def back(executor: Any, calls: int, count: int) -> dict[str, float]:
    """Measure what comes back from the journal."""
    start = time.perf_counter()
    for number in range(calls):
        executor.submit(tasks.identity, number).result()
    rate = calls / (time.perf_counter() - start)
    start = time.perf_counter()
    for _ in executor.map(make, range(1, count)):
        pass
    seconds = time.perf_counter() - start
    return {"back, calls": rate, "back, arrays": count * ARRAY / seconds / 1e9}


def disk(path: Path, nbytes: int) -> float:
    """Return how fast one file is written and synced, in GB/s."""
    data = bytes(1 << 20)
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(0, nbytes, len(data)):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return nbytes / (time.perf_counter() - start) / 1e9


def main() -> None:
    """Run the benchmark."""
    words = parser(__doc__)
    words.add_argument(
        "--folder", default="journal-benchmark", help="made, used and removed"
    )
    options = words.parse_args()
    bench = Bench("journal", FIGURES, options, measure)
    sizes = (
        {"seconds": 0.05, "calls": 200}
        if bench.quick
        else {"seconds": 2.0, "calls": 50_000}
    )
    for _ in bench.rounds():
        for who in (WITHOUT, OURS):
            folder = os.path.join(options.folder, "run")  # noqa: PTH118
            values = bench.run(OURS, folder=folder, kept=who == OURS, **sizes)
            bench.note(who, values)
    bench.finish()


if __name__ == "__main__":
    main()
