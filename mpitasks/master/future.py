"""`Future`: a `concurrent.futures.Future` that costs little until it is watched.

The stdlib's future makes a lock and a condition each time (8 us); nearly all of ours
are only ever asked for their result, by a thread that drives the event loop meanwhile.
So the condition is made when somebody first needs it: the stdlib's `wait`,
`as_completed` and `add_done_callback` go through ``_condition``, which is a property
here. A module-wide lock, the gate, decides the race between making a condition and
settling the future without one; it is never held while a condition is acquired.

A future is settled with the outcome as it came (`mpitasks.wire.outcomes.Encoded`). The
first thread that asks for the outcome decodes it, once and under no lock, since that
runs code of the user.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
)
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from mpitasks import forks
from mpitasks.master.inputs import CANCELLED as GONE
from mpitasks.master.inputs import Arrived, unnamed
from mpitasks.master.kept_results import KeptResult
from mpitasks.scheduler.events import TaskState
from mpitasks.wire import inputs
from mpitasks.wire.codec import is_plain
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.outcomes import Encoded, Failure, has_failed

if TYPE_CHECKING:
    from mpitasks.master.inputs import User
    from mpitasks.master.sharing import Shared
    from mpitasks.scheduler.events import Task
    from mpitasks.wire.outcomes import Name

__all__ = ["Driver", "Future", "Watcher", "settle"]

_gate = threading.RLock()  # a finalizer may come in between, by the garbage collector
forks.in_child(_gate._at_fork_reinit)  # type: ignore[attr-defined]  # as the stdlib's


class Driver(Protocol):
    """What a future needs of the event loop.

    Attributes:
        is_shut: Whether no thread may poll any more.
        refuse: Says why, then.
        settle_logs: Waits until the log records that have come were handled.
    """

    is_shut: bool
    refuse: Callable[[], object]
    settle_logs: Callable[[], None] | None

    def drive(
        self,
        done: Callable[[], bool],
        block: Callable[[float], object],
        timeout: float | None,
    ) -> bool:
        """Poll until `done`; return whether it is."""

    def watch(self) -> None:
        """A thread waits for a future, and perhaps not by driving."""

    def wake_driver(self) -> None:
        """The thread that drives may have what it waits for."""

    def call_back(self, callback: Callable[[], None]) -> None:
        """Have `callback` run soon, under no lock."""

    def cancel(self, tasks: list[Task]) -> None:
        """Take back those of the calls that were not sent yet."""

    def help(self, future: Future) -> bool:
        """A thread asks whether a future is done, and does not wait; return whether."""

    def before_callback(self, future: Future) -> None:
        """A callback is about to be added to a future."""

    def pass_on(self, arrived: Arrived) -> None:
        """A call is done for whose result tasks wait. Under the event loop's lock."""


