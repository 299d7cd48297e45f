"""Jobs that are stopped before their end, and go on by themselves, on a real SLURM.

SLURM has such a job wait for some seconds before it runs again, so all of them run at
the same time: the first test starts them, and each looks at what came of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from launching import Mpi, Outcome, find_mpi
from login import Login
from together import Together

SECONDS = 200.0

pytestmark = pytest.mark.timeout(240)

COUNT = """
import os, subprocess, sys, time
import mpitasks as mt

def work(number):
    time.sleep(0.5)
    with open(f"ran-{number}", "a") as file:
        file.write("x")
    return number

def meanwhile():
    if sys.argv[2:] and "SLURM_RESTART_COUNT" not in os.environ:
        id = os.environ["SLURM_JOB_ID"]
        subprocess.run([word.replace("JOBID", id) for word in sys.argv[2:]])

def main(count):
    with mt.Executor(OPTIONS) as ex:
        total = 0
        for number in ex.map(work, range(count), chunksize=1):
            print("result", number, flush=True)
            total += number
            if number == 3:
                meanwhile()
        print("sum", total, flush=True)

if __name__ == "__main__":
    main(int(sys.argv[1]))
"""


KILLED = """
import os, pathlib, subprocess, time
import mpitasks as mt

def hold(number):
    pathlib.Path(f"busy-{number}").touch()
    time.sleep(60)

if __name__ == "__main__":
    again = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    with mt.Executor() as ex:
        print("workers", ex.submit(abs, -ex.num_workers).result(), "round", again)
        if not again:
            futures = [ex.submit(hold, number) for number in range(8)]
            while len(list(pathlib.Path().glob("busy-*"))) < ex.num_workers:
                time.sleep(0.01)  # who has nothing to do ends well
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
            futures[-1].result()
