"""The backlog: tasks that no worker holds, and bulk jobs.

They are queued, postponed, or wait for their inputs.

All that happens to a task before it is assigned happens here, when the scheduler says
so; nobody else changes its state meanwhile. `mpitasks.scheduler.policy` and
`mpitasks.scheduler.batching` choose what goes next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mpitasks.scheduler import batching
from mpitasks.scheduler.events import (
    ActorRestarted,
    ActorTask,
    Bulk,
    BulkExtended,
    ClosingTask,
    InputReady,
    Task,
    TaskId,
    TaskState,
)
from mpitasks.scheduler.locality import Locality
from mpitasks.scheduler.mailboxes import Mailboxes
from mpitasks.scheduler.policy import Profiles, ReadyQueue
from mpitasks.scheduler.postponed import Postponed
from mpitasks.scheduler.transitions import TASK_TRANSITIONS, TaskInput, next_state
from mpitasks.scheduler.waiting import Waiting

__all__ = ["Backlog"]

# Rows and states by name: an attribute of an enum costs 0.2 us on CPython 3.11.
_SUBMIT = TASK_TRANSITIONS[TaskInput.SUBMIT]
_LOSE = TASK_TRANSITIONS[TaskInput.LOSE]
_CANCEL = TASK_TRANSITIONS[TaskInput.CANCEL]
_RETURN = TASK_TRANSITIONS[TaskInput.RETURN]
_POSTPONE = TASK_TRANSITIONS[TaskInput.POSTPONE]
_RELEASE = TASK_TRANSITIONS[TaskInput.RELEASE]
_WAIT = TASK_TRANSITIONS[TaskInput.WAIT]
_READY = TASK_TRANSITIONS[TaskInput.READY]
_FAIL = TASK_TRANSITIONS[TaskInput.FAIL]
_NEW = TaskState.NEW
_QUEUED = TaskState.QUEUED
_POSTPONED = TaskState.POSTPONED
_WAITING = TaskState.WAITING
_CANCELLED = TaskState.CANCELLED
_SUBMITTED = _SUBMIT[_NEW]


class Backlog:
    """What waits for a worker.

    Args:
        ids: Where chunks get their ids from.

    Attributes:
        queue: What may be assigned now.
        postponed: What may be later.
        waiting: What lacks inputs.
        near: What waits for the worker that has its data.
        mailboxes: The calls of actors, each for its own worker.
    """

    def __init__(self, ids: Iterator[TaskId]) -> None:
        self._ids = ids
        self.queue = ReadyQueue()
        self.postponed = Postponed()
        self.waiting = Waiting()
        self.near = Locality()
        self.mailboxes = Mailboxes()

    @property
    def items(self) -> int:
        """How many items wait."""
        near = self.near.items if self.near else 0
        shared = self.queue.items + self.postponed.items + self.waiting.items
        return shared + near + self.mailboxes.items

    def submit(self, tasks: Sequence[Task], now: float = -math.inf) -> None:
        """Queue new tasks, in order; drop those that were cancelled before.

        Those that lack inputs wait for them first.

        Args:
            tasks: The tasks.
            now: The time; none if no task is to wait for a worker of its own.

        Raises:
            TransitionError: One of them is not new; nothing changed.
        """
        for task in tasks:
            if task.state is not _NEW or task.inputs or task.data:
                self._submit_mixed(tasks, now)
                return
        for task in tasks:
            task.state = _SUBMITTED
        self.queue.add_tasks(tasks)

    def _submit_mixed(self, tasks: Sequence[Task], now: float) -> None:
        """As `submit`; some of the tasks were cancelled, or need results of others."""
        fresh = [task for task in tasks if task.state is _NEW]
        if len(fresh) < len(tasks):
            for task in tasks:
                if task.state not in (_NEW, _CANCELLED):
                    next_state(_SUBMIT, task.state, f"task {task.id} submitted")
        for task in fresh:
            if task.inputs:
                task.state = _WAIT[task.state]
                self.waiting.add(task)
            else:
                task.state = _SUBMITTED
            if isinstance(task, ActorTask):  # also if it waits: it holds up others
                self.mailboxes.put(task)
        self.add([task for task in fresh if not task.inputs], now)

    def add(self, tasks: list[Task], now: float) -> None:
        """Have queued tasks wait for a worker: for any, or for one that has their data.

        Args:
            tasks: The tasks.
            now: As for `submit`.
        """
        tasks = [task for task in tasks if not isinstance(task, ActorTask)]
        if now > -math.inf:
            for task in tasks:
                if task.data:
                    self.near.add(task, now)
            tasks = [task for task in tasks if not task.data]
        self.queue.add_tasks(tasks)

    def scatter(self) -> None:
        """Let any worker have what waits for one of its own."""
        self.queue.put_back(self.near.take_all())

    def supply(self, event: InputReady) -> list[Task]:
        """Return the tasks that lacked nothing but this result, to be queued."""
        ready = []
        for task in _waiting(event.tasks):
            task.nbytes += event.nbytes
            task.function = event.functions.get(task.id, task.function)
            if event.place is not None:
                task.data = [*task.data, event.place]
            if self.waiting.supply(task):
                task.state = _READY[task.state]
                if isinstance(task, ActorTask):
                    self.mailboxes.items += 1
                    self.mailboxes.wake(task)
                else:
                    ready.append(task)
        return ready

    def fail_users(self, tasks: Sequence[Task]) -> list[Task]:
        """Give up the tasks that need a result that will never be there."""
        users = _waiting(tasks)
        for task in users:
            self.waiting.remove(task)
            task.state = _FAIL[task.state]
            if isinstance(task, ActorTask):
                self.mailboxes.wake(task)
        return users

    def cancel_users(self, tasks: Sequence[Task]) -> list[Task]:
        """Cancel the tasks that need a result that was cancelled."""
        return self.cancel(_waiting(tasks))

    def stop_waiting(self) -> None:
        """Queue all tasks that lack inputs: no worker is left to run any of them."""
        tasks = self.waiting.tasks()
        for task in tasks:
            self.waiting.remove(task)
            task.state = _READY[task.state]
            if isinstance(task, ActorTask):
                self.mailboxes.items += 1
                self.mailboxes.wake(task)
        self.queue.add_tasks(
            [task for task in tasks if not isinstance(task, ActorTask)]
        )

    def postpone(self, tasks: Sequence[Task], until: float) -> None:
        """Keep new tasks until that time.

        Raises:
            TransitionError: One of them is not new; nothing changed.
        """
        for task in tasks:
            if task.state not in _POSTPONE:
                next_state(_POSTPONE, task.state, f"task {task.id} postponed")
        for task in tasks:
            task.state = _POSTPONE[task.state]
        self.postponed.add(tasks, until)

    def release(self, now: float) -> None:
        """Queue the postponed tasks whose time has come."""
        due = self.postponed.take(now)
        for task in due:
            task.state = _RELEASE[task.state]
        self.queue.add_tasks(due)

    def extend(self, event: BulkExtended) -> None:
        """Queue more items of a bulk job."""
        bulk, count = event.bulk, event.count
        if bulk.cancelled or not count:
            return
        if event.function is not None:
            bulk.function = event.function
        sizes = bulk.sizes
        if event.sizes and not sizes:
            sizes.extend([0] * bulk.ready)
        if event.sizes or sizes:
            sizes.extend(event.sizes or [0] * count)
        if bulk.ready:
            bulk.ready += count
            self.queue.items += count
        else:
            bulk.ready = count
            self.queue.add(bulk, count)

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Take tasks back that a worker has not begun; they go first."""
        for task in tasks:
            task.state = _RETURN[task.state]
        self.queue.put_back(list(tasks))

    def take_batch(self, profiles: Profiles, workers: int) -> tuple[list[Task], float]:
        """Take the next batch out; also return its expected seconds."""
        return batching.take_batch(self.queue, profiles, workers, self._ids)

    def cancel_bulk(self, bulk: Bulk) -> int:
        """Drop what is left of a bulk job; return how many items that was."""
        dropped = bulk.ready
        self.queue.items -= dropped
        bulk.ready = 0
        bulk.sizes.clear()
        bulk.cancelled = True
        self.queue.head()  # lets go of it, if it is there
        return dropped

    def cancel(self, tasks: Sequence[Task]) -> list[Task]:
        """Cancel those of the tasks that can be; return them."""
        cancelled = []
        for task in tasks:
            before = task.state
            if type(task) is ClosingTask and before is not _NEW:
                continue  # or its actor would stay for ever
            task.state = after = _CANCEL[before]
            if after is not _CANCELLED or before is after:
                continue
            cancelled.append(task)
            if isinstance(task, ActorTask) and before is not _NEW:
                self.mailboxes.items -= before is _QUEUED
                self.mailboxes.wake(task)
                if before is _WAITING:
                    self.waiting.remove(task)
            elif before is _QUEUED:
                if not (self.near and self.near.remove(task)):
                    self.queue.items -= task.count
            elif before is _POSTPONED:
                self.postponed.items -= task.count
            elif before is _WAITING:
                self.waiting.remove(task)
        self.queue.head()  # lets go of those at the head, with their payload
        return cancelled

    def entries(self) -> Iterator[Task | Bulk]:
        """Yield all that waits: tasks, and bulk jobs with items left."""
        yield from self.queue.entries()
        yield from self.near.tasks()
        yield from self.mailboxes.tasks()
        yield from self.postponed.tasks()
        yield from self.waiting.tasks()

    def cancel_all(self) -> tuple[list[Task], int]:
        """Cancel all there is; return the tasks, and how many items in all."""
        queue = self.queue
        self.release(math.inf)
        self.stop_waiting()
        self.scatter()
        tasks: list[Task] = self.mailboxes.take_all()
        items = 0
        while (head := queue.head()) is not None:
            if isinstance(head, Bulk):
                items += self.cancel_bulk(head)
            else:
                tasks += queue.take_calls(head.function, queue.items)
        for task in tasks:
            task.state = _CANCEL[task.state]
            items += task.count
        return tasks, items

    def restart(self, event: ActorRestarted) -> None:
        """Have the calls wait that make an actor again, before all others."""
        for task in event.tasks:
            task.state = _SUBMIT[task.state]
        self.mailboxes.restart(event.actor, event.tasks)

    def lose_mail(self, tasks: Sequence[ActorTask]) -> list[ActorTask]:
        """Give up calls of actors that nobody will run; return them."""
        for task in tasks:
            if task.state is _WAITING:
                self.waiting.remove(task)
                task.state = _READY[task.state]
            else:
                self.mailboxes.items -= 1
            task.state = _LOSE[task.state]
        return list(tasks)

    def lose_all(self) -> list[Task]:
        """Give up all that is queued: nobody will ever run it."""
        lost: list[Task] = []
        queue = self.queue
        while (head := queue.head()) is not None:
            lost += batching.take_run(queue, head, queue.items, self._ids)
        for task in lost:
            task.state = _LOSE[task.state]
        return lost


def _waiting(tasks: Sequence[Task]) -> list[Task]:
    """Return those that still wait: others were cancelled, or are lost."""
    return [task for task in tasks if task.state is _WAITING]