class Future(concurrent.futures.Future[Any]):
    """The result-to-be of a submitted call.

    As `concurrent.futures.Future`; whoever waits for it drives the run meanwhile.
    `cancel` succeeds until the call is sent to a worker.
    """

    # What all have is in slots: less memory, and less for the garbage collector.
    __slots__ = (
        "_event_loop",
        "_exception",
        "_result",
        "_state",
        "_task",
        "target",
        "wire",
    )

    _state: str  # as the stdlib's; so are the next four
    _result: Any
    # What it raised; or an `Encoded` outcome of any kind, until somebody asks for it.
    _exception: Any
    # What few have is a class's attribute until they do.
    _waiters: Any = ()
    _done_callbacks: Any = ()
    _watched: threading.Condition | None = None
    _users: list[User] | None = None  # who waits for the result
    _is_observed = False  # whether one of these two is there
    named: Name = staticmethod(unnamed)
    """Returns what messages call its call, if that has failed."""
    _task: Task | None  # the latest attempt, until it is done
    # What is sent of a `Call` (`mpitasks.master.payloads`), until it is done.
    wire: Any
    target: Any
    buffers: Any = ()
    is_simple = True  # whether its `wire` has neither buffers nor a place beside it
    _decoder: int | None = None  # the thread that is decoding the outcome
    entry: Any = None
    """What the call is to a journal, if it has one."""
    shared: Shared | None = None
    """What it shares, if it is a shared object's."""
    _kept: KeptResult | None = None
    """The result that a worker keeps, once it was fetched as well."""

    def __init__(self, event_loop: Driver) -> None:
        self._event_loop = event_loop
        self._state = PENDING
        self._result = self._exception = None
        self._task = self.wire = self.target = None

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        watched = self._watched
        if self._event_loop.is_shut and not self.is_over():
            self._event_loop.refuse()  # nobody would ever tell who waits
        if watched is None:
            with _gate:
                watched = self._watched
                if watched is None:
                    self._waiters = _Waiters(self._event_loop)
                    self._done_callbacks = []
                    watched = self._watched = threading.Condition()
                    self._is_observed = True
            self._event_loop.watch()
        return watched

    def done(self) -> bool:
        """Whether the call is finished or cancelled."""
        return self.is_over() or self._event_loop.help(self)

    def is_over(self) -> bool:
        """Whether that is so; asks for nothing."""
        return self._state is FINISHED or self._state in _OVER

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have `fn` called with the future when it is done; at once if it is."""
        self._event_loop.before_callback(self)
        super().add_done_callback(fn)

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self._state in _CANCELLED

    def running(self) -> bool:
        """Whether the call was sent to a worker and is not done."""
        task = self._task
        return (
            task is not None and task.state is TaskState.ASSIGNED and not self.is_over()
        )

    def __repr__(self) -> str:
        if self._event_loop.is_shut and not self.is_over():
            return f"<Future at {id(self):#x} state=abandoned>"
        text = super().__repr__().replace(type(self).__name__, "Future", 1)
        if type(self._exception) is Encoded:
            how = "raised an exception" if self._exception.failed else "returned"
            return text.replace(" raised Encoded", f" {how}")
        return (
            text.replace("state=pending", "state=running") if self.running() else text
        )

    def cancel(self) -> bool:
        """Take the call back; return whether it will not run."""
        task = self._task
        if task is not None and not self.is_over():
            self._event_loop.cancel([task])
        return self.cancelled()

    def result(self, timeout: float | None = None) -> Any:
        """Return what the call returned, driving the run until it is there.

        Raises:
            CancelledError: The call was cancelled.
            TimeoutError: It was not done within `timeout` seconds.
            BaseException: What the call raised, with the traceback on its worker as
                ``__cause__``.
        """
        if self._state is not FINISHED:
            self._wait(timeout)
        elif (settle_logs := self._event_loop.settle_logs) is not None:
            settle_logs()
        if self._exception is not None and self._failed(timeout):
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # no cycle with the traceback
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; otherwise as `result`."""
        if self._state is not FINISHED:
            self._wait(timeout)
        elif (settle_logs := self._event_loop.settle_logs) is not None:
            settle_logs()
        if self._exception is not None and self._failed(timeout):
            error: BaseException = self._exception
            return error
        return None

    def _wait(self, timeout: float | None) -> None:
        if not self._event_loop.drive(self.is_over, self._block, timeout):
            raise concurrent.futures.TimeoutError
        if self._state in _CANCELLED:
            raise CancelledError

    def wait(self, timeout: float | None) -> bool:
        """Drive the run until it is done; return whether it is."""
        return self._event_loop.drive(self.is_over, self._block, timeout)

    @property
    def nbytes(self) -> int | None:
        """What the result weighs in messages, in bytes.

        None if the call is not done or has failed, or if that is not known any more:
        of a result that was sent to rank 0 and unpickled there. Numbers and short text
        weigh nothing.
        """
        payload = self._place()
        if type(payload) is KeptResult:
            return payload.nbytes
        if self.shared is not None:
            return self.shared.nbytes
        encoded = self._exception
        if type(encoded) is Encoded:
            return None if encoded.failed else encoded.nbytes
        if not self.is_over() or self.has_failed() or not is_plain((self._result,)):
            return None
        return 0

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that have the result: its worker's if that keeps it, else 0.

        None at all if the call is not done or has failed, or if the result is lost.
        """
        payload = self._place()
        if type(payload) is KeptResult:
            return payload.ranks
        return (0,) if self.is_over() and not self.has_failed() else ()

    @property
    def is_kept(self) -> bool:
        """Whether a worker keeps the result."""
        return type(self._place()) is KeptResult

    def _place(self) -> Any:
        """Return the kept result, if that is what it came to."""
        encoded = self._exception
        if type(encoded) is Encoded and encoded.is_special:
            return encoded.lend()[1]
        return self._kept

    def has_failed(self) -> bool:
        """Whether it was cancelled or has failed, as far as is known undecoded."""
        error = self._exception
        failed = error.failed if type(error) is Encoded else error is not None
        return failed or self.cancelled()

    def _block(self, seconds: float) -> None:
        """Sleep until settled, at most this long, while another thread drives."""
        with self._condition:
            if not self.is_over():
                self._condition.wait(seconds)

    def _failed(self, timeout: float | None = None) -> bool:
        """Whether it raised; decodes the outcome, unless another thread does.

        Raises:
            TimeoutError: It is being made again, and was not there in time.
        """
        if timeout is not None and type(kept := self._place()) is KeptResult:
            maker = kept.pending
            if maker is not None and not maker.wait(timeout):
                raise concurrent.futures.TimeoutError
        own = threading.get_ident()
        while type(encoded := self._exception) is Encoded:
            with _gate:
                if self._exception is not encoded:
                    continue
                decoder = self._decoder
                if decoder is None:
                    self._decoder = own
            if decoder is None:
                self._decode_alone(encoded)
            elif decoder == own:
                raise RuntimeError(
                    "this future's result was asked for while it is being unpickled, "
                    "by code that runs for that"
                )
            else:
                with self._condition:
                    if self._decoder == decoder:
                        self._condition.wait()
        return self._exception is not None

    def _decode_alone(self, encoded: Encoded) -> None:
        outcome: Any = encoded
        payload = encoded.lend()[1] if encoded.is_special else None
        try:
            outcome = encoded.fetch()
            is_kept = type(payload) is KeptResult and type(outcome) is Failure
            if is_kept and isinstance(outcome.error, MemoryError):
                error, outcome = outcome.error, encoded
                raise error  # its worker has it still: who asks next may get it
        finally:  # if it was interrupted, the next who asks begins anew
            with _gate:
                if self._exception is encoded:
                    if type(payload) is KeptResult:
                        self._kept = payload
                    self._set(outcome)
                self._decoder = None
                watched = self._watched
            if watched is not None:
                with watched:
                    watched.notify_all()

    def _set(self, outcome: Any) -> None:
        if type(outcome) is Failure:
            self._exception = outcome.error
        elif type(outcome) is Encoded:
            self._exception = outcome
        else:
            self._result = outcome
            self._exception = None

    def _settle_value(self, value: Any) -> None:
        """Become finished with a value: as `settle`, for one."""
        with _gate:
            if not self._is_observed:
                self._task = self.wire = self.target = None
                if not self.is_simple:
                    self.buffers = ()
                self._result = value
                self._state = FINISHED
                if _watchers:
                    _tell_watchers((self,))
                return
        self._settle_observed(value)
        if _watchers:
            _tell_watchers((self,))

    def _settle(self, outcome: Any) -> None:
        """Become finished with an outcome of any kind: as `settle`, for one."""
        settle([self], [outcome])

    def _settle_observed(self, outcome: Any) -> None:
        """Become finished, and tell who watches, and who waits for the result."""
        wire = self.wire
        users = None
        with _gate:
            watched = self._watched
            if watched is None:
                users = self._take_users(outcome)
                self._set(outcome)
                self._state = FINISHED
        if watched is not None:
            users = self._settle_watched(outcome)
        self._task = self.wire = self.target = None  # who needs it looks under a lock
        if not self.is_simple:
            self.buffers = ()
        if users:
            self._event_loop.pass_on(Arrived(wire[0], users, outcome, self.named))

    def _take_users(self, outcome: Any) -> list[User] | None:
        """Return who waits for the result, just before everybody may see it."""
        users, self._users = self._users, None
        if users and type(outcome) is Encoded:
            outcome.lend()  # who asks for the result may change it
            self.keep_name()
        return users

    def keep_name(self) -> None:
        """Keep what messages call its call, for those that need it."""

    def need(self, user: User) -> int | None:
        """Have the result passed on to a task.

        Returns:
            The id of the call; None if it is done, and nothing will be passed on.
        """
        while True:
            watched = self._watched
            if watched is not None:
                with watched:
                    return self._add_user(user)
            with _gate:
                if self._watched is None:
                    return self._add_user(user)

    def _add_user(self, user: User) -> int | None:
        if self.is_over():
            return None
        if self._users is None:
            self._users = []
            self._is_observed = True
        self._users.append(user)
        return self.wire[0]  # type: ignore[no-any-return]

    @property
    def was_handed_out(self) -> bool:
        """Whether somebody has its value, and may have changed it."""
        return (
            self._state is FINISHED
            and self._kept is None
            and type(self._exception) is not Encoded
            and not is_plain((self._result,))
        )

    def outcome(self) -> Any:
        """Return what it came to, as it is: a value, an exception, or undecoded.

        Returns:
            A value, an `Encoded` outcome, a `Failure`, or `CANCELLED` of
            `mpitasks.master.inputs`. Not for a future that is not done.
        """
        if self._state in _CANCELLED:
            return GONE
        if self.shared is not None:
            return self.shared.outcome
        if self._kept is not None:
            return self._kept.outcome
        with _gate:
            error = self._exception
            if type(error) is Encoded and self._decoder is None:
                error.lend()
                return error
        if type(error) is Encoded:  # somebody is about to have it
            self._failed()
            error = self._exception
        return self._result if error is None else Failure(error)

    def _settle_watched(self, outcome: Any) -> list[User] | None:
        """As `set_result` and `set_exception` of the standard library.

        Returns:
            Who waits for the result.
        """
        with self._condition:
            if self._state in _OVER:
                raise InvalidStateError(f"{self!r} is settled already")
            users = self._take_users(outcome)
            self._set(outcome)
            self._state = FINISHED
            for waiter in self._waiters:
                if has_failed(outcome):
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            self._condition.notify_all()
        self._invoke_callbacks()
        return users

    def set_result(self, result: Any) -> NoReturn:
        """Not for anybody else: the result comes from the call's worker."""
        raise InvalidStateError(f"set_result: {_NOT_YOURS}")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Not for anybody else: the result comes from the call's worker."""
        raise InvalidStateError(f"set_exception: {_NOT_YOURS}")

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Not for anybody else: the call's worker says when it runs."""
        raise InvalidStateError(f"set_running_or_notify_cancel: {_NOT_YOURS}")

    def _settle_cancelled(self) -> None:
        """Become cancelled, and tell who watches."""
        with self._condition:
            wire = self.wire
            users = self._take_users(None)
            self._state = CANCELLED_AND_NOTIFIED
            self._task = self.wire = self.target = None
            self.buffers = ()
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        if _watchers:
            _tell_watchers((self,))
        self._invoke_callbacks()
        if users:
            self._event_loop.pass_on(Arrived(wire[0], users, GONE, self.named))

    def _invoke_callbacks(self) -> None:
        """Called when settled. User code runs once the event loop's lock is free."""
        if self._done_callbacks:
            self._event_loop.call_back(self._call_back)

    def _call_back(self) -> None:
        """As in the standard library, but whatever a callback raises is its own."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException as error:
                if interrupts(error):
                    raise
                import logging  # slow to load

                logger = logging.getLogger("concurrent.futures")
                logger.exception("exception calling callback for %r", self)

    def __copy__(self) -> Future:
        return self

    def __deepcopy__(self, memo: Any) -> Future:
        return self  # it stands for one result, which nobody can change

    def __reduce__(self) -> Any:
        """Among the arguments of a call, leave a reference behind (`wire.inputs`)."""
        found = inputs.collector()
        if found is None:
            raise TypeError(
                "a Future can only be sent as an argument of submit or in an item of "
                "a map; elsewhere, in a closure, say, or by pickle, use its result()"
            )
        stand_in = self.stand_in(found)
        if type(stand_in) is inputs.Reference:
            return stand_in.__reduce__()
        return inputs.same, (stand_in,)

    def stand_in(self, found: inputs.Collector) -> Any:
        """Return what stands for it among arguments: a reference, or its value.

        Raises:
            TypeError: It is not done, and of another run.
        """
        if not self.is_over():
            if self._event_loop is not found.event_loop or self._event_loop.is_shut:
                raise TypeError("this Future is of another run, which is over")
            return found.refer(self)
        outcome = self.outcome()
        if outcome is GONE or has_failed(outcome):
            found.fault = found.fault or self
            return None
        return found.refer(self) if type(outcome) is Encoded else outcome


class _Waiters(list[Any]):
    """Who waits for a future by the standard library's `wait` or `as_completed`.

    Their threads drive the run meanwhile, instead of sleeping until another thread has
    settled the future.
    """

    def __init__(self, event_loop: Driver) -> None:
        self._event_loop = event_loop

    def append(self, waiter: Any) -> None:
        event = getattr(waiter, "event", None)
        if type(event) is threading.Event and not event.is_set():
            waiter.event = _DrivingEvent(self._event_loop)
        super().append(waiter)


class _DrivingEvent(threading.Event):
    """An event; who waits for it drives the run."""

    def __init__(self, event_loop: Driver) -> None:
        super().__init__()
        self._event_loop = event_loop

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return whether it is."""
        block = super().wait
        self._event_loop.drive(self.is_set, block, timeout)
        return self.is_set()

    def set(self) -> None:
        """Set it."""
        super().set()
        self._event_loop.wake_driver()  # a future of another executor may be done


