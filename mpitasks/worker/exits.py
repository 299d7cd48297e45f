"""Ends of a rank that nobody overlooks: no launcher, and no user.

A rank that ends by `os._exit` in the middle of a task is dead for everybody else, but
launchers see a program that ended by itself: MPICH's may take code 0 for the success
of the whole job, Open MPI's reports codes other than 0 to nobody. Death by a signal is
what all of them understand. And since some launchers end rank 0 before it can say
what happened, the rank that dies says so itself, if it can.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["made_visible"]

_exit = os._exit


@contextlib.contextmanager
def made_visible(where: str) -> Iterator[None]:
    """Have `os._exit` end this process by SIGKILL meanwhile; not its forked children.

    Crashes in C code print where Python was.

    Args:
        where: Rank, host and process.
    """
    rank = os.getpid()

    def exit_visibly(status: int) -> NoReturn:
        """End the process at once; see `mpitasks.worker.exits`."""
        if os.getpid() == rank:
            text = f"mpitasks: a task called os._exit({status}) and ended {where}\n"
            os.write(2, text.encode())
            os.kill(rank, signal.SIGKILL)
        _exit(status)

    os._exit = exit_visibly
    if not faulthandler.is_enabled():
        faulthandler.enable(file=2, all_threads=False)
    try:
        yield
    finally:
        os._exit = _exit
