"""When the job's time is up, by what SLURM says. Its programs here fail as they may."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpitasks import walltime
from mpitasks.launch import job_end
from mpitasks.launch.job_end import Inquirer, foresee
from mpitasks.settings import Settings

Says = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Have SLURM's programs be these lines of shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)

    def write(shell: str, name: str = "squeue") -> None:
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{shell}\n")
        program.chmod(0o755)

    write("exit 1")
    return write


@pytest.fixture(autouse=True)
def no_end() -> Iterator[None]:
    yield
    walltime.foresee(math.inf, 0.0)


@pytest.mark.parametrize(
    ("shell", "seconds"),
    [
        ("echo 7 RUNNING 1:30", 90),
        ("echo ' 7 RUNNING 2-03:00:00 '", 2 * 86400 + 3 * 3600),
        (
            "echo 5 RUNNING 9:00; echo 7 RUNNING 1:30; echo 6 RUNNING 8:00",
            90,
        ),  # all jobs of an array
        ('[ "$SQUEUE_STATES$SLURM_TIME_FORMAT" = %s ] && echo 7 RUNNING 1:30', 90),
        (
            "echo 7 RUNNING 1:30 $(($(date +%s) + 45))",
            45,
        ),  # as an administrator has set it
        ("echo 7 RUNNING 1:30 2026-01-02T03:04:05", 90),
        ("echo 7 RUNNING UNLIMITED $(($(date +%s) + 45))", math.inf),
        ("echo 7 RUNNING UNLIMITED", math.inf),
        ("echo 7 RUNNING INVALID", math.inf),
        ("echo 7", math.inf),
        ("echo 7 RUNNING", math.inf),
        ("echo 7 PENDING 1:30 $(($(date +%s) + 90))", math.inf),  # it was queued again
        ("echo 7 COMPLETING 1:30", math.inf),
        ("echo 7 RUNNING NOT_SET N/A", math.inf),
        ("echo 19:05", math.inf),
        ("", math.inf),
        ("echo 7 RUNNING 1:30; exit 1", math.inf),
        ("kill -9 $$", math.inf),
        ("printf '7 \\377\\n'", math.inf),
    ],
)
def test_what_squeue_says(
    says: Says, monkeypatch: pytest.MonkeyPatch, shell: str, seconds: float
) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "%H:%M")
    says(shell)
    foresee(Settings())
    assert walltime.time_left() == pytest.approx(seconds, abs=5)


def test_no_squeue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    foresee(Settings(time_limit=50.0))
    assert walltime.time_left() == pytest.approx(50, abs=5)


def test_slow_squeue_is_ended(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_end, "ASK_SECONDS", 1.0)
    says(f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    foresee(Settings())
    assert walltime.time_left() == math.inf
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not alive(pid))  # killed it is, but by and by


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is the case; fail when time is up."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for somebody to ask."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("told", "seconds"), [(400, 400), (-5, 90), (-100_000, 90), (0, 90)]
)
def test_an_end_that_is_over_is_of_another_job(
    says: Says, monkeypatch: pytest.MonkeyPatch, told: int, seconds: int
) -> None:
    says("echo 7 RUNNING 1:30")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + told))
    foresee(Settings())
    assert walltime.time_left() == pytest.approx(seconds, abs=5)


def test_the_nearer_end_counts(says: Says) -> None:
    says("echo 7 RUNNING 1:30")
    for limit, seconds in [(30.0, 30), (3000.0, 90)]:
        foresee(Settings(time_limit=limit))
        assert walltime.time_left() == pytest.approx(seconds, abs=5)
        assert job_end.end_of(60.0) - time.monotonic() <= min(limit, 60.0)


class Listening:
    """Takes in what an inquirer tells."""

    def __init__(self) -> None:
        self.told: list[float | None] = []
        self.kills: list[float] = []
        self._news = threading.Semaphore(0)
        self.inquirer = Inquirer("7", self._tell, self._tell_kill)

    def _tell(self, left: float | None) -> None:
        self.told.append(left)
        self._news.release()

    def _tell_kill(self, seconds: float) -> None:
        self.kills.append(seconds)
        self._news.release()

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._news.acquire(timeout=20)


def test_it_asks_again(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_end, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(job_end, "AGAIN_SECONDS", 0.01)
    says(f"[ -e {tmp_path}/up ] && echo 7 RUNNING 1:30")
    listening = Listening()
    assert listening.inquirer.age == math.inf
    listening.wait(2)
    assert set(listening.told) == {None}
    assert listening.inquirer.age < 20
    (tmp_path / "up").touch()
    while 90.0 not in listening.told:
        listening.wait()
    listening.wait(2)  # also once an end is known
    listening.inquirer.close()
    assert listening.told[-2:] == [90.0, 90.0]


def test_it_asks_for_kill_wait(says: Says) -> None:
    says(
        "echo 'KillOnBadExit = 0'; echo 'KillWait                = 45 sec'", "scontrol"
    )
    listening = Listening()
    listening.inquirer.ask_kill()
    listening.wait(2)
    listening.inquirer.close()
    assert (listening.kills, listening.told) == ([45.0], [None])


def test_its_end_waits_for_no_answer(says: Says, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    says(f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600")
    listening = Listening()
    listening.inquirer.ask()
    until(pid.exists)
    listening.inquirer.close()
    assert listening.told == []
    assert not alive(int(pid.read_text()))
