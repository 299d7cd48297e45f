"""Rank 0's status file: where it goes, and when it is written for the last time.

`mpitasks.observe.status` says what it holds. Loaded on rank 0 only, and only where a
status file is wanted.
"""

# ruff: noqa: PTH118

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from mpitasks import walltime
from mpitasks.api import session as sessions
from mpitasks.launch.environment import batch_job
from mpitasks.observe.accounts import label_of
from mpitasks.observe.status import Details, StatusWriter

if TYPE_CHECKING:
    from mpitasks.master.event_loop import EventLoop
    from mpitasks.scheduler.statistics import Statistics

__all__ = ["finish", "note_end", "start"]

STOPPED = 75  # the exit code of a run that ended before its end, and can be continued
SIGNALS = 128

_writer: StatusWriter | None = None


class _Counts:
    """The counts of the run of this process, also after its session is gone."""

    def __init__(self) -> None:
        self._event_loop: EventLoop | None = None
        self()

    def __call__(self) -> Statistics | None:
        session = sessions.peek()
        if session is not None:
            self._event_loop = session.event_loop
        return None if self._event_loop is None else self._event_loop.statistics()

    def details(self) -> Details:
        """Return what workers hold and keep."""
        session = sessions.peek()
        if session is None or session.event_loop.is_shut:
            return Details()
        hosts = session.accounts.hosts
        held = [
            (rank, hosts.get(rank, ""), label_of(payload), count, id)
            for rank, payload, count, id in session.event_loop.at_work()
        ]
        return Details(held, session.event_loop.kept_bytes())


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
    counts = _Counts()
    _writer = StatusWriter(
        path,
        counts,
        details=counts.details,
        state=_state,
        end=_end(),
        job=None if job is None else job.id,
    )
    _writer.start()


def note_end() -> None:
    """The job's time is up at another time."""
    if _writer is not None:
        _writer.move_end(_end())


def _end() -> float | None:
    left = walltime.time_left()
    return time.time() + left if left < math.inf else None


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
