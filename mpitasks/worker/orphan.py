"""A worker whose rank 0 is gone: it ends, whatever it is doing.

Launchers end the other ranks when one dies, but not all of them, and not always. On
rank 0's machine the kernel tells of its death, also while user code runs; elsewhere
MPI does where it can (`mpitasks.wire.failures`).
"""

from __future__ import annotations

import os
import signal
import time
from typing import NoReturn

from mpitasks.wire.processes import Watch

__all__ = ["perish", "watch_master"]

LINGER_SECONDS = 2.0
"""The launcher gets so long to end the run in its own way, which decides the run's exit
code."""


def watch_master(pid: int) -> Watch:
    """End this process soon after that one, until the watch is stopped."""
    watch = Watch({0: pid}, lambda name, how: perish())
    watch.start()
    return watch


def perish() -> NoReturn:
    """End this process. By a signal, which every launcher notices."""
    time.sleep(LINGER_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")
