"""A worker whose rank 0 is gone: it ends, whatever it is doing.

Launchers end the other ranks when one dies, but not all of them, and not always. On
rank 0's machine the kernel tells of its death, also while user code runs; elsewhere
MPI does where it can (`mpitasks.wire.ulfm`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from mpitasks import exit_codes
from mpitasks.wire.processes import Watch

if TYPE_CHECKING:
    from mpitasks.wire.lifeline import Lifeline

__all__ = ["bound_to", "perish"]

LINGER_SECONDS = 2.0
"""How long the launcher gets to end the run in its own way, which decides the exit code
of the run."""

_line: Lifeline | None = None

_exit = os._exit  # not what `mpitasks.worker.exits` makes of it


@contextlib.contextmanager
def bound_to(pid: int | None, run: str | None) -> Iterator[None]:
    """Meanwhile, end this process soon after rank 0.

    Args:
        pid: Rank 0's process, if it is on this machine.
        run: The run's name, if rank 0 offers a lifeline.
    """
    global _line
    if run is not None:
        from mpitasks.wire.lifeline import Lifeline

        with contextlib.suppress(OSError):
            _line = Lifeline(run)
    watch = None
    if pid is not None:
        watch = Watch({0: pid}, lambda name, how: perish())
        watch.start()
    try:
        yield
    finally:
        if _line is not None:
            _line.release()
            _line = None
        if watch is not None:
            watch.stop()


def perish() -> NoReturn:
    """End this process."""
    time.sleep(LINGER_SECONDS)
    if _line is not None:
        # Rank 0 is gone and the line holds: it aborted, and its exit code counts.
        os.kill(os.getpid(), signal.SIGKILL)
    # Open MPI's mpiexec with ULFM would return 0 if rank 0 was killed by a signal.
    _exit(exit_codes.LOST)
