"""``submit --wait``: the log as it grows, the progress now and then, the exit code."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpitasks.errors import ConfigurationError
from mpitasks.files import open_regular
from mpitasks.observe import status as statuses
from mpitasks.slurm.job_records import Record, summary
from mpitasks.slurm.show import find_status
from mpitasks.text import printable

if TYPE_CHECKING:
    from mpitasks.slurm.job import Job

__all__ = ["Tail", "follow"]

LOOK_SECONDS = 0.5
"""How often the log is looked at."""

ASK_SECONDS = 2.0
"""How often slurmctld is asked, at most."""

PROGRESS_SECONDS = 10.0
"""How often a line of progress is shown, at most."""

SEEN_BYTES = 4096
"""By so much of what was shown it is seen that a log begins anew."""

SETTLE_SECONDS = 10.0
"""Seconds until the end of a log is seen on a shared file system, at most."""


class Tail:
    """What is new in a file that another program writes, and may begin anew.

    Args:
        path: The file, which need not be there yet.
        label: Stands before each line; then only whole lines are shown.
    """

    def __init__(self, path: Path, label: str = "") -> None:
        self._path = path
        self._label = label.encode()
        self._at = 0
        self._seen = b""  # the last that was shown
        self._rest = b""  # of a line that has no end yet
        self._refused = False  # it is no file, and that was said
        self.there = False

    def show(self) -> bool:
        """Copy what is new to stdout; return whether there was anything."""
        if self._refused:
            return False
        try:
            descriptor = open_regular(str(self._path))
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                self.there = True
                if self._is_anew(file):
                    _say(f"{self._path} begins anew: the job was started again")
                    self.finish()
                    self._at, self._seen = 0, b""
                if self._at:
                    file.seek(self._at)
                new = file.read()
        except FileNotFoundError:
            return False
        except OSError as error:  # to read a pipe, say, would wait for ever
            self._refused = self.there = True
            _say(f"what the job prints is not shown: {error}")
            return False
        self._at += len(new)
        self._seen = (self._seen + new)[-SEEN_BYTES:]
        self._copy(new)
        return bool(new)

    def finish(self) -> None:
        """Copy a last line that has no end."""
        if self._rest:
            self._copy(b"\n")

    def _is_anew(self, file: io.FileIO) -> bool:
        """Whether it does not hold any more what was shown."""
        if not self._seen:
            return False
        start = self._at - len(self._seen)
        return os.pread(file.fileno(), len(self._seen), start) != self._seen

    def _copy(self, new: bytes) -> None:
        if self._label:
            *lines, self._rest = (self._rest + new).split(b"\n")
            new = b"".join(b"%s: %s\n" % (self._label, line) for line in lines)
        if new:
            sys.stdout.buffer.write(new)
            sys.stdout.buffer.flush()


class Logs:
    """The logs of a job; of an array those of all its jobs, line by line.

    Args:
        job: The job.
        array: Whether it is an array.
    """

    def __init__(self, job: Job, *, array: bool) -> None:
        self._job = job
        self._array = array
        self._tails: dict[str, Tail] = {}
        self._over: set[str] = set()
        self._ran: set[str] = set()
        if not array:
            self._tails[job.id] = Tail(job.log)

    def take(self, records: Sequence[Record]) -> None:
        """Take in which jobs there are, and show what is new."""
        for record in records:
            id = record.id if self._array else self._job.id
            if self._array and record.state != "PENDING" and id not in self._tails:
                log = str(self._job.log).replace("%a", id.partition("_")[2])
                self._tails[id] = Tail(Path(record.log or log), id)
            if record.state in ("COMPLETED", "FAILED"):
                self._ran.add(id)
        self.show()
        # An array may have thousands: those that are over are looked at no more.
        self._over = {record.id for record in records if record.over and self._array}

    def show(self) -> bool:
        """Show what is new; return whether there was anything."""
        news = [tail.show() for id, tail in self._tails.items() if id not in self._over]
        return any(news)

    def finish(self) -> None:
        """All jobs are over: show the rest.

        Nothing says how long a log will be; one of which nothing is there yet is waited
        for longest.
        """
        self._over.clear()
        end = time.monotonic() + SETTLE_SECONDS
        while self.show() or (self._is_missing() and time.monotonic() < end):
            time.sleep(LOOK_SECONDS)
        for tail in self._tails.values():
            tail.finish()

    def _is_missing(self) -> bool:
        return not all(self._tails[id].there for id in self._ran if id in self._tails)


def follow(job: Job, *, array: bool) -> int:
    """Show the log and the progress until the job is over; return its exit code.

    Ctrl-C ends the following, not the job.

    Args:
        job: The job.
        array: Whether it is an array.

    Raises:
        SlurmError: SLURM does not know the job any more, or does not answer.
    """
    try:
        records = _follow(job, Logs(job, array=array))
    except KeyboardInterrupt:
        _say(
            f"job {job.id} goes on; mpitasks status {job.id} tells how far it is, "
            f"scancel {job.id} ends it"
        )
        raise
    state, code = summary(records)
    if state != "COMPLETED":
        _say(f"job {job.id}: {state}, exit code {code}; the log is {job.log}")
    return code


def _follow(job: Job, logs: Logs) -> list[Record]:
    pause = LOOK_SECONDS / 2
    shown = time.monotonic()
    state = ""
    while True:
        records = job.records()
        logs.take(records)
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
            logs.show()
        pause = min(pause * 1.5, ASK_SECONDS)
    logs.finish()
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
    print(f"mpitasks: {printable(text)}", file=sys.stderr, flush=True)
