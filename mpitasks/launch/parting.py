"""What every way out of rank 0 does last: it tells others the exit code.

The status file, and who supervises mpiexec (`mpitasks.launch.supervise`), if anybody.

Rank 0 ends in several places: at the end of the script, by a signal, by an abort. It is
light, because every rank comes through here; the file is `mpitasks.launch.reporting`'s.
"""

from __future__ import annotations

import contextlib
import os
import sys

from mpitasks.subprocesses import LAUNCH

__all__ = [
    "SUPERVISOR",
    "bound_exit",
    "bound_farewell",
    "report_to_supervisor",
    "tell_end",
]

FAREWELL_SECONDS = 10

EXIT_SECONDS = 30.0
"""What tasks have left in a worker, threads and exit functions, gets so long."""

SUPERVISOR = "MPITASKS_SUPERVISOR"
"""The variable with the name of the supervisor's socket."""

_supervisor: str | None = None


def report_to_supervisor() -> None:
    """On rank 0: tell the supervisor, if there is one, who it is; later the code."""
    global _supervisor
    _supervisor = LAUNCH.get(SUPERVISOR)
    _report(f"pid {os.getpid()}")


def _report(text: str) -> None:
    if _supervisor is not None:
        import socket

        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth,
        ):
            mouth.sendto(text.encode(), f"\0{_supervisor}")


def tell_end(code: int) -> None:
    """Tell the exit code to whoever wants to know."""
    _report(f"code {code}")
    reporting = sys.modules.get("mpitasks.launch.reporting")
    if reporting is not None:
        reporting.finish(code)


def bound_farewell() -> None:
    """Where ranks were lost, see to it that the script's end does not wait for them.

    mpi4py ends MPI when Python exits, and that may wait for ever for a rank that died
    without MPI's knowledge. The process is ended by SIGALRM then.
    """
    mpi = sys.modules.get("mpitasks.wire.mpi")
    if mpi is not None and mpi.maimed():
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
