"""The status file: a small JSON file that tells how far a run is.

Rank 0 replaces it every few seconds, whole, so that a reader never sees half of it.
`Meter` makes a record of the counts of a moment, and is pure; `StatusWriter` is the
thread that asks for the counts and writes. The counters are there anyway: a task costs
nothing more because somebody looks on. `read` and `describe` are for those who do. The
file may be of another user: `read` believes nothing, and what it returns is still for
`mpitasks.text.printable` before a terminal sees it.

`mpitasks.scheduler.statistics` has the counts.
"""

# ruff: noqa: PTH100

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mpitasks.errors import ConfigurationError
from mpitasks.files import read_regular, replacing
from mpitasks.observe.progress import duration
from mpitasks.records import as_dict, dataclass, names_of, replace
from mpitasks.scheduler.statistics import Statistics

__all__ = [
    "FORMAT",
    "Details",
    "Meter",
    "Status",
    "StatusWriter",
    "describe",
    "is_stale",
    "read",
]

FORMAT = 2
"""Raised when a reader of an older mpitasks would misunderstand the file. Files of
format 1 do not say what workers hold, and are read as well."""

SINCE_FORMAT_2: dict[str, list[Any]] = {"held": [], "kept": []}
"""The fields that those lack, and what stands for them."""

MOST_HELD = 256
"""Of more workers than these, those are told that have held their task longest."""

WRITE_SECONDS = 2.0
RATE_SECONDS = 30.0
"""The rate is that of this many seconds before now."""

MARK = "mpitasks_status"
"""The field that makes it a status file, and tells the format."""

MODE = 0o644
"""Others may look on; there are no results in it."""

MOST = 1 << 60
"""No number of a run is as large; and not a number is none."""

_TEXTS = frozenset({"state", "script", "host", "job"})
_FLOATS = frozenset({"rate", "eta", "end", "started", "written", "period"})
_ROWS = {"held": (int, str, str, int, (int, float)), "kept": (str, int)}
_OPTIONAL = frozenset({"eta", "end", "code", "job"})

STALE_PERIODS = 10
"""After this many periods without news, rank 0 counts as gone."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is; what the file holds.

    Attributes:
        state: running, draining, finished, failed or stopped.
        done: Tasks that succeeded. An item of a map counts as a task.
        running: Tasks in the hands of workers.
        failed: Tasks that failed or were lost.
        waiting: Tasks that wait for a worker.
        cancelled: Tasks taken back.
        workers: Workers that take tasks.
        rate: Tasks finished per second, lately.
        eta: Seconds until nothing is left at that rate; None if unknown.
        end: When the job's time is up, in seconds since 1970; None if unknown.
        started: When the run started, in seconds since 1970.
        written: When this was written, in seconds since 1970.
        period: Seconds from one writing to the next.
        code: The exit code, when the run is over; else None.
        script: What is run.
        host: Where rank 0 is.
        pid: Its process.
        job: The id of the job; None outside of one.
        held: What workers hold: for each its rank, its host, the name of its first
            task, how many tasks, and for how many seconds it has had the first, as far
            as was seen.
        kept: The bytes of results that workers keep, by host: lists of both.
    """

    state: str
    done: int
    running: int
    failed: int
    waiting: int
    cancelled: int
    workers: int
    rate: float
    eta: float | None
    end: float | None
    started: float
    written: float
    period: float
    code: int | None
    script: str
    host: str
    pid: int
    job: str | None
    held: list[list[Any]]
    kept: list[list[Any]]

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.code is not None


Held = tuple[int, str, str, int, int]
"""A worker's rank and host; the name of its first task, how many it has, its id."""


class Details(NamedTuple):
    """What workers hold and keep at a moment.

    Attributes:
        held: What those hold that have something.
        kept: The bytes of results that workers keep, by host.
    """

    held: Sequence[Held] = ()
    kept: Mapping[str, int] = {}


