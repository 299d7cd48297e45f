"""The event loop: chooses the thread that polls the engine, and guards it.

No thread owns the event loop: the thread that waits for a task drives it. The engine
(`mpitasks.master.engine`) is polled under one lock. A second lock, the driver's, marks
the thread that polls while it waits, and lets other waiting threads sleep. A background
thread (`mpitasks.master.background`) polls while work is outstanding and no thread
drives, so that done-callbacks and a busy script make progress.

User code runs under neither lock: done-callbacks run after both are released. There is
one exception, which we cannot prevent: the garbage collector may run a finalizer
(`__del__`) in the middle of a poll. What such a finalizer submits or cancels is handled
after the poll. It may not wait for a task.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from mpitasks.errors import ConfigurationError
from mpitasks.master.argument_memory import ArgumentMemory
from mpitasks.master.background import DEEP, IDLE, NAPPING, Background
from mpitasks.master.engine import Engine
from mpitasks.records import replace
from mpitasks.scheduler.events import (
    ActorOpened,
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
    TaskState,
    WorkersLimited,
)
from mpitasks.task_spec import Origin
from mpitasks.values import wait_seconds
from mpitasks.wire import messages

if TYPE_CHECKING:
    from mpitasks.errors import MpiTasksError
    from mpitasks.master.actors import Actor
    from mpitasks.master.bulk_job import BulkJob
    from mpitasks.master.future import Future
    from mpitasks.master.inputs import Arrived
    from mpitasks.master.kept_results import KeptResult
    from mpitasks.scheduler.events import TaskId
    from mpitasks.scheduler.statistics import Statistics
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import LogSetup
    from mpitasks.wire.transport import Transport

__all__ = ["EventLoop"]

POLLS_PER_NUDGE = 64
SUBMITS_PER_LOOK = 32
SUBMITTING_SECONDS = 0.5e-3
"""While no worker wants more, a thread that submits polls once in the seconds of the
second. It looks at the clock once in as many calls as the first says. To poll for a few
calls makes each of them cost more, and the workers have some milliseconds of work."""
MOST_SECONDS = 0.05
"""No thread sleeps for longer without a look around."""


def _is_outstanding(entry: Task | Bulk) -> bool:
    """Whether a task is not done, or a bulk job has items that were not sent."""
    if isinstance(entry, Bulk):
        return entry.ready > 0
    return entry.state in (
        TaskState.QUEUED,
        TaskState.ASSIGNED,
        TaskState.POSTPONED,
        TaskState.WAITING,
    )


_IN_FINALIZER = (
    "a finalizer (`__del__`) waits for a task or opens an Executor: the garbage "
    "collector runs it while mpitasks handles messages, which cannot go on meanwhile; "
    "in finalizers only submit and cancel"
)


class _Shut:
    """A lock that is held for ever: it refuses every thread that wants it."""

    def __init__(self, refuse: Callable[[], NoReturn]) -> None:
        self._refuse = refuse

    def locked(self) -> bool:
        return True

    def __enter__(self) -> None:
        self._refuse()

    def __exit__(self, *error: object) -> None:
        pass


class EventLoop:
    """Makes messages of submitted calls, and results of outcomes.

    Args:
        transport: How to reach the workers; the event loop's own from now on.
        ranks: The workers.
        near: Those that can attach this process's memory.
        threads: Whether any thread may use the transport, one at a time. If not, there
            is no background thread.
        max_failures: How many calls and items may fail. With one more, nothing else is
            started, and the waiting thread gets `TooManyFailures`. None for any number.

    Attributes:
        engine: What it polls.
        functions: Those that were submitted.
        argument_memory: Keeps large arguments as they are.
        driven: Whether a thread polls while it waits.
        drives: How often a thread began to.
        is_shut: Whether no thread may poll any more.
        refuse: Says why, then.
        on_close: Called when the workers have left.
        loses_rank: Whether a rank is dead, which is about to be said.
        settle_logs: Waits until the log records that have come were handled: they come
            before the result of the task that made them. None if none can come.
        background: Polls while no thread drives.
    """

    def __init__(
        self,
        transport: Transport,
        ranks: Iterable[Rank],
        *,
        near: Container[Rank] = (),
        threads: bool = True,
        max_failures: int | None = None,
    ) -> None:
        self.engine = Engine(transport, ranks, near=near, max_failures=max_failures)
        self.functions = self.engine.functions
        self.argument_memory = ArgumentMemory(self)
        self._transport = transport
        self._scheduler = self.engine.scheduler
        self._inbox = self.engine.inbox
        self._lock = threading.Lock()
        self._holder = 0  # the thread that holds the lock
        self._driver = threading.Lock()
        self._driving = 0  # the thread that holds that one
        self.drives = 0
        self.driven = False
        self.is_shut = False
        self._submitted = 0.0  # when a submit polled last
        self._callbacks: deque[Callable[[], None]] = deque()
        self._refusal: Callable[[], NoReturn] | None = None
        self.engine.completion.defer = self.call_back
        self.engine.completion.enter = self._take_step
        self.engine.kept.ask = self._ask
        self.refuse: Callable[[], object] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.loses_rank: Callable[[], bool] = lambda: False
        self.settle_logs: Callable[[], None] | None = None
        self.background = Background(self, enabled=threads)

    # For the executor, from any thread.

    @property
    def polls(self) -> int:
        """How often the engine was polled."""
        return self.engine.polls

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._scheduler.num_workers

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        if self.engine.error is not None:
            return 0  # what was failed; the counts of a broken engine are not trusted
        undecided = self.engine.completion.undecided
        return self._scheduler.outstanding + len(self._inbox) + len(undecided)

    @property
    def stranded(self) -> bool:
        """Whether tasks wait, none runs, and none of them will be started any more."""
        undecided = self._inbox or self.engine.completion.undecided
        return self._scheduler.stranded and not undecided

    @property
    def refuses_waits(self) -> bool:
        """Whether no thread is to wait any longer."""
        return self._refusal is not None

    def statistics(self) -> Statistics:
        """Return the counts of about this moment, without taking the lock.

        Unlike the scheduler's counts, they tell which items of a chunk failed, and a
        task with several attempts counts once.
        """
        counts = self._scheduler.statistics()
        failed, retries = (
            self.engine.completion.failures,
            self.engine.completion.retries,
        )
        ended = counts.succeeded + counts.failed
        return replace(
            counts,
            queued=counts.queued + len(self._inbox),
            succeeded=max(ended - failed - retries, 0),
            failed=failed,
        )

    def set_end(self, at: float) -> None:
        """Start no task that would not be finished by then, on the monotonic clock."""
        self._take_quietly(EndSet(at))

    def tell_end(self, seconds: float, margin: float) -> None:
        """Let the workers know that the job ends at another time."""
        with self._lock:
            for rank in self._scheduler.running_workers():
                self._transport.send(rank, messages.EndMoved(seconds, margin))

    def drain(self) -> None:
        """Start no more tasks."""
        self._take_quietly(DrainRequested())

    def refuse_waits(self, stop: Callable[[], NoReturn]) -> None:
        """No more results will come: have `stop` raise that in waiting threads."""
        self._refusal = stop
        self._transport.wake()

    def allow_waits(self) -> None:
        """Let threads wait again."""
        self._refusal = None

    def open(
        self,
        entropy: int,
        path: tuple[int, ...],
        logs: LogSetup | None = None,
        *,
        others: Sequence[Origin | None] = (),
    ) -> tuple[Origin, Iterator[int]]:
        """Begin an Executor; return its origin, and where its calls get ids from.

        Args:
            entropy: Its seed.
            path: Its number, behind the place of the task that opens it, if one does.
            logs: As in `mpitasks.wire.messages.Opening`.
            others: The origins of the other Executors that are open; None for one that
                is about to get its own.
        """
        with self._locked():
            ids = self.engine.number(alone=not others)
            origin = Origin(next(ids) + 2, path, entropy)
            known = [each for each in others if each is not None]
            if len(known) == len(others) and not self.outstanding:
                self.engine.forget_all_but(known)
            self.engine.open(origin, logs)
        return origin, ids

    def shut(self, refuse: Callable[[], NoReturn]) -> None:
        """Let no thread poll any more: `refuse` raises in those that want to."""
        self.is_shut = True
        self.refuse = self._refusal = refuse
        self._lock = _Shut(refuse)  # type: ignore[assignment]

    def limit_workers(self, count: int | None) -> None:
        """Use this many workers from now on; None for all."""
        self._handle_now(WorkersLimited(count))

    def submit(self, task: Task) -> None:
        """Take a call in. Polls when a worker wants work, and now and then."""
        if self.background.rest >= IDLE:
            self.background.wake()
        wanted = not self._inbox and self._scheduler.wants(task)
        if wanted and not self._lock.locked():
            with self._lock:
                self._holder = get_ident()
                try:
                    self.engine.submit(task)
                finally:
                    self._holder = 0
            if self._callbacks:
                self._run_callbacks()
            return
        self._inbox.append(task)
        if len(self._inbox) == 1 and (self.driven or self.background.dozing):
            self._transport.wake()  # whoever sleeps would not look here
        if not len(self._inbox) % SUBMITS_PER_LOOK:
            now = time.monotonic()
            if now - self._submitted > SUBMITTING_SECONDS:
                self._submitted = now
                self.nudge()

    def open_actor(
        self, actor: Actor, ranks: Sequence[Rank] | None, *, exclusive: bool
    ) -> bool:
        """Take in an actor; return whether there is a worker for it.

        Args:
            actor: The actor.
            ranks: Where it may live; None for anywhere.
            exclusive: Whether its rank is to run nothing else.
        """
        event = ActorOpened(actor.id, ranks, actor.restarts, exclusive)
        with self._locked():
            return self.engine.open_actor(actor, event)

    def leave(self, task: Task) -> None:
        """Leave a call for the next poll. A finalizer may do so, at any moment."""
        self._inbox.append(task)

    def ready_workers(self) -> list[Rank]:
        """Return the workers that take tasks."""
        return self._scheduler.ready_workers()

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do, and no task waits for one."""
        return self._scheduler.idle and not self._inbox

    @property
    def survives(self) -> bool:
        """Whether the run goes on when a rank dies."""
        return self._transport.survives

    def send_at_once(self, task: Task) -> bool:
        """Send a call to a worker that has nothing to do; return whether that is so.

        Its buffers are in use until they are `sent`.
        """
        if self.background.rest >= IDLE:
            self.background.wake()
        if self._is_mine():
            return False
        with self._locked():
            begun = self.engine.send_at_once(task)
        if self._callbacks:
            self._run_callbacks()
        return begun

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        """Whether none of these buffers is on its way any more, as of the last poll."""
        return self._transport.sent(buffers)

    def extend(self, job: BulkJob, count: int) -> None:
        """Let workers have the last `count` items that a bulk job has pulled.

        And those that it has set aside.
        """
        for task in job.set_aside(self.engine.own_ids):
            self.submit(task)
        event = BulkExtended(job.bulk, count, job.target.id, job.sizes(count))
        self._handle_now(event)
        if self.background.rest >= IDLE:
            self.background.wake()

    def cancel_bulk(self, job: BulkJob) -> None:
        """Send no more of a bulk job, and let go of its items."""
        if self._is_mine():
            self.call_back(functools.partial(self.cancel_bulk, job))
            return
        self._handle_now(BulkCancelled(job.bulk))
        if job.waiting:
            self._handle_now(CancelRequested([*job.waiting.values()]))
        job.let_go()

    def cancel(self, tasks: list[Task]) -> None:
        """Take back those of the calls that were not sent yet."""
        self._handle_now(CancelRequested(tasks))

    def cancel_queue(self, owner: object = None, *, isolated: bool = False) -> None:
        """Take back everything that was not sent yet.

        Args:
            owner: Only what is this one's; None for all.
            isolated: End isolated tasks that are running, too.
        """
        if owner is None:
            self._handle_now(QueueCancelled(isolated))
            return
        if self._is_mine():
            cancel = functools.partial(self.cancel_queue, owner, isolated=isolated)
            self.call_back(cancel)
            return
        tasks: list[Task] = []
        for entry in self._entries_of(owner, undecided=False):
            if isinstance(entry, Bulk):
                self._handle_now(BulkCancelled(entry))
                entry.payload.results.wake()
            elif isolated or entry.state is not TaskState.ASSIGNED:
                tasks.append(entry)
        self._handle_now(CancelRequested(tasks))

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
        with self._locked():
            for rank in ranks:
                self._transport.send(rank, messages.Ping())

    def at_work(self) -> list[tuple[Rank, Any, int, TaskId]]:
        """Return which workers hold tasks.

        Returns:
            For each its rank, the payload of the task that it got first, how many tasks
            it holds, and the id of that one.
        """
        found = []
        with self._locked():
            for rank in self._scheduler.running_workers():
                held = self._scheduler.held(rank)
                if held:
                    found.append((rank, held[0].payload, len(held), held[0].id))
        return found

    def kept_bytes(self) -> dict[str, int]:
        """Return the bytes of results that workers keep, by host."""
        return self.engine.kept.bytes_by_host()

    def held(self, rank: Rank) -> list[Task]:
        """Return the tasks that a worker holds, oldest first."""
        return self._scheduler.held(rank)

    def running_workers(self) -> list[Rank]:
        """Return the workers that have neither left nor are gone."""
        return self._scheduler.running_workers()

    def wake_driver(self) -> None:
        """The thread that drives may have what it waits for."""
        if self.driven:
            self._transport.wake()

    def watch(self) -> None:
        """A thread waits for a future, and perhaps not by driving: poll soon."""
        if self.background.rest == NAPPING:
            self.background.wake()

    def help(self, future: Future) -> bool:
        """Whether a future is done that was not a moment ago, as its thread asks.

        Nothing is done about it here: the background thread polls.
        """
        return False

    def before_callback(self, future: Future) -> None:
        """A callback is about to be added to a future."""

    def nudge(self) -> bool:
        """Poll while messages come; return whether any came.

        Does nothing while another thread polls. Returns after some polls.
        """
        if self._lock.locked():
            return False
        # A `with` of its own: Ctrl-C between acquiring and a `try` would keep the lock.
        with self._lock:
            self._holder = get_ident()
            try:
                moved = moves = self.engine.poll_once()
                for _ in range(POLLS_PER_NUDGE):
                    if not moves:
                        break
                    moves = self.engine.poll_once()
                if not moved:
                    self._transport.sending()  # forgets what has left: see `doze`
            finally:
                self._holder = 0
        if self._callbacks:
            self._run_callbacks()
        return moved

    def drive(
        self,
        done: Callable[[], bool],
        block: Callable[[float], object],
        timeout: float | None = None,
    ) -> bool:
        """Poll until `done`; return whether it is.

        Args:
            done: Tells whether what the caller waits for is there.
            block: Sleeps until it may be there, at most for the seconds that it is
                given. Called while another thread drives.
            timeout: How long to wait, in seconds; None for ever.

        Raises:
            MpiTasksError: The engine is broken, and what the caller waits for was
                lost with it.
            TooManyFailures: More tasks failed than may. Raised once.
            ConfigurationError: The caller is a finalizer, in the middle of a poll.
            BaseException: The run was halted.
        """
        end = None if timeout is None else time.monotonic() + wait_seconds(timeout)
        limit = MOST_SECONDS
        while not done():
            if self._refusal is not None:
                self._refusal()
            if self._is_mine() or self._driving == get_ident():
                raise ConfigurationError(_IN_FINALIZER)
            if end is not None:
                limit = min(end - time.monotonic(), MOST_SECONDS)
                if limit <= 0:
                    self.nudge()  # one look at least: the timeout may be 0
                    return done()
            if self.engine.completion.excess is not None:
                self._halt()
            if self._driver.acquire(blocking=False):
                try:
                    self.driven = True
                    self._driving = get_ident()
                    self.drives += 1
                    if self.background.dozing:
                        self._transport.wake()  # its place is this thread's now
                    self._drive(done, end)
                finally:
                    self.driven = False
                    self._driving = 0
                    self._driver.release()
                    if self.background.rest == DEEP:
                        self.background.wake()
                if self._callbacks:
                    self._run_callbacks()
                if self.engine.error is not None and not done():
                    raise self.engine.error
            else:
                block(limit)
        if self.settle_logs is not None:
            self.settle_logs()
        return True

    def _drive(self, done: Callable[[], bool], end: float | None) -> None:
        """As the driver, poll until `done`, the end, or there is other work to do."""
        wait = self._transport.wait
        limit = MOST_SECONDS
        own = get_ident()
        while True:
            with self._lock:
                self._holder = own
                try:
                    moved = self.engine.poll_once()
                finally:
                    self._holder = 0
            if self._callbacks or done() or self.engine.error is not None:
                return
            if self.engine.completion.excess is not None or self._refusal is not None:
                return
            if moved:
                continue
            if end is not None:
                limit = min(end - time.monotonic(), MOST_SECONDS)
                if limit <= 0:
                    return
            deadline = self._scheduler.deadline
            if deadline < math.inf:
                wait(max(min(limit, deadline - time.monotonic()), 0.0))
            else:
                wait(limit)

    def _ask(self, kept: KeptResult) -> None:
        """Ask a worker for a result that it keeps; wait until it answers, or is gone.

        Raises:
            DataLost: The run is over.
            BaseException: As `drive` does.
        """
        if self.is_shut or self._scheduler.num_workers == 0:
            kept.lost = kept.lost or "the run is over"
            return
        with self._locked():
            self._transport.send(kept.at.rank, messages.Fetch(0, kept.at.id))
        self.drive(
            lambda: kept.fetched is not None or kept.lost is not None, time.sleep
        )

    @property
    def keeps_results(self) -> bool:
        """Whether workers keep results, which they must be told to let go of."""
        return not self.engine.kept.is_empty

    def pass_on(self, arrived: Arrived) -> None:
        """A call is done for whose result tasks wait. Under the lock."""
        self.engine.passing.arrived.append(arrived)

    def ignore_failures(self) -> None:
        """Raise `TooManyFailures` in no thread from now on."""
        self.engine.completion.take_excess()

    def _halt(self) -> None:
        """Start no more tasks, and tell the caller why."""
        excess = self.engine.completion.take_excess()
        if excess is not None:  # no other thread was told meanwhile
            self.cancel_queue()
            raise excess.error()

    @property
    def error(self) -> MpiTasksError | None:
        """Why the engine is broken, if it is."""
        return self.engine.error

    @property
    def has_inbox(self) -> bool:
        """Whether calls were submitted that no poll has taken in."""
        return bool(self._inbox)

    @property
    def doze_after(self) -> float:
        """Seconds of silence after which `doze` misses no wake-up."""
        return self._transport.doze_after

    def doze(self) -> bool:
        """Sleep until a message may have come, for a short time at most.

        Returns:
            Whether a wake-up rang.
        """
        return self._transport.doze(MOST_SECONDS)

    def finish(self, timeout: float | None = None, owner: object = None) -> bool:
        """Poll until nothing is outstanding; return whether that is so.

        Args:
            timeout: How long to wait, in seconds; None for ever.
            owner: Whose calls and maps are meant; None for all.
        """
        last: Task | Bulk | None = None  # of the owner's, as far as is known

        def done() -> bool:
            nonlocal last
            if not self.outstanding:
                return True
            if owner is None or (last is not None and _is_outstanding(last)):
                return False
            entries = self._entries_of(owner)
            last = entries[-1] if entries else None
            return last is None

        return self.drive(done, time.sleep, timeout)

    def abandon_running(self, owner: object) -> None:
        """Wait no longer for what workers are running for an owner: it failed."""
        entries = self._entries_of(owner, undecided=False)
        running = [entry for entry in entries if isinstance(entry, Task)]
        self._handle_now(RunningAbandoned(running))

    def _entries_of(
        self, owner: object, *, undecided: bool = True
    ) -> list[Task | Bulk]:
        """Return what is outstanding of an owner's; as `Engine.entries`."""
        with self._locked():
            entries = self.engine.entries(undecided=undecided)
        return [entry for entry in entries if entry.payload.owner is owner]

    def unresponsive_workers(self) -> list[Rank]:
        """Return the workers that do not come back from a task."""
        return self._scheduler.unresponsive_workers()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Have `callback` run soon, under no lock."""
        self._callbacks.append(callback)

    def abandon(self, error: MpiTasksError) -> None:
        """The run cannot go on: fail what is outstanding and what comes, like this."""
        with self._locked():
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
        with self._locked():
            self._transport.close()
        return self._scheduler.running_workers()

    # Under the lock.

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock. The hot path does the same without a generator.

        Raises:
            ConfigurationError: The caller is a finalizer, in the middle of a poll.
        """
        if self._is_mine():
            raise ConfigurationError(_IN_FINALIZER)
        with self._lock:
            self._holder = get_ident()
            try:
                yield
            finally:
                self._holder = 0

    def _is_mine(self) -> bool:
        """Whether this thread holds the lock: it runs a finalizer in a poll."""
        return self._holder == get_ident()

    def _handle_now(self, event: Event) -> None:
        if self._is_mine():
            self.call_back(functools.partial(self._handle_now, event))
            return
        with self._locked():
            self.engine.take(event)
        self.wake_driver()
        if self._callbacks:
            self._run_callbacks()

    def _take_step(self, step: Callable[[], None]) -> None:
        with self._locked():
            self.engine.run(step)
        self.wake_driver()

    def _take_quietly(self, event: Event) -> None:
        """Handle an event that settles no future."""
        with self._locked():
            self.engine.take(event)

    # After the lock.

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread took it
                return
            callback()
