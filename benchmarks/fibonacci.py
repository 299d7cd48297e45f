"""The Fibonacci example of Ray's tutorial: a speed-up that users see.

    mpiexec -n 3 python benchmarks/fibonacci.py

    speed-up   time of 64 sequences of 20,000 numbers one after the other in one
               process, over the time that the candidate takes for them with all its
               workers: one submit each for us, mpi4py.futures, Ray and Dask,
               imap_unordered for multiprocessing

Every sequence is a list of large integers of some 17 MB, so memory is part of it. The
process that runs them one after the other is a worker of the same launch, while the
others sleep. It does so before and after each candidate, and the mean of the two
counts: a machine that got faster in between would show more than there are workers.
"""

from __future__ import annotations

import raw
import tasks
from bench import Bench, parser, timed
from pools import DASK, MPI4PY, MULTIPROCESSING, OURS, RAY, Pool
from results import Figure

NAME = "speed-up"
IDEAL = 0.975
"""Of the number of workers: 1.95 with two."""


def measure(pool: Pool, size: int, count: int) -> dict[str, float]:
    """Return the seconds that a candidate takes."""
    pool.stream(tasks.identity, range(10))
    return {"seconds": timed(pool.stream, tasks.fibonacci, [size] * count)}


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=20_000)
    options.add_argument("--sequences", type=int, default=64)
    options = options.parse_args()
    peers = [MPI4PY, MULTIPROCESSING, RAY, DASK]
    bench = Bench(
        "fibonacci",
        lambda workers: [Figure(NAME, "x serial", aim=IDEAL * workers)],
        options,
        measure,
        peers=peers,
    )
    size, count = options.size, options.sequences
    if bench.quick:
        size, count = size // 100, count // 10
    serial = [[size] * count] + [[]] * (bench.workers - 1)

    def loop() -> float:
        done = bench.raw(lambda c: {"s": raw.plain_loops(c, tasks.fibonacci, serial)})
        return done.get("s", 0.0)  # on rank 0

    for _ in bench.rounds():
        before = loop()
        for who in [OURS, *bench.peers]:
            values = bench.run(who, size=size, count=count)
            after = loop()
            if values:
                bench.note(who, {NAME: (before + after) / 2 / values["seconds"]})
            before = after
    bench.finish()


if __name__ == "__main__":
    main()
