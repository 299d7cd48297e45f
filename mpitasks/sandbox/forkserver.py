"""The process that a rank's children are forked from. It never runs user code.

Forking the rank itself would copy a process in which MPI and its threads run. So the
rank executes a fresh interpreter, once, which imports what every child needs and then
only forks: a child is there in milliseconds, as often as one crashes. The server also
ends children, with all that they have started: whatever they leave behind becomes the
server's own child (PR_SET_CHILD_SUBREAPER). The server ends when its rank does, at the
latest when its socket is closed, and its children end with it.

Orders and answers, one packet each: ``NEW`` with the descriptors of a channel, a
progress page and a file for crash reports is answered by the child's process id;
``END`` kills the child and is answered by its status and its peak of resident memory in
KiB; ``LOAD`` imports NumPy for the children to come and is not answered.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import socket
import sys
import warnings
from types import FrameType

from mpitasks.sandbox.channel import PACKET_BYTES, receive_packet, send_packet

__all__ = ["END", "LOAD", "NEW", "serve"]

NEW, END, LOAD = b"new", b"end", b"load"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)


def serve(control: socket.socket) -> list[int] | None:
    """Serve the rank at the other end of the socket.

    Returns:
        In each child, the descriptors that it was given; None in the server, when the
        rank is gone.
    """
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # these pages stay shared with the children
    own = os.getpid()
    room = bytearray(PACKET_BYTES)
    child = 0
    try:
        while (packet := receive_packet(control, room)) is not None:
            size, fds = packet
            order = bytes(room[:size])
            if order == NEW:
                child = _fork()
                if not child:
                    control.close()
                    _grow_up(own, fds[-1])
                    return fds[:-1]
                for fd in fds:
                    os.close(fd)
                send_packet(control, b"%d" % child)
            elif order == END:
                send_packet(control, b"%d %d" % _end(child))
                child = 0
            elif order == LOAD:
                _load_numpy()
    except (BrokenPipeError, _Leaving):
        pass
    finally:
        if os.getpid() == own:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _end(child)
    return None


class _Leaving(BaseException):
    """The rank is gone, or somebody wants this process to go."""


def _leave(number: int, frame: FrameType | None) -> None:
    raise _Leaving


def _fork() -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings():
        # Threads of a BLAS library, which knows how to be forked.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _grow_up(parent: int, report: int) -> None:
    """In the child: become a process of its own, that ends with the server."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123  pathlib is slow to import
        file.write("1000")  # if memory runs out, this one goes
    faulthandler.enable(report, all_threads=False)
    if "numpy.random" in sys.modules:
        # Or each child would begin with the same random numbers.
        sys.modules["numpy.random"].seed()


def _load_numpy() -> None:
    with contextlib.suppress(Exception):
        import numpy.random  # noqa: F401
    gc.collect()
    gc.freeze()


def _end(child: int) -> tuple[int, int]:
    """Kill the child and whatever it has started; return its status and its peak."""
    found = 0, 0
    if child:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)  # before it had a group of its own
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return found
        if pid == child:
            found = status, usage.ru_maxrss


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children") as file:  # noqa: PTH123
            return [int(word) for word in file.read().split()]
    except OSError:
        return []
