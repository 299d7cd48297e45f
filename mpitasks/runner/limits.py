"""A time limit on user code that runs in the rank itself.

In the main thread an interval timer raises `TaskTimeout` (setitimer(2); the signal
also ends a sleep or a read); in any other thread, as in the size-1 mode, a timer thread
has the interpreter raise it. Neither can interrupt a call into C that does not come
back to the interpreter: such a task is overdue, and that is the master's business.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from mpitasks.errors import TaskTimeout
from mpitasks.runner import nesting

__all__ = ["Limited", "held_off", "is_due", "let_through"]

AGAIN_SECONDS = 1.0
"""How long until code that swallowed the exception gets it again."""


LEAST_SECONDS = 0.01
"""Between two looks at a task beyond its limit that waits for its children."""


class _Gate:
    """Whether limits are held off, and what one of them has said meanwhile."""

    def __init__(self) -> None:
        self.held = False
        self.due: str | None = None


_gate = _Gate()


class held_off:
    """While this is entered, code of ours runs in the task's thread, which none cuts.

    A limit that is reached then is told when it is left.

    Raises:
        TaskTimeout: By leaving it.
    """

    def __enter__(self) -> None:
        _gate.held = True

    def __exit__(self, *error: object) -> None:
        _gate.held = False
        due, _gate.due = _gate.due, None
        if due is not None:
            raise TaskTimeout(due)


class let_through:
    """While this is entered, limits are as ever: another task runs."""

    def __enter__(self) -> None:
        self._due, _gate.due = _gate.due, None
        _gate.held = False

    def __exit__(self, *error: object) -> None:
        _gate.held, _gate.due = True, self._due


def is_due() -> bool:
    """Whether a limit was reached that is held off."""
    return _gate.due is not None


class Limited:
    """A function with a time limit for each call.

    Args:
        function: The function.
        seconds: The limit.
    """

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        self._function = function
        self._message = f"the task took longer than its limit of {seconds:g} s"
        self._seconds = seconds
        self._running = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function.

        Raises:
            TaskTimeout: It took too long.
        """
        if threading.current_thread() is threading.main_thread():
            return self._call_on_timer(args, kwargs)
        return self._call_beside_timer(args, kwargs)

    def _call_on_timer(self, args: Any, kwargs: Any) -> Any:
        before = signal.signal(signal.SIGALRM, self._ring)
        self._running = True
        try:
            signal.setitimer(signal.ITIMER_REAL, self._seconds, AGAIN_SECONDS)
            return self._function(*args, **kwargs)
        finally:
            self._running = False  # from here on a late signal does nothing
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _ring(self, number: int, frame: Any) -> None:
        if self._running and _gate.held:
            _gate.due = self._message
        elif self._running:
            raise TaskTimeout(self._message)

    def _call_beside_timer(self, args: Any, kwargs: Any) -> Any:
        thread = threading.get_ident()
        lock = threading.Lock()
        ended = threading.Event()
        raised = False

        helped = nesting.stopwatch()
        end = time.monotonic() + self._seconds

        def interrupt() -> None:
            nonlocal raised, end
            while not ended.wait(max(end + helped() - time.monotonic(), LEAST_SECONDS)):
                if time.monotonic() < end + helped():
                    nesting.tell_helping()
                    continue  # what its children took is not the task's
                with lock:
                    if _gate.held:
                        _gate.due = self._message
                    elif not ended.is_set():
                        raised = True
                        _raise_in(thread, TaskTimeout)
                end = time.monotonic() - helped() + AGAIN_SECONDS

        timer = threading.Thread(target=interrupt, name="mpitasks-limit", daemon=True)
        try:
            timer.start()
            return self._function(*args, **kwargs)
        except TaskTimeout as error:
            if raised and not error.args:
                raise TaskTimeout(self._message).with_traceback(
                    error.__traceback__
                ) from None
            raise
        finally:
            # It may be raised here still, as the function ended; then once more. No
            # call stands before this `try`: the interpreter raises behind calls.
            done = False
            while not done:
                try:
                    with lock:
                        ended.set()
                        _raise_in(thread, None)
                    done = True
                except TaskTimeout:
                    pass
            timer.join()


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Have a thread raise an exception, or take back one that it has not raised yet."""
    what = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
