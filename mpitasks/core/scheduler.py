"""THE state machine: events in, actions out, time as an argument.

`Scheduler.handle` is the only place where a task or a worker changes state.
Which state follows which is in two tables (`mpitasks.core.transitions`); a pair that
is absent raises `TransitionError` and changes nothing. What a task computes, how it
is sent and what time it is, is unknown here.

Tasks:

    NEW --submit--> QUEUED --assign--> ASSIGNED --succeed--> SUCCEEDED
                      |                   |------fail------> FAILED
                      |                   `------lose------> FAILED
                      |----cancel-------> CANCELLED
                      `----lose---------> FAILED

A chunk of a bulk job goes from NEW to ASSIGNED at once (assign): it does not exist
before a worker wants it. Cancelling an assigned or finished task leaves it as it is.
Queued tasks are lost when the last worker is: nobody is left to run them.

Workers:

    (joined) READY --stop--> STOPPING --leave--> STOPPED
               `-----lose------`-------lose----> LOST

A worker holds at most two batches: one it works on and one sent ahead, so that it
never waits for the master (`CREDIT`). Outcomes of tasks that a worker does not
hold, for instance of a worker declared lost, are late and ignored.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mpitasks.core import policy
from mpitasks.core.events import (
    Action,
    Assign,
    Bulk,
    BulkCancelled,
    BulkExtended,
    Cancelled,
    CancelRequested,
    Complete,
    Event,
    Fail,
    OutcomesArrived,
    QueueCancelled,
    Rank,
    Stop,
    StopRequested,
    Task,
    TaskId,
    TasksSubmitted,
    TaskState,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkerState,
)
from mpitasks.core.transitions import (
    TASK_TRANSITIONS,
    WORKER_TRANSITIONS,
    TaskInput,
    WorkerInput,
    next_state,
)
from mpitasks.errors import TransitionError

__all__ = ["Scheduler", "Statistics"]

CREDIT = 2


# Rows and states by name: an attribute of an enum costs 0.2 us on CPython 3.11.
_SUBMIT = TASK_TRANSITIONS[TaskInput.SUBMIT]
_ASSIGN = TASK_TRANSITIONS[TaskInput.ASSIGN]
_SUCCEED = TASK_TRANSITIONS[TaskInput.SUCCEED]
_FAIL = TASK_TRANSITIONS[TaskInput.FAIL]
_LOSE = TASK_TRANSITIONS[TaskInput.LOSE]
_CANCEL = TASK_TRANSITIONS[TaskInput.CANCEL]
_READY = WorkerState.READY
_QUEUED = TaskState.QUEUED
_CANCELLED = TaskState.CANCELLED


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts at one moment; items, not chunks.

    Attributes:
        workers: Workers that take tasks.
        queued: Items that wait for a worker.
        assigned: Items in the hands of workers.
        succeeded: Items done; a chunk counts as done whatever its items returned.
        failed: Items failed or lost.
        cancelled: Items taken back.
    """

    workers: int
    queued: int
    assigned: int
    succeeded: int
    failed: int
    cancelled: int


class _Worker:
    """One worker rank, as the scheduler sees it."""

    __slots__ = ("batches", "rank", "state", "tasks")

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self.state = WorkerState.READY
        self.tasks: dict[TaskId, Task] = {}
        # Expected seconds of each batch it holds, oldest first; inf if unknown.
        self.batches: deque[float] = deque()


class _Handlers(dict[type, Callable[[Any, list[Action]], None]]):
    """What handles which event; one of a derived type goes with its base."""

    def __missing__(self, kind: type) -> Callable[[Any, list[Action]], None]:
        handler = self[kind] = self[kind.__mro__[1]]
        return handler


