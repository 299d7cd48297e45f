"""A scheduler with its world: remembers what it assigned, checks it at each step."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from mpitasks.core.events import (
    Action,
    Assign,
    Bulk,
    BulkExtended,
    CancelRequested,
    Cost,
    Event,
    OutcomesArrived,
    Rank,
    StopRequested,
    Task,
    TaskId,
    TasksPostponed,
    TasksReturned,
    TasksSubmitted,
    TimePassed,
    WorkerJoined,
    WorkerLost,
    WorkerState,
)
from mpitasks.core.roster import Worker
from mpitasks.core.scheduler import Scheduler
from mpitasks.core.transitions import TaskInput

A = TypeVar("A")

SHORT = 1e-5
LONG = 10.0


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
        for action in only(Assign, actions):
            self.batches[action.rank].append(action.tasks)
        self.scheduler.check()
        return actions

    def task(self, function: int = 0, **attributes: Any) -> Task:
        """Return a new task."""
        return Task(next(self.ids), function, **attributes)

    def tasks(self, count: int, function: int = 0, **attributes: Any) -> list[Task]:
        """Return new tasks."""
        return [self.task(function, **attributes) for _ in range(count)]

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
        crew = self.scheduler._crew
        for worker, held in crew.holding([task.id]):
            crew.take(worker, held, TaskInput.REVOKE, self._now)

    def revoke(self, *tasks: Task) -> list[Action]:
        """Have running isolated tasks cancelled."""
        return self.handle(CancelRequested(tasks))

    def extend(self, bulk: Bulk, count: int) -> list[Action]:
        """Give a bulk job more items."""
        return self.handle(BulkExtended(bulk, count))

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

    def report(
        self,
        rank: Rank,
        ids: Sequence[int],
        *,
        batches: int = 0,
        failed: Sequence[int] = (),
        costs: Sequence[Cost] = (),
    ) -> list[Action]:
        """Report anything; `failed` are ids here."""
        return self.handle(OutcomesArrived(rank, batches, ids, failed, costs))

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
        return self.handle(WorkerLost(rank))

    def stop(self) -> list[Action]:
        """Ask for the end."""
        return self.handle(StopRequested())

    @property
    def hungry(self) -> bool:
        """Whether a worker would take a single task now."""
        return self.scheduler._roster.hungry

    def worker(self, rank: Rank) -> Worker:
        """Return the scheduler's record of a worker."""
        worker = self.scheduler._roster.get(rank)
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
            for w in scheduler._roster
        ]
        return (
            scheduler.statistics(),
            scheduler.running_workers(),
            scheduler.outstanding,
            self.hungry,
            scheduler.num_workers,
            list(scheduler._roster._idle),
            list(scheduler._roster._short),
            list(scheduler._roster._longer),
            scheduler.deadline,
            workers,
        )


class Recorder(Bulk):
    """A bulk job that remembers its chunks, and those that they were split into."""

    def __init__(self, function: int = 0, **attributes: Any) -> None:
        super().__init__(function, **attributes)
        self.chunks: list[Piece] = []
        self._carved = 0

    def carve(self, task_id: TaskId, limit: int) -> Task:
        count = super().carve(task_id, limit).count
        self._carved += count
        return Piece(self, task_id, self._carved - count, count)


class Piece(Task):
    """A chunk of a `Recorder`, which knows its first item."""

    def __init__(self, job: Recorder, id: TaskId, start: int, count: int) -> None:
        super().__init__(
            id, job.function, count=count, priority=job.priority, terms=job.terms
        )
        self.job = job
        self.start = start
        job.chunks.append(self)

    @property
    def items(self) -> range:
        """The positions of its items in the job."""
        return range(self.start, self.start + self.count)

    def split(self, task_id: TaskId, keep: int) -> Piece:
        rest = super().split(task_id, keep)
        return Piece(self.job, task_id, self.start + keep, rest.count)


def only(kind: type[A], actions: Iterable[Any]) -> list[A]:
    """Return the actions of that kind."""
    return [action for action in actions if type(action) is kind]


def costs_of(batch: Iterable[Task], seconds: float, nbytes: int = 0) -> list[Cost]:
    """Return the costs of a batch whose items took so long each."""
    return [
        Cost(task.function, task.count, seconds * task.count, nbytes * task.count)
        for task in batch
    ]
