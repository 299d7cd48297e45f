"""From one worker to all: speed-up of map, and null tasks a second.

    mpiexec -n 8 python benchmarks/scaling.py

    speed-up     of map over tasks of 1 ms, no chunksize, with the first k workers: k
                 times what plain loops on the same k ranks take, each its share, over
                 the wall time of map
    sleep, spin  as in makespan.py; spin only up to the number of cores
    one by one   null tasks a second, one submit and one Future each

All in one launch: an executor may use a part of the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

import mpitasks
import raw
import tasks
from bench import Bench, parser, timed
from pools import OURS, Futures
from results import Figure

WORK = {"sleep": tasks.sleep, "spin": tasks.spin}
LENGTH = 1e-3
SHARE_SECONDS = 0.3
TASKS = 20_000


def steps(workers: int) -> list[int]:
    """Return the numbers of workers: powers of two, and all."""
    return sorted({2**k for k in range(workers.bit_length())} | {workers})


def figures(workers: int) -> Iterator[Figure]:
    """Return the figures."""
    for work in WORK:
        for count in steps(workers):
            yield Figure(
                f"speed-up, {work}, {count} workers",
                "x",
                series=f"map, {work} 1 ms",
                x=count,
            )
    for count in steps(workers):
        name = f"one by one, {count} workers"
        yield Figure(name, "tasks/s", series="one by one", x=count)


def measure(pool: Futures, what: str, workers: int, items: list) -> dict[str, float]:
    """Return the seconds for the items with so many of the workers."""
    pool.executor.shutdown()
    with mpitasks.Executor(max_workers=workers) as executor:
        part = Futures(executor)
        part.call(tasks.identity, 0)
        if what in WORK:
            return {"seconds": timed(part.map, WORK[what], items)}
        return {"seconds": timed(part.stream, tasks.identity, items)}


def speed_up(bench: Bench, work: str, count: int) -> None:
    """Measure map with so many workers, on every rank."""
    item = tasks.polls(LENGTH) if work == "spin" else LENGTH
    share = [item] * (5 if bench.quick else round(SHARE_SECONDS / LENGTH))
    shares = [share] * count + [[]] * (bench.workers - count)
    loop = bench.raw(lambda c: {"s": raw.plain_loops(c, WORK[work], shares)})
    values = bench.run(OURS, what=work, workers=count, items=share * count)
    if values:
        name = f"speed-up, {work}, {count} workers"
        bench.note(OURS, {name: count * loop["s"] / values["seconds"]})


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("scaling", figures, options, measure)
    null = list(range(100 if bench.quick else TASKS))
    cores = tasks.usable_cores()
    for _ in bench.rounds():
        for count in steps(bench.workers):
            for work in WORK:
                if work == "spin" and count > cores:
                    bench.skip(f"spin: more workers than the {cores} cores")
                else:
                    speed_up(bench, work, count)
            values = bench.run(OURS, what="null", workers=count, items=null)
            if values:
                rate = len(null) / values["seconds"]
                bench.note(OURS, {f"one by one, {count} workers": rate})
    bench.finish()


if __name__ == "__main__":
    main()
