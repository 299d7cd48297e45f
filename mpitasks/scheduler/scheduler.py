"""The scheduler's state machine: events in, actions out, time as an argument.

A task or a worker changes its state in `Scheduler.handle`, and nowhere else. The
backlog (`mpitasks.scheduler.backlog`) has the tasks that no worker holds; the
assignments (`mpitasks.scheduler.assignments`) have the workers and what they hold. Two
tables say which state follows which (`mpitasks.scheduler.transitions`): a pair that is
absent raises `TransitionError` and changes nothing. The scheduler does not know what a
task computes, how it is sent, or what time it is.

Tasks:

    NEW --submit--> QUEUED --assign--> ASSIGNED --succeed--> SUCCEEDED
     |                ^ ^                   |-----fail-----> FAILED
     |--postpone--> POSTPONED (release)     |-----lose-----> FAILED
     |                  |                   |----revoke----> CANCELLED
     `----wait----> WAITING (ready)         `----return----> QUEUED

    QUEUED, POSTPONED, WAITING: --cancel--> CANCELLED
    QUEUED: --lose--> FAILED; WAITING: --fail--> FAILED

A chunk of a bulk job goes from NEW to ASSIGNED at once (assign), since it does not
exist before a worker wants it; and so does a single task that finds a worker idle
(`TaskSubmitted`). A worker may report the first items of a chunk before the others:
they succeed as a task of their own, and the chunk goes on with the rest. Unbegun items
of a chunk may come back as a task of their own, from NEW to QUEUED (return). A
postponed task is queued when its time has come (release), one that lacks inputs when
the last of them is there (ready). If a task fails, those that need its result fail, too
(fail); they are cancelled with it. Cancelling an assigned or
finished task leaves it as it is, unless it runs in a process of its own, which can be
ended (revoke). Queued tasks are lost with the last worker: nobody is left to run them.
Another attempt is another task; `mpitasks.master.retry` decides who gets one.

Workers:

    (joined) READY --stop--> STOPPING --leave--> STOPPED
              | ^ `-----lose----`--------lose--> LOST
          stick recover
              v |
             Unresponsive --stop, lose--> as from READY

A worker far beyond the limit of a task is unresponsive (`mpitasks.scheduler.watchdog`):
what it holds is lost, and it gets nothing until it reports.

The lowest ranks are used, as many as wanted (`WorkersLimited`); the others are ready
and get nothing. A worker holds at most two batches: one it works on and one sent ahead,
so that it never waits for the master (`CREDIT`). Outcomes of tasks that a worker does
not hold, for instance of a worker declared lost, are late and ignored. Near the job's
end, what could not be finished stays queued (`mpitasks.scheduler.job_end`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import TransitionError
from mpitasks.scheduler import policy
from mpitasks.scheduler.assignments import Assignments
from mpitasks.scheduler.backlog import Backlog
from mpitasks.scheduler.events import (
    Action,
    ActorFailed,
    ActorOpened,
    ActorRestarted,
    ActorTask,
    Assign,
    Bulk,
    BulkCancelled,
    BulkExtended,
    CallRefused,
    Cancelled,
    CancelRequested,
    Complete,
    Cost,
    DrainRequested,
    EndSet,
    Event,
    Fail,
    GiveUp,
    InputFailed,
    InputGone,
    InputReady,
    MemoryChanged,
    OutcomesArrived,
    QueueCancelled,
    Rank,
    RankLost,
    Report,
    Restart,
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
    TaskSubmitted,
    TaskSucceeded,
    TimePassed,
    WorkerJoined,
    WorkerLeft,
    WorkersLimited,
    WorkerState,
)
from mpitasks.scheduler.job_end import JobEnd
from mpitasks.scheduler.statistics import Statistics
from mpitasks.scheduler.transitions import TaskInput, WorkerInput
from mpitasks.scheduler.watchdog import isolated, limit_of, produces

if TYPE_CHECKING:
    from mpitasks.scheduler.available_workers import WorkerRecord
    from mpitasks.scheduler.policy import ReadyQueue

__all__ = ["Scheduler"]

# By name: an attribute of an enum costs 0.2 us on CPython 3.11.
_NEW = TaskState.NEW
_ASSIGNED = TaskState.ASSIGNED
_UNRESPONSIVE = WorkerState.UNRESPONSIVE

_NO_MAIL: list[Action] = []


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
        may_revoke: Tells whether a task that a worker holds can be taken from it: one
            in a process of its own, which can be ended.
    """

    def __init__(self, ids: Iterator[TaskId] | None = None) -> None:
        self._ids = itertools.count() if ids is None else ids
        self._backlog = Backlog(self._ids)
        self._queue = self._backlog.queue
        self._near = self._backlog.near
        self._near_waiting = self._near.waiting
        self._mail = self._backlog.mailboxes
        self._ready_mail = self._mail.ready
        self._blocked_mail = self._mail.blocked
        self._profiles = policy.Profiles()
        self._assignments = Assignments()
        self._available_workers = self._assignments.available_workers
        self._ending: JobEnd | None = None  # None while there is no end in sight
        self._now = -math.inf
        self._is_full = False  # whether workers keep as many results as they may
        self._dated = False  # whether there ever was a task with a time of any kind
        self.deadline = math.inf
        self.may_revoke: Callable[[Task], bool] = isolated
        self._succeeded = 0
        self._failed = 0
        self._cancelled = 0
        self._handlers = _Handlers(
            {
                WorkerJoined: self._worker_joined,
                WorkerLeft: self._worker_left,
                RankLost: self._worker_lost,
                WorkersLimited: self._workers_limited,
                TasksReturned: self._tasks_returned,
                TaskSubmitted: self._task_submitted,
                TasksSubmitted: self._tasks_submitted,
                TasksPostponed: self._tasks_postponed,
                ActorOpened: self._actor_opened,
                ActorRestarted: self._actor_restarted,
                CallRefused: self._call_refused,
                InputReady: self._input_ready,
                InputGone: self._input_gone,
                TimePassed: self._time_passed,
                BulkExtended: self._bulk_extended,
                BulkCancelled: self._bulk_cancelled,
                CancelRequested: self._cancel_requested,
                QueueCancelled: self._queue_cancelled,
                RunningAbandoned: self._running_abandoned,
                TaskSucceeded: self._task_succeeded,
                OutcomesArrived: self._outcomes_arrived,
                MemoryChanged: self._memory_changed,
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
        sends: list[Action]
        actions: list[Action] = []
        self._handlers[type(event)](event, actions)
        mail = _NO_MAIL
        if self._ready_mail or self._mail.undeliverable:
            mail = []
            self._send_mail(mail)
            self._return_mail(actions)
        if self._near_waiting:
            self._dated = True
            sends = []
            self._assign_near(sends)
            actions = sends + actions
        if self._queue.items:
            if self._available_workers.used:
                sends = []
                self._dispatch(sends)
                actions = sends + actions
            elif self._assignments.hopeless(now):
                lost = self._backlog.lose_all()
                self._failed += _items(lost)
                actions.append(Fail(lost, None))
        if self._dated:
            self._plan(now)
        return mail + actions if mail else actions

    def _plan(self, now: float) -> None:
        """Say when to be told that time has passed."""
        assignments = self._assignments
        self.deadline = min(
            self._backlog.postponed.next, assignments.overdue.next, self._near.next
        )
        if (
            self._queue.items
            and not self._available_workers.used
            and assignments.hope > now
        ):
            self.deadline = min(self.deadline, assignments.hope)

    def wants(self, task: Task) -> bool:
        """Whether a task should be submitted at once, not together with others.

        If a worker would take it now; but if it is a short one, and others are being
        worked on, it can wait for company: a message costs more than it does.
        """
        if self._assignments.assigned:
            profile = self._profiles.get(task.function)
            if profile is not None and profile.seconds <= policy.LEAST_SECONDS:
                return False
        return self._available_workers.has_capacity

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, and a worker has nothing to do."""
        return self._available_workers.idle and not self._queue.items

    def starts(self, task: Task, now: float) -> bool:
        """Whether a worker would get a task at once if it was submitted now."""
        ending = self._ending
        fits = ending is None or ending.fits(task, now)
        return self.idle and fits and not (task.inputs or task.data)

    def can_place(self, event: ActorOpened) -> bool:
        """Whether there is a worker for an actor."""
        return self._place(event.ranks, exclusive=event.exclusive) is not None

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        return self._backlog.items + self._assignments.assigned

    @property
    def stranded(self) -> bool:
        """Whether all that is left waits, and none of it will be started any more."""
        ending = self._ending
        if ending is None or self._assignments.assigned or not self.outstanding:
            return False
        return ending.draining or self._backlog.postponed.next > ending.at

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._available_workers.used

    def statistics(self) -> Statistics:
        """Return the counts of this moment."""
        return Statistics(
            workers=self._available_workers.used,
            queued=self._backlog.items,
            assigned=self._assignments.assigned,
            succeeded=self._succeeded,
            failed=self._failed,
            cancelled=self._cancelled,
            waiting=self._backlog.waiting.items,
            postponed=self._backlog.postponed.items,
        )

    def unresponsive_workers(self) -> list[Rank]:
        """Return the ranks that do not come back from a task."""
        return [
            worker.rank
            for worker in self._available_workers
            if worker.state is _UNRESPONSIVE
        ]

    def ready_workers(self) -> list[Rank]:
        """Return the ranks that take tasks, the lowest first."""
        return sorted(self._available_workers.takers())

    def running_workers(self) -> list[Rank]:
        """Return the ranks that have not stopped and are not lost."""
        gone = (WorkerState.STOPPED, WorkerState.LOST)
        return [
            worker.rank
            for worker in self._available_workers
            if worker.state not in gone
        ]

    def held(self, rank: Rank) -> list[Task]:
        """Return the tasks that a worker holds, oldest first."""
        worker = self._available_workers.get(rank)
        return [] if worker is None else list(worker.tasks.values())

    def entries(self) -> Iterator[Task | Bulk]:
        """Yield all that is outstanding: tasks, and bulk jobs with items left."""
        yield from self._backlog.entries()
        yield from self._assignments.tasks()

    def check(self) -> None:
        """Assert every invariant. For tests and debugging; walks everything."""
        self._assignments.check()
        self._backlog.waiting.check()
        self._mail.check()
        for task in self._near.tasks():
            assert task.state is TaskState.QUEUED, task.state
        assert (self._queue.items > 0) == (self._queue.head() is not None)
        if self._ending is None and not self._is_full:
            idle = self._available_workers.pick_idle()
            assert idle is None or not self._queue.items, "an idle worker beside work"

    # Workers.

    def _worker_joined(self, event: WorkerJoined, actions: list[Action]) -> None:
        self._assignments.join(event.rank)

    def _workers_limited(self, event: WorkersLimited, actions: list[Action]) -> None:
        self._available_workers.limit(event.count)

    def _worker_left(self, event: WorkerLeft, actions: list[Action]) -> None:
        worker = self._assignments.move(event.rank, WorkerInput.LEAVE, "left")
        self._lose_held(worker, actions)

    def _worker_lost(self, event: RankLost, actions: list[Action]) -> None:
        worker = self._assignments.move(event.rank, WorkerInput.LOSE, "lost")
        self._lose_held(worker, actions)

    def _lose_held(self, worker: WorkerRecord, actions: list[Action]) -> None:
        """Fail what a worker that is gone, or unresponsive, has not reported."""
        lost = self._assignments.lose(worker, self._now)
        self._failed += _items(lost)
        calls = [task for task in lost if isinstance(task, ActorTask)]
        if calls:
            lost = [task for task in lost if not isinstance(task, ActorTask)]
            actions.append(ActorFailed(calls, worker.rank, True))
        if lost:
            actions.append(Fail(lost, worker.rank))
        self._lose_actors(worker.rank, actions)
        self._release()

    def _stop_requested(self, event: StopRequested, actions: list[Action]) -> None:
        actions += [Stop(rank) for rank in self._assignments.stop()]

    # Actors.

    def _actor_opened(self, event: ActorOpened, actions: list[Action]) -> None:
        rank = self._place(event.ranks, exclusive=event.exclusive)
        if rank is None:
            raise TransitionError(f"actor {event.actor}: no worker may have it")
        self._mail.open(event, rank)
        if event.exclusive:
            self._reserve()

    def _place(self, ranks: Sequence[Rank] | None, *, exclusive: bool) -> Rank | None:
        """Return where an actor is to live; None if no worker may have it."""
        ready = self._available_workers.takers()
        if exclusive and len(ready) < 2:
            return None  # nobody would be left for other tasks
        return self._mail.place(ready, ranks, exclusive=exclusive)

    def _reserve(self) -> None:
        self._available_workers.reserve({*self._mail.exclusive})

    def _actor_restarted(self, event: ActorRestarted, actions: list[Action]) -> None:
        self._backlog.restart(event)

    def _call_refused(self, event: CallRefused, actions: list[Action]) -> None:
        """Take a call back. A worker that has it has not begun it: its actor waits."""
        cancelled = self._backlog.cancel([event.task])
        self._cancelled += len(cancelled)
        if not cancelled:
            cancelled = self._take_back([event.task.id], actions)
        if cancelled:
            actions.append(Cancelled(cancelled))

    def _lose_actors(self, rank: Rank, actions: list[Action]) -> None:
        """The actors of a rank move elsewhere, or are dead."""
        restarted, dead = self._mail.lose_rank(
            rank, lambda box: self._place(box.ranks, exclusive=box.exclusive)
        )
        for box in dead:
            calls = self._backlog.lose_mail(self._mail.empty(box))
            self._failed += len(calls)
            if calls:
                actions.append(ActorFailed(calls, rank, False))
        actions += [Restart(box.actor, box.rank) for box in restarted]
        if restarted or dead:
            self._reserve()

    def _send_mail(self, actions: list[Action]) -> None:
        """Send calls of actors to the workers where these live."""
        mail = self._mail
        while mail.ready:
            _, box = mail.ready.popitem()
            worker = self._available_workers.get(box.rank)
            while (head := box.head()) is not None:
                if (
                    worker is None
                    or worker.state is not WorkerState.READY
                    or not box.may_send(worker.tasks)
                    or (self._ending and not self._ending.fits(head, self._now))
                ):
                    mail.block(box)
                    break
                batch, seconds = box.take(self._profiles)
                if self._assignments.assign(worker, batch, seconds, self._now):
                    self._dated = True
                mail.note_sent(box, batch, seconds)
                actions.append(Assign(box.rank, batch))
        if self._available_workers.reserved != mail.exclusive:
            self._reserve()  # an exclusive actor that is closed leaves its rank

    def _return_mail(self, actions: list[Action]) -> None:
        """Fail the calls of actors that are dead or closed."""
        undeliverable, self._mail.undeliverable = self._mail.undeliverable, []
        for task, rank in undeliverable:
            self._failed += 1
            lost = self._backlog.lose_mail([task])
            actions.append(ActorFailed(lost, rank, False))

    # Time.

    def _time_passed(self, event: TimePassed, actions: list[Action]) -> None:
        self._release()
        for rank, last in self._assignments.overdue.expire(self._now):
            worker = self._assignments.known(rank, "overdue is")
            first = next(iter(worker.tasks.values()))
            if last:
                self._give_up(worker, [first], actions)
                self._lose_held(worker, actions)
            else:
                actions.append(Report(rank, first))

    def _running_abandoned(
        self, event: RunningAbandoned, actions: list[Action]
    ) -> None:
        ids = [task.id for task in event.tasks]
        for worker, held in self._assignments.holding(ids):
            self._give_up(worker, [worker.tasks[id] for id in held], actions)

    def _give_up(
        self, worker: WorkerRecord, tasks: list[Task], actions: list[Action]
    ) -> None:
        """Wait no longer for these tasks of a worker, which is unresponsive."""
        actions += [GiveUp(worker.rank, task) for task in tasks]
        ids = [task.id for task in tasks]
        self._failed += _items(
            self._assignments.take(worker, ids, TaskInput.LOSE, self._now)
        )
        self._assignments.stick(worker, self._now)
        self._dated = True

    def _memory_changed(self, event: MemoryChanged, actions: list[Action]) -> None:
        self._is_full = event.is_full
        self._queue.recall()

    def _end_set(self, event: EndSet, actions: list[Action]) -> None:
        self._foresee_end().at = event.at
        self._backlog.scatter()
        self._queue.recall()
        self._mail.wake_all()

    def _drain_requested(self, event: DrainRequested, actions: list[Action]) -> None:
        self._foresee_end().draining = True
        self._backlog.scatter()

    def _foresee_end(self) -> JobEnd:
        if self._ending is None:
            known = {id: profile.seconds for id, profile in self._profiles.items()}
            self._ending = JobEnd(known)
        return self._ending

    # Tasks.

    def _task_submitted(self, event: TaskSubmitted, actions: list[Action]) -> None:
        task = event.task
        if task.state is not _NEW or task.inputs or not self._start(task, actions):
            self._backlog.submit([task], self._since())

    def _start(self, task: Task, actions: list[Action]) -> bool:
        """Assign a task to an idle worker at once, if it is as simple as that.

        Who submits one call and waits for it would pay most for the queue.

        Returns:
            Whether that was so.
        """
        ending = self._ending
        if (
            not self._queue.items
            and not task.data
            and not (self._is_full and produces(task))
            and (task.task_spec is None or limit_of(task) is None)
            and (ending is None or ending.fits(task, self._now))
        ):
            profile = self._profiles.get(task.function)
            seconds = math.inf if profile is None or task.alone else profile.seconds
            rank = self._assignments.assign_single(task, seconds)
            if rank is not None:
                actions.append(Assign(rank, [task]))
                return True
        return False

    def _tasks_submitted(self, event: TasksSubmitted, actions: list[Action]) -> None:
        self._backlog.submit(event.tasks, self._since())

    def _tasks_postponed(self, event: TasksPostponed, actions: list[Action]) -> None:
        self._backlog.postpone(event.tasks, event.until)
        self._dated = True
        self._release()

    def _release(self) -> None:
        """Queue postponed tasks whose time has come; all, if they will never run.

        Then also those that lack inputs: nobody will run the tasks that make these.
        """
        hopeless = self._assignments.hopeless(self._now)
        self._backlog.release(math.inf if hopeless else self._now)
        if hopeless:
            self._backlog.stop_waiting()

    def _input_ready(self, event: InputReady, actions: list[Action]) -> None:
        ready = self._backlog.supply(event)
        if len(ready) != 1 or not self._start(ready[0], actions):
            self._backlog.add(ready, self._since())

    def _input_gone(self, event: InputGone, actions: list[Action]) -> None:
        if event.cancelled:
            cancelled = self._backlog.cancel_users(event.tasks)
            self._cancelled += _items(cancelled)
            if cancelled:
                actions.append(Cancelled(cancelled))
            return
        failed = self._backlog.fail_users(event.tasks)
        self._failed += _items(failed)
        if failed:
            actions.append(InputFailed(failed, event.id))

    def _bulk_extended(self, event: BulkExtended, actions: list[Action]) -> None:
        self._backlog.extend(event)

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
            cancelled += self._revoke(self._assignments.tasks(), actions)
        if cancelled:
            actions.append(Cancelled(cancelled))

    def _revoke(self, tasks: Sequence[Task], actions: list[Action]) -> list[Task]:
        """Cancel those that can be taken from their worker; return them."""
        ids = [t.id for t in tasks if t.state is _ASSIGNED and self.may_revoke(t)]
        return self._take_back(ids, actions)

    def _take_back(self, ids: list[TaskId], actions: list[Action]) -> list[Task]:
        revoked: list[Task] = []
        for worker, held in self._assignments.holding(ids):
            revoked += self._assignments.take(worker, held, TaskInput.REVOKE, self._now)
            actions.append(Revoke(worker.rank, held))
        self._cancelled += _items(revoked)
        return revoked

    def _task_succeeded(self, event: TaskSucceeded, actions: list[Action]) -> None:
        """Take in what a worker says of its only batch, if that was a single call."""
        task = self._assignments.finish_single(event.rank, event.id)
        profile = self._profiles.get(event.function)
        if task is None or profile is None or self._ending is not None:
            cost = Cost(event.function, 1, event.seconds, event.nbytes)
            if task is None:
                report = OutcomesArrived(event.rank, 1, [event.id], (), [cost])
                self._outcomes_arrived(report, actions)
                return
            self._profiles.observe(cost)
            if self._ending is not None:
                self._ending.observe([cost])
        else:
            profile.observe(1, event.seconds, event.nbytes)
        self._succeeded += 1
        actions.append(Complete([task]))
        if self._blocked_mail:
            self._mail.wake_rank(event.rank)

    def _outcomes_arrived(self, event: OutcomesArrived, actions: list[Action]) -> None:
        tasks, succeeded, failed = self._assignments.complete(event, self._now)
        for cost in event.costs:
            self._profiles.observe(cost)
        if self._ending is not None:
            self._ending.observe(event.costs)
        self._succeeded += succeeded
        self._failed += failed
        actions.append(Complete(tasks))
        if self._blocked_mail:
            self._mail.wake_rank(event.rank)

    def _tasks_returned(self, event: TasksReturned, actions: list[Action]) -> None:
        self._backlog.put_back(self._assignments.give_back(event, self._ids, self._now))

    # Which worker gets what.

    def _since(self) -> float:
        """Return since when tasks wait for a worker of their own; never near the end.

        With an end in sight, `JobEnd` looks at all that is queued.
        """
        return self._now if self._ending is None else -math.inf

    def _has_room(self, queue: ReadyQueue) -> bool:
        """Whether the head of the queue may be sent, with as much kept as may be.

        Calls that would keep more are set aside. If there is nothing else, and nothing
        runs that could let go of something, one of them goes all the same.
        """
        while (head := queue.head()) is not None and produces(head):
            if not queue.set_aside():
                return not (self._assignments.assigned or self._near)
        return True

    def _assign_near(self, actions: list[Action]) -> None:
        """Give workers the tasks that wait for them; let others have the rest."""
        near = self._near
        queue = self._queue
        available_workers = self._available_workers
        queue.put_back(near.take_expired(self._now))
        for rank in near.ranks():
            worker = available_workers.get(rank)
            if worker is None or worker.state is not WorkerState.READY:
                queue.put_back(near.take(rank))
                continue
            while (task := near.first(rank)) and available_workers.has_room(worker):
                head = queue.head()
                if head is not None and head.priority > task.priority:
                    break
                near.remove(task)
                profile = self._profiles.get(task.function)
                seconds = math.inf if profile is None else profile.seconds
                if self._assignments.assign(worker, [task], seconds, self._now):
                    self._dated = True
                actions.append(Assign(rank, [task]))

    def _dispatch(self, actions: list[Action]) -> None:
        queue = self._queue
        ending = self._ending
        while (
            queue.items
            and (worker := self._available_workers.pick(queue.items)) is not None
        ):
            if ending and not ending.choose(queue, self._now + sum(worker.batches)):
                return
            if self._is_full and not self._has_room(queue):
                return
            batch = self._backlog.take_batch(
                self._profiles, self._available_workers.used
            )
            if self._assignments.assign(worker, *batch, self._now):
                self._dated = True
            actions.append(Assign(worker.rank, batch[0]))


def _items(tasks: list[Task]) -> int:
    return sum([task.count for task in tasks])
