"""Rank 0's status file: where it goes, and when it is written for the last time.

What it holds, is in `mpitasks.observe.status`. Loaded on rank 0 only, and only where a
status file is wanted.
"""

# ruff: noqa: PTH118

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from mpitasks import walltime
from mpitasks.launch.environment import batch_job
from mpitasks.master import session as sessions
from mpitasks.observe.status import Writer

if TYPE_CHECKING:
    from mpitasks.core.statistics import Statistics
    from mpitasks.master.pump import Pump

__all__ = ["finish", "start"]

STOPPED = 75  # the exit code of a run that ended before its end, and can be continued
SIGNALS = 128

_writer: Writer | None = None


class _Counts:
    """The counts of the run of this process, also after its session is gone."""

    def __init__(self) -> None:
        self._pump: Pump | None = None
        self()

    def __call__(self) -> Statistics | None:
        session = sessions.peek()
        if session is not None:
            self._pump = session.pump
        return None if self._pump is None else self._pump.statistics()


def _state() -> str:
    return "draining" if walltime.stopping() else "running"


def start(path: str | None) -> None:
    """Write the status of the run from now on.

    Args:
        path: The file; None for one named after the job, in the folder it was
            submitted from.
    """
    global _writer
    job = batch_job()
    if path is None:
        if job is None:
            return
        path = os.path.join(job.folder, f"mpitasks-{job.id}.status")
    _writer = Writer(
        path,
        _Counts(),
        state=_state,
        end=time.time() + left if (left := walltime.time_left()) < math.inf else None,
        job=None if job is None else job.id,
    )
    _writer.start()


def finish(code: int) -> None:
    """Write the status for the last time.

    Args:
        code: The exit code of the run.
    """
    if _writer is None:
        return
    if code == 0:
        state = "finished"
    elif code == STOPPED or code > SIGNALS:
        state = "stopped"
    else:
        state = "failed"
    _writer.finish(code, state)
