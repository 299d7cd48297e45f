"""The scheduler alone, in simulated time, against the number of workers. No MPI.

    python benchmarks/core.py

    submitted       calls, all queued before the first result, in events of 1,000
    mapped          the items of one bulk job
    short           a task takes 10 us, so that many go in one message; 100 tasks for
                    each worker, but at least 100,000; with --full 10 million each time
    long            a task takes a second, so that each goes alone: an event and an
                    assignment for each, the worst case; 2 tasks for each worker, but
                    at least 30,000
    memory          what a queued call takes, the scheduler's object for it included

A discrete-event simulation stands for the master and the workers: a message takes
10 us, batches take between half and one and a half of their length, and a batch is
reported when it is done. Only the time inside `Scheduler.handle` counts; Python's
cycle collector is off, since it would mostly look at the simulation.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import random
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterable, Sequence

from bench import parser
from mpitasks.scheduler.events import (
    Action,
    Assign,
    Bulk,
    BulkExtended,
    Complete,
    Cost,
    Event,
    OutcomesArrived,
    Task,
    TasksSubmitted,
    WorkerJoined,
)
from mpitasks.scheduler.scheduler import Scheduler
from pools import OURS
from results import Figure, publish

LATENCY = 10e-6
LENGTHS = {"short": 10e-6, "long": 1.0}
WORKERS = (10, 1000, 10_000, 100_000)
KINDS = [("submitted", "short"), ("mapped", "short"), ("submitted", "long")]
SLOW = ("submitted", "short", 100_000)
"""Left out without --full: half a minute for what "mapped" shows as well."""

PER_WORKER = {"short": 100, "long": 2}
LEAST_TASKS = {"short": 100_000, "long": 30_000}
EVENT_TASKS = 1000
AIM = 300_000


def rate_name(how: str, length: str, workers: int) -> str:
    """Return the name of a rate."""
    return f"{how}, {length}, {workers:,} workers"


def figures() -> Iterable[Figure]:
    """Return the figures."""
    for how, length in KINDS:
        for workers in WORKERS:
            yield Figure(
                rate_name(how, length, workers),
                "tasks/s",
                aim=AIM if length == "short" else None,
            )
    for workers in WORKERS:
        yield Figure(f"memory, {workers:,} workers", "bytes", lower=True)


class Simulation:
    """Workers that take as long as they are told, and a clock around the scheduler.

    Args:
        workers: How many.
        length: Seconds that a task takes.

    Attributes:
        seconds: Real time inside the scheduler.
        done: Tasks completed.
    """

    def __init__(self, workers: int, length: float) -> None:
        self.ids = itertools.count()
        self.scheduler = Scheduler(self.ids)
        self.seconds = 0.0
        self.done = 0
        self._now = 0.0
        self._length = length
        self._free = [0.0] * workers
        self._events: list[tuple[float, int, int, list[Task]]] = []
        self._order = itertools.count()
        self._jitter = random.Random(1).uniform
        for rank in range(workers):
            self.handle(WorkerJoined(rank))
        self.seconds = 0.0

    def run(self) -> None:
        """Let everything happen."""
        while self._events:
            self._now, _, rank, batch = heapq.heappop(self._events)
            items = sum(task.count for task in batch)
            cost = Cost(batch[0].function, items, self._length * items)
            ids = [task.id for task in batch]
            self.handle(OutcomesArrived(rank, 1, ids, (), (cost,)))
            self.done += items

    def handle(self, event: Event) -> None:
        """Let the scheduler handle an event, and the workers what comes of it."""
        start = time.perf_counter()
        actions: Sequence[Action] = self.scheduler.handle(event, self._now)
        self.seconds += time.perf_counter() - start
        for action in actions:
            if type(action) is Assign:
                self._work(action.rank, action.tasks)
            else:
                assert type(action) is Complete

    def _work(self, rank: int, batch: list[Task]) -> None:
        items = sum(task.count for task in batch)
        begin = max(self._free[rank], self._now + LATENCY)
        end = begin + self._length * items * self._jitter(0.5, 1.5)
        self._free[rank] = end
        entry = (end + LATENCY, next(self._order), rank, batch)
        heapq.heappush(self._events, entry)


def submit(simulation: Simulation, count: int) -> None:
    """Submit so many calls."""
    for first in range(0, count, EVENT_TASKS):
        size = min(EVENT_TASKS, count - first)
        tasks = [Task(next(simulation.ids), 0) for _ in range(size)]
        simulation.handle(TasksSubmitted(tasks))


def rate(how: str, length: float, workers: int, count: int) -> float:
    """Return how many tasks a second the scheduler handles."""
    simulation = Simulation(workers, length)
    if how == "mapped":
        simulation.handle(BulkExtended(Bulk(0), count))
    else:
        submit(simulation, count)
    simulation.run()
    assert simulation.done == count
    return count / simulation.seconds


def queued_bytes(workers: int, count: int) -> float:
    """Return the memory of a call that waits for a worker."""
    simulation = Simulation(workers, 1.0)
    submit(simulation, 4 * workers)  # every worker has what it can hold
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    submit(simulation, count)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count


def one_round(sizes: Sequence[int], most: int, full: bool) -> dict[str, float]:
    """Measure every rate once.

    Args:
        sizes: Numbers of workers.
        most: Tasks at most.
        full: Leave nothing out, and take so many of the short ones.
    """
    values = {}
    for workers in sizes:
        for how, name in KINDS:
            if (how, name, workers) == SLOW and not full:
                continue
            wanted = max(PER_WORKER[name] * workers, LEAST_TASKS[name])
            count = most if full and name == "short" else min(wanted, most)
            gc.collect()
            value = rate(how, LENGTHS[name], workers, count)
            values[rate_name(how, name, workers)] = value
    return values


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument(
        "--full",
        action="store_true",
        help="leave nothing out, 10 million short tasks each time",
    )
    options = options.parse_args()
    most = 1000 if options.quick else 10_000_000
    sizes = WORKERS[:2] if options.quick else WORKERS
    rounds: defaultdict[str, dict[str, list[float]]] = defaultdict(lambda: {OURS: []})
    gc.disable()
    for _ in range(options.rounds or (1 if options.quick else 5)):
        for name, value in one_round(sizes, most, options.full).items():
            rounds[name][OURS].append(value)
    for workers in sizes:  # the same each time
        name = f"memory, {workers:,} workers"
        rounds[name][OURS].append(queued_bytes(workers, min(most, 100_000)))
    publish("core", 1, figures(), rounds, options, [])


if __name__ == "__main__":
    main()
