"""A scheduler with its world: remembers what it assigned, checks it at each step."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from mpitasks.records import dataclass, field
from mpitasks.scheduler.available_workers import WorkerRecord
from mpitasks.scheduler.events import (
    Action,
    Assign,
    Bulk,
    BulkExtended,
    Cancelled,
    CancelRequested,
    Cost,
    Event,
    Fail,
    OutcomesArrived,
    Rank,
    RankLost,
    StopRequested,
    Task,
    TaskId,
    TasksPostponed,
    TasksReturned,
    TasksSubmitted,
    TaskState,
    TaskSubmitted,
    TaskSucceeded,
    TimePassed,
    WorkerJoined,
    WorkerState,
)
from mpitasks.scheduler.scheduler import Scheduler
from mpitasks.scheduler.transitions import TaskInput

A = TypeVar("A")

SHORT = 1e-5
LONG = 10.0

OVER = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


class Driver:
    """Feeds a scheduler with events.

    Attributes:
        scheduler: The scheduler.
        batches: What each worker holds: the batches it was sent, oldest first.
    """

    def __init__(self, workers: int = 0) -> None:
        self.ids = itertools.count()
        self.scheduler = Scheduler(self.ids)
        self.batches: dict[Rank, deque[list[Task]]] = defaultdict(deque)
        self._now = 0.0
        for rank in range(workers):
            self.handle(WorkerJoined(rank))

    def handle(self, event: Event) -> list[Action]:
        """Handle the event, check the scheduler, and return the actions."""
        self._now += 1.0
        actions = self.scheduler.handle(event, self._now)
        for action in actions:
            if isinstance(action, Assign):
                self.batches[action.rank].append(action.tasks)
            if isinstance(action, (Assign, Fail, Cancelled)):
                _record(action.tasks)
        self.check()
        return actions

    def check(self) -> None:
        """Check the scheduler; what it has left is as much as it counts."""
        self.scheduler.check()
        entries = list(self.scheduler.entries())
        tasks = [entry for entry in entries if isinstance(entry, Task)]
        ready = sum(entry.ready for entry in entries if isinstance(entry, Bulk))
        assert all(entry.state not in OVER for entry in tasks)
        assert len(set(map(id, entries))) == len(entries)
        assert ready + sum(t.count for t in tasks) == self.scheduler.outstanding
        _record(tasks)

    def task(self, function: int = 0, **attributes: Any) -> Task:
        """Return a new task."""
        return Task(next(self.ids), function, **attributes)

    def tasks(self, count: int, function: int = 0, **attributes: Any) -> list[Task]:
        """Return new tasks."""
        return [self.task(function, **attributes) for _ in range(count)]

    def submit_one(self, task: Task) -> list[Action]:
        """Submit a task by itself."""
        return self.handle(TaskSubmitted(task))

    def submit(self, *tasks: Task) -> list[Action]:
        """Submit the tasks in one event."""
        return self.handle(TasksSubmitted(tasks))

    def postpone(self, until: float, *tasks: Task) -> list[Action]:
        """Postpone the tasks."""
        return self.handle(TasksPostponed(tasks, until))

    def wait_until(self, now: float) -> list[Action]:
        """Let time pass."""
        self._now = max(self._now, now)
        return self.handle(TimePassed())

    def revoke_held(self, task: Task) -> None:
        """Cancel a task, if a worker holds it, as one that runs isolated."""
        assignments = self.scheduler._assignments
        for worker, held in assignments.holding([task.id]):
            assignments.take(worker, held, TaskInput.REVOKE, self._now)

    def revoke(self, *tasks: Task) -> list[Action]:
        """Have running isolated tasks cancelled."""
        return self.handle(CancelRequested(tasks))

    def extend(
        self,
        bulk: Bulk,
        count: int,
        function: int | None = None,
        sizes: Sequence[int] = (),
    ) -> list[Action]:
        """Give a bulk job more items."""
        if isinstance(bulk, Recorder) and not bulk.cancelled:
            bulk.sizes_given += sizes or [0] * count
        return self.handle(BulkExtended(bulk, count, function, sizes))

    def finish(
        self,
        rank: Rank,
        *,
        seconds: float = SHORT,
        nbytes: int = 0,
        failed: Sequence[int] = (),
    ) -> list[Action]:
        """Report the oldest batch of a worker as done.

        Args:
            rank: The worker.
            seconds: How long each item took.
            nbytes: The size of the result of each item.
            failed: Positions of the tasks in the batch that failed.
        """
        batch = self.batches[rank].popleft()
        costs = costs_of(batch, seconds, nbytes)
        ids = [task.id for task in batch]
        bad = [ids[at] for at in failed]
        return self.handle(OutcomesArrived(rank, 1, ids, bad, costs))

    def succeed(
        self, rank: Rank, *, seconds: float = SHORT, nbytes: int = 0
    ) -> list[Action]:
        """Report the oldest batch of a worker, a single call, as a success."""
        (task,) = self.batches[rank].popleft()
        event = TaskSucceeded(rank, task.id, task.function, seconds, nbytes)
        return self.handle(event)

    def report(
        self,
        rank: Rank,
        ids: Sequence[int],
        *,
        batches: int = 0,
        failed: Sequence[int] = (),
        costs: Sequence[Cost] = (),
        parts: Mapping[TaskId, int] | None = None,
    ) -> list[Action]:
        """Report anything; `failed` are ids here."""
        if parts is not None:
            event = PartsArrived(rank, batches, ids, failed, costs, parts)
            return self.handle(event)
        return self.handle(OutcomesArrived(rank, batches, ids, failed, costs))

    def report_part(
        self, rank: Rank, count: int, *, seconds: float = SHORT, fails: bool = False
    ) -> list[Action]:
        """Report the first items of the first task that a worker holds.

        Args:
            rank: The worker.
            count: How many items.
            seconds: How long each of them took.
            fails: Whether they failed.
        """
        chunk = self.batches[rank][0][0]
        return self.report(
            rank,
            [chunk.id],
            failed=[chunk.id] if fails else [],
            costs=[Cost(chunk.function, count, seconds * count)],
            parts={chunk.id: count},
        )

    def give_back(self, rank: Rank, *, keep: int = 0) -> list[Action]:
        """Have a worker give back all that it holds but the first task.

        Args:
            rank: The worker.
            keep: How many items it keeps of that task, a chunk; 0 for all of them.
        """
        first, *later = self.batches[rank]
        returned = [*first[1:], *(task for batch in later for task in batch)]
        split = (first[0].id, keep) if keep else None
        del first[1:]
        for batch in later:
            batch.clear()
        ids = [task.id for task in returned]
        return self.handle(TasksReturned(rank, ids, split))

    def learn(self, function: int, seconds: float, *, nbytes: int = 0) -> None:
        """Let the scheduler know what an item of the function takes, before any ran."""
        items = 1_000_000
        cost = Cost(function, items, seconds * items, nbytes * items)
        self.scheduler._profiles.observe(cost)

    def lose(self, rank: Rank) -> list[Action]:
        """Lose the worker."""
        self.batches[rank].clear()
        return self.handle(RankLost(rank))

    def stop(self) -> list[Action]:
        """Ask for the end."""
        return self.handle(StopRequested())

    @property
    def has_capacity(self) -> bool:
        """Whether a worker would take a single task now."""
        return self.scheduler._available_workers.has_capacity

    def worker(self, rank: Rank) -> WorkerRecord:
        """Return the scheduler's record of a worker."""
        worker = self.scheduler._available_workers.get(rank)
        assert worker is not None
        return worker

    def worker_state(self, rank: Rank) -> WorkerState:
        """Return the state of a worker."""
        return self.worker(rank).state

    def snapshot(self) -> tuple[Any, ...]:
        """Return all that an illegal event must leave as it is."""
        scheduler = self.scheduler
        workers = [
            (w.rank, w.state, list(w.tasks), list(w.batches), w.used)
            for w in scheduler._available_workers
        ]
        return (
            scheduler.statistics(),
            scheduler.running_workers(),
            scheduler.outstanding,
            self.has_capacity,
            scheduler.num_workers,
            list(scheduler._available_workers._idle),
            list(scheduler._available_workers._short),
            list(scheduler._available_workers._longer),
            scheduler.deadline,
            workers,
        )


