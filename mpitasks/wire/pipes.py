"""Pipes without a name, between processes of one user on one machine.

A process makes a pipe and tells others its process id and the descriptor's number; they
open it through /proc/PID/fd (Linux). There is no name to be found, unlike that of a
socket, and the kernel lets in only who may look into the process: the same user, or
root. What goes through a pipe is not known here.
"""

from __future__ import annotations

import os
import stat

__all__ = ["make_pipe", "open_pipe"]


def make_pipe() -> tuple[int, int]:
    """Return the ends of a new pipe, to read and to write; neither ever blocks."""
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


def open_pipe(pid: int, fd: int, flags: int) -> int:
    """Open the pipe that another process has.

    Args:
        pid: The process.
        fd: Its number of either end.
        flags: As of `os.open`. With `os.O_RDWR`, writing to it after the other process
            has died is no error, and raises no SIGPIPE.

    Raises:
        OSError: This process may not, sees no such process, or that is no pipe.
    """
    # Not opened before it is known to be a pipe: to open a device may do something.
    path = f"/proc/{pid}/fd/{fd}"
    if not stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116
        raise OSError(f"{path} is no pipe")
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
