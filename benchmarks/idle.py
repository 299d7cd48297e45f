"""What waiting costs: CPU of ranks with nothing to do, and how fast they wake up.

    mpiexec -n 2 python benchmarks/idle.py

    idle worker      CPU time of a worker's process while the script sleeps, in percent
                     of one core
    script asleep    the same of rank 0 meanwhile
    master waiting   CPU time of rank 0 while it waits for one long task
    after N ms       from submit to result after a pause of that length, median of the
                     round; the pauses let everybody fall asleep

CPU time is what the kernel has charged to the process, all its threads together.
"""

from __future__ import annotations

import statistics
import time

from bench import Bench, parser, timed
from pools import MPI4PY, OURS, Pool
from results import Figure
from tasks import cpu_seconds, identity, sleep

FIGURES = [
    Figure("idle worker", "% of a core", lower=True, aim=2),
    Figure("script asleep", "% of a core", lower=True),
    Figure("master waiting", "% of a core", lower=True, aim=2),
    Figure("after 50 ms", "us", lower=True, aim=1000),
    Figure("after 1500 ms", "us", lower=True, aim=1000),
]


def measure(
    pool: Pool, idle: float, waiting: float, pauses: list[float], repeat: int
) -> dict[str, float]:
    """Measure one candidate.

    Args:
        pool: The candidate.
        idle: Seconds that the script sleeps.
        waiting: Seconds that the long task takes.
        pauses: Seconds before the submits.
        repeat: Submits after the first of the pauses; a tenth after the others.
    """
    pool.call(identity, 0)
    return {
        **idle_shares(pool, idle),
        "master waiting": waiting_share(pool, waiting),
        **{
            f"after {1000 * pause:.0f} ms": wake_up(pool, pause, max(count, 1))
            for pause, count in zip(pauses, [repeat, repeat // 10], strict=True)
        },
    }


def idle_shares(pool: Pool, seconds: float) -> dict[str, float]:
    """Return what the worker and rank 0 take while the script sleeps."""
    there = pool.call(cpu_seconds, None)
    here, start = cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    passed = time.perf_counter() - start
    here = cpu_seconds() - here
    there = pool.call(cpu_seconds, None) - there
    return {"idle worker": 100 * there / passed, "script asleep": 100 * here / passed}


def waiting_share(pool: Pool, seconds: float) -> float:
    """Return what rank 0 takes while it waits for a task."""
    before = cpu_seconds()
    passed = timed(pool.call, sleep, seconds)
    return 100 * (cpu_seconds() - before) / passed


def wake_up(pool: Pool, pause: float, count: int) -> float:
    """Return the microseconds from submit to result after a pause."""
    trips = []
    for _ in range(count):
        time.sleep(pause)
        trips.append(1e6 * timed(pool.call, identity, 0))
    return statistics.median(trips)


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("idle", FIGURES, options, measure, peers=[MPI4PY])
    lengths = {"idle": 10.0, "waiting": 3.0, "pauses": [0.05, 1.5], "repeat": 20}
    shorter = {**lengths, "idle": 2.0, "waiting": 1.0, "repeat": 10}
    if bench.quick:
        lengths = shorter = {**lengths, "idle": 0.2, "waiting": 0.2, "repeat": 1}
    for _ in bench.rounds():
        bench.note(OURS, bench.run(OURS, **lengths))
        for peer in bench.peers:
            bench.note(peer, bench.run(peer, **shorter))
    bench.finish()


if __name__ == "__main__":
    main()
