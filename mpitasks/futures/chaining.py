"""Futures made of other futures: `collect` and `compose`.

They are plain futures of the standard library, which done-callbacks of their inputs
settle. Whatever the inputs are, nobody waits here. No user code (hooks, done-callbacks)
runs under the lock.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from typing import Any

from mpitasks.master import future as ours

__all__ = ["collect", "compose", "derived"]

AnyFuture = Future[Any]


def collect(fs: Iterable[AnyFuture]) -> Future[list[Any]]:
    """Return a future of the list of the results of futures.

    The first exception of one of them becomes its exception. If one is cancelled, so is
    it. In both cases, and if it is cancelled itself, those that are not done are
    cancelled.

    Args:
        fs: The futures. One may be among them several times.

    Returns:
        A new future.

    Example:
        >>> total = collect([executor.submit(load, path) for path in paths])
        >>> tables = total.result()
    """
    return _Collection([*fs]).future


class _Collection:
    """Fills the future of a list.

    Args:
        inputs: The futures of the elements.

    Attributes:
        future: That of the list.
    """

    def __init__(self, inputs: list[AnyFuture]) -> None:
        self._lock = threading.Lock()
        self._results: list[Any] = [None] * len(inputs)
        self._places: defaultdict[AnyFuture, list[int]] = defaultdict(list)
        for place, each in enumerate(inputs):
            self._places[each].append(place)
        self.future: AnyFuture = _like(inputs[0]) if inputs else Future()
        if not inputs:
            self.future.set_result([])
            return
        self.future.add_done_callback(self._end)
        for each in [*self._places]:
            each.add_done_callback(self._take)

    def _take(self, each: AnyFuture) -> None:
        """One of the inputs is done."""
        if each.cancelled():
            self.future.cancel()
            return
        error = each.exception()
        if error is not None:
            _settle(self.future, error=error)
            return
        result = each.result()
        with self._lock:
            for place in self._places.pop(each, ()):
                self._results[place] = result
            results = None if self._places else self._results
        if results is not None:
            _settle(self.future, results)

    def _end(self, future: AnyFuture) -> None:
        """The list is there, or never will be."""
        with self._lock:
            rest = [*self._places]
            self._places.clear()
            self._results = []
        if future.cancelled():
            future.set_running_or_notify_cancel()
        for each in rest:
            each.cancel()


def compose(
    future: AnyFuture,
    resulthook: Callable[[Any], Any] | None = None,
    excepthook: Callable[[BaseException], Any] | None = None,
) -> AnyFuture:
    """Return a future of what a function makes of another future's outcome.

    The hooks run in this process, in the thread that takes the outcome in, as
    done-callbacks do. If the other future is cancelled, so is the new one, and the
    other way round.

    Args:
        future: The other future.
        resulthook: Takes its result and returns the new one; None for the same.
        excepthook: Takes its exception and returns a result, or an exception; None for
            the same exception.

    Returns:
        A new future. What a hook raises becomes its exception.

    Example:
        >>> size = compose(executor.submit(load, path), len)
    """
    return derived(_like(future), future, resulthook, excepthook)


def derived(
    new: AnyFuture,
    future: AnyFuture,
    resulthook: Callable[[Any], Any] | None = None,
    excepthook: Callable[[BaseException], Any] | None = None,
) -> AnyFuture:
    """As `compose`, for a new future that is there already; return it."""

    def cancel(new: AnyFuture) -> None:
        if new.cancelled():
            new.set_running_or_notify_cancel()
            future.cancel()

    def complete(future: AnyFuture) -> None:
        if future.cancelled():
            new.cancel()
            return
        try:
            outcome: Any = future.exception()
            if outcome is None:
                outcome = future.result()
                if resulthook is not None:
                    outcome = resulthook(outcome)
                _settle(new, outcome)
                return
            if excepthook is not None:
                outcome = excepthook(outcome)
            if isinstance(outcome, BaseException):
                _settle(new, error=outcome)
            else:
                _settle(new, outcome)
        except BaseException as error:
            _settle(new, error=error)

    new.add_done_callback(cancel)
    future.add_done_callback(complete)
    return new


def _settle(
    future: AnyFuture, result: Any = None, error: BaseException | None = None
) -> None:
    """Give a future its outcome, unless it has one or was cancelled."""
    try:
        if future.set_running_or_notify_cancel():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
    except (InvalidStateError, RuntimeError):
        if not future.done():
            raise


def _like(future: AnyFuture) -> AnyFuture:
    """Return a new future of the same class; a plain one for ours."""
    if isinstance(future, ours.Future):  # only workers settle these
        return Future()
    return type(future)()
