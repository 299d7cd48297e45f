"""Signals: which rank does what when one comes. Handlers only; light to import.

Rank 0 decides for all. Launchers and batch systems send signals to every rank, so the
others let them pass, and are told by rank 0 what to do.

The run has three parts. At its start and at its end nobody could be told anything, and
nothing is worth saving: a signal to rank 0 ends the run on the spot (`_fall`). Before
MPI is started rank 0 does that by dying of the signal itself: launchers end the other
ranks then, but not after an exit code. In MPI_Init and MPI_Finalize no handler of
Python's could run, so signals have their own effect there (`deadly`). In between, the
run's listener decides (`mpitasks.launch.early_stop`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from mpitasks import exit_codes, forks, walltime
from mpitasks.launch.exit import report_fall, tell_end

__all__ = [
    "ENDING",
    "Terminated",
    "deadly",
    "disarm",
    "end_at_once",
    "expect",
    "expected",
    "ignore",
    "lead",
    "let_pass",
    "listen",
    "wake_up",
]

ENDING = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send before they end a job, at once or by their `--signal`."""

STOPPING = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends: somebody wants the run to stop, or has closed the window."""


FORWARD_SECONDS = 0.1
"""Seconds for launchers to forward the last line; they drop it after an abort."""

Listener = Callable[[int, FrameType | None], bool]

_listener: Listener | None = None

_before: dict[int, Any] = {}
"""The handlers that ours have replaced."""

AGAIN_SECONDS = 0.05
"""So much later a signal is sent again that came at an unfit moment."""

_masks: dict[int, set[Any]] = {}
"""The signals that a thread has blocked, while it forks."""

_ignored: set[int] = set()
"""Signals that we ignore by now."""

_leading = False
"""Whether the script runs, on rank 0."""


class Terminated(KeyboardInterrupt):
    """A signal that ends the run at once, the way Ctrl-C does.

    Attributes:
        number: Which.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


def expect(*, leads: bool) -> None:
    """Handle what launchers, batch systems and terminals send, from the start on.

    A signal that is ignored stays so: nohup has asked for it.

    Args:
        leads: Whether this is rank 0, or the only process.
    """
    _spare_children()
    for number in (*ENDING, *STOPPING):
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        # A handler, not SIG_IGN: programs that a task starts must not inherit it.
        others = _note if number in ENDING else _leave
        before = signal.signal(number, _handle if leads else others)
        # `__main__` has taken Python's own handler away.
        python = number == signal.SIGINT
        _before.setdefault(number, signal.default_int_handler if python else before)


def _spare_children() -> None:
    """Once: see to it that forked children have none of our handlers."""
    if not _before:
        forks.in_child(_restore)
        os.register_at_fork(
            before=_hold, after_in_parent=_release, after_in_child=_release
        )


@contextlib.contextmanager
def let_pass() -> Iterator[None]:
    """Meanwhile, on a rank that serves rank 0, an interrupt is for rank 0.

    For scripts that call `mpitasks.run`, where nobody has called `expect`.
    """
    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _spare_children()
    _before.setdefault(signal.SIGINT, signal.signal(signal.SIGINT, _leave))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def lead() -> None:
    """On rank 0: the script begins, so that a signal is for it and the listener."""
    global _leading
    _leading = True
    if signal.getsignal(signal.SIGINT) is _handle:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_at_once() -> None:
    """On rank 0: the script is over, so that a signal ends the run on the spot.

    What the script has put in the place of our handlers stays.
    """
    global _leading
    _leading = False
    python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if python and signal.SIGINT in _before:
        signal.signal(signal.SIGINT, _handle)


@contextlib.contextmanager
def deadly() -> Iterator[None]:
    """Meanwhile, where C code may wait for other ranks, signals kill rank 0.

    No handler of Python's would run there, and without this rank the launcher ends the
    others.
    """
    lent = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, *STOPPING):
            handler = signal.getsignal(number)
            if handler in (_handle, signal.default_int_handler):
                lent[number] = handler
                signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in lent.items():
            signal.signal(number, handler)


def expected() -> bool:
    """Whether the handlers of rank 0 are there, and not the script's own."""
    return signal.getsignal(signal.SIGTERM) is _handle


def ignore() -> None:
    """Let nothing disturb what is left to do, which is little."""
    for number in (*STOPPING, *ENDING):
        before = signal.signal(number, signal.SIG_IGN)
        if number not in _before:
            _before[number] = before
    _ignored.update(_before)


def disarm() -> None:
    """Stop the timers that tasks have left running: they would kill this process.

    Python, when it exits, gives signals back to the system, which ends a process on
    SIGALRM and its like.
    """
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    for number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_IGN)


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
    if not _leading:
        _fall(number)
    elif _listener is None or not _listener(number, frame):
        raise Terminated(number)


def _fall(number: int) -> None:
    """End the run here and now. Nothing is raised: an import could swallow it."""
    ignore()
    try:
        if not report_fall(number):
            os.write(
                2, f"mpitasks: stopped by {signal.Signals(number).name}\n".encode()
            )
        tell_end(exit_codes.SIGNAL + number, leaving=True)
        library = sys.modules.get("mpitasks.wire.mpi_library")
        if library is not None and library.is_up():
            time.sleep(FORWARD_SECONDS)
            sys.modules["mpitasks.wire.world"].abort(exit_codes.SIGNAL + number)
    finally:  # what was interrupted may be the import of what this needs
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


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
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (*ENDING, *STOPPING))
    _masks[threading.get_ident()] = held


def _release() -> None:
    """After the fork, on either side; in the child once `_restore` was called.

    What waited is handled as soon as it may come. Python drops what a handler raises
    in such a hook, so the signal is sent once more, when this is over.
    """
    held = _masks.pop(threading.get_ident(), None)
    if held is None:
        return
    waiting = signal.sigpending()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    except BaseException:
        threading.Timer(AGAIN_SECONDS, _send_again, [waiting]).start()


def _send_again(numbers: set[signal.Signals]) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def _leave(number: int, frame: FrameType | None) -> None:
    pass
