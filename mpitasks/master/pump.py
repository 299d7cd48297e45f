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

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from mpitasks.core.events import (
    Assign,
    Bulk,
    BulkCancelled,
    BulkExtended,
    Cancelled,
    CancelRequested,
    Complete,
    Cost,
    Event,
    Fail,
    OutcomesArrived,
    QueueCancelled,
    Rank,
    Stop,
    StopRequested,
    Task,
    TasksSubmitted,
    WorkerJoined,
    WorkerLeft,
    WorkerLost as RankLost,
)
from mpitasks.core.scheduler import Scheduler
from mpitasks.errors import InternalError, MpiTasksError, WorkerLost
from mpitasks.master import future
from mpitasks.master.calls import Call, Chunk
from mpitasks.master.functions import Functions
from mpitasks.wire import messages
from mpitasks.wire.messages import ERROR, LIST, Batch, Goodbye, Outcomes
from mpitasks.wire.outcomes import Failure, decode_outcome
from mpitasks.wire.patience import sharpen_timers
from mpitasks.wire.transport import Transport

__all__ = ["Pump"]

MESSAGES_PER_TURN = 64
SUBMITS_PER_TURN = 32
"""While no worker wants more, every so many submits take a turn all the same."""
FUNCTIONS_PER_WORKER = 256
"""A worker keeps so many functions; older ones are sent again when they come back."""

NAP_SHORT, NAP_LONG = 250e-6, 800e-6
"""Pauses of the background thread while it drives, and while it need not."""
DOZE_SECONDS = 0.1
"""With nothing outstanding for so long, the background thread goes to sleep."""