class Watcher:
    """Notes which futures are settled, without a condition for each.

    Args:
        futures: Those that it is told of.

    Attributes:
        pending: Those that are not done.
        done: Those that are, in the order in which they were settled.
        failures: How many of these raised.
    """

    def __init__(self, futures: Iterable[Future]) -> None:
        self.pending = set(futures)
        self.done: deque[Future] = deque()
        self.failures = 0
        self._news = threading.Event()

    def __enter__(self) -> Watcher:
        with _gate:
            _watchers.append(self)
            self._note([future for future in self.pending if future.is_over()])
        return self

    def __exit__(self, *error: object) -> None:
        with _gate:
            _watchers.remove(self)

    def block(self, seconds: float) -> None:
        """Sleep until a future is settled, at most this long; another thread drives."""
        self._news.wait(seconds)
        self._news.clear()

    def _note(self, futures: Iterable[Future]) -> None:
        """Take in what is done. Under the gate."""
        for future in futures:
            if future in self.pending:
                self.pending.remove(future)
                self.done.append(future)
                error = future._exception
                self.failures += (
                    error.failed if type(error) is Encoded else error is not None
                )
        self._news.set()


_watchers: list[Watcher] = []


def _tell_watchers(futures: Iterable[Future]) -> None:
    with _gate:
        for watcher in _watchers:
            watcher._note(futures)


_NOT_YOURS = (
    "this future gets its result from the worker that runs its call; for one that you "
    "set yourself make a concurrent.futures.Future"
)

_CANCELLED = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED})
_OVER = _CANCELLED | {FINISHED}


def settle(futures: Sequence[Future], outcomes: Iterable[Any]) -> None:
    """Give each future its outcome: a value, an `Encoded` one or a `Failure`."""
    observed = []
    with _gate:
        for future, outcome in zip(futures, outcomes, strict=True):
            if future._is_observed:
                observed.append((future, outcome))
            else:
                future._task = future.wire = future.target = None
                if not future.is_simple:
                    future.buffers = ()
                kind = type(outcome)
                if kind is Failure:
                    future._exception = outcome.error
                elif kind is Encoded:
                    future._exception = outcome
                else:
                    future._result = outcome
                future._state = FINISHED
    for future, outcome in observed:
        future._settle_observed(outcome)
    if _watchers:
        _tell_watchers(futures)
