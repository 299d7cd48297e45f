"""``submit --wait``: the log as it grows, the progress now and then, the exit code."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mpitasks.errors import ConfigurationError
from mpitasks.launch.slurm.records import Record, summary
from mpitasks.launch.slurm.show import find_status
from mpitasks.observe import status as statuses

if TYPE_CHECKING:
    from mpitasks.launch.slurm.job import Job

__all__ = ["Tail", "follow"]

LOOK_SECONDS = 0.5
"""How often the log is looked at."""

ASK_SECONDS = 2.0
"""How often slurmctld is asked, at most."""

PROGRESS_SECONDS = 10.0
"""How often a line of progress is shown, at most."""

SETTLE_SECONDS = 10.0
"""On a shared file system the end of the log may be seen only after so long."""


class Tail:
    """What is new in a file that another program writes.

    Args:
        path: The file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None

    def show(self) -> bool:
        """Copy what is new to stdout; return whether there was anything."""
        if self._file is None:
            try:
                self._file = self._path.open("rb", buffering=0)
            except FileNotFoundError:
                return False
        new = self._file.read()
        if new:
            sys.stdout.buffer.write(new)
            sys.stdout.buffer.flush()
        return bool(new)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def follow(job: Job, *, array: bool) -> int:
    """Show the log and the progress until the job is over; return its exit code.

    Ctrl-C ends the following, not the job.

    Args:
        job: The job.
        array: Whether it is an array; then there are many logs, and none is shown.

    Raises:
        SlurmError: SLURM does not know the job any more, or does not answer.
    """
    tail = None if array else Tail(job.log)
    try:
        records = _follow(job, tail)
    except KeyboardInterrupt:
        _say(
            f"job {job.id} goes on; mpitasks status {job.id} tells how far it is, "
            f"scancel {job.id} ends it"
        )
        raise
    finally:
        if tail is not None:
            tail.close()
    state, code = summary(records)
    if state != "COMPLETED":
        _say(f"job {job.id}: {state}, exit code {code}; the log is {job.log}")
    return code


def _follow(job: Job, tail: Tail | None) -> list[Record]:
    pause = LOOK_SECONDS / 2
    shown = time.monotonic()
    state = ""
    while True:
        records = job.records()
        if tail is not None:
            tail.show()
        if all(record.over for record in records):
            break
        now = summary(records)[0]
        if now != state:
            _say(f"job {job.id}: {now}")
            state = now
        if time.monotonic() - shown >= PROGRESS_SECONDS:
            shown = time.monotonic()
            _show_progress(records)
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
            if tail is not None:
                tail.show()
        pause = min(pause * 1.5, ASK_SECONDS)
    if tail is not None:
        end = time.monotonic() + SETTLE_SECONDS
        # Nothing says how long the log will be; an empty one is waited for longest.
        while tail.show() or (not job.log.exists() and time.monotonic() < end):
            time.sleep(LOOK_SECONDS)
    return records


def _show_progress(records: list[Record]) -> None:
    """Say how far the jobs are that run, each in one line."""
    for record in records:
        if record.over or record.state == "PENDING":
            continue
        try:
            status = find_status(record)
        except ConfigurationError as error:
            _say(str(error))
            continue
        if status is not None and not status.over:
            total = status.done + status.running + status.failed + status.waiting
            _say(
                f"job {record.id}: {status.done} of {total} tasks done, "
                f"{status.failed} failed; {statuses.progress(status, time.time())}"
            )


def _say(text: str) -> None:
    print(f"mpitasks: {text}", file=sys.stderr, flush=True)
