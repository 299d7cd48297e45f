"""What every way out of rank 0 does last: it tells others the exit code.

The status file, and who supervises mpiexec (`mpitasks.launch.supervisor`), if anybody.

Rank 0 ends in several places: at the end of the script, by a signal, by an abort. It is
light, because every rank comes through here; the file is
`mpitasks.launch.status_file`'s.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from mpitasks import forks
from mpitasks.errors import ExecutorClosedError

__all__ = [
    "SUPERVISOR",
    "at_end_of_script",
    "bound_exit",
    "bound_farewell",
    "is_supervised",
    "know_supervisor",
    "report_fall",
    "report_leaving",
    "report_meeting",
    "tell_end",
]

FAREWELL_SECONDS = 10

EXIT_SECONDS = 30.0
"""Seconds for what tasks have left in a worker: threads and exit functions."""

SUPERVISOR = "MPITASKS_SUPERVISOR"
"""The variable with the supervisor's process id and its number of a pipe: ``12/3``."""

_supervised = False
_supervisor: int | None = None
"""The pipe to it, on rank 0."""


def know_supervisor(*, leads: bool) -> None:
    """Take the variable away, at once and on every rank: user code must not inherit it.

    Args:
        leads: Whether this is rank 0, which speaks to the supervisor.
    """
    global _supervised, _supervisor
    _supervised = _supervised or SUPERVISOR in os.environ
    pid, _, fd = os.environ.pop(SUPERVISOR, "").partition("/")
    if leads and pid.isdigit() and fd.isdigit():
        from mpitasks.wire.pipes import open_pipe

        with contextlib.suppress(OSError):  # it is gone, or on another machine
            _supervisor = open_pipe(int(pid), int(fd), os.O_RDWR)
            forks.in_child(_disown)


def is_supervised() -> bool:
    """Whether `mpitasks` has started the mpiexec and stays beside it."""
    return _supervised


def _disown() -> None:
    global _supervisor
    _supervisor = None


def report_meeting() -> None:
    """On rank 0: every rank is there, and signals are to come here from now on."""
    _report("met")


def report_fall(number: int) -> bool:
    """On rank 0: a signal ends the run; return whether the supervisor will say so."""
    return _report(f"fell {number}")


def report_leaving() -> None:
    """On rank 0: what is left to do is to leave MPI."""
    _report("leaving")


def _report(text: str) -> bool:
    """Write one line, with this process's id; return whether it will be read."""
    if _supervisor is None:
        return False
    with contextlib.suppress(OSError):
        os.write(_supervisor, f"{os.getpid()} {text}\n".encode())
        return True
    return False


def tell_end(code: int, *, leaving: bool = False) -> None:
    """Tell the exit code to whoever wants to know.

    Args:
        code: The exit code.
        leaving: Whether nothing else is done before.
    """
    _report(f"code {code}")
    if leaving:
        report_leaving()
    display = sys.modules.get("mpitasks.observe.display")
    if display is not None:
        display.close_latest()
    tracing = sys.modules.get("mpitasks.launch.tracing")
    if tracing is not None:
        tracing.finish(code)
    reporting = sys.modules.get("mpitasks.launch.status_file")
    if reporting is not None:
        reporting.finish(code)


def at_end_of_script(function: Callable[..., object], *args: Any) -> None:
    """Have it called when the script's threads are done, before exit functions.

    Exit functions run in the reverse order: so it becomes the last when Python begins
    to end.

    Raises:
        ExecutorClosedError: Python is ending already.
    """
    import threading

    try:
        # mypy: the stubs leave out what the stdlib's pools use.
        threading._register_atexit(forks.at_exit, function, *args)  # type: ignore[attr-defined]
    except RuntimeError:
        raise ExecutorClosedError(
            "an Executor cannot be opened while Python ends: its tasks would not run"
        ) from None


def bound_farewell() -> None:
    """Where ranks were lost, see to it that the script's end does not wait for them.

    mpi4py ends MPI when Python exits, and that may wait for ever for a rank that died
    without MPI's knowledge. The process is ended by SIGALRM then.
    """
    mpi = sys.modules.get("mpitasks.wire.mpi_transport")
    if mpi is not None and mpi.degraded():
        import atexit

        atexit.register(_limit_farewell)


def bound_exit() -> None:
    """On a worker, which is about to exit: do, whatever tasks have left there.

    Python waits for threads. On rank 0 they are the script's, and it may wait for them
    as long as it likes; but no run is to wait for a thread that a task has forgotten.
    """
    import threading

    def end() -> None:
        left = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        what = f"threads {left} of its tasks" if left else "exit functions of its tasks"
        text = f"mpitasks: worker (pid {os.getpid()}) ended before {what}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
        _kill_pools()
        sys.modules["mpitasks.wire.world"].finalize()
        os._exit(0)

    timer = threading.Timer(EXIT_SECONDS, end)
    timer.daemon = True
    timer.start()


def _kill_pools() -> None:
    """End processes of `multiprocessing`, which would keep the launcher waiting."""
    if "multiprocessing.process" in sys.modules:
        import multiprocessing

        for process in multiprocessing.active_children():
            process.kill()


def _limit_farewell() -> None:
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(FAREWELL_SECONDS)
