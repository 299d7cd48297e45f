"""Null tasks a second: one submit and one Future each, and by map.

    mpiexec -n 2 python benchmarks/throughput.py

    one by one   one submit for each task, then all results asked for; a peer without
                 futures does it its own way (multiprocessing: imap_unordered with a
                 chunksize of 1)
    map          the candidate's map of the null task over a range of integers, no
                 chunksize given, all results in a list
    raw MPI      one pickled object to the worker and back at a time
    one core     ``list(map(identity, range(n)))`` in one process

With n ranks there are n - 1 workers, and each peer gets as many. The slow peers run
fewer tasks, so that a round ends.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import raw
from bench import Bench, parser, timed
from pools import DASK, MPI4PY, MULTIPROCESSING, OURS, RAW, RAY, Pool
from results import Figure
from tasks import identity

ONE_CORE = "one core"

SIZES = {
    OURS: {"tasks": 50_000, "items": 1_000_000},
    MULTIPROCESSING: {"tasks": 30_000, "items": 1_000_000},
    MPI4PY: {"tasks": 1000, "items": 500},
    RAY: {"tasks": 500, "items": 500},
    DASK: {"tasks": 300, "items": 300},
}


def figures(workers: int) -> Iterable[Figure]:
    """Return the figures; at one worker it is overhead alone that counts."""
    ratios = {MPI4PY: 50, MULTIPROCESSING: 3} if workers == 1 else {}
    aim = 200_000 if workers == 1 else 120_000
    yield Figure("one by one", "tasks/s", aim=aim, against=ratios)
    yield Figure("map", "tasks/s", against={MULTIPROCESSING: 1})


def measure(pool: Pool, tasks: int, items: int) -> dict[str, float]:
    """Measure one candidate."""
    pool.stream(identity, range(20))
    return {
        "one by one": tasks / timed(pool.stream, identity, range(tasks)),
        "map": items / timed(pool.map, identity, range(items)),
    }


def raw_rate(comm: object, trips: int) -> dict[str, float]:
    """Measure raw MPI."""
    seconds = raw.object_trips(comm, trips)
    return {"one by one": 1 / statistics.median(seconds)} if seconds else {}


def one_core(items: int) -> dict[str, float]:
    """Measure a plain map in this process."""
    return {"map": items / timed(lambda: list(map(identity, range(items))))}


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    peers = [MPI4PY, MULTIPROCESSING, RAY, DASK]
    bench = Bench("throughput", figures, options, measure, peers=peers)
    for _ in bench.rounds():
        bench.note(RAW, bench.raw(raw_rate, 50 if bench.quick else 5000))
        if bench.rank == 0:
            bench.note(ONE_CORE, one_core(SIZES[OURS]["items"]))
        for who in [OURS, *bench.peers]:
            sizes = SIZES[who]
            if bench.quick:
                sizes = {name: max(size // 500, 10) for name, size in sizes.items()}
            bench.note(who, bench.run(who, **sizes))
    bench.finish()


if __name__ == "__main__":
    main()