class Scheduler:
    """Decides which worker gets which tasks when.

    Args:
        ids: Where chunk ids are taken from; the same iterator gives the calls
            their ids, so that ids are unique in the run.

    """

    def __init__(self, ids: Iterator[TaskId] | None = None) -> None:
        self._ids = itertools.count() if ids is None else ids
        self._queue = policy.ReadyQueue()
        self._profiles = policy.Profiles()
        self._workers: dict[Rank, _Worker] = {}
        # Workers with no batch; the one that became idle last is awake best.
        self._idle: OrderedDict[Rank, _Worker] = OrderedDict()
        # Workers with one short batch, to which a second may be sent ahead.
        self._short: OrderedDict[Rank, _Worker] = OrderedDict()
        self._num_ready = 0
        self._assigned = 0
        self._succeeded = 0
        self._failed = 0
        self._cancelled = 0
        self._handlers = _Handlers(
            {
                WorkerJoined: self._worker_joined,
                WorkerLeft: self._worker_left,
                WorkerLost: self._worker_lost,
                TasksSubmitted: self._tasks_submitted,
                BulkExtended: self._bulk_extended,
                BulkCancelled: self._bulk_cancelled,
                CancelRequested: self._cancel_requested,
                QueueCancelled: self._queue_cancelled,
                OutcomesArrived: self._outcomes_arrived,
                StopRequested: self._stop_requested,
            }
        )

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event in and return what is to be done about it, sends first.

        Args:
            event: What happened.
            now: The time in seconds, on any clock that does not go back.

        Raises:
            TransitionError: The event does not fit the state; nothing changed.
        """
        actions: list[Action] = []
        self._handlers[type(event)](event, actions)
        if self._queue.items:
            if self._num_ready:
                sends: list[Action] = []
                self._dispatch(sends)
                actions = sends + actions
            elif self._workers:
                self._fail_queue(actions)
        return actions

    @property
    def hungry(self) -> bool:
        """Whether a worker would take a task that was submitted now."""
        return bool(self._idle or self._short)

    def next_deadline(self) -> float:
        """Return when the scheduler wants to be asked again; inf for never."""
        return math.inf

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        return self._queue.items + self._assigned

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._num_ready

    def statistics(self) -> Statistics:
        """Return the counts of this moment."""
        return Statistics(
            workers=self._num_ready,
            queued=self._queue.items,
            assigned=self._assigned,
            succeeded=self._succeeded,
            failed=self._failed,
            cancelled=self._cancelled,
        )

    def running_workers(self) -> list[Rank]:
        """Return the ranks that have not stopped and are not lost."""
        gone = (WorkerState.STOPPED, WorkerState.LOST)
        return [w.rank for w in self._workers.values() if w.state not in gone]

    def check(self) -> None:
        """Assert every invariant. For tests and debugging; walks everything."""
        assigned = 0
        for worker in self._workers.values():
            for task in worker.tasks.values():
                assert task.state is TaskState.ASSIGNED, task.state
                assigned += task.count
            assert len(worker.batches) <= CREDIT
            ready = worker.state is WorkerState.READY
            assert (worker.rank in self._idle) == (ready and not worker.batches)
            assert worker.rank not in self._short or len(worker.batches) == 1
            assert ready or worker.rank not in self._short
            assert bool(worker.tasks) <= bool(worker.batches)
        assert assigned == self._assigned
        ready_workers = [
            w for w in self._workers.values() if w.state is WorkerState.READY
        ]
        assert len(ready_workers) == self._num_ready
        assert (self._queue.items > 0) == (self._queue.head() is not None)
        assert not (self._queue.items and self._idle), (
            "work waits beside an idle worker"
        )

    # Workers.

    def _worker_joined(self, event: WorkerJoined, actions: list[Action]) -> None:
        if event.rank in self._workers:
            raise TransitionError(f"worker {event.rank} joined twice")
        worker = _Worker(event.rank)
        self._workers[event.rank] = worker
        self._idle[event.rank] = worker
        self._num_ready += 1

    def _worker_left(self, event: WorkerLeft, actions: list[Action]) -> None:
        worker = self._move_worker(event.rank, WorkerInput.LEAVE, "left")
        self._lose_held(worker, actions)

    def _worker_lost(self, event: WorkerLost, actions: list[Action]) -> None:
        worker = self._move_worker(event.rank, WorkerInput.LOSE, "lost")
        self._lose_held(worker, actions)

    def _lose_held(self, worker: _Worker, actions: list[Action]) -> None:
        """Fail what a worker that is gone has not reported."""
        lost = list(worker.tasks.values())
        self._assigned -= self._lose(lost)
        worker.tasks.clear()
        worker.batches.clear()
        if lost:
            actions.append(Fail(lost, worker.rank))

    def _fail_queue(self, actions: list[Action]) -> None:
        lost: list[Task] = []
        while (head := self._queue.head()) is not None:
            lost += self._take_run(head, self._queue.items)
        self._lose(lost)
        actions.append(Fail(lost, None))

    def _lose(self, tasks: list[Task]) -> int:
        items = 0
        for task in tasks:
            task.state = _LOSE[task.state]
            items += task.count
        self._failed += items
        return items

    def _stop_requested(self, event: StopRequested, actions: list[Action]) -> None:
        for worker in self._workers.values():
            if worker.state is WorkerState.READY:
                actions.append(Stop(worker.rank))
            self._move_worker(worker.rank, WorkerInput.STOP, "told to stop")

    def _move_worker(self, rank: Rank, what: WorkerInput, verb: str) -> _Worker:
        worker = self._workers.get(rank)
        if worker is None:
            raise TransitionError(f"worker {rank} {verb}, but it never joined")
        before = worker.state
        worker.state = next_state(
            WORKER_TRANSITIONS[what], before, f"worker {rank} {verb}"
        )
        if before is WorkerState.READY:
            self._num_ready -= 1
            self._idle.pop(rank, None)
            self._short.pop(rank, None)
        return worker

    # Tasks.

    def _tasks_submitted(self, event: TasksSubmitted, actions: list[Action]) -> None:
        tasks = event.tasks
        if len(tasks) == 1 and self._idle and tasks[0].state in _SUBMIT:
            # Nothing waits and a worker does: straight through the queue.
            task = tasks[0]
            task.state = _SUBMIT[task.state]
            profile = self._profiles.get(task.function)
            seconds = math.inf if profile is None else profile.seconds
            self._assign(self._idle.popitem()[1], [task], seconds, actions)
            return
        fresh = []
        for task in tasks:
            state = task.state
            if state in _SUBMIT:
                fresh.append(task)
            elif state is not _CANCELLED:  # cancelled before it came here: dropped
                next_state(_SUBMIT, state, f"task {task.id} submitted")
        for task in fresh:
            task.state = _SUBMIT[task.state]
        self._queue.add_tasks(fresh)

    def _bulk_extended(self, event: BulkExtended, actions: list[Action]) -> None:
        bulk = event.bulk
        if bulk.cancelled or not event.count:
            return
        if bulk.ready:
            bulk.ready += event.count
            self._queue.items += event.count
        else:
            bulk.ready = event.count
            self._queue.add(bulk, event.count)

    def _bulk_cancelled(self, event: BulkCancelled, actions: list[Action]) -> None:
        bulk = event.bulk
        self._queue.items -= bulk.ready
        self._cancelled += bulk.ready
        bulk.ready = 0
        bulk.cancelled = True
        self._queue.head()  # lets go of it, if it is there

    def _cancel_requested(self, event: CancelRequested, actions: list[Action]) -> None:
        cancelled = []
        for task in event.tasks:
            before = task.state
            task.state = after = _CANCEL[before]
            if after is _CANCELLED and before is not after:
                cancelled.append(task)
                self._cancelled += task.count
                if before is _QUEUED:
                    self._queue.items -= task.count
        if cancelled:
            actions.append(Cancelled(cancelled))
            self._queue.head()  # lets go of those at the head, with their payload

    def _queue_cancelled(self, event: QueueCancelled, actions: list[Action]) -> None:
        queue = self._queue
        calls: list[Task] = []
        while (head := queue.head()) is not None:
            if isinstance(head, Bulk):
                self._bulk_cancelled(BulkCancelled(head), actions)
            else:
                calls += queue.take_calls(head.function, queue.items)
        for task in calls:
            task.state = _CANCEL[task.state]
        self._cancelled += len(calls)
        if calls:
            actions.append(Cancelled(calls))

    def _outcomes_arrived(self, event: OutcomesArrived, actions: list[Action]) -> None:
        worker = self._workers.get(event.rank)
        if worker is None:
            raise TransitionError(
                f"outcomes of worker {event.rank}, which never joined"
            )
        ready = worker.state is _READY
        if ready and event.batches > len(worker.batches):
            raise TransitionError(f"worker {event.rank} finished a batch it never had")
        for cost in event.costs:
            self._profiles.observe(cost)
        tasks = []
        finished = failed = 0
        for id in event.ids:
            task = worker.tasks.pop(id, None)
            tasks.append(task)
            if task is not None:
                finished += task.count
                if event.failed and id in event.failed:
                    task.state = _FAIL[task.state]
                    failed += task.count
                else:
                    task.state = _SUCCEED[task.state]
        self._assigned -= finished
        self._succeeded += finished - failed
        self._failed += failed
        actions.append(Complete(tasks))
        if event.batches and ready:
            for _ in range(event.batches):
                worker.batches.popleft()
            if not worker.batches:
                self._short.pop(worker.rank, None)
                self._idle[worker.rank] = worker
            elif worker.batches[0] <= policy.PREFETCH_SECONDS:
                self._short[worker.rank] = worker

    # Which worker gets what.

    def _dispatch(self, actions: list[Action]) -> None:
        while self._idle and self._queue.items:
            _, worker = self._idle.popitem()
            self._assign(worker, *self._take_batch(), actions)
        while self._short and self._queue.items:
            _, worker = self._short.popitem(last=False)
            self._assign(worker, *self._take_batch(), actions)

    def _assign(
        self, worker: _Worker, tasks: list[Task], seconds: float, actions: list[Action]
    ) -> None:
        """Give a worker, filed nowhere now, a batch that should take `seconds`."""
        held = worker.tasks
        items = 0
        for task in tasks:
            task.state = _ASSIGN[task.state]
            held[task.id] = task
            items += task.count
        self._assigned += items
        worker.batches.append(seconds)
        if len(worker.batches) < CREDIT and seconds <= policy.PREFETCH_SECONDS:
            self._short[worker.rank] = worker
        actions.append(Assign(worker.rank, tasks))

    def _take_batch(self) -> tuple[list[Task], float]:
        """Take the next batch off the queue; also return its expected seconds."""
        queue = self._queue
        share = policy.batch_share(queue.items, self._num_ready)
        batch: list[Task] = []
        seconds = 0.0
        room = 1.0  # what is left of a full batch
        while share > 0 and len(batch) < policy.BATCH_TASKS:
            head = queue.head()
            assert head is not None  # the share is part of what is ready
            profile = self._profiles.get(head.function)
            if profile is None:  # of unknown length: goes alone
                if not batch:
                    return self._take_run(head, 1), math.inf
                break
            full = profile.batch_items()
            limit = min(int(room * full), max(share, profile.least_items()))
            if batch and limit < 1:
                break
            run = self._take_run(head, max(limit, 1))
            items = sum([task.count for task in run])
            batch += run
            seconds += items * profile.seconds
            share -= items
            room -= max(items / full, sum([t.nbytes for t in run]) / policy.BATCH_BYTES)
        return batch, seconds

    def _take_run(self, head: Task | Bulk, limit: int) -> list[Task]:
        """Take up to `limit` items like the head off the queue; at least one task."""
        queue = self._queue
        if isinstance(head, Bulk):
            chunk = head.carve(
                next(self._ids), min(head.chunksize or limit, head.ready)
            )
            head.ready -= chunk.count
            queue.items -= chunk.count
            if not head.ready:
                queue.drop_head()
            run = [chunk]
        else:
            run = queue.take_calls(head.function, min(limit, policy.BATCH_TASKS))
        return run
