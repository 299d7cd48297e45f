"""``mpitasks submit`` on a real SLURM of two nodes, from a first job to a lost node."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from launching import Mpi
from login import Login

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

SETUP = 78

TWO_NODES = ("-N", "2", "--ntasks-per-node=2", "-t", "2")


@pytest.mark.parametrize(
    ("name", "launcher", "starts"),
    [
        ("mpich", None, "exec srun --mpi=pmi2 --kill-on-bad-exit=1 "),
        ("mpich", "mpiexec", "bin/mpiexec "),
        ("openmpi", None, "bin/mpiexec "),
    ],
)
def test_two_nodes(
    login: Login,
    request: pytest.FixtureRequest,
    name: str,
    launcher: str | None,
    starts: str,
) -> None:
    mpi: Mpi = request.getfixturevalue(name)
    login.script(WHERE)
    own = [] if launcher is None else ["--launcher", launcher]
    words = [*TWO_NODES, *own, "--wait", "fit.py", "a b", "$c"]
    outcome = login.mpitasks(mpi, "submit", *words)
    assert outcome.code == 0, str(outcome)
    job = re.match(r"job (\d+): ", outcome.out)
    assert job is not None, str(outcome)
    log = login.read(f"fit-{job[1]}.out")
    lines = [line for line in log.splitlines() if "mpitasks: warning" not in line]
    assert lines == ["workers 3 node1 node2 ['a b', '$c']"], log
    assert outcome.out.endswith(log), str(outcome)
    assert starts in login.read(f"fit-{job[1]}.sh")
    status = json.loads(login.read(f"fit-{job[1]}.status"))
    assert (status["state"], status["done"], status["code"]) == ("finished", 200, 0)
    assert (status["job"], status["workers"]) == (job[1], 3)
    assert status["end"] - status["started"] == pytest.approx(120, abs=10)
    shown = login.mpitasks(mpi, "status", job[1])
    assert shown.code == 0, str(shown)
    assert f"job {job[1]} (fit): COMPLETED, exit code 0" in shown.out
    assert "200 done, 0 running, 0 failed, 0 waiting, of 200" in shown.out


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
@pytest.mark.parametrize(
    ("ends", "code"), [("sys.exit(3)", 3), ("raise ValueError('odd')", 1)]
)
def test_wait_exits_as_the_job_does(
    login: Login, mpich: Mpi, launcher: str, ends: str, code: int
) -> None:
    login.script(
        "import sys, mpitasks as mt\n"
        "with mt.Executor() as ex:\n"
        "    print(ex.submit(abs, -5).result())\n"
        f"{ends}\n"
    )
    words = [*TWO_NODES, "--launcher", launcher, "--wait", "fit.py"]
    outcome = login.mpitasks(mpich, "submit", *words)
    assert outcome.code == code, str(outcome)
    assert "5" in outcome.out.splitlines(), str(outcome)
    assert f"FAILED, exit code {code}; the log is" in outcome.said[-1], str(outcome)
    assert ("ValueError: odd" in outcome.out) == (code == 1)


def test_array(login: Login, mpich: Mpi) -> None:
    login.script(
        "import os, sys, mpitasks as mt\n"
        "index = int(os.environ['SLURM_ARRAY_TASK_ID'])\n"
        "with mt.Executor() as ex:\n"
        "    print(index, sum(ex.map(abs, range(index + 1))))\n"
        "sys.exit(4 if index == 3 else 0)\n"
    )
    words = ["-n", "2", "-t", "2", "--array=1-3", "--journal", "kept.journal"]
    outcome = login.mpitasks(mpich, "submit", *words, "--wait", "fit.py")
    assert outcome.code == 4, str(outcome)
    job = outcome.out.split()[1].rstrip(":")
    for index, total in [(1, 1), (2, 3), (3, 6)]:
        assert login.read(f"fit-{job}_{index}.out").startswith(f"{index} {total}\n")
        status = json.loads(login.read(f"fit-{job}_{index}.status"))
        assert (status["job"], status["done"]) == (f"{job}_{index}", index + 1)
        assert f"kept-{index}.journal" in login.files()
    assert f"fit-{job}.sh" in login.files()
    shown = login.mpitasks(mpich, "status", job)
    assert f"job {job}: " in shown.out, str(shown)
    assert "2 COMPLETED" in shown.out
    row = f"{job}_3 FAILED, exit code 4: 4 of 4 tasks done, 0 failed"
    assert row in shown.out, str(shown)
    one = login.mpitasks(mpich, "status", f"{job}_2", "--json")
    assert json.loads(one.out)["status"]["done"] == 3


def test_wrong_mpi_is_refused_with_the_right_advice(login: Login, openmpi: Mpi) -> None:
    login.script(WHERE)
    words = [*TWO_NODES, "--launcher", "srun --mpi=pmi2", "--wait", "fit.py"]
    outcome = login.mpitasks(openmpi, "submit", *words)
    assert outcome.code == SETUP, str(outcome)
    said = [line for line in outcome.out.splitlines() if line.startswith("mpitasks:")]
    assert len(said) == 1, str(outcome)
    for words_of_advice in ("srun started 4 copies", "Open MPI v5", "mpiexec"):
        assert words_of_advice in said[0], str(outcome)
    assert "workers" not in outcome.out
    assert "Traceback" not in outcome.out


def test_refusal_is_shown_whole(login: Login, mpich: Mpi) -> None:
    login.script(WHERE)
    outcome = login.mpitasks(mpich, "submit", "-n2", "-p", "nowhere", "fit.py")
    assert outcome.code == SETUP, str(outcome)
    assert "invalid partition specified: nowhere" in outcome.err
    assert "--ntasks=2 --partition=nowhere" in outcome.err
    assert login.files() == {"fit.py"}


def test_dry_run_submits_nothing(login: Login, mpich: Mpi) -> None:
    login.script(WHERE)
    (login.folder / "mpitasks.toml").write_text(
        "[tool.mpitasks.slurm]\nntasks = 3\ntime = '7'\nsetup = ['ulimit -c 0']\n"
    )
    outcome = login.mpitasks(mpich, "submit", "-t9", "--dry-run", "fit.py", "x")
    assert (outcome.code, outcome.err) == (0, ""), str(outcome)
    lines = outcome.out.splitlines()
    assert "#SBATCH --ntasks=3" in lines
    assert "#SBATCH --time=9" in lines
    assert "ulimit -c 0" in lines
    assert outcome.out.endswith("    fit.py x\n")
    assert login.files() == {"fit.py", "mpitasks.toml"}
    assert login.cluster.jobs() == []


def test_kept_script_can_be_submitted_again(login: Login, mpich: Mpi) -> None:
    login.script("import sys; print('ran', sys.argv)")
    words = ["-n2", "-t2", "-J", "my fit", "-o", "logs/%x-%j.log"]
    comment = "--sbatch-arg=--comment=a b"
    first = login.mpitasks(mpich, "submit", *words, comment, "--wait", "fit.py", "1")
    assert first.code == 0, str(first)
    job = re.match(r"job (\d+): (.*), log (.*)\n", first.out)
    assert job is not None, str(first)
    assert job[2] == f"logs/my fit-{job[1]}.sh"
    record = login.cluster.call("scontrol", "show", "job", job[1])
    assert "Comment=a b \n" in record, record
    again = login.run("sbatch", "--parsable", job[2]).out.strip()
    login.until(lambda: login.field(again, "JobState") == "COMPLETED", "it is over")
    text = login.read(f"logs/my fit-{again}.log")
    assert text == login.read(f"logs/my fit-{job[1]}.log") == "ran ['fit.py', '1']\n"


SLOW = """
import os, signal, sys, time
import mpitasks as mt

