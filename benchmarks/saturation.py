"""From where on one master is not enough: up to 100,000 workers in simulated time.

    python benchmarks/saturation.py

The scheduler of `mpitasks` hands out one bulk job, and rank 0 is busy with each message
and its answer for 20 us (--message). How much of their time the workers work is taken
over the middle half of the tasks, when all have begun and none has run out. Nothing
here depends on the machine that it runs on. By hand only, since it takes minutes.
"""

from __future__ import annotations

import argparse
import heapq

from core import Simulation
from mpitasks.scheduler.events import Bulk, BulkExtended, Cost, OutcomesArrived, Task

WORKERS = (1000, 10_000, 100_000)
PER_WORKER = {1e-3: 160, 20e-3: 12, 0.1: 12, 1.0: 12, 10.0: 12}
"""Tasks for each worker, by their length in seconds: enough for a steady state."""


class BusyMaster(Simulation):
    """The simulation of core.py with a rank 0 that does one thing after the other.

    Args:
        workers: How many.
        length: Seconds that a task takes.
        message: Seconds of rank 0 for a message and its answer.

    Attributes:
        reports: When results had been taken in, and how many items they were of.
    """

    def __init__(self, workers: int, length: float, message: float) -> None:
        super().__init__(workers, length)
        self.reports: list[tuple[float, int]] = []
        self._half = message / 2

    def run(self) -> None:
        """Let everything happen."""
        while self._events:
            arrived, _, rank, batch = heapq.heappop(self._events)
            self._now = max(self._now, arrived) + self._half
            items = sum(task.count for task in batch)
            cost = Cost(batch[0].function, items, self._length * items)
            self.reports.append((self._now, items))
            self.handle(OutcomesArrived(rank, 1, [t.id for t in batch], (), (cost,)))

    def _work(self, rank: int, batch: list[Task]) -> None:
        self._now += self._half
        super()._work(rank, batch)


def middle_rate(reports: list[tuple[float, int]]) -> float:
    """Return the items a second from a quarter of them to three quarters."""
    total = sum(items for _, items in reports)
    done = within = 0
    begin = end = 0.0
    for now, items in reports:
        done += items
        if 4 * done < total:
            begin = now
        elif 4 * done <= 3 * total:
            within += items
            end = now
    return within / (end - begin)


def efficiency(workers: int, length: float, message: float, count: int) -> float:
    """Return the part of their time that the workers work, without start and end."""
    simulation = BusyMaster(workers, length, message)
    simulation.handle(BulkExtended(Bulk(0), count))
    simulation.run()
    # Workers go in step at first, so a window may have a few items too many.
    return min(middle_rate(simulation.reports) * length / workers, 1.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--message", type=float, default=20, help="us of rank 0")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    options = parser.parse_args()
    print("task (s)" + "".join(f"{workers:>12,}" for workers in options.workers))
    for length, per_worker in PER_WORKER.items():
        print(f"{length:8g}", end="", flush=True)
        for workers in options.workers:
            count = per_worker * workers
            value = efficiency(workers, length, 1e-6 * options.message, count)
            print(f"{value:12.2f}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
