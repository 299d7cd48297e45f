"""Isolated tasks over every MPI: what they do to their process costs nobody else."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from launching import MARKER, SCRIPTS, Launch, Mpi

ISOLATION = SCRIPTS / "isolation.py"

HANG = """
import os, pathlib, sys, time
import mpitasks

def hang():
    pathlib.Path("pids").write_text(f"{os.getpid()} {os.getppid()}")
    os.rename("pids", "began")
    while True:
        time.sleep(3600)

executor = mpitasks.Executor(isolate=True)
future = executor.submit(hang)
if "leave" in sys.argv:
    while not pathlib.Path("began").exists():
        time.sleep(0.01)
    raise SystemExit(3)
future.result()
"""

FACES = """
import mpitasks

def face():
    from mpi4py import MPI
    return MPI.Is_initialized()

with mpitasks.Executor(isolate=True) as executor:
    print(executor.submit(face).result())
    print(executor.with_options(isolate=False).submit(face).result())
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_isolated_tasks(mpi: Mpi, ranks: int, launch: Launch) -> None:
    outcome = launch(mpi.runner(ranks, ISOLATION), seconds=60.0)
    assert outcome.code == 0, str(outcome)
    assert " passed, 0 failed" in outcome.out, str(outcome)
    assert "said in a child\n" in outcome.out
    assert outcome.unforeseen == "", str(outcome)


def test_isolated_tasks_in_one_process(launch: Launch) -> None:
    outcome = launch([sys.executable, ISOLATION], seconds=60.0)
    assert outcome.code == 0, str(outcome)
    assert " passed, 0 failed" in outcome.out, str(outcome)
    assert outcome.err.count("\n") == 1, str(outcome)


def test_a_child_does_not_start_mpi(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(2, launch.script(FACES)))
    assert outcome.code == 0, str(outcome)
    assert outcome.out == "False\nTrue\n", str(outcome)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_children_end_with_the_job(
    mpi: Mpi, launch: Launch, number: signal.Signals
) -> None:
    """The launch fixture looks for what is left: children carry the job's marker."""
    job = launch.start(mpi.runner(3, launch.script(HANG)))
    began = launch.folder / "began"
    job.until(began.exists, "the task began")
    for pid in began.read_text().split():
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            assert MARKER.encode() in file.read()
    if number is signal.SIGINT:
        job.signal_group(number)
    else:
        job.process.send_signal(number)
    outcome = job.finish()
    assert outcome.code != 0
    assert not outcome.left, str(outcome.left)


def test_children_end_with_their_rank(mpi: Mpi, launch: Launch) -> None:
    job = launch.start(mpi.runner(2, launch.script(HANG)))
    began = launch.folder / "began"
    job.until(began.exists, "the task began")
    server = began.read_text().split()[1]
    with open(f"/proc/{server}/stat") as file:  # noqa: PTH123
        rank = int(file.read().rpartition(")")[2].split()[1])
    os.kill(rank, signal.SIGKILL)
    outcome = job.finish()
    assert outcome.code != 0
    assert not outcome.left, str(outcome.left)


def test_a_script_that_leaves_leaves_nothing(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(3, launch.script(HANG), "leave"))
    assert outcome.code == 3, str(outcome)
