"""Where the processes for isolated tasks start: an interpreter that a rank executes.

The rank's side is `mpitasks.worker.sandbox`. This process becomes the fork server, and
each child it forks comes back here to serve.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys

from mpitasks import forks, randomness
from mpitasks.launch.light_mpi import never_start_mpi
from mpitasks.master import session as sessions
from mpitasks.worker import context, forkserver
from mpitasks.worker.channel import Channel
from mpitasks.worker.isolated import Isolated
from mpitasks.worker.mirror import follow
from mpitasks.worker.slate import Slate

__all__ = ["main"]


def main(fd: int, rank: int, where: str, argv: list[str]) -> None:
    """Serve the rank at the other end of a socket.

    Args:
        fd: The socket.
        rank: The rank's number.
        where: What to call it in tracebacks.
        argv: Its `sys.argv`.
    """
    sys.argv[:] = argv
    sessions.install_worker(rank)  # so that no task makes an Executor here
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
    never_start_mpi()
    with contextlib.suppress(ImportError):
        import cloudpickle  # noqa: F401  functions of scripts need it
    control = socket.socket(fileno=fd)
    fds = forkserver.serve(control)
    if fds is None:
        return
    end, page = fds
    channel = Channel(socket.socket(fileno=end))
    slate = Slate(page)
    os.close(page)
    isolated = Isolated(channel, slate, f"{where}, in its child (pid {os.getpid()})")
    follow(isolated.functions)
    context.provide(isolated.current_task)
    randomness.provide(isolated.draw)
    forks.begin()
    forks.in_child(isolated.disown)
    isolated.serve()
    channel.close()
