"""Simulated time: workers that take as long as they are told, driving the scheduler.

A discrete-event simulation of one master and some workers. A message takes
`latency` seconds each way; a worker runs its batches in order and reports each when
it is finished, or its results so far after `flush` seconds. When an item takes long,
it gives back what it has not begun.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mpitasks.scheduler.events import (
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
    TasksReturned,
    TasksSubmitted,
    WorkerJoined,
)
from mpitasks.scheduler.scheduler import Scheduler

__all__ = ["Simulation", "TimedBulk", "TimedTask", "seconds_of"]


class TimedTask(Task):
    """A call that knows how long it takes.

    Without slots, so that a test can tell when it is gone.
    """

    def __init__(
        self, id: TaskId, function: int, seconds: Sequence[float], **rest: Any
    ) -> None:
        super().__init__(id, function, seconds, count=len(seconds), **rest)


class TimedBulk(Bulk):
    """A bulk job that knows how long each of its items takes."""

    def __init__(self, function: int, seconds: Sequence[float]) -> None:
        super().__init__(function, seconds)


def seconds_of(task: Task) -> Sequence[float]:
    """Return how long each item of a task takes."""
    seconds: Sequence[float] = task.payload
    return seconds[task.start : task.start + task.count]


@dataclass(slots=True)
class _Worker:
    """One simulated worker.

    Attributes:
        running: Whether it works on a batch.
        busy: Seconds of work so far.
        arrived: Batches that it has, but has not begun.
        held: Tasks that it was sent and that are not reported to the master.
    """

    running: bool = False
    busy: float = 0.0
    arrived: deque[list[Task]] = field(default_factory=deque)
    held: deque[Task] = field(default_factory=deque)


class Simulation:
    """One run.

    Args:
        workers: How many.
        latency: Seconds that a message takes, one way.
        flush: Seconds after which a worker reports what it has of a batch.
        patience: Seconds after which a worker gives back what is behind an item.
        watch: Called at each assignment with the rank, what it holds with the new
            batch, and how many other workers hold nothing.

    Attributes:
        now: The time.
        messages: Batches sent.
        done: Items completed.
        returned: Items given back.
    """

    def __init__(
        self,
        workers: int,
        *,
        latency: float = 6.5e-6,
        flush: float = 2e-3,
        backoff: float = 0.05,
        watch: Callable[[Rank, Sequence[Task], int], None] | None = None,
    ) -> None:
        self.ids: Iterator[int] = itertools.count()
        self.scheduler = Scheduler(self.ids)
        self.now = 0.0
        self.messages = 0
        self.done = 0
        self.returned = 0
        self._latency = latency
        self._flush = flush
        self._backoff = backoff
        self._watch = watch
        self._workers = [_Worker() for _ in range(workers)]
        self._order = itertools.count()  # breaks ties between events of one time
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        for rank in range(workers):
            self.handle(WorkerJoined(rank))

    def submit(self, seconds: Sequence[float], *, function: int = 0) -> None:
        """Submit one call for each duration, in one event."""
        tasks = [TimedTask(next(self.ids), function, [time]) for time in seconds]
        self.handle(TasksSubmitted(tasks))

    def extend(self, seconds: Sequence[float], *, function: int = 0) -> None:
        """Submit a bulk job of one item for each duration."""
        self.handle(BulkExtended(TimedBulk(function, seconds), len(seconds)))

    def run(self) -> float:
        """Let everything happen; return when the last outcome was there."""
        while self._agenda:
            self.now, _, happen = heapq.heappop(self._agenda)
            happen()
        return self.now

    @property
    def busy(self) -> list[float]:
        """Seconds of work that each worker did."""
        return [worker.busy for worker in self._workers]

    def _at(self, time: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), happen))

    # The master.

    def handle(self, event: Event) -> None:
        """Let the scheduler decide about the event, and do it."""
        for action in self.scheduler.handle(event, self.now):
            if type(action) is Assign:
                self._assign(action)
            elif type(action) is Complete:
                self.done += sum(task.count for task in action.tasks if task)

    def _assign(self, action: Assign) -> None:
        worker = self._workers[action.rank]
        batch = list(action.tasks)
        worker.held.extend(batch)
        self.messages += 1
        if self._watch is not None:
            idle = sum(not other.held for other in self._workers)
            self._watch(action.rank, list(worker.held), idle)
        self._at(self.now + self._latency, partial(self._arrive, action.rank, batch))

    def _take_report(self, event: OutcomesArrived) -> None:
        for _ in event.ids:
            self._workers[event.rank].held.popleft()
        self.handle(event)

    def _take_back(self, event: TasksReturned, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._workers[event.rank].held.remove(task)
        self.handle(event)

    # The workers.

    def _arrive(self, rank: Rank, batch: list[Task]) -> None:
        worker = self._workers[rank]
        worker.arrived.append(batch)
        if not worker.running:
            self._begin(rank)

    def _begin(self, rank: Rank) -> None:
        """Work on the next batch: up to the first item that takes long, or its end."""
        worker = self._workers[rank]
        worker.running = bool(worker.arrived)
        if not worker.running:
            return
        batch = worker.arrived.popleft()
        time = flushed = self.now
        report: list[tuple[Task, int]] = []  # and how many items of each are run
        for at, task in enumerate(batch, 1):
            if report and time - flushed > self._flush:
                self._report(rank, 0, report, time)
                report, flushed = [], time
            keep = self._first_long(task)
            seconds = sum(seconds_of(task)[:keep])
            worker.busy += seconds
            if keep:
                begun = time + seconds - seconds_of(task)[keep - 1]
                done, rest = [*report], batch[at:]
                look = partial(self._give_back, rank, done, task, keep, rest)
                self._at(begun + self._backoff, look)
                report = []
            time += seconds
            report.append((task, keep or task.count))
            if keep:
                break
        self._at(time, partial(self._end, rank, report))

    def _first_long(self, task: Task) -> int | None:
        """Return the number of items up to the first that takes long, if one does."""
        if max(seconds_of(task)) <= self._backoff:
            return None
        long = (
            at for at, time in enumerate(seconds_of(task), 1) if time > self._backoff
        )
        return next(long)

    def _give_back(
        self,
        rank: Rank,
        done: list[tuple[Task, int]],
        unresponsive: Task,
        keep: int,
        rest: list[Task],
    ) -> None:
        if done:
            self._report(rank, 0, done, self.now)
        rest = [*rest]
        for batch in self._workers[rank].arrived:
            rest += batch
            batch.clear()
        split = (unresponsive.id, keep) if keep < unresponsive.count else None
        if rest or split:
            self.returned += (
                sum(task.count for task in rest) + unresponsive.count - keep
            )
            event = TasksReturned(rank, [task.id for task in rest], split)
            take = partial(self._take_back, event, rest)
            self._at(self.now + self._latency, take)

    def _end(self, rank: Rank, report: list[tuple[Task, int]]) -> None:
        self._report(rank, 1, report, self.now)
        self._begin(rank)

    def _report(
        self,
        rank: Rank,
        batches: int,
        tasks: Sequence[tuple[Task, int]],
        time: float,
    ) -> None:
        ids = [task.id for task, _ in tasks]
        costs = [
            Cost(task.function, count, sum(seconds_of(task)[:count]))
            for task, count in tasks
        ]
        event = OutcomesArrived(rank, batches, ids, [], costs)
        self._at(time + self._latency, partial(self._take_report, event))