class Meter:
    """Makes records of counts, and knows the rate from those before. Pure.

    Args:
        facts: The fields of a `Status` that stay: script, host, pid, job, end,
            started, period.
    """

    def __init__(self, **facts: Any) -> None:
        self._facts = facts
        self._past: deque[tuple[float, int]] = deque()
        self._seen: dict[tuple[int, int], float] = {}

    def move_end(self, end: float | None) -> None:
        """The job's time is up at another time."""
        self._facts["end"] = end

    def take(
        self,
        counts: Statistics,
        now: float,
        *,
        state: str,
        code: int | None = None,
        details: Details | None = None,
    ) -> Status:
        """Return the record of this moment.

        Args:
            counts: What the engine counts.
            now: The time, in seconds since 1970.
            state: As in `Status`.
            code: The exit code, if the run is over.
            details: What workers hold, and keep.
        """
        details = details or Details()
        ended = counts.succeeded + counts.failed
        rate = self._rate(ended, now)
        left = counts.queued + counts.assigned
        eta = None
        if rate > 0:
            eta = left / rate
        elif left == 0 and ended:
            eta = 0.0
        return Status(
            state=state,
            done=counts.succeeded,
            running=counts.assigned,
            failed=counts.failed,
            waiting=counts.queued,
            cancelled=counts.cancelled,
            workers=counts.workers,
            rate=rate,
            eta=eta,
            written=now,
            code=code,
            held=self._since(details.held, now),
            kept=[[host, nbytes] for host, nbytes in details.kept.items() if nbytes],
            **self._facts,
        )

    def _since(self, held: Sequence[Held], now: float) -> list[list[Any]]:
        """Return what workers hold, with the seconds since it was seen first."""
        before, self._seen = self._seen, {}
        rows: list[list[Any]] = []
        for rank, host, name, tasks, task in held:
            since = before.get((rank, task), now)
            self._seen[rank, task] = since
            rows.append([rank, host, name, tasks, round(now - since, 1)])
        if len(rows) > MOST_HELD:
            rows.sort(key=lambda row: -row[-1])
            rows = sorted(rows[:MOST_HELD])
        return rows

    def _rate(self, ended: int, now: float) -> float:
        past = self._past
        past.append((now, ended))
        while len(past) > 2 and past[1][0] <= now - RATE_SECONDS:
            past.popleft()
        seconds = now - past[0][0]
        if seconds <= 0:
            return 0.0
        return (ended - past[0][1]) / seconds


NOTHING = Statistics(0, 0, 0, 0, 0, 0)


class StatusWriter(threading.Thread):
    """Writes the status file every few seconds, and a last time at the end.

    Args:
        path: The file.
        counts: Returns the counts of the moment; None if there are none yet.
        details: Returns what workers hold and keep at the moment.
        state: Returns the state of a run that is not over.
        end: When the job's time is up, in seconds since 1970, if that is known.
        job: The id of the job, if there is one.
        period: Seconds from one writing to the next.
    """

    def __init__(
        self,
        path: str,
        counts: Callable[[], Statistics | None],
        *,
        details: Callable[[], Details] = Details,
        state: Callable[[], str] = lambda: "running",
        end: float | None = None,
        job: str | None = None,
        period: float = WRITE_SECONDS,
    ) -> None:
        super().__init__(name="mpitasks-status", daemon=True)
        self.path = os.path.abspath(path)
        self._counts = counts
        self._details = details
        self._state = state
        self._period = period
        self._over = threading.Event()
        self._complained = False
        self._workers = 0
        self._meter = Meter(
            script=" ".join(sys.argv),
            host=socket.gethostname(),
            pid=os.getpid(),
            job=job,
            end=end,
            started=time.time(),
            period=period,
        )

    def move_end(self, end: float | None) -> None:
        """The job's time is up at another time, in seconds since 1970."""
        self._meter.move_end(end)

    def run(self) -> None:
        """Write until `finish`; called by the thread itself."""
        while True:
            self._write(self._state(), None)
            if self._over.wait(self._period):
                return

    def finish(self, code: int, state: str) -> None:
        """Write for the last time; may be called again, which changes nothing.

        Args:
            code: The exit code of the run.
            state: finished, failed or stopped.
        """
        if self._over.is_set():
            return
        self._over.set()
        if self.ident is not None:
            self.join()
        self._write(state, code)

    def _write(self, state: str, code: int | None) -> None:
        counts = self._counts() or NOTHING
        if code is None:
            self._workers = counts.workers
            details = self._details()
        else:
            details = Details()
            counts = replace(counts, workers=self._workers)  # they have left by then
        status = self._meter.take(
            counts, time.time(), state=state, code=code, details=details
        )
        try:
            write(self.path, status)
        except OSError as error:
            # The run is worth more than its status; said once.
            if not self._complained:
                self._complained = True
                print(f"mpitasks: no status file: {error}", file=sys.stderr)


