"""From submit to result: one task, waited for, and again.

    mpiexec -n 2 python benchmarks/latency.py

    median, 99th percentile   of the time of ``submit(identity, 1).result()``
    raw MPI                   a pickled object to the worker and back, by send and recv

A task is submitted as soon as the result of the one before is there, so nobody has
gone to sleep; idle.py has the time after a pause.
"""

from __future__ import annotations

from collections.abc import Sequence

import raw
from bench import Bench, parser, timed
from pools import DASK, MPI4PY, MULTIPROCESSING, OURS, RAW, RAY, Pool
from results import Figure
from tasks import identity

FIGURES = [
    Figure("median", "us", lower=True, aim=15, against={RAW: 4}),
    Figure("99th percentile", "us", lower=True, aim=100),
]
FEWER = 25  # the peers are so much slower that rounds of equal length need this


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the two figures, in microseconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "median": 1e6 * ordered[last // 2],
        "99th percentile": 1e6 * ordered[round(0.99 * last)],
    }


def measure(pool: Pool, trips: int) -> dict[str, float]:
    """Measure one candidate."""
    for _ in range(20):
        pool.call(identity, 1)
    return percentiles([timed(pool.call, identity, 1) for _ in range(trips)])


def raw_trips(comm: object, trips: int) -> dict[str, float]:
    """Measure raw MPI."""
    seconds = raw.object_trips(comm, trips)
    return percentiles(seconds) if seconds else {}


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    peers = [MPI4PY, MULTIPROCESSING, RAY, DASK]
    bench = Bench("latency", FIGURES, options, measure, peers=peers)
    trips = 50 if bench.quick else 5000
    for _ in bench.rounds():
        bench.note(RAW, bench.raw(raw_trips, trips))
        bench.note(OURS, bench.run(OURS, trips=trips))
        for peer in bench.peers:
            bench.note(peer, bench.run(peer, trips=max(trips // FEWER, 5)))
    bench.finish()


if __name__ == "__main__":
    main()
