"""``mpitasks submit --wait`` on a real SLURM: nodes, launchers, arrays, exit codes.

All the jobs run at the same time: the first test starts them, and each looks at what
came of one.
"""

from __future__ import annotations

import json
import re

import pytest

from launching import Mpi, find_mpi
from together import Together

SETUP = 78

TWO_NODES = ["-N", "2", "--ntasks-per-node=2", "-t", "2"]

WHERE = """
import os, sys
import mpitasks as mt

def where(_):
    return os.environ["SLURMD_NODENAME"]

if __name__ == "__main__":
    with mt.Executor() as ex:
        nodes = sorted(set(ex.map(where, range(200), chunksize=1)))
        print("workers", ex.num_workers, *nodes, sys.argv[1:])
"""

ENDS = """
import sys, time
import mpitasks as mt

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1)

def linger(x):
    sys.slow = Slow()  # this worker is still there when rank 0 has ended
    return x

with mt.Executor() as ex:
    print(ex.submit(linger, 5).result())
"""

SWEEP = """
import os, sys, mpitasks as mt
index = int(os.environ["SLURM_ARRAY_TASK_ID"])
with mt.Executor() as ex:
    print(index, sum(ex.map(abs, range(index + 1))))
sys.exit(4 if index == 3 else 0)
"""

SLOW = """
import time
import mpitasks as mt

if __name__ == "__main__":
    with mt.Executor() as ex:
        print("result", ex.submit(abs, -1).result())
        list(ex.map(time.sleep, [30] * 8, chunksize=1))
"""

FROM_PYTHON = """
import time
import mpitasks as mt
job = mt.slurm.submit("fit.py", nodes=2, ntasks_per_node=2, time=2, job_name="slow")
print(job, job.state() in ("PENDING", "CONFIGURING", "RUNNING"))
while not (job.log.exists() and "result 1" in job.log.read_text()):
    time.sleep(0.1)
print(job.state())
try:
    job.wait(timeout=0.5)
except TimeoutError as error:
    print(error)
job.cancel()
print(job.wait(timeout=120), job.state())
job.cancel()
print(job.script.exists(), job.id)
"""

LAUNCHERS = {"srun": "mpich", "mpiexec": "mpich", "openmpi": "openmpi"}
CODES = {
    3: "sys.exit(3)",
    1: "raise ValueError('odd')",
    # A worker that is busy is ended with the job, and srun tells only that.
    7: "mt.Executor().submit(time.sleep, 60); time.sleep(1); sys.exit(7)",
}


@pytest.fixture(scope="module")
def jobs(together: Together) -> Together:
    """All the jobs, started together."""

    def start(name: str, of: str, script: str, *words: str) -> None:
        mpi = find_mpi(of)
        if mpi is not None:  # else the test of it is skipped
            login = together.login(name)
            login.script(script)
            submit = [mpi.python, "-m", "mpitasks", "submit", "--wait"]
            together.start(name, login, *submit, *words, seconds=100)

    for launcher, of in LAUNCHERS.items():
        own = ["--launcher", launcher] if launcher == "mpiexec" else []
        words = [*TWO_NODES, *own]
        start(f"where-{launcher}", of, WHERE, *words, "fit.py", "a b", "$c")
        for code, ends in CODES.items():
            start(f"{code}-{launcher}", of, ENDS + ends, *words, "fit.py")
    if (mpich := find_mpi("mpich")) is not None:
        login = together.login("python")
        login.script(SLOW)
        drive = login.script(FROM_PYTHON, "drive.py")
        together.start("python", login, mpich.python, drive, seconds=100)
    words = ["-n2", "-t2", "--array=1-3", "--journal", "kept.journal"]
    start("array", "mpich", SWEEP, *words, "fit.py")
    words = [*TWO_NODES, "--launcher", "srun --mpi=pmi2"]
    start("wrong", "openmpi", WHERE, *words, "fit.py")
    return together


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> str:
    """What starts the ranks; of Open MPI only its own mpiexec does."""
    request.getfixturevalue(LAUNCHERS[request.param])
    return str(request.param)


