"""Peak memory: large arrays out and back, many waiting tasks, an endless map.

    mpiexec -n 2 python benchmarks/memory.py

    1 GiB, master, worker   what the peak is above the array and its result, which are
                            1 GiB each: the task doubles the array into a new one
    one waiting task        memory of rank 0 for a null task that was submitted and
                            its future, the average of 100,000
    growth                  of rank 0 over 10 million null tasks by map_unordered over
                            a generator, after the first tenth of them; one run
    endless map             tasks a second in that run, of each tenth

The peak is VmHWM of /proc/self/status, set back before each measurement, less what was
in use before the array was made. Only mpitasks is measured: what peers keep is spread
over their daemons.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import tasks
from bench import Bench, parser
from pools import OURS, Futures
from results import Figure

MIB = 1 << 20
TENTHS = 10

FIGURES = [
    Figure("1 GiB, master", "MiB over", lower=True, aim=64),
    Figure("1 GiB, worker", "MiB over", lower=True, aim=64),
    Figure("one waiting task", "bytes", lower=True),
    Figure("growth", "MiB", lower=True, aim=16),  # 1.6 bytes a task: it is flat
    Figure("endless map", "tasks/s", aim=500_000),
]


def measure(pool: Futures, what: str, size: int) -> Mapping[str, float]:
    """Measure one thing."""
    pool.call(tasks.identity, 0)
    return {"array": array_peaks, "queue": queued, "stream": stream}[what](pool, size)


def array_peaks(pool: Futures, nbytes: int) -> dict[str, float]:
    """Return by how much more than array and result the two ranks grow."""
    import numpy as np

    there = pool.call(tasks.reset_peak, None)
    here = tasks.reset_peak()
    result = pool.call(tasks.double, np.ones(nbytes // 8))
    here = tasks.memory("VmHWM") - here
    there = pool.call(tasks.memory, "VmHWM") - there
    assert result[-1] == 2.0
    wanted = 2 * nbytes
    return {
        "1 GiB, master": (here - wanted) / MIB,
        "1 GiB, worker": (there - wanted) / MIB,
    }


def queued(pool: Futures, count: int) -> dict[str, float]:
    """Return what a waiting task takes; the worker is kept busy meanwhile."""
    submit = pool.executor.submit
    first = submit(tasks.sleep, 0.5 + count / 60_000)
    before = tasks.memory("VmRSS")
    futures = [submit(tasks.identity, i) for i in range(count)]
    grown = tasks.memory("VmRSS") - before
    if first.done():
        raise RuntimeError("the task that keeps the worker busy was too short")
    for future in futures:
        future.cancel()
    return {"one waiting task": grown / count}


def stream(pool: Futures, count: int) -> dict[str, float]:
    """Return the growth, and the rate of each tenth as ``endless map 0`` and so on."""
    unordered = pool.executor.map_unordered  # type: ignore[attr-defined]
    results = unordered(tasks.identity, (i for i in range(count)))
    values = {}
    used = []
    for number in range(TENTHS):
        start = time.perf_counter()
        for _ in zip(range(count // TENTHS), results, strict=False):
            pass
        values[f"rate {number}"] = count / TENTHS / (time.perf_counter() - start)
        used.append(tasks.memory("VmRSS"))
    values["growth"] = (max(used) - used[0]) / MIB
    return values


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--most", type=int, default=1024, help="largest array, MiB")
    options = options.parse_args()
    bench = Bench("memory", FIGURES, options, measure)
    array = 8 * MIB if bench.quick else options.most * MIB
    queue, endless = (1000, 10_000) if bench.quick else (100_000, 10_000_000)
    if options.most != 1024:
        bench.skip(f"1 GiB: it was {options.most} MiB")
    for _ in bench.rounds():
        bench.note(OURS, bench.run(OURS, what="array", size=array))
        bench.note(OURS, bench.run(OURS, what="queue", size=queue))
    values = bench.run(OURS, what="stream", size=endless)
    for number in range(TENTHS if values else 0):
        bench.note(OURS, {"endless map": values.pop(f"rate {number}")})
    bench.note(OURS, values)
    bench.finish()


if __name__ == "__main__":
    main()
