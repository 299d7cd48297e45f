"""The pump: the only place where events, actions and messages meet.

It owns the scheduler and the transport. One turn takes what came, lets the
scheduler decide, and does what it decided. There is no thread that owns the pump:
**whoever waits, drives**. All turns happen under one lock; a second one, the
driver's, marks the thread that turns it while waiting, and lets other waiting
threads sleep. A background thread turns it now and then while work is outstanding
and nobody else does, so that done-callbacks, the stdlib's `wait` and a busy script
make progress; it sleeps when nothing is outstanding.

User code never runs under the lock: done-callbacks run after it is released.
"""

from __future__ import annotations

import itertools
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

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
    QueueCancelled,
    Rank,
    Report,
    Revoke,
    RunningAbandoned,
    Stop,
    StopRequested,
    Task,
    TasksPostponed,
    TasksSubmitted,
    TimePassed,
    WorkerJoined,
    WorkerLeft,
    WorkersLimited,
)
from mpitasks.core.events import (
    WorkerLost as RankLost,
)
from mpitasks.core.scheduler import Scheduler, Statistics
from mpitasks.errors import InternalError, MpiTasksError
from mpitasks.master import faults
from mpitasks.master.background import ASLEEP, DEEP, NAPPING, Background
from mpitasks.master.batches import Batches
from mpitasks.master.calls import Call, Chunk
from mpitasks.master.functions import Functions
from mpitasks.master.settling import Settler
from mpitasks.wire import messages
from mpitasks.wire.messages import (
    Goodbye,
    Lost,
    Obituary,
    Outcomes,
    Returned,
    Sign,
)

if TYPE_CHECKING:
    from mpitasks.wire.transport import Transport

__all__ = ["Pump"]

TURNS_PER_NUDGE = 64
SUBMITS_PER_TURN = 32
"""While no worker wants more, every so many submits take a turn all the same."""
_NEVER = math.inf
MOST_SECONDS = 0.05
"""Nobody waits for longer without a look around."""


