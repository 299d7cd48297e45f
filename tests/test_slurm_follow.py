"""What ``submit --wait`` shows of logs that grow, begin anew, or are many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpitasks.slurm.follow import Logs, Tail
from mpitasks.slurm.job import Job
from mpitasks.slurm.job_records import Record

Capture = pytest.CaptureFixture[str]


def test_it_grows(tmp_path: Path, capsys: Capture) -> None:
    log = tmp_path / "log"
    tail = Tail(log)
    assert not tail.show()
    for text in ("", "a", "bc\nd"):
        with log.open("a") as file:
            file.write(text)
        assert tail.show() == bool(text)
        assert not tail.show()
    assert capsys.readouterr() == ("abc\nd", "")


@pytest.mark.parametrize("again", ["short\n", "as long\n", "much longer than it was\n"])
def test_it_begins_anew(tmp_path: Path, capsys: Capture, again: str) -> None:
    log = tmp_path / "log"
    log.write_text("it ran.\n")
    tail = Tail(log)
    assert tail.show()
    log.write_text(again)  # truncates it, as SLURM does
    assert tail.show()
    assert not tail.show()
    shown = capsys.readouterr()
    assert shown.out == f"it ran.\n{again}"
    assert shown.err.count("begins anew") == 1


def test_it_is_seen_empty(tmp_path: Path, capsys: Capture) -> None:
    log = tmp_path / "log"
    log.write_text("it ran.\n")
    tail = Tail(log)
    tail.show()
    log.write_text("")
    assert not tail.show()
    log.write_text("it ran.\nand again\n")
    assert tail.show()
    assert capsys.readouterr().out == "it ran.\nit ran.\nand again\n"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(
    tmp_path: Path, capsys: Capture, kind: str
) -> None:
    log = tmp_path / "log"
    if kind == "pipe":
        os.mkfifo(log)
    elif kind == "device":
        log.symlink_to("/dev/null")
    else:
        log.mkdir()
    tail = Tail(log)
    for _ in range(3):
        assert not tail.show()
    tail.finish()
    assert tail.there
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert "is not shown" in line
    assert "not a file" in line


def test_what_a_requeued_job_appends(tmp_path: Path, capsys: Capture) -> None:
    log = tmp_path / "log"
    tail = Tail(log)
    for part in range(20):
        with log.open("a") as file:
            file.write("the same line\n" * 200)
        assert tail.show()
        assert not tail.show(), part
    shown = capsys.readouterr()
    assert shown == ("the same line\n" * 4000, "")


def test_logs_of_an_array(tmp_path: Path, capsys: Capture) -> None:
    job = Job("7", tmp_path / "fit-7_%a.out", tmp_path / "fit-7.sh")
    logs = Logs(job, array=True)
    running = [
        Record("7_1", "RUNNING", log=str(tmp_path / "fit-7_1.out")),
        Record("7_2", "RUNNING"),  # accounting does not tell where
        Record("7_[3-9]", "PENDING"),
    ]
    (tmp_path / "fit-7_1.out").write_text("one\nunfin")
    (tmp_path / "fit-7_2.out").write_text("two\n")
    logs.take(running)
    with (tmp_path / "fit-7_1.out").open("a") as file:
        file.write("ished")
    logs.take([Record("7_1", "COMPLETED"), Record("7_2", "FAILED", 3)])
    logs.finish()
    assert capsys.readouterr() == ("7_1: one\n7_2: two\n7_1: unfinished\n", "")