def wait(seconds):
    time.sleep(seconds)

if __name__ == "__main__":
    with mt.Executor() as ex:
        future = ex.submit(abs, -1)
        print("result", future.result())
        if "kill" in sys.argv:
            time.sleep(3)
            os.kill(os.getpid(), signal.SIGKILL)
        list(ex.map(wait, [30] * 8, chunksize=1))
"""

FROM_PYTHON = """
import os, signal, sys, time
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
print(job.wait(timeout=30), job.state())
job.cancel()
print(job.script.exists(), job.id)
"""


def test_from_python(login: Login, mpich: Mpi) -> None:
    login.script(SLOW)
    outcome = login.run(mpich.python, login.script(FROM_PYTHON, "drive.py"))
    assert outcome.code == 0, str(outcome)
    lines = outcome.out.splitlines()
    assert re.fullmatch(r"<mpitasks.slurm.Job \d+, log .*/slow-\d+.out> True", lines[0])
    assert lines[1:3] == [
        "RUNNING",
        f"job {lines[-1].split()[1]} is not over after 0.5 s",
    ]
    code, state = lines[3].split()
    assert state == "CANCELLED"
    assert int(code) > 0
    assert lines[4].startswith("True ")
    assert login.cluster.settled() == []


def test_status_while_it_runs_and_after_rank_0_is_gone(
    login: Login, mpich: Mpi
) -> None:
    login.script(SLOW)
    job = login.submit(mpich, *TWO_NODES, "--launcher", "mpiexec", "fit.py", "kill")
    path = login.folder / f"fit-{job}.status"
    login.until(path.exists, "the status is there")
    shown = login.mpitasks(mpich, "status", job)
    assert f"job {job} (fit): RUNNING on node[1-2]" in shown.out, str(shown)
    assert "fit.py kill: running for" in shown.out, str(shown)
    assert "of the job's time left" in shown.out, str(shown)
    login.until(lambda: not login.cluster.jobs(), "the job is over")
    gone = login.mpitasks(mpich, "status", job)
    assert f"job {job} (fit): FAILED" in gone.out, str(gone)
    assert "fit.py kill: ended without a last word" in gone.out, str(gone)
    assert login.cluster.settled() == []


def test_lost_node_ends_the_job(login: Login, mpich: Mpi) -> None:
    login.script(SLOW)
    no_more = "--sbatch-arg=--no-requeue"
    job = login.submit(mpich, *TWO_NODES, no_more, "fit.py")
    log = login.folder / f"fit-{job}.out"
    login.until(lambda: log.exists() and "result 1" in log.read_text(), "it runs")
    down = ["nodename=node2", "state=down", "reason=test"]
    login.cluster.call("scontrol", "update", *down)
    login.until(lambda: login.field(job, "JobState") == "NODE_FAIL", "it has ended")
    shown = login.mpitasks(mpich, "status", job)
    assert f"job {job} (fit): NODE_FAIL, exit code" in shown.out, str(shown)
    assert login.cluster.settled() == []


@pytest.mark.parametrize("target", ["999999", "none.status", "fit.py"])
def test_no_status_to_show(login: Login, mpich: Mpi, target: str) -> None:
    login.script(WHERE)
    outcome = login.mpitasks(mpich, "status", target)
    assert outcome.code in (2, SETUP), str(outcome)
    assert outcome.out == "", str(outcome)
    assert "Traceback" not in outcome.err
    assert target in outcome.err, str(outcome)


def test_one_rank_a_node_is_said(login: Login, mpich: Mpi) -> None:
    login.script("pass")
    outcome = login.mpitasks(mpich, "submit", "-N2", "-t1", "fit.py")
    assert outcome.code == 0, str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "one rank a node" in outcome.said[0]
    told = login.mpitasks(mpich, "submit", "-n2", "-t1", "fit.py")
    assert (told.code, told.err) == (0, ""), str(told)


AGAIN = """
import os, signal, sys, time
import mpitasks as mt

