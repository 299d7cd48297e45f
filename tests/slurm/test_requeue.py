"""Jobs that are stopped before their end, and go on by themselves, on a real SLURM."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launching import Mpi
from login import Login

TWO_NODES = ["-N", "2", "-n", "3"]

COUNT = """
import pathlib, sys, time
import mpitasks as mt

def work(number):
    time.sleep(0.5)
    with open(f"ran-{number}", "a") as file:
        file.write("x")
    return number

def main(count, option):
    options = {"timeout": float(option)} if option else {}
    with mt.Executor(**options) as ex:
        total = 0
        for number in ex.map(work, range(count), chunksize=1):
            print("result", number, flush=True)
            total += number
        print("sum", total, flush=True)

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
"""


def runs(login: Login) -> list[int]:
    """Return how often each task ran, in order."""
    paths = login.folder.glob("ran-*")
    return [
        len(path.read_text())
        for path in sorted(paths, key=lambda path: int(path.name[4:]))
    ]


def log(login: Login, job: str) -> str:
    """Return what a job wrote so far."""
    path = login.folder / f"count-{job}.out"
    return path.read_text() if path.exists() else ""


def assert_all_done(login: Login, count: int, text: str) -> None:
    """Each task ran once, apart from those that were cut off, and all came out."""
    counts = runs(login)
    assert len(counts) == count
    assert f"sum {count * (count - 1) // 2}\n" in text, text
    assert max(counts) <= 2, text
    assert sum(counts) <= count + 2 * text.count("mpitasks: round "), text
    assert "Traceback" not in text


def test_a_job_longer_than_its_walltime(login: Login, mpich: Mpi) -> None:
    login.script(COUNT, "count.py")
    options = [*TWO_NODES, "-t", "1", "--requeue", "--wait"]
    outcome = login.mpitasks(mpich, "submit", *options, "count.py", 300, seconds=240)
    assert outcome.code == 0, str(outcome)
    [path] = login.folder.glob("count-*.out")
    text = path.read_text()
    assert_all_done(login, 300, text)
    # A round drains before its time is up, so nothing is cut off.
    assert runs(login) == [1] * 300, text
    rounds = re.findall(r"mpitasks: round (\d) of job \d+ is over; the job goes", text)
    assert rounds == [str(number + 1) for number in range(len(rounds))] != [], text
    assert "DUE TO TIME LIMIT" not in text
    assert login.cluster.settled() == []


def test_a_job_that_may_not_be_queued_again(login: Login, mpich: Mpi) -> None:
    login.script(COUNT, "count.py")
    limits = ["--run-arg=--time-limit=12", "--run-arg=--margin=6"]
    options = [*TWO_NODES, "-t", "5", "--requeue", *limits]
    first = login.submit(mpich, *options, "count.py", 40)
    login.cluster.call("scontrol", "update", f"JobId={first}", "Requeue=0")
    login.until(lambda: "goes on, since this one" in log(login, first), "it is over")
    match = re.search(
        r"round 1 of job \d+ is over; job (\d+) goes on", log(login, first)
    )
    assert match is not None, log(login, first)
    login.until(lambda: not login.cluster.jobs(), "all jobs are over")
    texts = [path.read_text() for path in sorted(login.folder.glob("count-*.out"))]
    assert len(texts) == 2
    assert_all_done(login, 40, "".join(texts))
    assert login.cluster.settled() == []


def test_a_job_that_makes_no_progress(login: Login, mpich: Mpi) -> None:
    login.script(COUNT, "count.py")
    options = [*TWO_NODES, "-t", "2", "--requeue", "--wait"]
    outcome = login.mpitasks(mpich, "submit", *options, "count.py", 3, 3600)
    assert outcome.code == 75, str(outcome)
    [path] = login.folder.glob("count-*.out")
    text = path.read_text()
    assert "finished nothing, so the job does not go on" in text
    assert "0 tasks done, 3 not started" in text
    assert runs(login) == []
    assert login.cluster.settled() == []


@pytest.fixture(params=["srun", "mpiexec", "openmpi"])
def started_by(request: pytest.FixtureRequest) -> tuple[Mpi, list[str]]:
    """An MPI, and the words of submit that choose what starts its ranks."""
    if request.param == "openmpi":
        return request.getfixturevalue("openmpi"), []
    return request.getfixturevalue("mpich"), ["--launcher", request.param]


def test_a_signal(login: Login, started_by: tuple[Mpi, list[str]]) -> None:
    mpi, words = started_by
    login.script(COUNT, "count.py")
    job = login.submit(mpi, *TWO_NODES, "-t", "5", "--requeue", *words, "count.py", 30)
    login.until(lambda: "result 3\n" in log(login, job), "it runs")
    # The job script becomes the launcher by exec.
    to = ["--batch"] if words != ["--launcher", "srun"] else []
    login.cluster.call("scancel", "--signal=USR1", *to, job)
    login.until(lambda: "goes into the queue again" in log(login, job), "it is over")
    assert "stopped: SIGUSR1 came" in log(login, job)
    login.until(lambda: not login.cluster.jobs(), "it is over for good")
    assert_all_done(login, 30, log(login, job))
    assert login.cluster.settled() == []


def test_a_cancelled_job_stays_away(login: Login, mpich: Mpi) -> None:
    login.script(COUNT, "count.py")
    job = login.submit(mpich, *TWO_NODES, "-t", "5", "--requeue", "count.py", 300)
    login.until(lambda: "result 3\n" in log(login, job), "it runs")
    login.cluster.call("scancel", job)
    login.until(lambda: not login.cluster.jobs(), "it is over")
    text = log(login, job)
    assert "stopped: SIGTERM came" in text
    assert "is left to SLURM, which says that the job is COMPLETING" in text
    assert login.field(job, "JobState") == "CANCELLED"
    assert login.cluster.settled() == []
    journal = login.mpitasks(mpich, "journal", Path("count.journal"))
    assert journal.code == 0, str(journal)
