"""What SLURM says of a job: asking scontrol and sacct, and what a state means."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpitasks.errors import ConfigurationError, SlurmError
from mpitasks.slurm.inherited import for_programs

__all__ = [
    "SIGNAL_BASE",
    "Record",
    "call",
    "exit_code",
    "find_records",
    "parse_records",
    "summary",
]

CALL_SECONDS = 60.0
"""How long a busy slurmctld may take to answer."""

ALIVE = (
    "RUNNING",
    "COMPLETING",
    "STOPPED",
    "SUSPENDED",
    "REQUEUED",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
    "CONFIGURING",
    "PENDING",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "REQUEUE_FED",
    "RESV_DEL_HOLD",
)
"""States of a job that is not over, those nearest to its end first."""

SIGNAL_BASE = 128

_RANGE = re.compile(r"(\d+)(?:-(\d+))?(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Record:
    """What SLURM knows of one job, or of one job of an array.

    Attributes:
        id: As squeue shows it: 12, or 12_3 in an array.
        number: The number that is its own, also in an array; None if SLURM does not
            tell.
        restarts: How often it was queued again.
        requeue: Whether it may be queued again, as far as SLURM tells.
        state: As ``JobState``, RUNNING for instance.
        exit_code: Of the job script; 128 + n after signal n.
        reason: Why it waits, or ended.
        log: Path of the log; None if SLURM does not tell.
        folder: Where it runs.
        nodes: Its nodes, as SLURM writes them.
        name: Its name.
        started: When it started, for the last time, in seconds since 1970; None if
            SLURM does not tell.
    """

    id: str
    state: str
    exit_code: int = 0
    reason: str = ""
    log: str | None = None
    folder: str | None = None
    nodes: str = ""
    name: str = ""
    started: float | None = None
    number: str | None = None
    restarts: int = 0
    requeue: bool = True

    @property
    def over(self) -> bool:
        """Whether it will not run any more."""
        return self.state not in ALIVE

    @property
    def jobs(self) -> int:
        """How many jobs it stands for: those of an array that wait have one record."""
        _, _, tasks = self.id.partition("_")
        count = 0
        for first, last, step in _RANGE.findall(tasks.partition("%")[0]):
            count += len(range(int(first), int(last or first) + 1, int(step or 1)))
        return count or 1


def call(
    *words: str, text: str | None = None, environ: Mapping[str, str] = os.environ
) -> str:
    """Run a program of SLURM's and return what it prints.

    Args:
        *words: The program and its arguments.
        text: What it reads.
        environ: Its environment, without what launchers left and what would have it
            answer in another way.

    Raises:
        ConfigurationError: It is not there.
        SlurmError: It says no, with its own words.
    """
    try:
        done = subprocess.run(
            words,
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=CALL_SECONDS,
            errors="surrogateescape",
            env=for_programs(environ),
        )
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no {words[0]} on PATH: is this a login node of a cluster with "
            f"SLURM? Elsewhere: mpitasks -n 4 script.py"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{' '.join(words)} gave no answer in {CALL_SECONDS:.0f} s"
        ) from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()) or "no word of why"
        raise SlurmError(f"{' '.join(words)} failed:\n{said}")
    return done.stdout


def find_records(job_id: str) -> list[Record]:
    """Return what SLURM knows of a job: one record, or one for each of an array.

    Raises:
        ConfigurationError: SLURM is not there.
        SlurmError: It does not know the job.
    """
    try:
        return parse_records(call("scontrol", "show", "job", "--oneliner", job_id))
    except SlurmError as error:
        # Some minutes after its end slurmctld forgets a job; accounting does not.
        try:
            return _accounted(job_id)
        except (ConfigurationError, SlurmError):
            raise error from None


def parse_records(text: str) -> list[Record]:
    """Return the records in what ``scontrol show job --oneliner`` prints."""
    records = []
    for line in text.splitlines():
        if not line.startswith("JobId="):
            continue
        fields = dict(re.findall(r"(?:^|\s)([\w/:]+)=(\S*)", line))
        task = fields.get("ArrayTaskId")
        id = fields["JobId"] if task is None else f"{fields['ArrayJobId']}_{task}"
        code, _, signal = fields.get("ExitCode", "0:0").partition(":")
        state = fields.get("JobState", "UNKNOWN")
        records.append(
            Record(
                id,
                state,
                exit_code(state, int(code), int(signal or 0)),
                fields.get("Reason", ""),
                _path(line, "StdOut"),
                _path(line, "WorkDir"),
                fields.get("NodeList", "").replace("(null)", ""),
                fields.get("JobName", ""),
                _seconds(fields.get("StartTime", "")),
                fields["JobId"],
                int(fields.get("Restarts", "0")),
                fields.get("Requeue", "1") != "0",
            )
        )
    return records


def _seconds(when: str) -> float | None:
    """Return a time that SLURM shows, in seconds since 1970."""
    try:
        return time.mktime(time.strptime(when, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:  # Unknown, or a site has another SLURM_TIME_FORMAT
        return None


def _path(line: str, key: str) -> str | None:
    """Return a field that may hold spaces: it ends where the next one begins."""
    match = re.search(rf" {key}=(.*?)(?= [\w/:]+=|\s*$)", line)
    return match[1] if match else None


def exit_code(state: str, code: int, signal: int) -> int:
    """Return one number for how a job ended, as a shell would."""
    if signal:
        return SIGNAL_BASE + signal
    if code == 0 and state not in ("COMPLETED", *ALIVE):
        return 1  # CANCELLED, TIMEOUT, NODE_FAIL: SLURM often says 0
    return code


def _accounted(job_id: str) -> list[Record]:
    columns = "JobID,State,ExitCode,WorkDir,JobName"
    listed = call("sacct", "-X", "-n", "-P", "-j", job_id, "-o", columns)
    records = []
    for line in listed.splitlines():
        id, state, codes, folder, name = line.split("|", 4)
        code, _, signal = codes.partition(":")
        state = state.split()[0]  # "CANCELLED by 1000"
        number = exit_code(state, int(code), int(signal or 0))
        records.append(Record(id, state, number, folder=folder, name=name))
    if not records:
        raise SlurmError(f"SLURM does not know a job {job_id}")
    return records


def summary(records: Sequence[Record]) -> tuple[str, int]:
    """Return one state and one exit code for all jobs of an array.

    The state is that of the one that has farthest to go; of those that are over, one
    that did not complete. The exit code is the highest.
    """
    states = {record.state for record in records}
    code = max((record.exit_code for record in records), default=1)
    for state in ALIVE:
        if state in states:
            return state, code
    failed = sorted(states - {"COMPLETED"})
    return (failed or ["COMPLETED"])[0], code
