"""The engine: the only place where events, actions and messages meet.

It owns the scheduler and the transport. `poll_once` takes what came, lets the scheduler
decide, and does what it decided. The event loop (`mpitasks.master.event_loop`) chooses
the thread that calls it, and holds its lock meanwhile; other threads only leave
something in the inbox, or among the losses. No user code runs here.

Listeners are told of each event and of what the scheduler decided, before that is
done: the journal is one. A listener runs no user code either.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.errors import InternalError, MpiTasksError
from mpitasks.master import lost_tasks
from mpitasks.master.actor_table import Actors
from mpitasks.master.batches import Batches
from mpitasks.master.completion import Completion
from mpitasks.master.functions import Functions
from mpitasks.master.kept_results import FULL, KeptResults
from mpitasks.master.lineage import Lineage, recipe_of
from mpitasks.master.passing import Passing
from mpitasks.scheduler.events import (
    Action,
    ActorFailed,
    ActorOpened,
    Assign,
    Bulk,
    BulkCancelled,
    Cancelled,
    CancelRequested,
    Complete,
    Event,
    Fail,
    GiveUp,
    InputFailed,
    MemoryChanged,
    Rank,
    RankLost,
    Report,
    Restart,
    Revoke,
    Stop,
    Task,
    TaskId,
    TasksPostponed,
    TasksSubmitted,
    TaskState,
    TaskSubmitted,
    TimePassed,
    WorkerJoined,
    WorkerLeft,
)
from mpitasks.scheduler.scheduler import Scheduler
from mpitasks.scheduler.statistics import DataStatistics
from mpitasks.wire import messages
from mpitasks.wire.exceptions import twin
from mpitasks.wire.messages import (
    Awaited,
    Called,
    Fetched,
    Goodbye,
    Heartbeat,
    Logged,
    Lost,
    Outcomes,
    Overhead,
    PeerFailure,
    Result,
    Returned,
)

if TYPE_CHECKING:
    from mpitasks.master.actors import Actor
    from mpitasks.master.functions import Initializer
    from mpitasks.task_spec import Origin
    from mpitasks.wire.messages import LogSetup
    from mpitasks.wire.transport import Transport

__all__ = ["Engine", "Listener"]

Listener = Callable[[float, Event, Sequence[Action]], None]
"""Is told the time, an event, and what the scheduler decided."""

_NEVER = math.inf

IDS_APART = 1 << 40
"""Between the ids of Executors that are open at a time."""


class Engine:
    """Makes messages of submitted calls, and results of outcomes.

    Args:
        transport: How to reach the workers.
        ranks: The workers.
        near: Those that can attach this process's memory (`mpitasks.wire.node_memory`).
        max_failures: How many calls and items may fail; None for any number.

    Attributes:
        ids: Where calls and jobs get their ids from: even ones, in program order.
        own_ids: Where chunks and further attempts get their ids from: odd ones. See
            `mpitasks.task_spec.Origin`.
        ranks: The workers.
        transport: How to reach them.
        scheduler: Decides which of them gets which tasks.
        functions: Those that were submitted.
        kept: The results that workers keep.
        completion: Brings outcomes to futures and bulk jobs.
        inbox: Calls that were submitted; any thread may append some.
        polls: How often it was polled.
        listeners: Who is told of each event.
        passing: Passes results on to tasks that wait for them.
        lineage: Makes kept results again that were lost.
        actors: The actors of the run.
        error: Why it is broken, if it is.
        heard: The workers that sent a message since the failure detector looked.
        losses: What became of the workers that are gone.
        on_peer_failure: Told of a worker that another saw dead.
        on_logged: Told of the log records of a worker.
        on_overhead: Told of what a worker did beside running functions.
    """

    def __init__(
        self,
        transport: Transport,
        ranks: Iterable[Rank],
        *,
        near: Container[Rank] = (),
        max_failures: int | None = None,
    ) -> None:
        self.ids = itertools.count(0, 2)
        self.own_ids = itertools.count(1, 2)
        self.ranks = list(ranks)
        self.transport = transport
        self.scheduler = Scheduler(self.own_ids)
        self.kept = KeptResults(near)
        self._is_full = self._told_full = False
        self.completion = Completion(self.own_ids, self.kept, max_failures)
        self.inbox: deque[Task] = deque()
        self.polls = 0
        self.error: MpiTasksError | None = None
        self.functions = Functions()
        self._batches = Batches(self.ranks, near, self.functions.dropped)
        self._origins: list[Origin] = []  # of the Executors that may have calls
        self._apart = 0
        self._logs: LogSetup | None = None  # as the latest of them wants it
        self._untold: set[Rank] = set()  # who does not know these yet
        self.on_logged: Callable[[Rank, Sequence[bytes]], None] = lambda *_: None
        self.on_overhead: Callable[[Rank, Overhead], None] = lambda *_: None
        self.listeners: list[Listener] = []
        self.passing = Passing(self._handle, self.completion)
        self._arrived = self.passing.arrived
        self.lineage = Lineage(self.own_ids, self.passing, self._handle)
        if transport.survives:
            self.kept.recipe_of = recipe_of
            self.completion.run_again = self.lineage.run_again
        # For `mpitasks.master.failure_detector`: who was heard of; and what it found
        # out.
        self.heard: set[Rank] = set()
        self.losses: dict[Rank, str] = {}
        self._lost: deque[Rank] = deque()
        self.on_peer_failure: Callable[[Rank, str], None] = self.lose
        self.actors = Actors(
            self._handle, self.completion, self.passing, self.losses, transport.send
        )
        for rank in self.ranks:
            self.scheduler.handle(WorkerJoined(rank), time.monotonic())

    def listen(
        self,
        listener: Listener,
        failed: Callable[[Task, BaseException], Callable[[], None]] | None = None,
    ) -> None:
        """Tell somebody of each event; once, however often that is asked for.

        Args:
            listener: Called under the event loop's lock.
            failed: Called with a task of one item that failed for good, and its error,
                under no lock; what it returns is called under the lock.
        """
        if listener not in self.listeners:
            self.listeners.append(listener)
        if failed is not None:
            self.completion.failed = failed

    def data_statistics(self) -> DataStatistics:
        """Return what was moved, and what stayed, beside arguments and results."""
        kept = self.kept
        return DataStatistics(
            kept.bytes_by_host(),
            kept.most_by_host(),
            kept.fetched.copy(),
            self._batches.shared_bytes(),
        )

    def number(self, *, alone: bool) -> Iterator[TaskId]:
        """Return where the calls of an Executor that begins get their ids from.

        Args:
            alone: Whether no other is open. Else it gets ids far above theirs, so that
                its calls are known by them.
        """
        if not alone:
            self._apart += IDS_APART
            self.ids = itertools.count(self._apart, 2)
        return self.ids

    def forget_all_but(self, origins: Sequence[Origin]) -> None:
        """No Executors but those may have calls."""
        self._origins = [*origins]

    def open(self, origin: Origin, logs: LogSetup | None) -> None:
        """An Executor begins, whose calls come from there.

        Args:
            origin: How they are numbered.
            logs: As in `Opening`.
        """
        self._origins.append(origin)
        self._logs = logs
        self._untold.update(self.ranks)

    def lose(self, rank: Rank, how: str) -> None:
        """Take note that a worker is gone, for the next poll. From any thread."""
        self.losses.setdefault(rank, how)
        self._lost.append(rank)

    def poll_once(self) -> bool:
        """Take in what was submitted, and one message; return whether there was any.

        Only one: after each, the driver looks whether it has what it waits for.
        """
        self.polls += 1
        moved = False
        try:
            if self.inbox:
                self._take_inbox()
                moved = True
            if self._lost:
                self._take_loss(self._lost.popleft())
                moved = True
            if self.kept.released:
                for rank, ids in self.kept.take_released().items():
                    self.transport.send(rank, messages.Release(ids))
            if self.kept.is_full is not self._is_full:
                self._change_memory()
            arrived = self.transport.poll()
            if arrived is not None:
                rank, message = arrived
                self.heard.add(rank)
                if type(message) is Result:
                    self._handle(message)
                elif type(message) is Outcomes and not message.sound:
                    self.on_peer_failure(rank, lost_tasks.UNSOUND)
                elif type(message) is Outcomes or type(message) is Returned:
                    self._handle(message)
                elif type(message) is Called:
                    self.actors.remote.take(message)
                    if self._arrived:
                        self.passing.pass_on()
                elif type(message) is Awaited:
                    self.actors.remote.look_at(message)
                elif type(message) is Goodbye:
                    self._handle(WorkerLeft(rank))
                elif type(message) is Lost:
                    self._take_loss(rank)
                elif type(message) is Heartbeat:
                    pass  # it was heard of
                elif type(message) is Fetched:
                    self.kept.take(rank, message)
                elif type(message) is Logged:
                    self.on_logged(rank, message.records)
                elif type(message) is Overhead:
                    self.on_overhead(rank, message)
                elif type(message) is PeerFailure:
                    self.on_peer_failure(message.rank, message.how)
                else:
                    raise InternalError(f"rank {rank} sent {message!r} to the master")
                moved = True
            elif self.scheduler.deadline < _NEVER:
                # Only when no message is left: after this rank was silent for long, the
                # report of a task that seems overdue may wait to be taken in.
                moved = self._look_at_clock() or moved
        except BaseException as error:
            self.fail(error)
            moved = True
        return moved

    def take_result(self) -> bool:
        """Take in the next message, which is a `Result`; return whether all is well.

        As `poll_once`, and leaves all else for that.
        """
        try:
            arrived = self.transport.poll()
            assert arrived is not None
            assert type(arrived[1]) is Result
            self._handle(arrived[1])
        except BaseException as error:
            self.fail(error)
        return self.error is None

    def submit(self, task: Task) -> None:
        """Handle a call that a worker wants, with none submitted before it."""
        try:
            if task.inputs:
                self.passing.open(task)
            self._handle(TaskSubmitted(task))
        except BaseException as error:
            self.fail(error)

    def open_actor(self, actor: Actor, event: ActorOpened) -> bool:
        """Take in an actor; return whether there is a worker for it."""
        self._take_inbox()  # where others may be closed
        if not self.scheduler.can_place(event):
            return False
        self.actors.add(actor)
        self.take(event)
        return True

    def send_at_once(self, task: Task) -> bool:
        """Send a call to a worker that has nothing to do; return whether that is so."""
        if self.inbox or not self.scheduler.starts(task, time.monotonic()):
            return False
        self.submit(task)
        return True

    def entries(self, *, undecided: bool = True) -> list[Task | Bulk]:
        """Return all that is outstanding: tasks, and bulk jobs with items left.

        Args:
            undecided: Whether to return failed tasks, too, whose failures are being
                looked at. The scheduler knows them no more.
        """
        self._take_inbox()
        failed = self.completion.undecided if undecided else ()
        return [*self.scheduler.entries(), *failed]

    def take(self, event: Event) -> None:
        """Handle what was submitted before, then the event."""
        try:
            if self.inbox:
                self._take_inbox()
            self._handle(event)
        except BaseException as error:
            self.fail(error)

    def run(self, step: Callable[[], None]) -> None:
        """Take a step of the completion's: what it decided without the lock."""
        try:
            step()
            if self.completion.broken:
                self._fail_broken()
            if self.completion.again:
                self._try_again()
            if self._arrived:
                self.passing.pass_on()
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Something is wrong with the engine: fail what is outstanding, and say why.

        Raises:
            BaseException: The error, if it interrupts the run, as Ctrl-C does.
        """
        interrupt = None if isinstance(error, Exception) else error
        if not isinstance(error, MpiTasksError):
            internal = InternalError(f"the engine failed: {error!r}; please report it")
            internal.__cause__ = error
            error = internal
        if self.error is None:
            self.error = error
        known = self.error
        self._arrived.clear()  # what waits for it fails, too
        now = time.monotonic()
        for rank in self.scheduler.running_workers():
            for action in self.scheduler.handle(RankLost(rank), now):
                if type(action) is Fail or type(action) is ActorFailed:
                    self.completion.fail(action.tasks, lambda _: known)
        if interrupt is not None:
            raise interrupt

    def _change_memory(self) -> None:
        """Let the scheduler know that more may be kept, or no more."""
        self._is_full = self.kept.is_full
        if self._is_full and not self._told_full:
            self._told_full = True
            print(FULL, file=sys.stderr, flush=True)
        self._handle(MemoryChanged(self._is_full))

    def _look_at_clock(self) -> bool:
        """Tell the scheduler if its deadline has come; return whether it has."""
        if time.monotonic() < self.scheduler.deadline:
            return False
        self._handle(TimePassed())
        return True

    def _take_inbox(self) -> None:
        inbox = self.inbox
        if inbox:  # others may append meanwhile, so it is emptied one by one
            calls = [inbox.popleft() for _ in range(len(inbox))]
            for call in calls:
                if call.inputs:
                    self.passing.open(call)
            self._handle(TasksSubmitted(calls))

    def _take_loss(self, rank: Rank) -> None:
        if rank in self.scheduler.running_workers():  # it is known only once
            self.losses.setdefault(rank, f"rank {rank} died")
            self.transport.abandon(rank)
            how = self.losses[rank]
            lost = self.kept.take_lost(rank, how)
            calls = self.lineage.prepare(lost)
            for kept in lost:  # who sees that looks for what makes it again
                kept.lost = how
            if lost:
                gone = messages.HolderGone(rank, how)
                for other in self.scheduler.running_workers():
                    if other != rank:
                        self.transport.send(other, gone)
            self.actors.remote.lose(rank)
            self._handle(RankLost(rank))
            self.lineage.submit(calls)

    def _handle(self, event: Event) -> None:
        """Let the scheduler decide, and do it."""
        now = time.monotonic()
        actions = self.scheduler.handle(event, now)
        if self.listeners:
            for listener in self.listeners:
                listener(now, event, actions)
        for action in actions:
            if type(action) is Assign:
                if action.rank in self._untold:
                    self._tell(action.rank)
                batch = self._batches.make(action.rank, action.tasks)
                self.transport.send(action.rank, batch)
            elif type(action) is Complete:
                # Only reports complete tasks, and they come as messages.
                if type(event) is Result:
                    (task,) = action.tasks
                    if task is not None:  # it is not late
                        self.completion.succeed(task, event.form, event.value)
                else:
                    assert type(event) is Outcomes
                    self.completion.complete(action.tasks, event)
            else:
                self._perform(action)
        if self.completion.again:
            self._try_again()
        if self._arrived:
            # What holds a result that is passed on decides whether it must be copied.
            actions = action = task = None  # type: ignore[assignment]
            self.passing.pass_on()

    def _tell(self, rank: Rank) -> None:
        """Tell a worker of the Executors whose calls it is about to get."""
        self._untold.discard(rank)
        origins = [tuple(origin) for origin in self._origins]
        self.transport.send(rank, messages.Opening(origins, self._logs))

    def _perform(self, action: Action) -> None:
        """Perform one of the rare actions."""
        completion = self.completion
        if type(action) is Cancelled:
            for task in action.tasks:
                task.payload.drop(task)
        elif type(action) is Fail:
            rank = action.rank
            gone = rank is not None and self.error is None
            completion.fail(
                action.tasks,
                lambda task: self.error or lost_tasks.lost(task, rank, self.losses),
                crashed=gone,
                final=not gone,
            )
        elif type(action) is ActorFailed:
            self.actors.fail(action, self.error)
        elif type(action) is Restart:
            self.actors.restart(action.actor, action.rank)
        elif type(action) is InputFailed:
            completion.fail_users(action.tasks)
        elif type(action) is Revoke:
            self.transport.send(action.rank, messages.Cancel(action.ids))
        elif type(action) is Report:
            print(
                lost_tasks.overdue(action.task, action.rank),
                file=sys.stderr,
                flush=True,
            )
        elif type(action) is GiveUp:
            self._give_up(action.task, action.rank)
        elif type(action) is Stop:
            self.kept.end()  # nobody may be sent anything more
            goodbye = messages.Shutdown(degraded=bool(self.losses))
            self.transport.send(action.rank, goodbye)

    def _give_up(self, task: Task, rank: Rank) -> None:
        if lost_tasks.limited(task):
            self.completion.fail([task], lambda t: lost_tasks.overdue_error(t, rank))
        else:
            self.completion.fail([task], lost_tasks.abandoned)

    def _fail_broken(self) -> None:
        """Send no more tasks that need an initializer which has failed."""
        broken, self.completion.broken = self.completion.broken, []
        self.functions.refuse(broken)
        tasks = []
        for entry in self.entries(undecided=False):
            payload = entry.payload
            initializer: Initializer | None = payload.target.initializer
            if initializer is None or initializer not in broken:
                continue
            assert initializer.failure is not None
            if not payload.is_call:
                payload.halt(functools.partial(twin, initializer.failure))
            if isinstance(entry, Bulk):
                self._handle(BulkCancelled(entry))
            elif entry.state is not TaskState.ASSIGNED:
                tasks.append(entry)
        if tasks:
            self._handle(CancelRequested(tasks))

    def _try_again(self) -> None:
        """Hand the next attempts at failed tasks to the scheduler."""
        again, self.completion.again = self.completion.again, []
        if self.error is not None:
            known = self.error
            self.completion.fail([task for _, task in again], lambda _: known)
            return
        now = time.monotonic()
        for delay, task in again:
            self._handle(TasksPostponed([task], now + delay))
