"""The assignments: the workers, and the tasks that they hold.

All that happens to a task from its assignment on, and all that happens to a worker,
happens here, when the scheduler says so; nothing else changes their states.
`mpitasks.scheduler.available_workers` knows which worker could take a batch,
`mpitasks.scheduler.watchdog` which is overdue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from mpitasks.errors import TransitionError
from mpitasks.scheduler.available_workers import AvailableWorkers, WorkerRecord
from mpitasks.scheduler.events import (
    OutcomesArrived,
    Rank,
    Task,
    TaskId,
    TasksReturned,
    TaskState,
    WorkerState,
)
from mpitasks.scheduler.transitions import (
    TASK_TRANSITIONS,
    WORKER_TRANSITIONS,
    TaskInput,
    WorkerInput,
    next_state,
)
from mpitasks.scheduler.watchdog import HOPE_SECONDS, Watchdog, limit_of

__all__ = ["Assignments"]

# Rows and states by name: an attribute of an enum costs 0.2 us on CPython 3.11.
_ASSIGN = TASK_TRANSITIONS[TaskInput.ASSIGN]
_SUCCEED = TASK_TRANSITIONS[TaskInput.SUCCEED]
_FAIL = TASK_TRANSITIONS[TaskInput.FAIL]
_LOSE = TASK_TRANSITIONS[TaskInput.LOSE]
_REVOKE = TASK_TRANSITIONS[TaskInput.REVOKE]
_ASSIGNED = TaskState.ASSIGNED
_READY = WorkerState.READY
_UNRESPONSIVE = WorkerState.UNRESPONSIVE


class Assignments:
    """The workers of a run.

    Attributes:
        available_workers: The workers, and who could take a batch.
        overdue: The workers that are overdue with a task.
        assigned: How many items they hold.
        hope: With all of them unresponsive, how long to wait for one to report.
    """

    def __init__(self) -> None:
        self.available_workers = AvailableWorkers()
        self.overdue = Watchdog()
        self.assigned = 0
        self.hope = -math.inf

    def hopeless(self, now: float) -> bool:
        """Whether none of them will ever take a task, as far as is known."""
        available_workers = self.available_workers
        return (
            not available_workers.used and bool(available_workers) and now >= self.hope
        )

    def known(self, rank: Rank, what: str) -> WorkerRecord:
        """Return the worker of a rank.

        Raises:
            TransitionError: It never joined.
        """
        worker = self.available_workers.get(rank)
        if worker is None:
            raise TransitionError(f"{what} worker {rank}, which never joined")
        return worker

    def join(self, rank: Rank) -> None:
        """Take in a new worker.

        Raises:
            TransitionError: It is here already.
        """
        if self.available_workers.get(rank) is not None:
            raise TransitionError(f"worker {rank} joined twice")
        self.available_workers.add(WorkerRecord(rank))

    def move(self, rank: Rank, what: WorkerInput, verb: str) -> WorkerRecord:
        """Let something happen to a worker.

        Raises:
            TransitionError: Not in its state.
        """
        worker = self.known(rank, f"{verb}:")
        before = worker.state
        worker.state = next_state(
            WORKER_TRANSITIONS[what], before, f"worker {rank} {verb}"
        )
        if before is _READY:
            self.available_workers.retire(worker)
        elif worker.state is _READY:
            self.available_workers.restore()
        return worker

    def stop(self) -> list[Rank]:
        """Tell all to stop; return those that did not know yet."""
        told = [
            w.rank for w in self.available_workers if w.state in (_READY, _UNRESPONSIVE)
        ]
        for worker in self.available_workers:
            self.move(worker.rank, WorkerInput.STOP, "told to stop")
        return told

    def holding(
        self, ids: Iterable[TaskId]
    ) -> Iterator[tuple[WorkerRecord, list[TaskId]]]:
        """Yield the workers that hold some of the tasks, and which of them."""
        wanted = set(ids)
        for worker in self.available_workers if wanted else ():
            held = [id for id in worker.tasks if id in wanted]
            if held:
                yield worker, held

    def tasks(self) -> list[Task]:
        """Return all that they hold."""
        return [
            task for worker in self.available_workers for task in worker.tasks.values()
        ]

    def assign(
        self, worker: WorkerRecord, tasks: list[Task], seconds: float, now: float
    ) -> bool:
        """Give a worker a batch; return whether it has a time limit.

        Args:
            worker: The worker.
            tasks: The batch.
            seconds: How long it should take.
            now: The time.
        """
        limited = False
        held = worker.tasks
        items = 0
        for task in tasks:
            task.state = _ASSIGN[task.state]
            held[task.id] = task
            items += task.count
            if task.task_spec is not None:
                limited = limited or limit_of(task) is not None
        if limited:
            self.overdue.add(worker, now)
        self.assigned += items
        worker.batches.append(seconds)
        self.available_workers.file(worker)
        return limited

    def assign_single(self, task: Task, seconds: float) -> Rank | None:
        """Give a task with no time limit to an idle worker; return its rank, if any."""
        worker = self.available_workers.pick_idle()
        if worker is None:
            return None
        task.state = _ASSIGN[task.state]
        worker.tasks[task.id] = task
        self.assigned += task.count
        worker.batches.append(seconds)
        self.available_workers.file(worker)
        return worker.rank

    def finish_single(self, rank: Rank, id: TaskId) -> Task | None:
        """Take in that the only batch of a worker, of one task, succeeded.

        Returns:
            The task; None, with nothing changed, if that is not what the worker has,
            or if it has a time limit.
        """
        worker = self.available_workers.get(rank)
        if worker is None or worker.state is not _READY or len(worker.batches) != 1:
            return None
        if rank in self.overdue.ranks:
            return None
        task = worker.tasks.pop(id, None)
        if task is None:
            return None
        task.state = _SUCCEED[task.state]
        self.assigned -= task.count
        worker.batches.popleft()
        self.available_workers.file(worker)
        return task

    def complete(
        self, event: OutcomesArrived, now: float
    ) -> tuple[list[Task | None], int, int]:
        """Take a report in.

        Returns:
            Its tasks, aligned with its ids, None for those that came too late; how
            many items succeeded, and how many failed.

        Raises:
            TransitionError: It cannot be; nothing changed.
        """
        worker = self.known(event.rank, "outcomes of")
        recovers = worker.state is _UNRESPONSIVE
        ready = recovers or worker.state is _READY
        if ready and event.batches > len(worker.batches):
            raise TransitionError(f"worker {event.rank} finished a batch it never had")
        parts = event.parts
        for id, count in parts.items():
            if id in worker.tasks and not 0 < count < worker.tasks[id].count:
                raise TransitionError(f"{count} items of task {id}, which has fewer")
        if recovers:
            self.move(event.rank, WorkerInput.RECOVER, "reports")
        held = worker.tasks
        finished = failed = 0
        if parts:
            tasks = [
                _first_items(held[id], parts[id])
                if id in parts and id in held
                else held.pop(id, None)
                for id in event.ids
            ]
        else:
            pop = held.pop
            tasks = [pop(id, None) for id in event.ids]
        if event.failed:
            failing = set(event.failed)
            for task in tasks:
                if task is not None and task.id in failing:
                    task.state = _FAIL[task.state]
                    failed += task.count
        for task in tasks:
            if task is not None and task.state is _ASSIGNED:
                task.state = _SUCCEED[_ASSIGNED]
                finished += task.count
        finished += failed
        self.assigned -= finished
        if event.rank in self.overdue.ranks:
            self.overdue.restart(worker, now)
        if event.batches and ready:
            for _ in range(event.batches):
                worker.batches.popleft()
            self.available_workers.file(worker)
        return tasks, finished - failed, failed

    def give_back(
        self, event: TasksReturned, ids: Iterator[TaskId], now: float
    ) -> list[Task]:
        """Return what a worker gives back, for the backlog to take."""
        worker = self.known(event.rank, "tasks of")
        begun = None if event.split is None else worker.tasks.get(event.split[0])
        keep = 0 if event.split is None else event.split[1]
        if begun is not None and not 0 < keep < begun.count:
            raise TransitionError(f"task {begun.id} cannot keep {keep} items")
        tasks = [worker.tasks.pop(id) for id in event.ids if id in worker.tasks]
        if begun is not None:
            rest = begun.part(next(ids), keep, begun.count - keep)
            begun.count = keep
            tasks.insert(0, rest)
        self.assigned -= _items(tasks)
        if event.rank in self.overdue.ranks:
            self.overdue.restart(worker, now)
        if worker.batches:
            worker.batches[0] = math.inf  # it is unresponsive: nothing is sent ahead
            self.available_workers.file(worker)
        return tasks

    def take(
        self, worker: WorkerRecord, ids: Sequence[TaskId], what: TaskInput, now: float
    ) -> list[Task]:
        """Let something happen to tasks of a worker, which no longer holds them."""
        tasks = [worker.tasks.pop(id) for id in ids]
        for task in tasks:
            task.state = TASK_TRANSITIONS[what][task.state]
        self.assigned -= _items(tasks)
        self.overdue.restart(worker, now)
        return tasks

    def lose(self, worker: WorkerRecord, now: float) -> list[Task]:
        """Lose what a worker holds that is gone, or unresponsive; return it."""
        lost = self.take(worker, list(worker.tasks), TaskInput.LOSE, now)
        if worker.state is not _UNRESPONSIVE:  # which may finish its batches after all
            worker.batches.clear()
        if all(worker.state is not _UNRESPONSIVE for worker in self.available_workers):
            self.hope = -math.inf
        return lost

    def stick(self, worker: WorkerRecord, now: float) -> None:
        """A worker does not come back from a task."""
        self.move(worker.rank, WorkerInput.SUSPECT, "is overdue")
        self.hope = now + HOPE_SECONDS

    def check(self) -> None:
        """Assert every invariant. For tests and debugging; walks everything."""
        assigned = 0
        self.available_workers.check()
        for worker in self.available_workers:
            for task in worker.tasks.values():
                assert task.state is TaskState.ASSIGNED, task.state
                assigned += task.count
            assert bool(worker.tasks) <= bool(worker.batches)
        assert assigned == self.assigned


def _first_items(chunk: Task, count: int) -> Task:
    """Return a task for the first items of a chunk, which goes on with the others."""
    first = chunk.part(chunk.id, 0, count)
    first.state = chunk.state
    chunk.start += count
    chunk.count -= count
    return first


def _items(tasks: list[Task]) -> int:
    return sum([task.count for task in tasks])