class Pump:
    """Turns submitted calls into messages and outcomes into results.

    Args:
        transport: How to reach the workers; the pump's own from now on.
        ranks: The workers.
    """

    def __init__(self, transport: Transport, ranks: Iterable[Rank]) -> None:
        self.ids = itertools.count()
        self.functions = Functions()
        self._transport = transport
        self._scheduler = Scheduler(self.ids)
        self._lock = threading.Lock()
        self._driver = threading.RLock()
        self._inbox: deque[Call] = deque()
        self._since_turn = 0
        self.turns = 0
        self._known: dict[Rank, dict[int, None]] = {}
        self._callbacks: deque[Callable[[], None]] = deque()
        self._error: MpiTasksError | None = None
        for rank in ranks:
            self._known[rank] = {}
            self._scheduler.handle(WorkerJoined(rank), time.monotonic())
        self._background = _Background(self)

    # For the executor, from any thread.

    @property
    def num_workers(self) -> int:
        """Workers that take tasks."""
        return self._scheduler.num_workers

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""
        return self._scheduler.outstanding + len(self._inbox)

    def submit(self, call: Call) -> None:
        """Take a call in. Takes a turn when a worker wants work, or now and then."""
        self._inbox.append(call)
        if self._background.asleep:
            self._background.wake()
        self._since_turn += 1
        if self._scheduler.hungry or self._since_turn >= SUBMITS_PER_TURN:
            self.nudge()

    def extend(self, bulk: Bulk, count: int) -> None:
        """Let workers have `count` more items of a bulk job."""
        self._handle_now(BulkExtended(bulk, count))
        if self._background.asleep:
            self._background.wake()

    def cancel_bulk(self, bulk: Bulk) -> None:
        """Send no more of a bulk job."""
        self._handle_now(BulkCancelled(bulk))

    def cancel(self, calls: list[Call]) -> None:
        """Take back those of the calls that were not sent yet."""
        self._handle_now(CancelRequested(calls))

    def cancel_queue(self) -> None:
        """Take back everything that was not sent yet."""
        self._handle_now(QueueCancelled())

    def nudge(self) -> bool:
        """Take a turn if no other thread is at it; return whether anything happened."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            moved = self._turn()
        finally:
            self._lock.release()
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
        """
        end = None if timeout is None else time.monotonic() + timeout
        limit = 0.05
        while not done():
            if end is not None:
                limit = min(end - time.monotonic(), 0.05)
                if limit <= 0:
                    # One last look: the timeout may be 0.
                    self.nudge()
                    return done()
            if self._driver.acquire(blocking=False):
                try:
                    with self._lock:
                        moved = self._turn()
                    if self._callbacks:
                        self._run_callbacks()
                    if not moved:
                        self._transport.wait(limit)
                finally:
                    self._driver.release()
            else:
                block(limit)
        return True

    def finish(self) -> None:
        """Take turns until nothing is outstanding."""
        self.drive(lambda: not self.outstanding, time.sleep)

    def call_back(self, callback: Callable[[], None]) -> None:
        """Have `callback` run soon, when no lock is held."""
        self._callbacks.append(callback)

    def close(self, seconds: float) -> list[Rank]:
        """Stop the workers; return those that did not say goodbye in time."""
        self._handle_now(StopRequested())

        def all_left() -> bool:
            return not self._scheduler.running_workers()

        self.drive(all_left, time.sleep, seconds)
        self._background.stop()
        with self._lock:
            self._transport.close()
        return self._scheduler.running_workers()

    # Under the lock.

    def _handle_now(self, event: Event) -> None:
        with self._lock:
            try:
                self._take_inbox()
                self._handle(event)
            except Exception as error:
                self._break(error)
        if self._callbacks:
            self._run_callbacks()

    def _turn(self) -> bool:
        """Take what came in and act on it; return whether there was anything."""
        self.turns += 1
        self._since_turn = 0
        moved = False
        try:
            if self._inbox:
                self._take_inbox()
                moved = True
            for _ in range(MESSAGES_PER_TURN):
                arrived = self._transport.poll()
                if arrived is None:
                    break
                self._receive(*arrived)
                moved = True
        except Exception as error:
            self._break(error)
            moved = True
        return moved

    def _take_inbox(self) -> None:
        inbox = self._inbox
        if inbox:
            calls = [inbox.popleft() for _ in range(len(inbox))]
            self._handle(TasksSubmitted(calls))

    def _receive(self, rank: Rank, message: Any) -> None:
        if type(message) is Outcomes:
            forms = message.forms
            failed = (
                [at for at, (form, _) in forms.items() if form == ERROR]
                if forms
                else ()
            )
            costs = [Cost(*cost) for cost in message.costs]
            event = OutcomesArrived(rank, message.batches, message.ids, failed, costs)
            self._handle(event, message)
        elif type(message) is Goodbye:
            self._handle(WorkerLeft(rank))
        else:
            raise InternalError(f"rank {rank} sent {message!r} to the master")

    def _handle(self, event: Event, outcomes: Outcomes | None = None) -> None:
        """Let the scheduler decide, and do it: sends first, then what wakes users."""
        actions = self._scheduler.handle(event, time.monotonic())
        for action in actions:
            if type(action) is Assign:
                self._assign(action)
        for action in actions:
            kind = type(action)
            if kind is Complete:
                assert outcomes is not None  # only reports complete tasks
                self._complete(action.tasks, outcomes)
            elif kind is Cancelled:
                for task in action.tasks:
                    task.future._settle_cancelled()
            elif kind is Fail:
                self._fail(action.tasks, self._error or _lost(action.rank))
            elif kind is Stop:
                self._transport.send(action.rank, messages.Stop())

    def _assign(self, action: Assign) -> None:
        calls = []
        buffers = []
        targets = {}
        for task in action.tasks:
            if type(task) is Call:
                targets[task.function] = task.target
                calls.append(task.wire)
                if task.buffers:
                    buffers += task.buffers
            else:
                targets[task.function] = task.job.target
                wire, own = task.job.encode(task)
                calls.append(wire)
                buffers += own
        batch = Batch(calls)
        self._add_functions(action.rank, targets, batch)
        batch.buffers += buffers
        self._transport.send(action.rank, batch)

    def _add_functions(
        self, rank: Rank, targets: dict[int, Any], batch: Batch
    ) -> None:
        """Put the functions in that the worker lacks; have it forget old ones."""
        known = self._known[rank]
        for function_id, target in targets.items():
            if function_id not in known:
                known[function_id] = None
                count = len(target.buffers)
                batch.functions.append((function_id, target.frame, count))
                batch.buffers += target.buffers
        while len(known) > FUNCTIONS_PER_WORKER:
            oldest = next(iter(known))
            if oldest in targets:
                break
            del known[oldest]
            batch.forget.append(oldest)

    def _complete(self, tasks: list[Task | None], outcomes: Outcomes) -> None:
        values = outcomes.values
        if outcomes.forms:
            buffers = outcomes.buffers
            buffers.reverse()
            for at, (form, count) in outcomes.forms.items():
                own = [buffers.pop() for _ in range(count)]
                values[at] = decode_outcome(form, values[at], own)
        futures = []
        settled = []
        for at, task in enumerate(tasks):
            if type(task) is Call:
                futures.append(task.future)
                settled.append(values[at])
            elif task is not None:
                form, _ = outcomes.forms[at]
                task.job.deliver(task, values[at], mixed=form != LIST)
        future.settle(futures, settled)

    def _fail(self, tasks: list[Task], error: MpiTasksError) -> None:
        failure = Failure(error)
        calls = [task for task in tasks if type(task) is Call]
        future.settle([call.future for call in calls], [failure] * len(calls))
        for task in tasks:
            if type(task) is Chunk:
                task.job.deliver(task, failure, mixed=True)

    def _break(self, error: Exception) -> None:
        """Something is wrong with the engine: fail what is outstanding, and say why."""
        if not isinstance(error, MpiTasksError):
            internal = InternalError(f"the engine failed: {error!r}; please report it")
            internal.__cause__ = error
            error = internal
        if self._error is None:
            self._error = error
        now = time.monotonic()
        for rank in self._known:
            for action in self._scheduler.handle(RankLost(rank), now):
                if type(action) is Fail:
                    self._fail(action.tasks, self._error)

    # After the lock.

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread took it
                return
            callback()


