"""An event loop that outlives Ctrl-C: for a script that goes on, as a notebook does.

In a run under mpiexec an interrupt ends the run, so it does not matter what it leaves
half done. Here the next cell uses the same engine. So while the main thread is in it,
SIGINT is only noted, and delivered where nothing is half done: between two polls. A
wait that is interrupted cancels what was not sent yet, and what runs isolated.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from threading import get_ident
from types import FrameType
from typing import Any

from mpitasks.master.event_loop import EventLoop

__all__ = ["InterruptibleLoop"]


class _Hold:
    """Keeps SIGINT back from the main thread, as long as that asks for it.

    Args:
        wake: Called when a signal comes; from its handler.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._main = threading.main_thread().ident
        self._depth = 0
        self._before: Any = None
        self._came = False

    def begin(self) -> None:
        """Note signals from now on. What is held may be held again."""
        if get_ident() != self._main:
            return
        if self._depth == 0:
            before = signal.getsignal(signal.SIGINT)
            if before is None:  # it could not be put back
                return
            self._before = before
            signal.signal(signal.SIGINT, self._note)
        self._depth += 1

    def end(self) -> None:
        """Let them through again; raise what one that came raises."""
        if get_ident() != self._main or self._depth == 0:
            return
        self._depth -= 1
        if self._depth == 0:
            signal.signal(signal.SIGINT, self._before)
            self.deliver()

    def deliver(self) -> None:
        """Do what a signal that came would have done.

        Raises:
            KeyboardInterrupt: As a rule.
        """
        if self._came and get_ident() == self._main:
            self._came = False
            if callable(self._before):
                self._before(signal.SIGINT, None)
            elif self._before == signal.SIG_DFL:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.raise_signal(signal.SIGINT)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile, note signals."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Meanwhile, let them through: user code runs."""
        if get_ident() != self._main or self._depth == 0:
            yield
            return
        depth, self._depth = self._depth, 0
        signal.signal(signal.SIGINT, self._before)
        try:
            self.deliver()
            yield
        finally:
            self._before = signal.signal(signal.SIGINT, self._note)
            self._depth = depth

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        self._wake()


class _HeldLock:
    """The event loop's lock: the main thread is not interrupted while it has it."""

    def __init__(self, hold: _Hold) -> None:
        self._lock = threading.Lock()
        self._hold = hold

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> None:
        self._hold.begin()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        self._hold.end()


class InterruptibleLoop(EventLoop):
    """See `mpitasks.master.event_loop.EventLoop`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hold = _Hold(self._transport.wake)
        self._lock = _HeldLock(self._hold)  # type: ignore[assignment]

    def drive(
        self,
        done: Callable[[], bool],
        block: Callable[[float], object],
        timeout: float | None = None,
    ) -> bool:
        """As that of the class above; an interrupt cancels what can be cancelled.

        Raises:
            KeyboardInterrupt: Ctrl-C, or the notebook's button.
        """
        hold = self._hold

        def done_or_interrupted() -> bool:
            hold.deliver()
            return done()

        try:
            with hold.held():
                return super().drive(done_or_interrupted, block, timeout)
        except KeyboardInterrupt:
            if not self.is_shut:
                self.cancel_queue(isolated=True)
            raise

    def _run_callbacks(self) -> None:
        with self._hold.lifted():
            super()._run_callbacks()