def work(seconds):
    time.sleep(seconds)

if __name__ == "__main__":
    again = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    with mt.Executor() as ex:
        print("workers", ex.submit(abs, -ex.num_workers).result(), "round", again)
        list(ex.map(work, [0 if again else 60] * 8, chunksize=1))
"""


def shared_memory(job: str) -> set[Path]:
    """Return what MPICH leaves of the first step of a job whose ranks are killed."""
    number = 0x811C9DC5  # FNV-1a
    for byte in f"{job}.0".encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return set(Path("/dev/shm").glob(f"mpich_shm_{number:x}_*"))


def test_job_starts_again_after_its_ranks_were_killed(login: Login, mpich: Mpi) -> None:
    login.script(AGAIN)
    sizes = ["-N", "1", "-n", "3", "-t", "2", "--sbatch-arg=--open-mode=append"]
    job = login.submit(mpich, *sizes, "fit.py")
    log = login.folder / f"fit-{job}.out"
    login.until(lambda: log.exists() and "round 0" in log.read_text(), "it runs")
    login.cluster.call("scontrol", "requeue", job)
    login.until(lambda: login.field(job, "Restarts") == "1", "it has been killed")
    left = shared_memory(job)
    assert left, "MPICH cleans up by now; then the job script need not skip steps"
    try:
        login.until(lambda: "round 1" in log.read_text(), "it runs again")
        login.until(lambda: login.field(job, "JobState") == "COMPLETED", "it is over")
    finally:
        for path in left:
            path.unlink()