class _Background(threading.Thread):
    """Turns the pump while work is outstanding and nobody else does."""

    def __init__(self, pump: Pump) -> None:
        super().__init__(name="mpitasks-pump", daemon=True)
        self.asleep = True
        self._pump = pump
        self._woken = threading.Event()
        self._stopped = False

    def wake(self) -> None:
        """There is work. May be called without need."""
        self.asleep = False
        if self.ident is None:
            with contextlib.suppress(RuntimeError):  # another thread started it
                self.start()
        self._woken.set()

    def stop(self) -> None:
        """End the thread. Called once."""
        self._stopped = True
        self._woken.set()
        if self.ident is not None and self is not threading.current_thread():
            self.join()

    def run(self) -> None:
        sharpen_timers()
        while not self._stopped:
            self._keep_turning()
            self.asleep = True
            if not self._pump.outstanding:  # else somebody submitted meanwhile
                self._woken.wait()
            self._woken.clear()
            self.asleep = False

    def _keep_turning(self) -> None:
        """Turn until there was nothing to do for a while."""
        pump = self._pump
        nap = NAP_SHORT
        last_work = time.monotonic()
        while not self._stopped:
            turns = pump.turns
            time.sleep(nap)
            if pump.outstanding:
                last_work = time.monotonic()
            elif time.monotonic() - last_work > DOZE_SECONDS:
                return
            if pump.turns != turns:
                nap = NAP_LONG  # somebody else drives
            elif pump.nudge():
                nap = NAP_SHORT
            else:
                nap = min(nap * 1.1, NAP_LONG)


def _lost(rank: Rank | None) -> WorkerLost:
    if rank is None:
        return WorkerLost("no worker is left to run this task")
    return WorkerLost(f"rank {rank}, which ran this task, is gone")
