"""Signals: which rank does what when one comes. Handlers only; light to import.

Rank 0 decides for all. Launchers and batch systems send signals to every rank, so the
others let them pass, and are told by rank 0 what to do.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from mpitasks import forks, walltime

__all__ = ["ENDING", "Terminated", "expect", "expected", "ignore", "listen", "wake_up"]

ENDING = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send before they end a job, at once or by their `--signal`."""

Listener = Callable[[int, FrameType | None], bool]

_listener: Listener | None = None

_before: dict[int, Any] = {}
"""The handlers that ours have replaced."""

_masks: dict[int, set[Any]] = {}
"""The signals that a thread has blocked, while it forks."""

_ignored: set[int] = set()
"""Signals that we ignore by now."""


class Terminated(KeyboardInterrupt):
    """A signal that ends the run at once, the way Ctrl-C does.

    Attributes:
        number: Which.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


def expect(*, leads: bool) -> None:
    """Handle what launchers and batch systems send.

    Args:
        leads: Whether this is rank 0, or the only process.
    """
    for number in ENDING:
        _before[number] = signal.signal(number, _handle if leads else _note)
    if not leads:
        # A handler, not SIG_IGN: programs that a task starts must not inherit it.
        _before[signal.SIGINT] = signal.signal(signal.SIGINT, _leave)
    forks.in_child(_restore)
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)


def expected() -> bool:
    """Whether the handlers of rank 0 are there, and not the script's own."""
    return signal.getsignal(signal.SIGTERM) is _handle


def ignore() -> None:
    """Let nothing disturb what is left to do, which is little."""
    for number in (signal.SIGINT, *ENDING):
        before = signal.signal(number, signal.SIG_IGN)
        if number not in _before:
            _before[number] = before
    _ignored.update(_before)


def wake_up() -> None:
    """Have signals interrupt whatever sleeps. To be called once MPI is started.

    MPICH puts a handler of its own before ours for SIGUSR1, which does not.
    """
    for number in ENDING:
        if signal.getsignal(number) is _handle:
            signal.siginterrupt(number, True)


def listen(listener: Listener) -> None:
    """Say who is told of signals; it returns whether it knows what to do."""
    global _listener
    _listener = listener


def _handle(number: int, frame: FrameType | None) -> None:
    if _listener is None or not _listener(number, frame):
        raise Terminated(number)


def _note(number: int, frame: FrameType | None) -> None:
    walltime.note_stop()


def _restore() -> None:
    """In a forked child: no signal is ours there, or `terminate` would do nothing."""
    for number, before in _before.items():
        handler = signal.getsignal(number)
        if handler in (_handle, _note, _leave) or number in _ignored:
            signal.signal(number, signal.SIG_DFL if before is None else before)


def _hold() -> None:
    """Before a fork: let no signal reach the child while handlers of ours are there."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    _masks[threading.get_ident()] = held


def _release() -> None:
    """After the fork, on either side; in the child once `_restore` was called."""
    held = _masks.pop(threading.get_ident(), None)
    if held is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _leave(number: int, frame: FrameType | None) -> None:
    pass