class Pump:
    """Turns submitted calls into messages and outcomes into results.

    Args:
        transport: How to reach the workers; the pump's own from now on.
        ranks: The workers.
        threads: Whether any thread may use the transport, one at a time. If not,
            nothing turns the pump in the background.
        max_failures: How many calls and items may fail; with one more, nothing else
            is started, and whoever waits is told. None for any number.

    Attributes:
        turns: How many turns were taken.
        driven: Whether a thread waits and takes turns meanwhile.
        drives: How often a thread began to.
        background: Takes turns while nobody else does.
    """

    def __init__(
        self,
        transport: Transport,
        ranks: Iterable[Rank],
        *,
        threads: bool = True,
        max_failures: int | None = None,
    ) -> None:
        self.ids = itertools.count()
        self.functions = Functions()
        self._transport = transport
        self._scheduler = Scheduler(self.ids)
        self._settler = Settler(self.ids, max_failures)
        self._lock = threading.Lock()
        self._driver = threading.RLock()
        self._inbox: deque[Call] = deque()
        self._since_turn = 0
        self.turns = 0
        self.drives = 0
        self.driven = False
        self._ranks = list(ranks)
        self._batches = Batches(self._ranks)
        self._callbacks: deque[Callable[[], None]] = deque()
        self._error: MpiTasksError | None = None
        self._record: Callable[[Sequence[Task | None], Outcomes], None] | None = None
        self._refusal: Callable[[], NoReturn] | None = None
        # For `mpitasks.master.lookout`: who was heard of; and what it found out.
        self.heard: set[Rank] = set()
        self.losses: dict[Rank, str] = {}
        self._lost: deque[Rank] = deque()
        self.on_overdue: Callable[[Rank], None] = lambda rank: None
        self.on_obituary: Callable[[Rank, str], None] = self.lose
        self.on_close: Callable[[], None] = lambda: None
        for rank in self._ranks:
            self._scheduler.handle(WorkerJoined(rank), time.monotonic())
        self.background = Background(self, enabled=threads)

    # For the executor, from any thread.

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._scheduler.num_workers

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        if self._error is not None:
            return 0  # what was failed; the counts of a broken engine are not trusted
        return self._scheduler.outstanding + len(self._inbox)

    @property
    def stranded(self) -> bool:
        """Whether all that is left waits, and none of it will be started any more."""
        return self._scheduler.stranded and not self._inbox

    @property
    def refuses_waits(self) -> bool:
        """Whether nobody is to wait any longer."""
        return self._refusal is not None

    def statistics(self) -> Statistics:
        """Return the counts of about this moment; for onlookers, who take no lock.

        Unlike the scheduler's they know which items of a chunk failed, and count a task
        that was tried again once.
        """
        counts = self._scheduler.statistics()
        failed, retries = self._settler.failures, self._settler.retries
        ended = counts.succeeded + counts.failed
        return replace(
            counts,
            queued=counts.queued + len(self._inbox),
            succeeded=max(ended - failed - retries, 0),
            failed=failed,
        )

    def set_end(self, at: float) -> None:
        """Start nothing that would not be finished by then, on the monotonic clock."""
        self._take_quietly(EndSet(at))

    def drain(self) -> None:
        """Start nothing new any more."""
        self._take_quietly(DrainRequested())

    def refuse_waits(self, stop: Callable[[], NoReturn]) -> None:
        """Nothing more will come: have `stop` raise that in whoever waits."""
        self._refusal = stop
        self._transport.wake()

    def allow_waits(self) -> None:
        """Let waiting be waiting again."""
        self._refusal = None

    def limit_workers(self, count: int | None) -> None:
        """Use only so many of the workers from now on; None for all."""
        self._handle_now(WorkersLimited(count))

    def submit(self, call: Call) -> None:
        """Take a call in. Takes a turn when a worker wants work, or now and then."""
        if self.background.rest == ASLEEP:
            self.background.wake()
        wanted = not self._inbox and self._scheduler.wants(call)
        if wanted and not self._lock.locked():
            with self._lock:
                self._take_events(TasksSubmitted([call]))
            if self._callbacks:
                self._run_callbacks()
            return
        self._inbox.append(call)
        if self.driven and len(self._inbox) == 1:
            self._transport.wake()  # the driver may sleep, and would not look here
        self._since_turn += 1
        if self._since_turn >= SUBMITS_PER_TURN:
            self.nudge()

    def extend(self, bulk: Bulk, count: int) -> None:
        """Let workers have `count` more items of a bulk job."""
        self._handle_now(BulkExtended(bulk, count))
        if self.background.rest == ASLEEP:
            self.background.wake()

    def cancel_bulk(self, bulk: Bulk) -> None:
        """Send no more of a bulk job."""
        self._handle_now(BulkCancelled(bulk))

    def cancel(self, calls: list[Call]) -> None:
        """Take back those of the calls that were not sent yet."""
        self._handle_now(CancelRequested(calls))

    def cancel_queue(self, *, isolated: bool = False) -> None:
        """Take back everything that was not sent yet.

        Args:
            isolated: End isolated tasks that are running, too.
        """
        self._handle_now(QueueCancelled(isolated))

    def lose(self, rank: Rank, how: str) -> None:
        """Go on without a worker that is gone. From any thread.

        Args:
            rank: The worker.
            how: What became of it: "rank 2 on node7 (pid 12) was killed by SIGKILL".
        """
        self.losses.setdefault(rank, how)
        self._lost.append(rank)
        self._transport.wake()
        if self.background.enabled:
            self.nudge()

    def inquire(self, ranks: Iterable[Rank]) -> None:
        """Ask workers for a sign of life."""
        with self._lock:
            for rank in ranks:
                self._transport.send(rank, messages.Inquiry())

    def held(self, rank: Rank) -> list[Task]:
        """Return the tasks that a worker holds, oldest first."""
        return self._scheduler.held(rank)

    def running_workers(self) -> list[Rank]:
        """Return the workers that have neither left nor are gone."""
        return self._scheduler.running_workers()

    def watch(self) -> None:
        """Somebody waits for a future, and maybe not by driving: turn soon."""
        if self.background.rest == NAPPING:
            self.background.wake()

    def nudge(self) -> bool:
        """Take turns while something happens; return whether anything did.

        Not if another thread is at it, and not for ever.
        """
        if self._lock.locked():
            return False
        # A `with` of its own: Ctrl-C between acquiring and a `try` would keep the lock.
        with self._lock:
            moved = turning = self._turn()
            for _ in range(TURNS_PER_NUDGE):
                if not turning:
                    break
                turning = self._turn()
        if self._callbacks:
            self._run_callbacks()
        return moved

    def drive(
        self,
        done: Callable[[], bool],
        block: Callable[[float], None],
        timeout: float | None = None,
    ) -> bool:
        """Take turns until `done`; return whether it is.

        Args:
            done: Tells whether what the caller waits for is there.
            block: Sleeps until it may be, at most so many seconds; called instead
                of taking turns while another thread does.
            timeout: How long to wait, in seconds; None for ever.

        Raises:
            MpiTasksError: The engine is broken, and what the caller waits for was
                lost with it.
            TooManyFailures: More failed than may; said once.
            BaseException: The run was halted.
        """
        end = None if timeout is None else time.monotonic() + timeout
        limit = MOST_SECONDS
        while not done():
            if self._refusal is not None:
                self._refusal()
            if end is not None:
                limit = min(end - time.monotonic(), MOST_SECONDS)
                if limit <= 0:
                    self.nudge()  # one look at least: the timeout may be 0
                    return done()
            if self._settler.halt is not None:
                self._halt()
            if self._driver.acquire(blocking=False):
                try:
                    self.driven = True
                    self.drives += 1
                    if self._drive(done, end):
                        return True
                finally:
                    self.driven = False
                    self._driver.release()
                    if self.background.rest == DEEP:
                        self.background.wake()
            else:
                block(limit)
        return True

    def _drive(self, done: Callable[[], bool], end: float | None) -> bool:
        """As the driver, take turns until `done` or the end; return whether done."""
        wait = self._transport.wait
        limit = MOST_SECONDS
        while True:
            with self._lock:
                moved = self._turn()
            if self._callbacks:
                self._run_callbacks()
            if done():
                return True
            if self._error is not None:
                raise self._error
            if self._settler.halt is not None:
                self._halt()
            if moved:
                continue
            if self._refusal is not None:
                self._refusal()
            if end is not None:
                limit = min(end - time.monotonic(), MOST_SECONDS)
                if limit <= 0:
                    return False
            wait(limit)

    def ignore_failures(self) -> None:
        """However many tasks fail from now on, nobody is told."""
        self._settler.take_halt()

    def _halt(self) -> None:
        """Start nothing more, and tell the caller why."""
        error = self._settler.take_halt()
        if error is not None:  # no other thread was told meanwhile
            self.cancel_queue()
            raise error

    def doze(self) -> None:
        """Sleep until a message may have come, for a short time at most."""
        self._transport.doze(MOST_SECONDS)

    def finish(self, timeout: float | None = None) -> bool:
        """Take turns until nothing is outstanding; return whether that is so."""
        return self.drive(lambda: not self.outstanding, time.sleep, timeout)

    def abandon_running(self) -> None:
        """Wait no longer for what workers are running: it failed."""
        self._handle_now(RunningAbandoned())

    def stuck_workers(self) -> list[Rank]:
        """Return the workers that do not come back from a task."""
        return self._scheduler.stuck_workers()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Have `callback` run soon, when no lock is held."""
        self._callbacks.append(callback)

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
        self._settler.failed = failed

    def abandon(self, error: MpiTasksError) -> None:
        """The run cannot go on: fail all that is outstanding, and what comes, so."""
        with self._lock:
            self._break(error)
        self._transport.wake()
        if self._callbacks:
            self._run_callbacks()

    def close(self, seconds: float) -> list[Rank]:
        """Stop the workers; return those that did not say goodbye in time.

        A broken engine has no say over them any more: then it is all of them.
        """
        if self._error is not None:
            self.background.stop()
            return self._ranks.copy()
        self._handle_now(StopRequested())

        def all_left() -> bool:
            return not self._scheduler.running_workers()

        self.drive(all_left, time.sleep, seconds)
        self.on_close()
        self._transport.wake()  # the background thread may doze
        self.background.stop()
        with self._lock:
            self._transport.close()
        return self._scheduler.running_workers()

    # Under the lock.

    def _handle_now(self, event: Event) -> None:
        with self._lock:
            self._take_events(event)
        if self.driven:
            self._transport.wake()  # the driver may have what it waits for
        if self._callbacks:
            self._run_callbacks()

    def _take_quietly(self, event: Event) -> None:
        """Handle an event that settles nothing; run no user code."""
        with self._lock:
            self._take_events(event)

    def _take_events(self, event: Event) -> None:
        """Handle what was submitted before, then the event."""
        try:
            if self._inbox:
                self._take_inbox()
            self._handle(event)
        except BaseException as error:
            self._break(error)

    def _turn(self) -> bool:
        """Take in what was submitted, and one message; return whether there was any.

        One, because the driver looks after each whether it has what it waits for.
        """
        self.turns += 1
        self._since_turn = 0
        moved = False
        try:
            if self._inbox:
                self._take_inbox()
                moved = True
            if self._lost:
                self._take_loss(self._lost.popleft())
                moved = True
            arrived = self._transport.poll()
            if arrived is not None:
                rank, message = arrived
                self.heard.add(rank)
                if type(message) is Outcomes or type(message) is Returned:
                    self._handle(message)
                elif type(message) is Goodbye:
                    self._handle(WorkerLeft(rank))
                elif type(message) is Lost:
                    self._take_loss(rank)
                elif type(message) is Sign:
                    pass  # it was heard of
                elif type(message) is Obituary:
                    self.on_obituary(message.rank, message.how)
                else:
                    raise InternalError(f"rank {rank} sent {message!r} to the master")
                moved = True
            elif self._scheduler.deadline < _NEVER:
                # Only when nothing more is there: after a long silence of this rank,
                # what seems overdue may wait to be taken in.
                moved = self._look_at_clock() or moved
        except BaseException as error:
            self._break(error)
            moved = True
        return moved

    def _look_at_clock(self) -> bool:
        """Tell the scheduler if its deadline has come; return whether it has."""
        if time.monotonic() < self._scheduler.deadline:
            return False
        self._handle(TimePassed())
        return True

    def _take_inbox(self) -> None:
        inbox = self._inbox
        if inbox:  # others may append meanwhile, so it is emptied one by one
            calls = [inbox.popleft() for _ in range(len(inbox))]
            self._handle(TasksSubmitted(calls))

    def _take_loss(self, rank: Rank) -> None:
        if rank in self._scheduler.running_workers():  # it is known only once
            self.losses.setdefault(rank, f"rank {rank} died")
            self._transport.abandon(rank)
            self._handle(RankLost(rank))

    def _handle(self, event: Event) -> None:
        """Let the scheduler decide, and do it."""
        for action in self._scheduler.handle(event, time.monotonic()):
            if type(action) is Assign:
                batch = self._batches.make(action.rank, action.tasks)
                self._transport.send(action.rank, batch)
            elif type(action) is Complete:
                # Only reports complete tasks, and they come as messages.
                if self._record is not None:
                    self._record(action.tasks, event)  # type: ignore[arg-type]
                self._settler.complete(action.tasks, event)  # type: ignore[arg-type]
            else:
                self._perform(action)
        if self._settler.again:
            self._try_again()

    def _perform(self, action: Action) -> None:
        """Do what is seldom to be done."""
        settler = self._settler
        if type(action) is Cancelled:
            for task in action.tasks:
                if type(task) is Call:
                    task.future._settle_cancelled()
                elif type(task) is Chunk:
                    task.job.drop(task)
        elif type(action) is Fail:
            rank = action.rank
            gone = rank is not None and self._error is None
            settler.fail(
                action.tasks,
                lambda task: self._error or faults.lost(task, rank, self.losses),
                crashed=gone,
                final=not gone,
            )
        elif type(action) is Revoke:
            self._transport.send(action.rank, messages.Revocation(action.ids))
        elif type(action) is Report:
            print(faults.overdue(action.task, action.rank), file=sys.stderr, flush=True)
        elif type(action) is GiveUp:
            self._give_up(action.task, action.rank)
        elif type(action) is Stop:
            goodbye = messages.Dismissal(maimed=bool(self.losses))
            self._transport.send(action.rank, goodbye)

    def _give_up(self, task: Task, rank: Rank) -> None:
        if faults.limited(task):
            self._settler.fail([task], lambda t: faults.overdue_error(t, rank))
        else:
            self._settler.fail([task], faults.abandoned)
        self.on_overdue(rank)

    def _try_again(self) -> None:
        """Hand the next attempts at failed tasks to the scheduler."""
        again, self._settler.again = self._settler.again, []
        now = time.monotonic()
        for delay, task in again:
            self._handle(TasksPostponed([task], now + delay))

    def _break(self, error: BaseException) -> None:
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
        if self._error is None:
            self._error = error
        known = self._error
        now = time.monotonic()
        for rank in self._scheduler.running_workers():
            for action in self._scheduler.handle(RankLost(rank), now):
                if type(action) is Fail:
                    self._settler.fail(action.tasks, lambda _: known)
        if interrupt is not None:
            raise interrupt

    # After the lock.

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread took it
                return
            callback()
