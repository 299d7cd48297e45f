"""A rank dies under a real srun that lets the others live on; and a node is lost."""

from __future__ import annotations

import subprocess

import pytest

from launching import Mpi, Outcome
from login import Login

PMI_FAULT = b"mpi/pmi2: value not properly terminated in client request"
"""On a busy machine, slurmstepd 22.05 sometimes reads half of what a rank tells others.
That rank's MPI_Init fails then, and those of the others wait for it, without the option
that would end all. This is before anything of ours runs."""

SCRIPT = """
import ctypes, os, pathlib, signal, time
import mpitasks as mt

def sleep(n):
    pathlib.Path(f"busy-{n}").touch()
    time.sleep(600)

def compute(n):
    pathlib.Path(f"busy-{n}").touch()
    sum(range(10**13))  # in C code that keeps Python's global lock

def die(how):
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    ctypes.CDLL(None)._exit(int(how))  # unlike Python's own, which we see

if __name__ == "__main__":
    ex = mt.Executor()
    futures = [ex.submit(WORK, n) for n in range(ex.num_workers - SPARE)]
    while len(list(pathlib.Path().glob("busy-*"))) < len(futures):
        time.sleep(0.01)
    END
    print("never", flush=True)
"""


def srun(login: Login, mpich: Mpi, work: str, spare: int, end: str) -> Outcome:
    """Run the script on two nodes, without the option that would end all."""
    text = SCRIPT.replace("WORK", work).replace("SPARE", str(spare))
    login.script(text.replace("END", end))
    words = ["srun", "-N2", "-n4", "-t2", "--mpi=pmi2", "--kill-on-bad-exit=0"]
    words += [str(mpich.python), "-m", "mpitasks", "fit.py"]
    try:
        outcome = login.run(*words, seconds=40)
    except subprocess.TimeoutExpired as expired:
        if PMI_FAULT not in (expired.stderr or b""):
            raise
        login.cluster.clear()
        outcome = login.run(*words, seconds=40)
    assert "never" not in outcome.out, str(outcome)
    assert outcome.code != 0, str(outcome)
    return outcome


@pytest.mark.parametrize("how", ["SIGKILL", "3"])
@pytest.mark.parametrize("work", ["sleep", "compute"])
def test_a_worker_dies(login: Login, mpich: Mpi, work: str, how: str) -> None:
    end = f"ex.with_options(label='the bad one').submit(die, '{how}').result()"
    outcome = srun(login, mpich, work, 1, end)
    told = [line for line in outcome.said if "the run ends with it" in line]
    assert len(told) == 1, str(outcome)
    assert "'the bad one': die" in told[0], str(outcome)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)"])
@pytest.mark.parametrize("work", ["sleep", "compute"])
def test_rank_0_dies(login: Login, mpich: Mpi, work: str, end: str) -> None:
    """That nothing is left is asserted at the end of every test here."""
    srun(login, mpich, work, 0, end)


SLOW = """
import time
import mpitasks as mt

if __name__ == "__main__":
    with mt.Executor() as ex:
        print("result", ex.submit(abs, -1).result())
        list(ex.map(time.sleep, [30] * 8, chunksize=1))
"""


def test_lost_node_ends_the_job(login: Login, mpich: Mpi) -> None:
    login.script(SLOW)
    no_more = "--sbatch-arg=--no-requeue"
    sizes = ["-N", "2", "--ntasks-per-node=2", "-t", "2"]
    job = login.submit(mpich, *sizes, no_more, "fit.py")
    log = login.folder / f"fit-{job}.out"
    login.until(lambda: log.exists() and "result 1" in log.read_text(), "it runs")
    down = ["nodename=node2", "state=down", "reason=test"]
    login.cluster.call("scontrol", "update", *down)
    login.until(lambda: login.field(job, "JobState") == "NODE_FAIL", "it has ended")
    shown = login.mpitasks(mpich, "status", job)
    assert f"job {job} (fit): NODE_FAIL, exit code" in shown.out, str(shown)
    assert login.cluster.settled() == []
