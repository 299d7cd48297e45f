"""How much of the workers' time map uses: equal tasks, and lists hard to share.

    mpiexec -n 3 python benchmarks/makespan.py

    equal tasks    efficiency: the time that the workers need for the same tasks with
                   plain loops, each its share and all at once, over the wall time of
                   map; no chunksize
    uneven lists   wall time of map over the best possible: the same tasks, shared out
                   with all lengths known beforehand (longest first), run by plain loops
    log-normal     10,000 tasks with sigma 2: the longest is some 1,700 medians
    giant last     10,000 equal tasks, then one as long as 100 of them
    giant first    the same list turned round
    list order     what a scheduler gets that takes the list in order and costs nothing

The plain loops run on the same ranks in the same round, before and after the maps (the
faster counts), so a core that is slower when the others work does not count against
anybody. `spin` uses a core for a fixed amount
of work, hence what rank 0 takes from the workers on a crowded machine counts; `sleep`
needs no core, and is what the lists are made of where there are more workers than
cores. Each map starts anew: nothing is known about the function.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Sequence

import raw
import tasks
from bench import Bench, parser, timed
from pools import MULTIPROCESSING, OURS, Pool
from results import Figure

LIST_ORDER = "list order"
EQUAL = {10e-6: 0.6, 100e-6: 0.9, 1e-3: 0.95, 10e-3: 0.98}
LISTS = ("log-normal", "giant last", "giant first")
WORK = {"spin": tasks.spin, "sleep": tasks.sleep}
LEAST_SLEEP = 1e-3  # a shorter one takes some 60 us more than was asked for
SHARE_SECONDS = 0.2
LONG_SHARE_SECONDS = 0.8  # of tasks of 10 ms, so that one more is but 1%
COUNT = 10_000
LIST_SECONDS = {"spin": 60e-6, "sleep": 120e-6}
"""Mean lengths in the lists."""


def equal_name(work: str, seconds: float) -> str:
    """Return the name of a figure of equal tasks."""
    return f"equal, {work} {1e6 * seconds:,.0f} us"


def figures() -> Iterable[Figure]:
    """Return the figures."""
    for work in WORK:
        for seconds, aim in EQUAL.items():
            if work == "spin" or seconds >= LEAST_SLEEP:
                yield Figure(
                    equal_name(work, seconds),
                    "efficiency",
                    aim=aim,
                    series=f"map, {work}",
                    x=seconds,
                )
    for work in WORK:
        for name in LISTS:
            yield Figure(f"{name}, {work}", "x best", lower=True, aim=1.05)


def measure(pool: Pool, work: str, items: Sequence[float]) -> dict[str, float]:
    """Return the wall time of one map."""
    pool.call(tasks.identity, 0)
    return {"seconds": timed(pool.map, WORK[work], items)}


def uneven(name: str, mean: float, count: int, seed: int) -> list[float]:
    """Return the lengths of one of the lists, in seconds."""
    if name == "log-normal":
        draw = random.Random(seed).lognormvariate
        median = mean / math.exp(2.0)
        return [median * draw(0.0, 2.0) for _ in range(count)]
    rest = [mean] * count
    return [*rest, 100 * mean] if name == "giant last" else [100 * mean, *rest]


def longest_first(lengths: Sequence[float], workers: int) -> list[list[float]]:
    """Share out by the rule of the longest processing time first."""
    loads = [(0.0, worker) for worker in range(workers)]
    shares: list[list[float]] = [[] for _ in range(workers)]
    for length in sorted(lengths, reverse=True):
        load, worker = heapq.heappop(loads)
        shares[worker].append(length)
        heapq.heappush(loads, (load + length, worker))
    return shares


def in_order(lengths: Sequence[float], workers: int) -> float:
    """Return when all is done if whoever is free takes the next of the list."""
    free = [0.0] * workers
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


class Rounds:
    """What one round measures, on every rank."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        cores = tasks.usable_cores()
        crowded = bench.workers > cores
        if crowded:
            bench.skip(f"spin: {bench.workers} workers on {cores} cores")
        self.works = ["sleep"] if crowded else list(WORK)

    def equal(self, work: str, seconds: float) -> None:
        """Measure equal tasks of one length."""
        bench = self.bench
        share = LONG_SHARE_SECONDS if seconds >= 10e-3 else SHARE_SECONDS
        count = 5 if bench.quick else round(share / seconds)
        item = tasks.polls(seconds) if work == "spin" else seconds
        best, walls = self._walls(work, [[item] * count] * bench.workers)
        name = equal_name(work, seconds)
        for who, wall in walls.items():
            bench.note(who, {name: best / wall})

    def uneven(self, work: str, kind: str, seed: int) -> None:
        """Measure one of the lists."""
        bench = self.bench
        count = 50 if bench.quick else COUNT
        lengths = uneven(kind, LIST_SECONDS[work], count, seed)
        if work == "spin":
            scale = tasks.polls(1e-3) / 1e-3
            lengths = [max(1, round(scale * length)) for length in lengths]
        shares = longest_first(lengths, bench.workers)
        best, walls = self._walls(work, shares, lengths)
        name = f"{kind}, {work}"
        for who, wall in walls.items():
            bench.note(who, {name: wall / best})
        if walls:
            ideal = in_order(lengths, bench.workers) / max(map(sum, shares))
            bench.note(LIST_ORDER, {name: ideal})

    def _walls(
        self,
        work: str,
        shares: list[list[float]],
        items: Sequence[float] | None = None,
    ) -> tuple[float, dict[str, float]]:
        """Return seconds of the plain loops, and of each candidate's map; on rank 0."""
        bench = self.bench
        items = items or [item for share in shares for item in share]

        def loops() -> float:
            limit = bench.raw(lambda c: {"s": raw.plain_loops(c, WORK[work], shares)})
            return limit.get("s", 0.0)

        before = loops()
        walls = {}
        for who in [OURS, *(bench.peers if work == "spin" else [])]:
            values = bench.run(who, work=work, items=items)
            if values:
                walls[who] = values["seconds"]
        return min(before, loops()), walls


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    peers = [MULTIPROCESSING]
    bench = Bench("makespan", figures(), options, measure, peers=peers)
    this = Rounds(bench)
    for number in bench.rounds():
        for work in this.works:
            for seconds in EQUAL:
                if work == "spin" or seconds >= LEAST_SLEEP:
                    this.equal(work, seconds)
        if bench.workers > 1:
            for kind in LISTS:
                this.uneven(this.works[0], kind, number)
    bench.finish()


if __name__ == "__main__":
    main()