@dataclass(slots=True)
class PartsArrived(OutcomesArrived):
    """A report with parts, as the message of the wire."""

    parts: Mapping[TaskId, int] = field(default_factory=dict)


class Recorder(Bulk):
    """A bulk job that remembers what came of it.

    Attributes:
        chunks: Its chunks, and those that were split off them, in their order.
        sizes_given: What each of its items weighs.
    """

    def __init__(self, function: int = 0, **attributes: Any) -> None:
        super().__init__(function, self, **attributes)
        self.chunks: list[Task] = []
        self.sizes_given: list[int] = []


def _record(tasks: Iterable[Task]) -> None:
    for task in tasks:
        job = task.payload
        if isinstance(job, Recorder) and task not in job.chunks:
            job.chunks.append(task)


def positions(chunk: Task) -> range:
    """Return the positions of a chunk's items in its job."""
    return range(chunk.start, chunk.start + chunk.count)


def only(kind: type[A], actions: Iterable[Any]) -> list[A]:
    """Return the actions of that kind."""
    return [action for action in actions if type(action) is kind]


def costs_of(batch: Iterable[Task], seconds: float, nbytes: int = 0) -> list[Cost]:
    """Return the costs of a batch whose items took so long each."""
    return [
        Cost(task.function, task.count, seconds * task.count, nbytes * task.count)
        for task in batch
    ]