def write(path: str, status: Status) -> None:
    """Replace the file, at once and whole.

    Raises:
        OSError: It cannot be written, or is a file of something else.
    """
    import json

    text = json.dumps({MARK: FORMAT, **as_dict(status)}, indent=1) + "\n"
    with replacing(path, _is_status, mode=MODE) as file:
        file.write(text.encode())


def _is_status(head: bytes) -> bool:
    return head.lstrip().startswith(b"{") and MARK.encode() in head


def read(path: str) -> Status:
    """Read a status file, which anybody may have written.

    Raises:
        ConfigurationError: It is not there, cannot be read, or is none.
    """
    import json

    try:
        fields = json.loads(read_regular(path))
        version = fields.pop(MARK)
    except OSError as error:
        raise ConfigurationError(f"no status: {error}") from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise ConfigurationError(f"{path} is no status file of mpitasks") from None
    if version == 1:
        fields = {**SINCE_FORMAT_2, **fields}
    elif version != FORMAT:
        raise ConfigurationError(
            f"{path} is a status file of format {version!r:.20}, and this mpitasks "
            f"reads up to {FORMAT}: look at it with the mpitasks that runs the job"
        )
    if fields.keys() != set(names_of(Status)):
        raise ConfigurationError(f"{path} is damaged: fields are missing")
    for name, value in fields.items():
        if not _may_be(name, value):
            raise ConfigurationError(f"{path} is damaged: {name} is {value!r:.40}")
    return Status(**fields)


def _may_be(name: str, value: Any) -> bool:
    """Whether a field can have a value."""
    if value is None:
        return name in _OPTIONAL
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _ROWS:
        return isinstance(value, list) and all(
            _is_row(row, _ROWS[name]) for row in value
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    whole = name not in _FLOATS
    return -MOST < value < MOST and not (whole and isinstance(value, float))


def _is_row(row: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether a list has values of these kinds."""
    return (
        isinstance(row, list)
        and len(row) == len(kinds)
        and all(map(isinstance, row, kinds))
        and all(-MOST < each < MOST for each in row if not isinstance(each, str))
    )


def is_stale(status: Status, now: float) -> bool:
    """Whether rank 0 must be gone: it has not written for long, and has not ended."""
    return not status.over and now - status.written > STALE_PERIODS * status.period


def describe(status: Status, now: float) -> list[str]:
    """Return the lines that tell a human what the record says.

    Args:
        status: The record.
        now: The time, in seconds since 1970.
    """
    age = max(now - status.written, 0.0)
    total = status.done + status.running + status.failed + status.waiting
    state = status.state
    if status.over:
        state += f" with exit code {status.code}"
    elif is_stale(status, now):
        state = (
            f"gone: rank 0 (pid {status.pid} on {status.host}) has not written since"
        )
    lines = [
        f"{status.script}: {state}, {_seconds(age)} ago"
        if status.over or is_stale(status, now)
        else f"{status.script}: {state} for {_seconds(now - status.started)} on "
        f"{status.workers} workers",
        f"tasks: {status.done} done, {status.running} running, {status.failed} failed, "
        f"{status.waiting} waiting, of {total}"
        + (f"; {status.cancelled} cancelled" if status.cancelled else ""),
    ]
    if not status.over and not is_stale(status, now):
        lines.append(progress(status, now))
    return lines


def progress(status: Status, now: float) -> str:
    """Return one line on how fast it goes and how long it takes."""
    parts = [f"rate: {status.rate:.3g} tasks/s"]
    if status.eta is not None:
        parts.append(f"{_seconds(status.eta)} to go")
    if status.end is not None:
        parts.append(f"{_seconds(max(status.end - now, 0.0))} of the job's time left")
    return ", ".join(parts)


def _seconds(seconds: float) -> str:
    """Return a duration for a human, in whole seconds at least."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return duration(seconds)
