"""The pump: decides whose turn it is.

What a turn does, is in the engine (`mpitasks.master.engine`). There is no thread that
owns the pump: **whoever waits, drives**. All turns happen under one lock; a second one,
the driver's, marks the thread that turns it while waiting, and lets other waiting
threads sleep. A background thread turns it now and then while work is outstanding
and nobody else does, so that done-callbacks, the stdlib's `wait` and a busy script
make progress; it sleeps when nothing is outstanding.

User code never runs under the lock: done-callbacks run after it is released.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from mpitasks.core.events import (
    Bulk,
    BulkCancelled,
    BulkExtended,
    CancelRequested,
    DrainRequested,
    EndSet,
    Event,
    QueueCancelled,
    Rank,
    RunningAbandoned,
    StopRequested,
    Task,
    WorkersLimited,
)
from mpitasks.master.background import ASLEEP, DEEP, NAPPING, Background
from mpitasks.master.engine import Engine
from mpitasks.master.keeping import Keeper
from mpitasks.records import replace
from mpitasks.terms import Origin
from mpitasks.wire import messages

if TYPE_CHECKING:
    from mpitasks.core.statistics import Statistics
    from mpitasks.errors import MpiTasksError
    from mpitasks.master.calls import Call
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import LogSetup
    from mpitasks.wire.transport import Transport

__all__ = ["Pump"]

TURNS_PER_NUDGE = 64
SUBMITS_PER_LOOK = 32
SUBMITTING_SECONDS = 0.5e-3
"""While no worker wants more, whoever submits takes a turn all the same, so often: the
clock is looked at for every so many calls. A turn for few calls makes each of them cost
more; the workers have some milliseconds of work ahead of them."""
MOST_SECONDS = 0.05
"""Nobody waits for longer without a look around."""


class _Shut:
    """A lock that is held for ever, by nobody: whoever waits for it is refused."""

    def __init__(self, refuse: Callable[[], NoReturn]) -> None:
        self._refuse = refuse

    def locked(self) -> bool:
        return True

    def __enter__(self) -> None:
        self._refuse()

    def __exit__(self, *error: object) -> None:
        pass


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
        engine: What it turns.
        ids: Where calls and maps get their ids from; see `mpitasks.terms.Origin`.
        functions: Those that were submitted.
        keeper: Keeps large arguments as they are.
        driven: Whether a thread waits and takes turns meanwhile.
        drives: How often a thread began to.
        is_shut: Whether nobody may take turns any more.
        on_close: Called when the workers have left.
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
        self.engine = Engine(transport, ranks, max_failures=max_failures)
        self.ids = self.engine.ids
        self.functions = self.engine.functions
        self.keeper = Keeper(self)
        self._transport = transport
        self._scheduler = self.engine.scheduler
        self._inbox = self.engine.inbox
        self._lock = threading.Lock()
        self._driver = threading.RLock()
        self.drives = 0
        self.driven = False
        self.is_shut = False
        self._submitted = 0.0  # when a submit took a turn for itself last
        self._callbacks: deque[Callable[[], None]] = deque()
        self._refusal: Callable[[], NoReturn] | None = None
        self.on_close: Callable[[], None] = lambda: None
        self.background = Background(self, enabled=threads)

    # For the executor, from any thread.

    @property
    def turns(self) -> int:
        """How many turns were taken."""
        return self.engine.turns

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._scheduler.num_workers

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        if self.engine.error is not None:
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
        failed, retries = self.engine.settler.failures, self.engine.settler.retries
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

    def open(self, entropy: int, executor: int, logs: LogSetup | None = None) -> Origin:
        """Begin an Executor; return from where on its calls are numbered.

        Args:
            entropy: Its seed.
            executor: Its number.
            logs: As in `mpitasks.wire.messages.Opening`.
        """
        with self._lock:
            origin = Origin(next(self.ids) + 2, executor, entropy)
            self.engine.open(origin, logs, alone=not self.outstanding)
        return origin

    def shut(self, refuse: Callable[[], NoReturn]) -> None:
        """Let nobody take turns any more: `refuse` raises in whoever wants to."""
        self.is_shut = True
        self._refusal = refuse
        self._lock = _Shut(refuse)  # type: ignore[assignment]

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
                self.engine.submit(call)
            if self._callbacks:
                self._run_callbacks()
            return
        self._inbox.append(call)
        if self.driven and len(self._inbox) == 1:
            self._transport.wake()  # the driver may sleep, and would not look here
        if not len(self._inbox) % SUBMITS_PER_LOOK:
            now = time.monotonic()
            if now - self._submitted > SUBMITTING_SECONDS:
                self._submitted = now
                self.nudge()

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do, and nothing waits for one."""
        return self._scheduler.idle and not self._inbox

    @property
    def survives(self) -> bool:
        """Whether the run goes on when a rank dies."""
        return self._transport.survives

    def send_at_once(self, call: Call) -> bool:
        """Send a call to a worker that has nothing to do; return whether that is so.

        Its buffers are in use until they are `sent`.
        """
        if self.background.rest == ASLEEP:
            self.background.wake()
        with self._lock:
            begun = self.engine.send_at_once(call)
        if self._callbacks:
            self._run_callbacks()
        return begun

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        """Whether none of these buffers is on its way any more, as of the last turn."""
        return self._transport.sent(buffers)

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
        self.engine.lose(rank, how)
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
            moved = turning = self.engine.turn()
            for _ in range(TURNS_PER_NUDGE):
                if not turning:
                    break
                turning = self.engine.turn()
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
            if self.engine.settler.halt is not None:
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
                moved = self.engine.turn()
            if self._callbacks:
                self._run_callbacks()
            if done():
                return True
            if self.engine.error is not None:
                raise self.engine.error
            if self.engine.settler.halt is not None:
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
        self.engine.settler.take_halt()

    def _halt(self) -> None:
        """Start nothing more, and tell the caller why."""
        error = self.engine.settler.take_halt()
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

    def abandon(self, error: MpiTasksError) -> None:
        """The run cannot go on: fail all that is outstanding, and what comes, so."""
        with self._lock:
            self.engine.fail(error)
        self._transport.wake()
        if self._callbacks:
            self._run_callbacks()

    def close(self, seconds: float) -> list[Rank]:
        """Stop the workers; return those that did not say goodbye in time.

        A broken engine has no say over them any more: then it is all of them.
        """
        if self.engine.error is not None:
            self.background.stop()
            return self.engine.ranks.copy()
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
            self.engine.take(event)
        if self.driven:
            self._transport.wake()  # the driver may have what it waits for
        if self._callbacks:
            self._run_callbacks()

    def _take_quietly(self, event: Event) -> None:
        """Handle an event that settles nothing; run no user code."""
        with self._lock:
            self.engine.take(event)

    # After the lock.

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread took it
                return
            callback()
