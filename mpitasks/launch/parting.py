"""What every way out of rank 0 does last: it tells others the exit code.

The status file, and who supervises mpiexec (`mpitasks.launch.supervise`), if anybody.

Rank 0 ends in several places: at the end of the script, by a signal, by an abort. It is
light, because every rank comes through here; the file is `mpitasks.launch.reporting`'s.
"""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["SUPERVISOR", "bound_farewell", "report_to_supervisor", "tell_end"]

FAREWELL_SECONDS = 10

SUPERVISOR = "MPITASKS_SUPERVISOR"
"""The variable with the name of the supervisor's socket."""

_supervisor: str | None = None


def report_to_supervisor() -> None:
    """On rank 0: tell the supervisor, if there is one, who it is; later the code."""
    global _supervisor
    _supervisor = os.environ.pop(SUPERVISOR, None)
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


def _limit_farewell() -> None:
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(FAREWELL_SECONDS)
