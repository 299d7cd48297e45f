"""``mpitasks status JOBID|FILE``: how far a job or any run is, from its status file."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpitasks.errors import ConfigurationError, SlurmError
from mpitasks.launch.verbs import UsageError, VerbParser
from mpitasks.observe import status as statuses
from mpitasks.records import as_dict
from mpitasks.slurm import paths
from mpitasks.slurm.job_records import SIGNAL_BASE, Record, find_records
from mpitasks.text import json_line, printable

if TYPE_CHECKING:
    from mpitasks.observe.status import Status

__all__ = ["ask", "find_status", "main", "parse", "show_record", "status_path"]

CLOCKS_SECONDS = 3.0

ENDED_BY_SLURM = ("CANCELLED", "DEADLINE", "PREEMPTED", "TIMEOUT")

EPILOG = """\
A run inside a SLURM job writes its status file by itself; any other one does so with
--status FILE:   mpiexec -n 8 python -m mpitasks --status fit.status fit.py"""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``status`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks status",
        description="Show how far a run is: what is done, and how long it will take.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "target", metavar="JOBID|FILE", help="a job of SLURM, or a status file"
    )
    parser.add_argument(
        "--json", action="store_true", help="print it as JSON, one line for each job"
    )
    return parser.parse_args(words)


def main(options: argparse.Namespace) -> None:
    """Show the status.

    Raises:
        ConfigurationError: There is none to show.
        SlurmError: SLURM does not know the job, and no file of it is here.
    """
    target = options.target
    is_there = os.path.lexists(target)
    if re.fullmatch(r"\d+(_\d+)?", target) and not is_there:
        lines = _of_job(target, as_json=options.json)
    elif is_there:
        lines = _of_file(target, as_json=options.json)
    else:
        raise UsageError(f"{target!r} is neither a file here nor the id of a job")
    print("\n".join(map(printable, lines)))


def _of_file(path: str, *, as_json: bool) -> list[str]:
    status = statuses.read(path)
    if as_json:
        return [json_line(as_dict(status))]
    return statuses.describe(status, time.time())


def _of_job(job_id: str, *, as_json: bool) -> list[str]:
    try:
        records = ask(job_id)
    except (ConfigurationError, SlurmError):
        # Forgotten by SLURM, or this is another machine: a file may still be here.
        kept = sorted(str(path) for path in Path().glob(f"*-{job_id}.status"))
        if not kept:
            raise
        return [line for path in kept for line in _of_file(path, as_json=as_json)]
    now = time.time()
    found = [(record, find_status(record)) for record in records]
    if as_json:
        return [_as_json(record, status) for record, status in found]
    if len(found) == 1:
        return show_record(*found[0], now)
    states: Counter[str] = Counter()
    for record in reversed(records):  # SLURM tells the newest first
        states[record.state] += record.jobs
    tally = ", ".join(f"{count} {state}" for state, count in states.items())
    return [f"job {job_id}: {tally}", *(_row(*pair, now) for pair in reversed(found))]


def _as_json(record: Record, status: Status | None) -> str:
    return json_line(
        {
            "job": record.id,
            "state": record.state,
            "exit_code": record.exit_code if record.over else None,
            "status": None if status is None else as_dict(status),
        }
    )


def find_status(record: Record) -> Status | None:
    """Return what the status file of a job says; None if there is none yet.

    Raises:
        ConfigurationError: There is one that cannot be read.
    """
    path = status_path(record)
    return None if path is None else statuses.read(path)


def status_path(record: Record) -> str | None:
    """Return where the status file of a job is; None if there is none yet."""
    candidates = []
    if record.log is not None and not record.log.startswith("/dev/"):
        candidates += paths.beside_log(record.log, record.id, record.number)
    if record.folder is not None:
        candidates += sorted(Path(record.folder).glob(f"*-{record.id}.status"))
    for path in candidates:
        if os.path.exists(path):  # noqa: PTH110  never raises
            return str(path)
    return None


def ask(job_id: str) -> list[Record]:
    """Return what is known of a job, each of an array, with rank 0's exit code.

    An srun that is told to abort kills all ranks, and says that they were killed. What
    rank 0 wanted to end with is in the status file.

    Raises:
        ConfigurationError: SLURM is not there.
        SlurmError: It does not know the job.
    """
    return [_with_own_code(record) for record in find_records(job_id)]


def _with_own_code(record: Record) -> Record:
    # What SLURM has ended, by scancel or because its time was up, may have ended by
    # itself before the last.
    failed = record.state == "FAILED" and record.exit_code > SIGNAL_BASE
    if not failed and record.state not in ENDED_BY_SLURM:
        return record
    try:
        status = find_status(record)
    except ConfigurationError:
        return record
    if status is None or not status.code or record.started is None:
        return record
    # Not what an earlier round has left; the clocks of two hosts may differ a bit.
    if status.started < record.started - CLOCKS_SECONDS:
        return record
    return replace(record, exit_code=status.code)


def show_record(record: Record, status: Status | None, now: float) -> list[str]:
    """Return the lines that tell of one job.

    Args:
        record: What SLURM says of it.
        status: What its status file says, if it has one.
        now: The time, in seconds since 1970.
    """
    head = f"job {record.id} ({record.name}): {record.state}"
    if record.over:
        head += f", exit code {record.exit_code}"
    elif record.state == "PENDING":
        head += f", waits ({record.reason})"
    elif record.nodes:
        head += f" on {record.nodes}"
    if status is None:
        told = "no status file" if record.over else "no status yet"
        return [head, f"{told}; the log is {record.log}"]
    lines = statuses.describe(status, now)
    if record.over and not status.over:
        lines = [f"{status.script}: ended without a last word", lines[1]]
    return [head, *lines]


def _row(record: Record, status: Status | None, now: float) -> str:
    """Return one line for one job of an array."""
    row = f"{record.id} {record.state}"
    if record.over:
        row += f", exit code {record.exit_code}"
    if status is None:
        return row
    total = status.done + status.running + status.failed + status.waiting
    row += f": {status.done} of {total} tasks done, {status.failed} failed"
    if not (record.over or status.over):
        row += f"; {statuses.progress(status, now)}"
    return row