def test_two_nodes(
    jobs: Together, launcher: str, request: pytest.FixtureRequest
) -> None:
    mpi: Mpi = request.getfixturevalue(LAUNCHERS[launcher])
    login, outcome = jobs.ended(f"where-{launcher}")
    assert outcome.code == 0, str(outcome)
    job = re.match(r"job (\d+): ", outcome.out)
    assert job is not None, str(outcome)
    log = login.read(f"fit-{job[1]}.out")
    lines = [line for line in log.splitlines() if "mpitasks: warning" not in line]
    assert lines == ["workers 3 node1 node2 ['a b', '$c']"], log
    assert outcome.out.endswith(log), str(outcome)
    srun = "exec srun --mpi=pmi2 --kill-on-bad-exit=1 "
    starts = srun if launcher == "srun" else "bin/mpiexec "
    assert starts in login.read(f"fit-{job[1]}.sh")
    status = json.loads(login.read(f"fit-{job[1]}.status"))
    assert (status["state"], status["done"], status["code"]) == ("finished", 200, 0)
    assert (status["job"], status["workers"]) == (job[1], 3)
    assert status["end"] - status["started"] == pytest.approx(120, abs=30)
    shown = login.mpitasks(mpi, "status", job[1])
    assert shown.code == 0, str(shown)
    assert f"job {job[1]} (fit): COMPLETED, exit code 0" in shown.out
    assert "200 done, 0 running, 0 failed, 0 waiting, of 200" in shown.out


@pytest.mark.parametrize("code", CODES)
def test_wait_exits_as_the_job_does(jobs: Together, launcher: str, code: int) -> None:
    _, outcome = jobs.ended(f"{code}-{launcher}")
    assert outcome.code == code, str(outcome)
    assert "5" in outcome.out.splitlines(), str(outcome)
    assert f"FAILED, exit code {code}; the log is" in outcome.said[-1], str(outcome)
    assert ("ValueError: odd" in outcome.out) == (code == 1)


def test_array(jobs: Together, mpich: Mpi) -> None:
    login, outcome = jobs.ended("array")
    assert outcome.code == 4, str(outcome)
    job = outcome.out.split()[1].rstrip(":")
    for index, total in [(1, 1), (2, 3), (3, 6)]:
        assert login.read(f"fit-{job}_{index}.out").startswith(f"{index} {total}\n")
        status = json.loads(login.read(f"fit-{job}_{index}.status"))
        assert (status["job"], status["done"]) == (f"{job}_{index}", index + 1)
        assert f"kept-{index}.journal" in login.files()
        assert f"{job}_{index}: {index} {total}\n" in outcome.out, str(outcome)
    assert f"fit-{job}.sh" in login.files()
    shown = login.mpitasks(mpich, "status", job)
    assert f"job {job}: " in shown.out, str(shown)
    assert "2 COMPLETED" in shown.out
    row = f"{job}_3 FAILED, exit code 4: 4 of 4 tasks done, 0 failed"
    assert row in shown.out, str(shown)
    one = login.mpitasks(mpich, "status", f"{job}_2", "--json")
    assert json.loads(one.out)["status"]["done"] == 3


def test_wrong_mpi_is_refused_with_the_right_advice(
    jobs: Together, openmpi: Mpi
) -> None:
    _, outcome = jobs.ended("wrong")
    assert outcome.code == SETUP, str(outcome)
    said = [line for line in outcome.out.splitlines() if line.startswith("mpitasks:")]
    assert len(said) == 1, str(outcome)
    for words_of_advice in ("srun started 4 copies", "Open MPI v5", "mpiexec"):
        assert words_of_advice in said[0], str(outcome)
    assert "workers" not in outcome.out
    assert "Traceback" not in outcome.out


def test_from_python(jobs: Together, mpich: Mpi) -> None:
    _, outcome = jobs.ended("python")
    assert outcome.code == 0, str(outcome)
    lines = outcome.out.splitlines()
    assert re.fullmatch(r"<mpitasks.slurm.Job \d+, log .*/slow-\d+.out> True", lines[0])
    over = f"job {lines[-1].split()[1]} is not over after 0.5 s"
    assert lines[1:3] == ["RUNNING", over]
    code, state = lines[3].split()
    assert state == "CANCELLED"
    assert int(code) > 0
    assert lines[4].startswith("True ")
