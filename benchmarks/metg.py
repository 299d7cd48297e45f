"""METG(50%): the smallest task length at which half of the time is spent on work.

    mpiexec -n 2 python benchmarks/metg.py

    efficiency   the time that a plain loop on a worker takes for the same tasks, over
                 the wall time x workers; rank 0 is not counted as a core
    METG         the length of the work in one task where the efficiency is 50%,
                 between the two measured lengths where it passes that, on log scales
    by map       through the candidate's map, no chunksize
    by submit    one submit and one Future for each task

After Slaughter et al., "Task Bench: a parameterized benchmark for evaluating parallel
runtime performance", SC20. They count the wall time of a task, overhead included,
which at 50% is twice the length given here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import raw
import tasks
from bench import Bench, parser, timed
from pools import DASK, MPI4PY, MULTIPROCESSING, OURS, RAY, Pool
from results import Figure

WAYS = ("map", "submit")
AIMS = {"map": 5, "submit": 20}
LENGTHS = {
    (OURS, "map"): [0.25, 0.5, 1, 2, 5, 20, 100],
    (OURS, "submit"): [2, 4, 6, 8, 12, 20, 50, 200],
    (MULTIPROCESSING, "map"): [0.25, 0.5, 1, 4],
    (MULTIPROCESSING, "submit"): [16, 32, 64, 128, 256],
    (MPI4PY, "submit"): [256, 512, 1024, 2048],
    (RAY, "submit"): [512, 1024, 2048, 4096],
    (DASK, "submit"): [1024, 2048, 4096, 8192],
}
"""Microseconds: where each candidate passes 50%, and, for ours, the curve around."""

WORK_SECONDS = 0.15
MOST = {"map": 200_000, "submit": 20_000}
MOST_OF_SLOW = {MPI4PY: 300, RAY: 100, DASK: 60}
"""Tasks per point: so much work, but not more tasks than this."""


def curve(way: str, length: float) -> str:
    """Return the name of a point of the curve."""
    return f"efficiency, {way} of {length:g} us"


def figures() -> Iterable[Figure]:
    """Return the figures."""
    for way in WAYS:
        yield Figure(f"METG(50%) by {way}", "us", lower=True, aim=AIMS[way])
    for way in WAYS:
        lengths = {x for (_, w), some in LENGTHS.items() if w == way for x in some}
        for length in sorted(lengths):
            yield Figure(
                curve(way, length), "efficiency", series=f"METG, {way}", x=length
            )


def measure(pool: Pool, way: str, item: int, count: int) -> dict[str, float]:
    """Return the seconds for so many tasks."""
    pool.stream(tasks.identity, range(10))
    send = pool.map if way == "map" else pool.stream
    return {"seconds": timed(send, tasks.spin, [item] * count)}


def crossing(points: Sequence[tuple[float, float]]) -> float:
    """Return the length at 50%, from pairs of length and efficiency.

    Where all are above, the smallest length, and where none is, the largest: the
    figure is a bound then.
    """
    points = sorted(points)
    below = [i for i, (_, efficiency) in enumerate(points) if efficiency < 0.5]
    if not below:
        return points[0][0]
    last = below[-1]
    if last + 1 == len(points):
        return points[-1][0]
    (x0, e0), (x1, e1) = points[last], points[last + 1]
    part = math.log(0.5 / e0) / math.log(e1 / e0)
    return x0 * (x1 / x0) ** part


def one_curve(bench: Bench, who: str, way: str, lengths: Sequence[float]) -> None:
    """Measure one candidate, on every rank."""
    points = []
    for length in lengths:
        item = tasks.polls(1e-6 * length)
        most = MOST_OF_SLOW.get(who, MOST[way])
        count = min(int(WORK_SECONDS / (1e-6 * length)), most) * bench.workers
        if bench.quick:
            count = 10 * bench.workers
        values = bench.run(who, way=way, item=item, count=count)
        share = [item] * (count // bench.workers)
        shares = [share] * bench.workers
        loop = bench.raw(lambda c, s=shares: {"s": raw.plain_loops(c, tasks.spin, s)})
        if values and loop:
            efficiency = loop["s"] / values["seconds"]
            bench.note(who, {curve(way, length): efficiency})
            points.append((1e6 * loop["s"] / len(share), efficiency))
    if points:
        bench.note(who, {f"METG(50%) by {way}": crossing(points)})


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    peers = [MPI4PY, MULTIPROCESSING, RAY, DASK]
    bench = Bench("metg", figures(), options, measure, peers=peers)
    for _ in bench.rounds():
        for (who, way), lengths in LENGTHS.items():
            if who == OURS or who in bench.peers:
                one_curve(bench, who, way, lengths)
    bench.finish()


if __name__ == "__main__":
    main()
