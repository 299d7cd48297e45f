"""THE state machine: events in, actions out, time as an argument.

`Scheduler.handle` is the only place where a task or a worker changes state.
Which state follows which is in two tables (`mpitasks.core.transitions`); a pair that
is absent raises `TransitionError` and changes nothing. What a task computes, how it
is sent and what time it is, is unknown here.

Tasks:

    NEW --submit--> QUEUED --assign--> ASSIGNED --succeed--> SUCCEEDED
     |                ^ |                   |-----fail-----> FAILED
     `--postpone--> POSTPONED (release)     |-----lose-----> FAILED
                                            |----revoke----> CANCELLED
                                            `----return----> QUEUED

    QUEUED, POSTPONED: --cancel--> CANCELLED, --lose--> FAILED

A chunk of a bulk job goes from NEW to ASSIGNED at once (assign): it does not exist
before a worker wants it. Its unbegun items may come back as a task of their own, from
NEW to QUEUED (return). A postponed task is queued when its time has come (release).
Cancelling an assigned or finished task leaves it as it is, unless it runs in a
process of its own, which can be ended (revoke). Queued tasks are lost when the last
worker is: nobody is left to run them. Another attempt is another task; who wants one,
is decided in `mpitasks.master.attempts`.

Workers:

    (joined) READY --stop--> STOPPING --leave--> STOPPED
              | ^ `-----lose----`--------lose--> LOST
          stick recover
              v |
             STUCK --stop, lose--> as from READY

A worker far beyond the limit of a task is stuck (`mpitasks.core.overdue`): what it
holds is lost, and it gets nothing until it reports.

The lowest ranks are used, as many as wanted (`WorkersLimited`); the others are ready
and get nothing. A worker holds at most two batches: one it works on and one sent
ahead, so that it never waits for the master (`CREDIT`). Outcomes of tasks that a
worker does not hold, for instance of a worker declared lost, are late and ignored.
Near the job's end, what could not be finished stays queued (`mpitasks.core.ending`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mpitasks.core import policy
from mpitasks.core.batching import take_batch, take_run
from mpitasks.core.ending import Ending
from mpitasks.core.events import (
    Action,
    Assign,
    Bulk,
    BulkCancelled,
    BulkExtended,
    Cancelled,
    CancelRequested,
    Complete,
    DrainRequested,
    EndSet,
    Event,
    Fail,
    GiveUp,
    OutcomesArrived,
    QueueCancelled,
    Rank,
    Report,
    Revoke,
    RunningAbandoned,
    Stop,
    StopRequested,
    Task,
    TaskId,
    TasksPostponed,
    TasksReturned,
    TasksSubmitted,
    TaskState,
    TimePassed,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkersLimited,
    WorkerState,
)
from mpitasks.core.overdue import HOPE_SECONDS, Overdue, isolated, limit_of
from mpitasks.core.postponed import Postponed
from mpitasks.core.roster import Roster, Worker
from mpitasks.core.transitions import (
    TASK_TRANSITIONS,
    WORKER_TRANSITIONS,
    TaskInput,
    WorkerInput,
    next_state,
)
from mpitasks.errors import TransitionError

__all__ = ["Scheduler", "Statistics"]

# Rows and states by name: an attribute of an enum costs 0.2 us on CPython 3.11.
_SUBMIT = TASK_TRANSITIONS[TaskInput.SUBMIT]
_ASSIGN = TASK_TRANSITIONS[TaskInput.ASSIGN]
_SUCCEED = TASK_TRANSITIONS[TaskInput.SUCCEED]
_FAIL = TASK_TRANSITIONS[TaskInput.FAIL]
_LOSE = TASK_TRANSITIONS[TaskInput.LOSE]
_CANCEL = TASK_TRANSITIONS[TaskInput.CANCEL]
_RETURN = TASK_TRANSITIONS[TaskInput.RETURN]
_POSTPONE = TASK_TRANSITIONS[TaskInput.POSTPONE]
_RELEASE = TASK_TRANSITIONS[TaskInput.RELEASE]
_REVOKE = TASK_TRANSITIONS[TaskInput.REVOKE]
_READY = WorkerState.READY
_STUCK = WorkerState.STUCK
_QUEUED = TaskState.QUEUED
_ASSIGNED = TaskState.ASSIGNED
_POSTPONED = TaskState.POSTPONED
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

    Attributes:
        deadline: When it wants to be told that `TimePassed`; inf for never.
    """

    def __init__(self, ids: Iterator[TaskId] | None = None) -> None:
        self._ids = itertools.count() if ids is None else ids
        self._queue = policy.ReadyQueue()
        self._profiles = policy.Profiles()
        self._roster = Roster()
        self._postponed = Postponed()
        self._overdue = Overdue()
        self._ending: Ending | None = None  # None while there is no end in sight
        self._now = -math.inf
        self._hope = -math.inf  # while all are stuck: when to fail what is queued
        self._dated = False  # whether there ever was a task with a time of any kind
        self.deadline = math.inf
        self._assigned = 0
        self._succeeded = 0
        self._failed = 0
        self._cancelled = 0
        self._handlers = _Handlers(
            {
                WorkerJoined: self._worker_joined,
                WorkerLeft: self._worker_left,
                WorkerLost: self._worker_lost,
                WorkersLimited: self._workers_limited,
                TasksReturned: self._tasks_returned,
                TasksSubmitted: self._tasks_submitted,
                TasksPostponed: self._tasks_postponed,
                TimePassed: self._time_passed,
                BulkExtended: self._bulk_extended,
                BulkCancelled: self._bulk_cancelled,
                CancelRequested: self._cancel_requested,
                QueueCancelled: self._queue_cancelled,
                RunningAbandoned: self._running_abandoned,
                OutcomesArrived: self._outcomes_arrived,
                EndSet: self._end_set,
                DrainRequested: self._drain_requested,
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
        self._now = now
        actions: list[Action] = []
        self._handlers[type(event)](event, actions)
        if self._queue.items:
            if self._roster.used:
                sends: list[Action] = []
                self._dispatch(sends)
                actions = sends + actions
            elif self._hopeless:
                self._fail_queue(actions)
        if self._dated:
            self.deadline = min(self._postponed.next, self._overdue.next)
            if self._queue.items and not self._roster.used and self._hope > now:
                self.deadline = min(self.deadline, self._hope)
        return actions

    def wants(self, task: Task) -> bool:
        """Whether a task should be submitted at once, not together with others.

        If a worker would take it now; but if it is a short one, and others are being
        worked on, it can wait for company: a message costs more than it does.
        """
        if self._assigned:
            profile = self._profiles.get(task.function)
            if profile is not None and profile.seconds <= policy.LEAST_SECONDS:
                return False
        return self._roster.hungry

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        return self._queue.items + self._postponed.items + self._assigned

    @property
    def stranded(self) -> bool:
        """Whether all that is left waits, and none of it will be started any more."""
        ending = self._ending
        if ending is None or self._assigned or not self.outstanding:
            return False
        return ending.draining or self._postponed.next > ending.at

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._roster.used

    def statistics(self) -> Statistics:
        """Return the counts of this moment."""
        return Statistics(
            workers=self._roster.used,
            queued=self._queue.items + self._postponed.items,
            assigned=self._assigned,
            succeeded=self._succeeded,
            failed=self._failed,
            cancelled=self._cancelled,
        )

    def stuck_workers(self) -> list[Rank]:
        """Return the ranks that do not come back from a task."""
        return [worker.rank for worker in self._roster if worker.state is _STUCK]

    def running_workers(self) -> list[Rank]:
        """Return the ranks that have not stopped and are not lost."""
        gone = (WorkerState.STOPPED, WorkerState.LOST)
        return [worker.rank for worker in self._roster if worker.state not in gone]

    def held(self, rank: Rank) -> list[Task]:
        """Return the tasks that a worker holds, oldest first."""
        worker = self._roster.get(rank)
        return [] if worker is None else list(worker.tasks.values())

    def check(self) -> None:
        """Assert every invariant. For tests and debugging; walks everything."""
        assigned = 0
        self._roster.check()
        for worker in self._roster:
            for task in worker.tasks.values():
                assert task.state is TaskState.ASSIGNED, task.state
                assigned += task.count
            assert bool(worker.tasks) <= bool(worker.batches)
        assert assigned == self._assigned
        assert (self._queue.items > 0) == (self._queue.head() is not None)
        if self._ending is None:
            idle = self._roster.pick_idle()
            assert idle is None or not self._queue.items, "an idle worker beside work"

    # Workers.

    def _worker_joined(self, event: WorkerJoined, actions: list[Action]) -> None:
        if self._roster.get(event.rank) is not None:
            raise TransitionError(f"worker {event.rank} joined twice")
        self._roster.add(Worker(event.rank))

    def _workers_limited(self, event: WorkersLimited, actions: list[Action]) -> None:
        self._roster.limit(event.count)

    def _worker_left(self, event: WorkerLeft, actions: list[Action]) -> None:
        worker = self._move_worker(event.rank, WorkerInput.LEAVE, "left")
        self._lose_held(worker, actions)

    def _worker_lost(self, event: WorkerLost, actions: list[Action]) -> None:
        worker = self._move_worker(event.rank, WorkerInput.LOSE, "lost")
        self._lose_held(worker, actions)

    def _lose_held(self, worker: Worker, actions: list[Action]) -> None:
        """Fail what a worker that is gone has not reported."""
        lost = list(worker.tasks.values())
        self._assigned -= self._lose(lost)
        worker.tasks.clear()
        if worker.state is not _STUCK:  # which may finish its batches after all
            worker.batches.clear()
        self._overdue.restart(worker, self._now)
        if lost:
            actions.append(Fail(lost, worker.rank))
        if all(worker.state is not _STUCK for worker in self._roster):
            self._hope = -math.inf
        if self._hopeless:
            self._release(math.inf)  # they will never run: they fail with the queue

    @property
    def _hopeless(self) -> bool:
        """Whether nobody will ever run what is queued, as far as can be told."""
        return bool(self._roster) and not self._roster.used and self._now >= self._hope

    def _fail_queue(self, actions: list[Action]) -> None:
        lost: list[Task] = []
        while (head := self._queue.head()) is not None:
            lost += take_run(self._queue, head, self._queue.items, self._ids)
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
        for worker in self._roster:
            if worker.state in (_READY, WorkerState.STUCK):
                actions.append(Stop(worker.rank))
            self._move_worker(worker.rank, WorkerInput.STOP, "told to stop")

    def _move_worker(self, rank: Rank, what: WorkerInput, verb: str) -> Worker:
        worker = self._roster.get(rank)
        if worker is None:
            raise TransitionError(f"worker {rank} {verb}, but it never joined")
        before = worker.state
        worker.state = next_state(
            WORKER_TRANSITIONS[what], before, f"worker {rank} {verb}"
        )
        if before is _READY:
            self._roster.retire(worker)
        return worker

    # The end.

    def _end_set(self, event: EndSet, actions: list[Action]) -> None:
        self._foresee_end().at = event.at

    def _drain_requested(self, event: DrainRequested, actions: list[Action]) -> None:
        self._foresee_end().draining = True

    def _foresee_end(self) -> Ending:
        if self._ending is None:
            known = {id: profile.seconds for id, profile in self._profiles.items()}
            self._ending = Ending(known)
        return self._ending

    def _recover(self, worker: Worker) -> None:
        """A worker that was given up reports after all."""
        worker.state = WORKER_TRANSITIONS[WorkerInput.RECOVER][worker.state]
        self._roster.restore()

    # Tasks.

    def _tasks_submitted(self, event: TasksSubmitted, actions: list[Action]) -> None:
        tasks = event.tasks
        if len(tasks) == 1 and tasks[0].state in _SUBMIT:
            worker = self._roster.pick_idle()
            if worker is not None and self._ending is None:
                # Nothing waits and a worker does: straight through the queue.
                task = tasks[0]
                task.state = _SUBMIT[task.state]
                profile = self._profiles.get(task.function)
                seconds = math.inf if profile is None else profile.seconds
                self._assign(worker, [task], seconds, actions)
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

    def _tasks_postponed(self, event: TasksPostponed, actions: list[Action]) -> None:
        for task in event.tasks:
            if task.state not in _POSTPONE:
                next_state(_POSTPONE, task.state, f"task {task.id} postponed")
        for task in event.tasks:
            task.state = _POSTPONE[task.state]
        self._dated = True
        self._postponed.add(event.tasks, event.until)
        self._release(math.inf if self._hopeless else self._now)

    def _time_passed(self, event: TimePassed, actions: list[Action]) -> None:
        self._release(math.inf if self._hopeless else self._now)
        for rank, last in self._overdue.expire(self._now):
            worker = self._roster.get(rank)
            assert worker is not None
            task = next(iter(worker.tasks.values()))
            if not last:
                actions.append(Report(rank, task))
                continue
            self._give_up(worker, [task], actions)
            self._lose_held(worker, actions)

    def _running_abandoned(
        self, event: RunningAbandoned, actions: list[Action]
    ) -> None:
        for worker in self._roster:
            if worker.tasks:
                self._give_up(worker, list(worker.tasks.values()), actions)
                self._overdue.restart(worker, self._now)

    def _give_up(
        self, worker: Worker, tasks: list[Task], actions: list[Action]
    ) -> None:
        """Wait no longer for these tasks of a worker, which is stuck."""
        for task in tasks:
            actions.append(GiveUp(worker.rank, task))
            del worker.tasks[task.id]
        self._assigned -= self._lose(tasks)
        self._move_worker(worker.rank, WorkerInput.STICK, "is overdue")
        self._dated = True
        self._hope = self._now + HOPE_SECONDS

    def _release(self, now: float) -> None:
        """Put postponed tasks whose time has come into the queue."""
        due = self._postponed.take(now)
        for task in due:
            task.state = _RELEASE[task.state]
        self._queue.add_tasks(due)

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
                elif before is _POSTPONED:
                    self._postponed.items -= task.count
            elif before is _ASSIGNED and isolated(task):
                cancelled.append(task)
        self._revoke([task for task in cancelled if task.state is _ASSIGNED], actions)
        if cancelled:
            actions.append(Cancelled(cancelled))
            self._queue.head()  # lets go of those at the head, with their payload

    def _queue_cancelled(self, event: QueueCancelled, actions: list[Action]) -> None:
        queue = self._queue
        self._release(math.inf)
        calls: list[Task] = []
        while (head := queue.head()) is not None:
            if isinstance(head, Bulk):
                self._bulk_cancelled(BulkCancelled(head), actions)
            else:
                calls += queue.take_calls(head.function, queue.items)
        for task in calls:
            task.state = _CANCEL[task.state]
            self._cancelled += task.count
        if calls:
            actions.append(Cancelled(calls))
        if event.isolated:
            held = [task for w in self._roster for task in w.tasks.values()]
            running = [task for task in held if isolated(task)]
            self._revoke(running, actions)
            if running:
                actions.append(Cancelled(running))

    def _revoke(self, tasks: list[Task], actions: list[Action]) -> None:
        """Cancel tasks that workers hold, each in a process that can be ended."""
        if not tasks:
            return
        ids = {task.id for task in tasks}
        for worker in self._roster:
            held = [id for id in worker.tasks if id in ids]
            for id in held:
                task = worker.tasks.pop(id)
                task.state = _REVOKE[task.state]
                self._assigned -= task.count
                self._cancelled += task.count
            if held:
                actions.append(Revoke(worker.rank, held))
                self._overdue.restart(worker, self._now)

    def _outcomes_arrived(self, event: OutcomesArrived, actions: list[Action]) -> None:
        worker = self._roster.get(event.rank)
        if worker is None:
            raise TransitionError(
                f"outcomes of worker {event.rank}, which never joined"
            )
        if worker.state is _STUCK:
            self._recover(worker)
        ready = worker.state is _READY
        if ready and event.batches > len(worker.batches):
            raise TransitionError(f"worker {event.rank} finished a batch it never had")
        for cost in event.costs:
            self._profiles.observe(cost)
        if self._ending is not None:
            self._ending.observe(event.costs)
        tasks = []
        finished = failed = 0
        failing = set(event.failed) if event.failed else ()
        for id in event.ids:
            task = worker.tasks.pop(id, None)
            tasks.append(task)
            if task is not None:
                finished += task.count
                if id in failing:
                    task.state = _FAIL[task.state]
                    failed += task.count
                else:
                    task.state = _SUCCEED[task.state]
        self._assigned -= finished
        self._succeeded += finished - failed
        self._failed += failed
        actions.append(Complete(tasks))
        if event.rank in self._overdue.ranks:
            self._overdue.restart(worker, self._now)
        if event.batches and ready:
            for _ in range(event.batches):
                worker.batches.popleft()
            self._roster.file(worker)

    def _tasks_returned(self, event: TasksReturned, actions: list[Action]) -> None:
        worker = self._roster.get(event.rank)
        if worker is None:
            raise TransitionError(f"tasks of worker {event.rank}, which never joined")
        tasks = [worker.tasks.pop(id) for id in event.ids if id in worker.tasks]
        if event.split is not None and event.split[0] in worker.tasks:
            begun = worker.tasks[event.split[0]]
            tasks.insert(0, begun.split(next(self._ids), event.split[1]))
        for task in tasks:
            task.state = _RETURN[task.state]
            self._assigned -= task.count
        self._queue.put_back(tasks)
        if event.rank in self._overdue.ranks:
            self._overdue.restart(worker, self._now)
        if worker.batches:
            worker.batches[0] = math.inf  # it is stuck: nothing is sent ahead
            self._roster.file(worker)

    # Which worker gets what.

    def _dispatch(self, actions: list[Action]) -> None:
        queue = self._queue
        ending = self._ending
        while queue.items and (worker := self._roster.pick(queue.items)) is not None:
            if ending and not ending.choose(queue, self._now + sum(worker.batches)):
                return
            batch = take_batch(queue, self._profiles, self._roster.used, self._ids)
            self._assign(worker, *batch, actions)

    def _assign(
        self, worker: Worker, tasks: list[Task], seconds: float, actions: list[Action]
    ) -> None:
        """Give a worker a batch that should take `seconds`."""
        held = worker.tasks
        items = 0
        limited = False
        for task in tasks:
            task.state = _ASSIGN[task.state]
            held[task.id] = task
            items += task.count
            if task.terms is not None:
                limited = limited or limit_of(task) is not None
        if limited:
            self._dated = True
            self._overdue.add(worker, self._now)
        self._assigned += items
        worker.batches.append(seconds)
        self._roster.file(worker)
        actions.append(Assign(worker.rank, tasks))
