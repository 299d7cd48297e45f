"""The engine: the only place where events, actions and messages meet.

It owns the scheduler and the transport. One turn takes what came, lets the scheduler
decide, and does what it decided. Whose turn it is, is decided in the pump
(`mpitasks.master.pump`), which holds its lock meanwhile; other threads only leave
something in the inbox, or among the losses. No user code runs here.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from mpitasks.core.events import (
    Action,
    Assign,
    Cancelled,
    Complete,
    Event,
    Fail,
    GiveUp,
    Rank,
    Report,
    Revoke,
    Stop,
    Task,
    TasksPostponed,
    TasksSubmitted,
    TimePassed,
    WorkerJoined,
    WorkerLeft,
)
from mpitasks.core.events import (
    WorkerLost as RankLost,
)
from mpitasks.core.scheduler import Scheduler
from mpitasks.errors import InternalError, MpiTasksError
from mpitasks.master import faults
from mpitasks.master.batches import Batches
from mpitasks.master.calls import Call, Chunk
from mpitasks.master.functions import Functions
from mpitasks.master.settling import Settler
from mpitasks.wire import messages
from mpitasks.wire.messages import (
    Goodbye,
    Logged,
    Lost,
    Obituary,
    Outcomes,
    Result,
    Returned,
    Sign,
)

if TYPE_CHECKING:
    from mpitasks.terms import Origin
    from mpitasks.wire.messages import LogSetup
    from mpitasks.wire.transport import Transport

__all__ = ["Engine"]

_NEVER = math.inf


class Engine:
    """Turns submitted calls into messages and outcomes into results.

    Args:
        transport: How to reach the workers.
        ranks: The workers.
        max_failures: How many calls and items may fail; None for any number.

    Attributes:
        ids: Where calls and jobs get their ids from: even ones, in program order.
        own_ids: Where what becomes of them gets its ids from: odd ones. See
            `mpitasks.terms.Origin`.
        ranks: The workers.
        transport: How to reach them.
        scheduler: Decides which of them gets which tasks.
        functions: Those that were submitted.
        settler: Tells who waits for a task what became of it.
        inbox: Calls that were submitted; any thread may append some.
        turns: How many turns were taken.
        error: Why it is broken, if it is.
        heard: The workers that were heard of; whoever looks empties it.
        losses: What became of the workers that are gone.
        on_overdue: Told of a worker whose task is given up.
        on_obituary: Told of a worker that another saw dead.
        on_loss: Told of a worker that is gone, once, and of what it held.
        on_logged: Told of the log records of a worker.
    """

    def __init__(
        self,
        transport: Transport,
        ranks: Iterable[Rank],
        *,
        max_failures: int | None = None,
    ) -> None:
        self.ids = itertools.count(0, 2)
        self.own_ids = itertools.count(1, 2)
        self.ranks = list(ranks)
        self.transport = transport
        self.scheduler = Scheduler(self.own_ids)
        self.settler = Settler(self.own_ids, max_failures)
        self.inbox: deque[Call] = deque()
        self.turns = 0
        self.error: MpiTasksError | None = None
        self.functions = Functions()
        self._batches = Batches(self.ranks, self.functions.dropped)
        self._origins: list[Origin] = []  # of the Executors that may have calls
        self._logs: LogSetup | None = None  # as the latest of them wants it
        self._untold: set[Rank] = set()  # who does not know these yet
        self.on_logged: Callable[[Rank, Sequence[bytes]], None] = lambda *_: None
        self._record: Callable[[Sequence[Task | None], Outcomes], None] | None = None
        # For `mpitasks.master.lookout`: who was heard of; and what it found out.
        self.heard: set[Rank] = set()
        self.losses: dict[Rank, str] = {}
        self._lost: deque[Rank] = deque()
        self.on_overdue: Callable[[Rank], None] = lambda rank: None
        self.on_obituary: Callable[[Rank, str], None] = self.lose
        self.on_loss: Callable[[Rank, list[Task]], None] = lambda rank, held: None
        for rank in self.ranks:
            self.scheduler.handle(WorkerJoined(rank), time.monotonic())

    def keep(
        self,
        record: Callable[[Sequence[Task | None], Outcomes], None],
        failed: Callable[[Call | Chunk, BaseException], None],
    ) -> None:
        """Tell a journal of what is done, and of what failed for good.

        Args:
            record: Called with the tasks of a report, and the report, before anything
                of it is decoded.
            failed: Called with a task, or a chunk of one item, and its error.
        """
        self._record = record
        self.settler.failed = failed

    def open(self, origin: Origin, logs: LogSetup | None, *, alone: bool) -> None:
        """An Executor begins, whose calls come from there.

        Args:
            origin: How they are numbered.
            logs: As in `Opening`.
            alone: Whether no call of an earlier one is outstanding.
        """
        if alone:
            self._origins.clear()
        self._origins.append(origin)
        self._logs = logs
        self._untold.update(self.ranks)

    def lose(self, rank: Rank, how: str) -> None:
        """Take note that a worker is gone, for the next turn. From any thread."""
        self.losses.setdefault(rank, how)
        self._lost.append(rank)

    def turn(self) -> bool:
        """Take in what was submitted, and one message; return whether there was any.

        One, because the driver looks after each whether it has what it waits for.
        """
        self.turns += 1
        moved = False
        try:
            if self.inbox:
                self._take_inbox()
                moved = True
            if self._lost:
                self._take_loss(self._lost.popleft())
                moved = True
            arrived = self.transport.poll()
            if arrived is not None:
                rank, message = arrived
                self.heard.add(rank)
                if type(message) is Result:
                    self._finish(message)
                elif type(message) is Outcomes or type(message) is Returned:
                    self._handle(message)
                elif type(message) is Goodbye:
                    self._handle(WorkerLeft(rank))
                elif type(message) is Lost:
                    self._take_loss(rank)
                elif type(message) is Sign:
                    pass  # it was heard of
                elif type(message) is Logged:
                    self.on_logged(rank, message.records)
                elif type(message) is Obituary:
                    self.on_obituary(message.rank, message.how)
                else:
                    raise InternalError(f"rank {rank} sent {message!r} to the master")
                moved = True
            elif self.scheduler.deadline < _NEVER:
                # Only when nothing more is there: after a long silence of this rank,
                # what seems overdue may wait to be taken in.
                moved = self._look_at_clock() or moved
        except BaseException as error:
            self.fail(error)
            moved = True
        return moved

    def submit(self, call: Call) -> None:
        """Handle a call that a worker wants, with none submitted before it."""
        try:
            rank = self.scheduler.start(call, time.monotonic())
            if rank is None:
                self._handle(TasksSubmitted([call]))
            else:
                if rank in self._untold:
                    self._tell(rank)
                self.transport.send(rank, self._batches.single(rank, call))
        except BaseException as error:
            self.fail(error)

    def send_at_once(self, call: Call) -> bool:
        """Send a call to a worker that has nothing to do; return whether that is so."""
        try:
            if self.inbox:
                return False
            rank = self.scheduler.start(call, time.monotonic())
            if rank is None:
                return False
            if rank in self._untold:
                self._tell(rank)
            self.transport.send(rank, self._batches.single(rank, call))
        except BaseException as error:
            self.fail(error)
        return True

    def take(self, event: Event) -> None:
        """Handle what was submitted before, then the event."""
        try:
            if self.inbox:
                self._take_inbox()
            self._handle(event)
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Something is wrong with the engine: fail what is outstanding, and say why.

        Raises:
            BaseException: The error, if it is none of ours but, say, Ctrl-C: it came
                in the middle of a turn, and who interrupts a run must know best.
        """
        interrupt = None if isinstance(error, Exception) else error
        if not isinstance(error, MpiTasksError):
            internal = InternalError(f"the engine failed: {error!r}; please report it")
            internal.__cause__ = error
            error = internal
        if self.error is None:
            self.error = error
        known = self.error
        now = time.monotonic()
        for rank in self.scheduler.running_workers():
            for action in self.scheduler.handle(RankLost(rank), now):
                if type(action) is Fail:
                    self.settler.fail(action.tasks, lambda _: known)
        if interrupt is not None:
            raise interrupt

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
            self._handle(TasksSubmitted(calls))

    def _take_loss(self, rank: Rank) -> None:
        if rank in self.scheduler.running_workers():  # it is known only once
            held = self.scheduler.held(rank)
            self.losses.setdefault(rank, f"rank {rank} died")
            self.transport.abandon(rank)
            self._handle(RankLost(rank))
            self.on_loss(rank, held)

    def _finish(self, result: Result) -> None:
        """Let a future have its result, if there is no more to it than that."""
        if self._record is None:
            task = self.scheduler.finish(
                result.rank, result.id, result.seconds, result.nbytes
            )
            if type(task) is Call:  # as all that workers say this of
                self.settler.succeed(task, result.form, result.value)
                return
        self._handle(result.outcomes())

    def _handle(self, event: Event) -> None:
        """Let the scheduler decide, and do it."""
        for action in self.scheduler.handle(event, time.monotonic()):
            if type(action) is Assign:
                if action.rank in self._untold:
                    self._tell(action.rank)
                batch = self._batches.make(action.rank, action.tasks)
                self.transport.send(action.rank, batch)
            elif type(action) is Complete:
                # Only reports complete tasks, and they come as messages, or from one.
                if self._record is not None:
                    self._record(action.tasks, event)  # type: ignore[arg-type]
                self.settler.complete(action.tasks, event)  # type: ignore[arg-type]
            else:
                self._perform(action)
        if self.settler.again:
            self._try_again()

    def _tell(self, rank: Rank) -> None:
        """Let a worker know of the Executors whose calls it is about to get."""
        self._untold.discard(rank)
        origins = [tuple(origin) for origin in self._origins]
        self.transport.send(rank, messages.Opening(origins, self._logs))

    def _perform(self, action: Action) -> None:
        """Do what is seldom to be done."""
        settler = self.settler
        if type(action) is Cancelled:
            for task in action.tasks:
                if type(task) is Call:
                    task.future._settle_cancelled()
                    task.buffers = []  # it stays in the queue until its turn
                elif type(task) is Chunk:
                    task.job.drop(task)
        elif type(action) is Fail:
            rank = action.rank
            gone = rank is not None and self.error is None
            settler.fail(
                action.tasks,
                lambda task: self.error or faults.lost(task, rank, self.losses),
                crashed=gone,
                final=not gone,
            )
        elif type(action) is Revoke:
            self.transport.send(action.rank, messages.Revocation(action.ids))
        elif type(action) is Report:
            print(faults.overdue(action.task, action.rank), file=sys.stderr, flush=True)
        elif type(action) is GiveUp:
            self._give_up(action.task, action.rank)
        elif type(action) is Stop:
            goodbye = messages.Dismissal(maimed=bool(self.losses))
            self.transport.send(action.rank, goodbye)

    def _give_up(self, task: Task, rank: Rank) -> None:
        if faults.limited(task):
            self.settler.fail([task], lambda t: faults.overdue_error(t, rank))
        else:
            self.settler.fail([task], faults.abandoned)
        self.on_overdue(rank)

    def _try_again(self) -> None:
        """Hand the next attempts at failed tasks to the scheduler."""
        again, self.settler.again = self.settler.again, []
        now = time.monotonic()
        for delay, task in again:
            self._handle(TasksPostponed([task], now + delay))
