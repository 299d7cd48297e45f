"""The standard library's `wait` and `as_completed` on our futures.

    mpiexec -n 2 python benchmarks/waiting.py

    all by wait, all by as_completed   null tasks, all submitted and then waited for
                                       at once, in tasks a second from the first
                                       submit on
    one by wait, one by as_completed   a single task, from submit on, median

Both make conditions and waiters of the standard library on each future, and neither
drives our engine: that is left to its background thread.
"""

from __future__ import annotations

import concurrent.futures

from bench import Bench, median_time, parser, timed
from pools import MPI4PY, OURS, Futures
from results import Figure
from tasks import identity

RATE, LATENCY = 50_000, 1000
FIGURES = [
    Figure("all by wait", "tasks/s", aim=RATE),
    Figure("all by as_completed", "tasks/s", aim=RATE),
    Figure("one by wait", "us", lower=True, aim=LATENCY),
    Figure("one by as_completed", "us", lower=True, aim=LATENCY),
]


def measure(pool: Futures, tasks: int, trips: int) -> dict[str, float]:
    """Measure one candidate."""
    submit = pool.executor.submit

    def by_wait(count: int) -> None:
        concurrent.futures.wait([submit(identity, i) for i in range(count)])

    def by_as_completed(count: int) -> None:
        futures = [submit(identity, i) for i in range(count)]
        for future in concurrent.futures.as_completed(futures):
            future.result()

    pool.call(identity, 0)
    return {
        "all by wait": tasks / timed(by_wait, tasks),
        "all by as_completed": tasks / timed(by_as_completed, tasks),
        "one by wait": 1e6 * median_time(trips, by_wait, 1),
        "one by as_completed": 1e6 * median_time(trips, by_as_completed, 1),
    }


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("waiting", FIGURES, options, measure, peers=[MPI4PY])
    tasks, trips = (100, 10) if bench.quick else (30_000, 500)
    for _ in bench.rounds():
        bench.note(OURS, bench.run(OURS, tasks=tasks, trips=trips))
        for peer in bench.peers:
            bench.note(peer, bench.run(peer, tasks=max(tasks // 30, 10), trips=trips))
    bench.finish()


if __name__ == "__main__":
    main()
