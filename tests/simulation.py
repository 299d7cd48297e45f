"""Simulated time: workers that take as long as they are told, driving the scheduler.

A discrete-event simulation of one master and some workers. A message takes
`latency` seconds each way; a worker runs its batches in order and reports each when
it is finished, or its results so far after `flush` seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mpitasks.core.events import (
    Assign,
    Bulk,
    BulkExtended,
    Complete,
    Cost,
    Event,
    OutcomesArrived,
    Rank,
    Task,
    TaskId,
    TasksSubmitted,
    WorkerJoined,
)
from mpitasks.core.scheduler import Scheduler

__all__ = ["Simulation", "TimedBulk", "TimedTask"]


class TimedTask(Task):
    """A task, or a chunk, that knows how long each of its items takes.

    Without slots, so that a test can tell when it is gone.
    """

    def __init__(
        self, id: TaskId, function: int, seconds: Sequence[float], **rest: int
    ) -> None:
        super().__init__(id, function, count=len(seconds), **rest)
        self.seconds = seconds


class TimedBulk(Bulk):
    """A bulk job that knows how long each of its items takes."""

    def __init__(self, function: int, seconds: Sequence[float]) -> None:
        super().__init__(function)
        self._seconds = seconds
        self._carved = 0

    def carve(self, task_id: TaskId, limit: int) -> Task:
        count = min(limit, self.ready)
        seconds = self._seconds[self._carved : self._carved + count]
        self._carved += count
        return TimedTask(task_id, self.function, seconds)


@dataclass(slots=True)
class _Worker:
    """One simulated worker.

    Attributes:
        free: When it will have nothing to do.
        busy: Seconds of work so far.
        held: Tasks that it was sent and that are not reported to the master.
    """

    free: float = 0.0
    busy: float = 0.0
    held: deque[TimedTask] = field(default_factory=deque)


class Simulation:
    """One run.

    Args:
        workers: How many.
        latency: Seconds that a message takes, one way.
        flush: Seconds after which a worker reports what it has of a batch.
        watch: Called at each assignment with the rank, what it holds with the new
            batch, and how many other workers hold nothing.

    Attributes:
        now: The time.
        messages: Batches sent.
        done: Items completed.
    """

    def __init__(
        self,
        workers: int,
        *,
        latency: float = 6.5e-6,
        flush: float = 2e-3,
        watch: Callable[[Rank, Sequence[TimedTask], int], None] | None = None,
    ) -> None:
        self.ids: Iterator[int] = itertools.count()
        self.scheduler = Scheduler(self.ids)
        self.now = 0.0
        self.messages = 0
        self.done = 0
        self._latency = latency
        self._flush = flush
        self._watch = watch
        self._workers = [_Worker() for _ in range(workers)]
        self._order = itertools.count()  # breaks ties between events of one time
        self._events: list[tuple[float, int, Event, int]] = []
        for rank in range(workers):
            self._handle(WorkerJoined(rank))

    def submit(self, seconds: Sequence[float], *, function: int = 0) -> None:
        """Submit one call for each duration, in one event."""
        tasks = [TimedTask(next(self.ids), function, [time]) for time in seconds]
        self._handle(TasksSubmitted(tasks))

    def extend(self, seconds: Sequence[float], *, function: int = 0) -> None:
        """Submit a bulk job of one item for each duration."""
        self._handle(BulkExtended(TimedBulk(function, seconds), len(seconds)))

    def run(self) -> float:
        """Let everything happen; return when the last outcome was there."""
        while self._events:
            self.now, _, event, reported = heapq.heappop(self._events)
            assert isinstance(event, OutcomesArrived)
            for _ in range(reported):
                self._workers[event.rank].held.popleft()
            self._handle(event)
        return self.now

    @property
    def busy(self) -> list[float]:
        """Seconds of work that each worker did."""
        return [worker.busy for worker in self._workers]

    def _handle(self, event: Event) -> None:
        for action in self.scheduler.handle(event, self.now):
            if type(action) is Assign:
                self._assign(action)
            elif type(action) is Complete:
                self.done += sum(task.count for task in action.tasks if task)

    def _assign(self, action: Assign) -> None:
        worker = self._workers[action.rank]
        batch: list[TimedTask] = [t for t in action.tasks if isinstance(t, TimedTask)]
        worker.held.extend(batch)
        self.messages += 1
        if self._watch is not None:
            idle = sum(not other.held for other in self._workers)
            self._watch(action.rank, list(worker.held), idle)
        time = flushed = max(worker.free, self.now + self._latency)
        report: list[TimedTask] = []
        for task in batch:
            if report and time - flushed > self._flush:
                self._report(action.rank, 0, report, time)
                report, flushed = [], time
            report.append(task)
            length = sum(task.seconds)
            time += length
            worker.busy += length
        self._report(action.rank, 1, report, time)
        worker.free = time

    def _report(
        self, rank: Rank, batches: int, tasks: Sequence[TimedTask], time: float
    ) -> None:
        ids = [task.id for task in tasks]
        costs = [Cost(task.function, task.count, sum(task.seconds)) for task in tasks]
        event = OutcomesArrived(rank, batches, ids, [], costs)
        entry = (time + self._latency, next(self._order), event, len(tasks))
        heapq.heappush(self._events, entry)
