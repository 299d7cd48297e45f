"""THE state machine: events in, actions out, time as an argument.

`Scheduler.handle` is the only way in which a task or a worker changes state, with
`start` and `finish`, which do the same for a single task by fewer steps: it leads
to the backlog (`mpitasks.core.backlog`), which has the tasks that no worker holds, and
to the crew (`mpitasks.core.crew`), which has the workers and what they hold.
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

A chunk of a bulk job goes from NEW to ASSIGNED at once (assign), since it does not
exist before a worker wants it; and so does a single task that finds a worker idle
(`start`). Unbegun items of a chunk may come back as a task of their own, from NEW to
QUEUED (return). A postponed task is queued when its time has come (release).
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
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.core import policy
from mpitasks.core.backlog import Backlog
from mpitasks.core.crew import Crew
from mpitasks.core.ending import Ending
from mpitasks.core.events import (
    Action,
    Assign,
    BulkCancelled,
    BulkExtended,
    Cancelled,
    CancelRequested,
    Complete,
    Cost,
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
from mpitasks.core.overdue import isolated, limit_of
from mpitasks.core.statistics import Statistics
from mpitasks.core.transitions import TaskInput, WorkerInput

if TYPE_CHECKING:
    from mpitasks.core.roster import Worker

__all__ = ["Scheduler"]

# By name: an attribute of an enum costs 0.2 us on CPython 3.11.
_NEW = TaskState.NEW
_ASSIGNED = TaskState.ASSIGNED
_STUCK = WorkerState.STUCK


class _Handlers(dict[type, Callable[[Any, list[Action]], None]]):
    """What handles which event; one of a derived type goes with its base."""

    def __missing__(self, kind: type) -> Callable[[Any, list[Action]], None]:
        handler = self[kind] = self[kind.__mro__[1]]
        return handler


class Scheduler:
    """Decides which worker gets which tasks when.

    Args:
        ids: Where chunks get their ids from. The calls have others, so that ids are
            unique in the run.

    Attributes:
        deadline: When it wants to be told that `TimePassed`; inf for never.
    """

    def __init__(self, ids: Iterator[TaskId] | None = None) -> None:
        self._ids = itertools.count() if ids is None else ids
        self._backlog = Backlog(self._ids)
        self._queue = self._backlog.queue
        self._profiles = policy.Profiles()
        self._crew = Crew()
        self._roster = self._crew.roster
        self._ending: Ending | None = None  # None while there is no end in sight
        self._now = -math.inf
        self._dated = False  # whether there ever was a task with a time of any kind
        self.deadline = math.inf
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
            elif self._crew.hopeless(now):
                lost = self._backlog.lose_all()
                self._failed += _items(lost)
                actions.append(Fail(lost, None))
        if self._dated:
            self._plan(now)
        return actions

    def start(self, task: Task, now: float) -> Rank | None:
        """Assign a new task to an idle worker; return the worker's rank.

        What `handle` does for a single task that was submitted, without the records
        and the queue: for who submits one call and waits for it, these would be most
        of what it costs.

        Returns:
            None if it is not that simple. Then nothing changed, and `handle` must be
            told.
        """
        if self._queue.items or task.state is not _NEW:
            return None
        if task.terms is not None and limit_of(task) is not None:
            return None
        ending = self._ending
        if ending is not None and not ending.fits(task, now):
            return None
        profile = self._profiles.get(task.function)
        seconds = math.inf if profile is None else profile.seconds
        return self._crew.assign_single(task, seconds)

    def finish(
        self, rank: Rank, id: TaskId, seconds: float, nbytes: int = 0
    ) -> Task | None:
        """Take in that a batch of a single task succeeded; return the task.

        What `handle` does for the report of such a batch, without the records; as
        `start`.

        Args:
            rank: The worker.
            id: The task.
            seconds: How long it took.
            nbytes: The size of its result.

        Returns:
            None if it is not that simple. Then nothing changed, and `handle` must be
            told.
        """
        if self._queue.items:
            return None
        task = self._crew.finish_single(rank, id)
        if task is None:
            return None
        profile = self._profiles.get(task.function)
        if profile is not None:
            profile.observe(1, seconds, nbytes)
        else:
            self._profiles.observe(Cost(task.function, 1, seconds, nbytes))
        if self._ending is not None:
            self._ending.observe([Cost(task.function, 1, seconds, nbytes)])
        self._succeeded += 1
        return task

    def _plan(self, now: float) -> None:
        """Say when to be told that time has passed."""
        crew = self._crew
        self.deadline = min(self._backlog.postponed.next, crew.overdue.next)
        if self._queue.items and not self._roster.used and crew.hope > now:
            self.deadline = min(self.deadline, crew.hope)

    def wants(self, task: Task) -> bool:
        """Whether a task should be submitted at once, not together with others.

        If a worker would take it now; but if it is a short one, and others are being
        worked on, it can wait for company: a message costs more than it does.
        """
        if self._crew.assigned:
            profile = self._profiles.get(task.function)
            if profile is not None and profile.seconds <= policy.LEAST_SECONDS:
                return False
        return self._roster.hungry

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, and a worker has nothing to do."""
        return self._roster.idle and not self._queue.items

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        return self._backlog.items + self._crew.assigned

    @property
    def stranded(self) -> bool:
        """Whether all that is left waits, and none of it will be started any more."""
        ending = self._ending
        if ending is None or self._crew.assigned or not self.outstanding:
            return False
        return ending.draining or self._backlog.postponed.next > ending.at

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._roster.used

    def statistics(self) -> Statistics:
        """Return the counts of this moment."""
        return Statistics(
            workers=self._roster.used,
            queued=self._backlog.items,
            assigned=self._crew.assigned,
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
        self._crew.check()
        assert (self._queue.items > 0) == (self._queue.head() is not None)
        if self._ending is None:
            idle = self._roster.pick_idle()
            assert idle is None or not self._queue.items, "an idle worker beside work"

    # Workers.

    def _worker_joined(self, event: WorkerJoined, actions: list[Action]) -> None:
        self._crew.join(event.rank)

    def _workers_limited(self, event: WorkersLimited, actions: list[Action]) -> None:
        self._roster.limit(event.count)

    def _worker_left(self, event: WorkerLeft, actions: list[Action]) -> None:
        worker = self._crew.move(event.rank, WorkerInput.LEAVE, "left")
        self._lose_held(worker, actions)

    def _worker_lost(self, event: WorkerLost, actions: list[Action]) -> None:
        worker = self._crew.move(event.rank, WorkerInput.LOSE, "lost")
        self._lose_held(worker, actions)

    def _lose_held(self, worker: Worker, actions: list[Action]) -> None:
        """Fail what a worker that is gone, or stuck, has not reported."""
        lost = self._crew.lose(worker, self._now)
        if lost:
            self._failed += _items(lost)
            actions.append(Fail(lost, worker.rank))
        self._release()

    def _stop_requested(self, event: StopRequested, actions: list[Action]) -> None:
        actions += [Stop(rank) for rank in self._crew.stop()]

    # Time.

    def _time_passed(self, event: TimePassed, actions: list[Action]) -> None:
        self._release()
        for rank, last in self._crew.overdue.expire(self._now):
            worker = self._crew.known(rank, "overdue is")
            first = next(iter(worker.tasks.values()))
            if last:
                self._give_up(worker, [first], actions)
                self._lose_held(worker, actions)
            else:
                actions.append(Report(rank, first))

    def _running_abandoned(
        self, event: RunningAbandoned, actions: list[Action]
    ) -> None:
        for worker in self._roster:
            if worker.tasks:
                self._give_up(worker, list(worker.tasks.values()), actions)

    def _give_up(
        self, worker: Worker, tasks: list[Task], actions: list[Action]
    ) -> None:
        """Wait no longer for these tasks of a worker, which is stuck."""
        actions += [GiveUp(worker.rank, task) for task in tasks]
        ids = [task.id for task in tasks]
        self._failed += _items(self._crew.take(worker, ids, TaskInput.LOSE, self._now))
        self._crew.stick(worker, self._now)
        self._dated = True

    def _end_set(self, event: EndSet, actions: list[Action]) -> None:
        self._foresee_end().at = event.at

    def _drain_requested(self, event: DrainRequested, actions: list[Action]) -> None:
        self._foresee_end().draining = True

    def _foresee_end(self) -> Ending:
        if self._ending is None:
            known = {id: profile.seconds for id, profile in self._profiles.items()}
            self._ending = Ending(known)
        return self._ending

    # Tasks.

    def _tasks_submitted(self, event: TasksSubmitted, actions: list[Action]) -> None:
        self._backlog.submit(event.tasks)

    def _tasks_postponed(self, event: TasksPostponed, actions: list[Action]) -> None:
        self._backlog.postpone(event.tasks, event.until)
        self._dated = True
        self._release()

    def _release(self) -> None:
        """Queue postponed tasks whose time has come; all, if they will never run."""
        if self._dated:
            hopeless = self._crew.hopeless(self._now)
            self._backlog.release(math.inf if hopeless else self._now)

    def _bulk_extended(self, event: BulkExtended, actions: list[Action]) -> None:
        self._backlog.extend(event.bulk, event.count)

    def _bulk_cancelled(self, event: BulkCancelled, actions: list[Action]) -> None:
        self._cancelled += self._backlog.cancel_bulk(event.bulk)

    def _cancel_requested(self, event: CancelRequested, actions: list[Action]) -> None:
        cancelled = self._backlog.cancel(event.tasks)
        self._cancelled += _items(cancelled)
        cancelled += self._revoke(event.tasks, actions)
        if cancelled:
            actions.append(Cancelled(cancelled))

    def _queue_cancelled(self, event: QueueCancelled, actions: list[Action]) -> None:
        cancelled, items = self._backlog.cancel_all()
        self._cancelled += items
        if event.isolated:
            cancelled += self._revoke(self._crew.tasks(), actions)
        if cancelled:
            actions.append(Cancelled(cancelled))

    def _revoke(self, tasks: Sequence[Task], actions: list[Action]) -> list[Task]:
        """Cancel those that run in a process that can be ended; return them."""
        ids = [t.id for t in tasks if t.state is _ASSIGNED and isolated(t)]
        revoked = []
        for worker, held in self._crew.holding(ids):
            revoked += self._crew.take(worker, held, TaskInput.REVOKE, self._now)
            actions.append(Revoke(worker.rank, held))
        self._cancelled += _items(revoked)
        return revoked

    def _outcomes_arrived(self, event: OutcomesArrived, actions: list[Action]) -> None:
        tasks, succeeded, failed = self._crew.complete(event, self._now)
        for cost in event.costs:
            self._profiles.observe(cost)
        if self._ending is not None:
            self._ending.observe(event.costs)
        self._succeeded += succeeded
        self._failed += failed
        actions.append(Complete(tasks))

    def _tasks_returned(self, event: TasksReturned, actions: list[Action]) -> None:
        self._backlog.put_back(self._crew.give_back(event, self._ids, self._now))

    # Which worker gets what.

    def _dispatch(self, actions: list[Action]) -> None:
        queue = self._queue
        ending = self._ending
        while queue.items and (worker := self._roster.pick(queue.items)) is not None:
            if ending and not ending.choose(queue, self._now + sum(worker.batches)):
                return
            batch = self._backlog.take_batch(self._profiles, self._roster.used)
            if self._crew.assign(worker, *batch, self._now):
                self._dated = True
            actions.append(Assign(worker.rank, batch[0]))


def _items(tasks: list[Task]) -> int:
    return sum([task.count for task in tasks])
