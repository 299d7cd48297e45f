"""`Future`: a `concurrent.futures.Future` that costs little until it is watched.

The stdlib's future makes a lock and a condition each time (8 us); nearly all of ours
are only ever asked for their result, by a thread that drives the pump meanwhile. So
the condition is made when somebody first needs it: the stdlib's `wait`,
`as_completed` and `add_done_callback` go through ``_condition``, which is a property
here. A module-wide lock, the gate, decides the race between making a condition and
settling the future without one; it is never held while a condition is acquired.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterable
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
)
from typing import TYPE_CHECKING, Any, NoReturn

from mpitasks import forks
from mpitasks.core.events import TaskState
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.outcomes import Failure

if TYPE_CHECKING:
    from mpitasks.master.calls import Call
    from mpitasks.master.pump import Pump

__all__ = ["Future", "settle"]

_gate = threading.Lock()
forks.in_child(_gate._at_fork_reinit)  # type: ignore[attr-defined]  # as the stdlib's


class Future(concurrent.futures.Future[Any]):
    """The result-to-be of a submitted call.

    As `concurrent.futures.Future`; whoever waits for it drives the run meanwhile.
    `cancel` succeeds until the call is sent to a worker.
    """

    # The attributes of the stdlib's future, until an instance has its own.
    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _waiters: Any = ()
    _done_callbacks: Any = ()
    _watched: threading.Condition | None = None
    _call: Call | None
    entry: Any = None
    """What the call is to a journal, if it has one."""

    def __init__(self, call: Call | None, pump: Pump) -> None:
        self._call = call
        self._pump = pump

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        watched = self._watched
        if watched is None:
            with _gate:
                watched = self._watched
                if watched is None:
                    self._waiters = []
                    self._done_callbacks = []
                    watched = self._watched = threading.Condition()
            self._pump.watch()
        return watched

    def done(self) -> bool:
        """Whether the call is finished or cancelled."""
        return self._state is FINISHED or self._state in _OVER

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self._state in _CANCELLED

    def running(self) -> bool:
        """Whether the call was sent to a worker and is not done."""
        call = self._call
        return call is not None and call.state is TaskState.ASSIGNED and not self.done()

    def __repr__(self) -> str:
        text = super().__repr__()
        return (
            text.replace("state=pending", "state=running") if self.running() else text
        )

    def cancel(self) -> bool:
        """Take the call back; return whether it will not run."""
        call = self._call
        if call is not None and not self.done():
            self._pump.cancel([call])
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
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # no cycle with the traceback
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; otherwise as `result`."""
        if self._state is not FINISHED:
            self._wait(timeout)
        return self._exception

    def _wait(self, timeout: float | None) -> None:
        if not self._pump.drive(self.done, self._block, timeout):
            raise concurrent.futures.TimeoutError
        if self._state in _CANCELLED:
            raise CancelledError

    def _block(self, seconds: float) -> None:
        """Sleep until settled, at most so long, while another thread drives."""
        with self._condition:
            if not self.done():
                self._condition.wait(seconds)

    def _settle_value(self, value: Any) -> None:
        """Become finished with a value: as `settle`, for one."""
        with _gate:
            self._call = None
            if self._watched is None:
                self._result = value
                self._state = FINISHED
                return
        super().set_result(value)

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
            self._state = CANCELLED_AND_NOTIFIED
            self._call = None
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        """Called when settled. User code runs when the pump has let go of its lock."""
        if self._done_callbacks:
            self._pump.call_back(self._call_back)

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

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Future cannot be sent to a worker; pass its result() instead"
        )


_NOT_YOURS = (
    "this future gets its result from the worker that runs its call; for one that you "
    "set yourself make a concurrent.futures.Future"
)

_settle_watched = concurrent.futures.Future.set_result
_settle_failed = concurrent.futures.Future.set_exception

_CANCELLED = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED})
_OVER = _CANCELLED | {FINISHED}


def settle(futures: Iterable[Future], outcomes: Iterable[Any]) -> None:
    """Give each future its outcome: a value or a `Failure`."""
    watched = []
    with _gate:
        for future, outcome in zip(futures, outcomes, strict=True):
            future._call = None
            if future._watched is not None:
                watched.append((future, outcome))
            elif type(outcome) is Failure:
                future._exception = outcome.error
                future._state = FINISHED
            else:
                future._result = outcome
                future._state = FINISHED
    for future, outcome in watched:
        if type(outcome) is Failure:
            _settle_failed(future, outcome.error)
        else:
            _settle_watched(future, outcome)