"""


@dataclass(frozen=True)
class Case:
    """A job to be tried.

    Attributes:
        submit: Options of submit.
        count: How many tasks it has.
        meanwhile: A command that the script runs after the third, in its first round.
        mpi: Which MPI.
        executor: Options of its executor.
        setup: A line of the job script.
    """

    submit: str
    count: int
    meanwhile: str = ""
    mpi: str = "mpich"
    executor: str = ""
    setup: str = ""


USR1 = "scancel --signal=USR1"

CASES = {
    # SLURM counts walltimes in minutes, but a running job may be given another end.
    "walltime": Case(
        "-N2 -n8 -t1",
        300,
        setup="scontrol update JobId=$SLURM_JOB_ID EndTime=now+20seconds; "
        "unset SLURM_JOB_END_TIME",
    ),
    "forbidden": Case(
        "-N2 -n3 -t5 --run-arg=--time-limit=12 --run-arg=--margin=6",
        40,
        "scontrol update JobId=JOBID Requeue=0",
    ),
    "idle": Case("-N2 -n3 -t2", 3, executor="timeout=3600"),
    "srun": Case("-N2 -n3 -t5 --launcher=srun", 20, f"{USR1} JOBID"),
    # There the job script becomes the launcher by exec.
    "mpiexec": Case("-N2 -n3 -t5 --launcher=mpiexec", 20, f"{USR1} --batch JOBID"),
    "openmpi": Case("-N2 -n3 -t5", 20, f"{USR1} --batch JOBID", "openmpi"),
    "cancelled": Case("-N2 -n3 -t5", 300, "scancel JOBID"),
}


@dataclass(frozen=True)
class Ended:
    """What came of a job.

    Attributes:
        login: Where.
        outcome: Of ``submit --wait``.
    """

    login: Login
    outcome: Outcome

    @property
    def logs(self) -> list[str]:
        """What the job, and its successors, wrote."""
        return [p.read_text() for p in sorted(self.login.folder.glob("count-*.out"))]

    @property
    def log(self) -> str:
        """What the one job wrote."""
        [text] = self.logs
        return text

    def runs(self) -> list[int]:
        """Return how often each task ran, in order."""
        paths = self.login.folder.glob("ran-*")
        return [
            len(path.read_text())
            for path in sorted(paths, key=lambda path: int(path.name[4:]))
        ]

    def assert_all_done(self, count: int) -> None:
        """Each task ran once, apart from those that were cut off, and all came out."""
        counts, text = self.runs(), "".join(self.logs)
        assert len(counts) == count
        assert f"sum {count * (count - 1) // 2}\n" in text, text
        assert max(counts) <= 2, text
        assert sum(counts) <= count + 2 * text.count("mpitasks: round "), text
        assert "Traceback" not in text


@pytest.fixture(scope="module")
def jobs(together: Together) -> Together:
    """All the jobs, started together."""
    for name, case in CASES.items():
        mpi = find_mpi(case.mpi)
        if mpi is None:  # the test of it is skipped
            continue
        login = together.login(name)
        login.script(COUNT.replace("OPTIONS", case.executor), "count.py")
        table = f"[tool.mpitasks.slurm]\nsetup = ['{case.setup}']\n"
        (login.folder / "mpitasks.toml").write_text(table)
        words = [*case.submit.split(), "--requeue", "--wait", "count.py", case.count]
        command = [mpi.python, "-m", "mpitasks", "submit", *words]
        command += case.meanwhile.split()
        together.start(name, login, *command, seconds=SECONDS)
    if (mpich := find_mpi("mpich")) is not None:
        login = together.login("killed")
        login.script(KILLED, "count.py")
        words = ["-N1", "-n3", "-t2", "--sbatch-arg=--open-mode=append", "--wait"]
        command = [mpich.python, "-m", "mpitasks", "submit", *words, "count.py"]
        together.start("killed", login, *command, seconds=SECONDS)
    return together


def test_a_job_longer_than_its_walltime(jobs: Together, mpich: Mpi) -> None:
    job = Ended(*jobs.ended("walltime"))
    text = job.log
    assert job.outcome.code == 0, str(job.outcome)
    job.assert_all_done(300)
    # A round drains before its time is up, so nothing is cut off.
    assert job.runs() == [1] * 300, text
    rounds = re.findall(r"mpitasks: round (\d) of job \d+ is over; the job goes", text)
    assert rounds == [str(number + 1) for number in range(len(rounds))] != [], text
    assert "DUE TO TIME LIMIT" not in text


def test_a_job_that_may_not_be_queued_again(jobs: Together, mpich: Mpi) -> None:
    job = Ended(*jobs.ended("forbidden"))
    assert job.outcome.code == 75, str(job.outcome)
    match = re.search(
        r"round 1 of job \d+ is over; job (\d+) goes on, since this one", job.logs[0]
    )
    assert match is not None, job.logs[0]
    job.login.until(lambda: "\nsum " in "".join(job.logs), "the last one is over")
    assert len(job.logs) >= 2
    job.assert_all_done(40)


def test_a_job_that_makes_no_progress(jobs: Together, mpich: Mpi) -> None:
    job = Ended(*jobs.ended("idle"))
    assert job.outcome.code == 75, str(job.outcome)
    assert "finished nothing, so the job does not go on" in job.log
    assert "0 tasks done, 3 not started" in job.log
    assert job.runs() == []


@pytest.mark.parametrize("launcher", ["srun", "mpiexec", "openmpi"])
def test_a_signal(
    jobs: Together, launcher: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(CASES[launcher].mpi)
    job = Ended(*jobs.ended(launcher))
    assert job.outcome.code == 0, str(job.outcome)
    assert "stopped: SIGUSR1 came" in job.log
    assert "goes into the queue again" in job.log
    job.assert_all_done(20)


def test_a_cancelled_job_stays_away(jobs: Together, mpich: Mpi) -> None:
    job = Ended(*jobs.ended("cancelled"))
    assert job.outcome.code != 0, str(job.outcome)
    assert ": CANCELLED, exit code" in job.outcome.err
    assert "stopped: SIGTERM came" in job.log
    assert "is left to SLURM, which says that the job is COMPLETING" in job.log
    journal = job.login.mpitasks(mpich, "journal", Path("count.journal"))
    assert journal.code == 0, str(journal)


def shared_memory(job: str) -> set[Path]:
    """Return what is left of MPICH's in memory, of the first step of a job."""
    number = 0x811C9DC5  # FNV-1a
    for byte in f"{job}.0".encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return set(Path("/dev/shm").glob(f"mpich_shm_{number:x}_*"))


def test_job_starts_again_after_its_ranks_were_killed(
    jobs: Together, mpich: Mpi
) -> None:
    job = Ended(*jobs.ended("killed"))
    number = job.outcome.out.split()[1].rstrip(":")
    assert shared_memory(number) == set()  # it loses its name once the ranks have met
    assert job.outcome.code == 0, str(job.outcome)
    assert "workers 2 round 0" in job.log
    assert "workers 2 round 1" in job.log
