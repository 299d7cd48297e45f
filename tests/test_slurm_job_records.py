"""What SLURM says of jobs, read as it prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpitasks.observe.status import NOTHING, Meter, write
from mpitasks.slurm import show
from mpitasks.slurm.job_records import (
    Record,
    exit_code,
    parse_records,
    summary,
)
from mpitasks.slurm.show import show_record

DONE = (
    "JobId=5 JobName=fit UserId=root(0) GroupId=root(0) Priority=4294901755 "
    "JobState=COMPLETED Reason=None Dependency=(null) Requeue=1 Restarts=0 "
    "ExitCode=0:0 RunTime=00:00:02 TimeLimit=00:01:00 NodeList=node[1-2] "
    "BatchHost=node1 ReqB:S:C:T=0:0:*:* Command=(null) WorkDir=/home/me/my work "
    "StdErr=/home/me/my work/fit-5.out StdIn=/dev/null "
    "StdOut=/home/me/my work/fit-5.out Power= \n"
)
KILLED = (
    "JobId=8 JobName=fit JobState=FAILED Reason=NonZeroExitCode ExitCode=137:0 "
    "StartTime=2026-11-23T13:05:50 WorkDir=FOLDER StdOut=FOLDER/fit-8.out Power=\n"
)
ARRAY = (
    "JobId=7 ArrayJobId=7 ArrayTaskId=2-4 JobName=fit JobState=PENDING "
    "Reason=Resources ExitCode=0:0 NodeList=(null) WorkDir=/w StdOut=/w/a.out Power=\n"
    "JobId=9 ArrayJobId=7 ArrayTaskId=1 JobName=fit JobState=FAILED "
    "Reason=NonZeroExitCode ExitCode=3:0 NodeList=node1 WorkDir=/w StdOut=/w/b.out\n"
)


def test_a_job_that_is_over() -> None:
    (record,) = parse_records(DONE)
    assert record == Record(
        "5",
        "COMPLETED",
        0,
        "None",
        "/home/me/my work/fit-5.out",
        "/home/me/my work",
        "node[1-2]",
        "fit",
        number="5",
    )
    assert record.over


def test_an_array() -> None:
    waiting, failed = parse_records(ARRAY)
    assert (waiting.id, waiting.state, waiting.over) == ("7_2-4", "PENDING", False)
    assert (failed.id, failed.exit_code, failed.over) == ("7_1", 3, True)
    assert summary([waiting, failed]) == ("PENDING", 3)
    assert summary([failed, Record("7_2", "COMPLETED")]) == ("FAILED", 3)
    assert summary([Record("7_2", "COMPLETED")]) == ("COMPLETED", 0)


@pytest.mark.parametrize(
    ("state", "code", "signal", "number"),
    [
        ("COMPLETED", 0, 0, 0),
        ("FAILED", 75, 0, 75),
        ("CANCELLED", 0, 15, 143),
        ("TIMEOUT", 0, 0, 1),
        ("NODE_FAIL", 0, 0, 1),
        ("RUNNING", 0, 0, 0),
    ],
)
def test_exit_codes(state: str, code: int, signal: int, number: int) -> None:
    assert exit_code(state, code, signal) == number


@pytest.mark.parametrize(
    ("id", "count"),
    [("7", 1), ("7_3", 1), ("7_2-4", 3), ("7_0,2,8-12:2%2", 5), ("7_4-9%1", 6)],
)
def test_jobs_that_a_record_stands_for(id: str, count: int) -> None:
    assert Record(id, "PENDING").jobs == count


@pytest.mark.parametrize(
    ("code", "age", "number"),
    [(75, 2.0, 75), (None, 2.0, 137), (75, -60.0, 137)],
    ids=["its own", "died", "an earlier round's"],
)
def test_rank_0s_code_counts_where_srun_killed_all(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: int | None,
    age: float,
    number: int,
) -> None:
    text = KILLED.replace("FOLDER", str(tmp_path))
    monkeypatch.setattr(show, "find_records", lambda job_id: parse_records(text))
    (record,) = parse_records(text)
    assert record.exit_code == 137
    assert record.started is not None
    facts = {"script": "fit.py", "host": "n", "pid": 1, "job": "8", "end": None}
    meter = Meter(**facts, started=record.started + age, period=2.0)
    status = meter.take(NOTHING, record.started + age, state="stopped", code=code)
    write(str(tmp_path / "fit-8.status"), status)
    assert [known.exit_code for known in show.ask("8")] == [number]


def test_what_is_shown_before_there_is_a_status() -> None:
    record = Record("7", "PENDING", reason="Priority", name="fit", log="/w/fit.out")
    assert show_record(record, None, 0.0) == [
        "job 7 (fit): PENDING, waits (Priority)",
        "no status yet; the log is /w/fit.out",
    ]
