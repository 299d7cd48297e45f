"""Where the processes for isolated tasks start: an interpreter that a rank executes.

The rank's side is `mpitasks.sandbox.sandbox`. This process becomes the fork server, and
each child it forks comes back here to serve.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
import threading

from mpitasks import forks, randomness
from mpitasks.api import session as sessions
from mpitasks.launch.light_mpi import never_start_mpi
from mpitasks.launch.task_session import session_of_task
from mpitasks.runner import context, nesting
from mpitasks.runner.mirror import follow
from mpitasks.sandbox import forkserver
from mpitasks.sandbox.channel import Channel
from mpitasks.sandbox.child import Isolated
from mpitasks.sandbox.progress_page import ProgressPage

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
    sessions.install_worker(rank)
    sessions.answer_tasks(session_of_task)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
    never_start_mpi()
    with contextlib.suppress(ImportError):
        import cloudpickle  # noqa: F401  functions of scripts need it
    with socket.socket(fileno=fd) as control:
        fds = forkserver.serve(control)
    if fds is None:
        return
    end, page_fd = fds
    channel = Channel(socket.socket(fileno=end))
    page = ProgressPage(page_fd)
    os.close(page_fd)
    isolated = Isolated(channel, page, f"{where}, in its child (pid {os.getpid()})")
    follow(isolated.functions)
    context.provide(isolated.current_task)
    randomness.provide(isolated.draw)
    host = socket.gethostname()
    home = nesting.Home(rank, host, where, isolated, threading.get_ident())
    nesting.settle_in(home)
    forks.begin()
    forks.in_child(isolated.disown)
    isolated.serve()
    isolated.on_leave()
    channel.close()
