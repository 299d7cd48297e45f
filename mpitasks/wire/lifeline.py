"""Ends a worker with rank 0 even while C code holds Python's global lock.

A thread cannot: it waits for that lock. The kernel can: rank 0 listens on a local
socket with an abstract name (no file, no port; Linux only), the workers of its machine
connect, and nothing is ever sent. When rank 0 dies, the kernel closes the connection
and sends each worker the signal that it asked for. The handler is the C library's own
`_exit`, which needs no Python; its argument, the signal's number, becomes the exit
code. (Open MPI's mpiexec with ULFM takes deaths by signals for part of a success.)

For runs whose launcher may leave workers behind. It strikes at once, so where launchers
end the ranks themselves, it might come before them and change the run's exit code.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

from mpitasks import forks

__all__ = ["Lifeline", "hold_lifeline", "offer_lifeline"]

_F_SETSIG = 10  # fcntl(2); not in Python's fcntl


HOLD_SECONDS = 4
"""Seconds after an abort in which the ranks are ended, or end by themselves."""

_listener: socket.socket | None = None


def offer_lifeline(run: str) -> None:
    """On rank 0: let workers of this machine hold on to this process.

    Args:
        run: The run's name.
    """
    global _listener
    if sys.platform != "linux":
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(_address(run))
        listener.listen(4096)  # nobody accepts: they wait in this line for ever
    except OSError:
        listener.close()
        return
    _listener = listener
    forks.in_child(_drop)  # or it would outlive this process there


def _drop() -> None:
    if _listener is not None:
        _listener.close()


def hold_lifeline() -> None:
    """On rank 0, which is about to abort: have the workers hold out a moment longer.

    Else they would be gone before the launcher knows of the abort, and it would take
    their exit code for the run's. A process that only sleeps has the socket meanwhile.
    """
    if _listener is not None:
        _listener.set_inheritable(True)
        with contextlib.suppress(OSError):
            os.posix_spawnp("sleep", ["sleep", str(HOLD_SECONDS)], os.environ)


class Lifeline:
    """A worker's hold on rank 0.

    Args:
        run: The run's name.

    Raises:
        OSError: Rank 0 is not on this machine, or offers none.
    """

    def __init__(self, run: str) -> None:
        if sys.platform != "linux":
            raise OSError("abstract socket names are Linux's")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(_address(run))
            peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", peer)[1] != os.getuid():
                raise OSError("that socket is another user's")
            libc = ctypes.CDLL(None)
            leave = ctypes.cast(libc._exit, ctypes.c_void_p)
            libc.signal(_number(), leave)
            fd = self._socket.fileno()
            fcntl.fcntl(fd, _F_SETSIG, _number())
            fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)
        except OSError:
            self._socket.close()
            raise

    def release(self) -> None:
        """Outlive rank 0 from now on. Also where a child process has the socket."""
        with contextlib.suppress(OSError):
            fd = self._socket.fileno()
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_ASYNC)
        self._socket.close()


def _number() -> int:
    """Return a signal that nobody else uses."""
    return signal.SIGRTMAX - 2


def _address(run: str) -> str:
    return f"\0mpitasks-{run}-life"
