"""Jobs in odd surroundings, that end in odd ways, on a real SLURM.

All of them run at the same time: the first test starts them, and each looks at what
came of one.
"""

from __future__ import annotations

import json
import re

import pytest

from launching import Mpi, Outcome, find_mpi
from login import Login
from together import Together

SECONDS = 200.0

pytestmark = pytest.mark.timeout(240)

SETUP, STOPPED = 78, 75

OUTER = """
import os, subprocess, sys
import mpitasks as mt

with mt.Executor() as ex:
    print("outer", ex.submit(os.environ.get, "SLURM_ARRAY_TASK_ID").result())
    os.environ["SLURM_JOB_END_TIME"] = "1700000000"  # as newer SLURMs set it
    words = ["-n2", "-t3", "--requeue", "-J", "inner", "inner.py"]
    subprocess.run([sys.executable, "-m", "mpitasks", "submit", *words], check=True)
"""

INNER = """
import os, subprocess, time
import mpitasks as mt

def work(number):
    time.sleep(0.1)
    return number

again = os.environ.get("SLURM_RESTART_COUNT", "0")
names = ("SLURM_ARRAY_", "SLURM_JOB_END", "SRUN_CPUS", "SBATCH_", "MPITASKS_ROUND")
print("left", sorted(name for name in os.environ if name.startswith(names)))
print("threads", os.environ["OMP_NUM_THREADS"], "round", again, flush=True)
with mt.Executor() as ex:
    for number in ex.map(work, range(50), chunksize=1):
        if number == 10 and again == "0":
            subprocess.run(["scancel", "--signal=USR1", os.environ["SLURM_JOB_ID"]])
    print("done", number, flush=True)
"""

EXTENDED = """
import os, subprocess, time
import mpitasks as mt

def work(number):
    time.sleep(1)
    return number

with mt.Executor() as ex:
    for number in ex.map(work, range(60), chunksize=1):
        if number == 3:
            id = os.environ["SLURM_JOB_ID"]
            subprocess.run(["scontrol", "update", f"JobId={id}", "TimeLimit=5"])
    print("done", number, ex.submit(mt.time_left).result() > 60, flush=True)
"""

AGAIN = """
import os, subprocess, time
import mpitasks as mt

again = os.environ.get("SLURM_RESTART_COUNT", "0")
print("round", again, "began at", time.time(), "with some more to say", flush=True)
with mt.Executor() as ex:
    print(ex.submit(abs, -1).result(), flush=True)
    if again == "0":
        time.sleep(3)
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
        time.sleep(60)
"""

BUSY = """
import os, subprocess, sys, time
import mpitasks as mt

def work(number):
    time.sleep(60)

with mt.Executor() as ex:
    futures = [ex.submit(work, number) for number in range(9)]
    time.sleep(1)
    subprocess.run([*sys.argv[1:], os.environ["SLURM_JOB_ID"]])
    futures[-1].result()
"""

DIES = """
import os, signal, time
import mpitasks as mt

def die(_):
    if not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

with mt.Executor() as ex:
    ex.submit(die, 0).result()
    print("sum", sum(ex.map(abs, range(100))), ex.num_workers, flush=True)
"""

ARGUMENTS = [
    "a\ntouch TRAP; exit 0 #",
    "#SBATCH -t 9",
    "$(touch TRAP)",
    "",
    "-n",
    "é\\",
]
COMMENT = """a\\b 'c' "d" #e $(touch TRAP) `f` é packjob"""
TOLD = "import sys; print(sys.argv[1:])"

ENDS = {
    "scancel": ["scancel"],
    "limit": ["sh", "-c", "scontrol update EndTime=now JobId=$0"],
}


@pytest.fixture(scope="module")
def jobs(together: Together) -> Together:
    """All the jobs, started together."""

    def start(
        name: str, of: str, script: str, *words: str, environ: dict[str, str] | None
    ) -> None:
        mpi = find_mpi(of)
        if mpi is None:  # the test of it is skipped
            return
        login = together.login(name)
        login.script(script)
        login.script(INNER, "inner.py")
        (login.folder / "run.sh").write_text("mine")
        (login.folder / "kept.journal").write_text("mine")
        table = "[slurm]\nsetup = ['scontrol update JobId=$SLURM_JOB_ID "
        if name == "extended":
            (login.folder / "mpitasks.toml").write_text(
                f"{table}EndTime=now+20seconds']\n"
            )
        command = [mpi.python, "-m", "mpitasks", "submit", "--wait", *words]
        together.start(name, login, *command, seconds=SECONDS, environ=environ)

    plain: dict[str, str] = {}
    sizes = ["-n2", "-c2", "-t2", "--array=5"]
    start("nested", "mpich", OUTER, *sizes, "fit.py", environ=plain)
    start("extended", "mpich", EXTENDED, "-n3", "-t1", "fit.py", environ=plain)
    start("again", "mpich", AGAIN, "-n2", "-t3", "fit.py", environ=plain)
    journal = ["--journal", "kept.journal"]
    start("journal", "mpich", "pass", "-n3", "-t1", *journal, "fit.py", environ=plain)
    grace = ["-n3", "-t2", "--run-arg=--grace", "--run-arg=50"]
    for name, words in ENDS.items():
        start(name, "mpich", BUSY, *grace, "fit.py", *words, environ=plain)
    others = {
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_JOB_NAME": "other",
        "SBATCH_ARRAY_INX": "0-3",
        "SBATCH_OUTPUT": "other.out",
        "SBATCH_PARTITION": "main",
        "SQUEUE_STATES": "PENDING",
        "SLURM_TIME_FORMAT": "%H:%M",
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_JOB_END_TIME": "1700000000",
    }
    inner = ["-n2", "-t3", "--requeue", "inner.py"]
    start("others", "mpich", "pass", *inner, environ=others)
    words = ["-n2", "-t1", "-o", "run.out", f"--sbatch-arg=--comment={COMMENT}"]
    start("words", "mpich", TOLD, *words, "fit.py", *ARGUMENTS, environ=plain)
    start(
        "survive", "openmpi", DIES, "-n4", "-t2", "--survive", "fit.py", environ=plain
    )
    return together


def number_of(outcome: Outcome) -> str:
    match = re.search(r"^job (\d+): ", outcome.out, re.MULTILINE)
    assert match is not None, str(outcome)
    return match[1]


def log_of(login: Login, outcome: Outcome, name: str) -> str:
    assert outcome.code == 0, str(outcome)
    return login.read(f"{name}-{number_of(outcome)}.out")


def test_a_job_that_is_submitted_from_a_job(jobs: Together, mpich: Mpi) -> None:
    login, outcome = jobs.ended("nested")
    assert outcome.code == 0, str(outcome)
    outer = number_of(outcome)
    [log] = [path.name for path in login.folder.glob(f"fit-{outer}_5.out")]
    match = re.search(r"^job (\d+): inner-", login.read(log), re.MULTILINE)
    assert match is not None, str(outcome)
    inner = match[1]

    def is_over() -> bool:
        return login.field(inner, "JobState") in ("COMPLETED", "FAILED")

    login.until(is_over, "the inner job is over")
    text = login.read(f"inner-{inner}.out")
    assert login.field(inner, "JobState") == "COMPLETED", text
    assert text.count("left []\n") == 2, text
    assert "threads 1 round 0\n" in text, text
    assert "threads 1 round 1\n" in text, text
    assert f"round 1 of job {inner} is over; the job goes into the queue" in text
    assert text.count("done 49\n") == 1, text
    assert login.field(inner, "Restarts") == "1"
    assert login.field(f"{outer}_5", "Restarts") == "0"


def test_what_the_environment_says_of_other_jobs(jobs: Together, mpich: Mpi) -> None:
    login, outcome = jobs.ended("others")
    text = log_of(login, outcome, "inner")
    number = number_of(outcome)
    assert text.count("left []\n") == 2, text
    assert "done 49\n" in text
    assert login.field(number, "TimeLimit") == "00:03:00"
    assert login.field(number, "JobName") == "inner"
    assert f"inner-{number}.status" in login.files()
    [warning] = [line for line in outcome.said if "warning: the job" in line]
    names = "SBATCH_ARRAY_INX, SBATCH_JOB_NAME, SBATCH_OUTPUT, SBATCH_TIMELIMIT"
    assert names in warning, str(outcome)
    assert "#SBATCH --partition=main\n" in login.read(f"inner-{number}.sh")


def test_an_extended_walltime_is_used(jobs: Together, mpich: Mpi) -> None:
    login, outcome = jobs.ended("extended")
    text = log_of(login, outcome, "fit")
    assert "done 59 True\n" in text, text
    assert "mpitasks: the job's walltime was changed: " in text
    assert "stopp" not in text


def test_the_log_of_a_job_that_starts_again(jobs: Together, mpich: Mpi) -> None:
    _, outcome = jobs.ended("again")
    assert outcome.code == 0, str(outcome)
    for count in "01":
        assert f"round {count} began at" in outcome.out, str(outcome)
    assert "begins anew" in outcome.err


def test_a_refused_journal(jobs: Together, mpich: Mpi) -> None:
    login, outcome = jobs.ended("journal")
    assert outcome.code == SETUP, str(outcome)
    assert "is no journal of mpitasks" in outcome.out
    assert login.field(number_of(outcome), "ExitCode") == f"{SETUP}:0"


@pytest.mark.parametrize("how", ENDS)
def test_a_grace_longer_than_slurm_gives(jobs: Together, mpich: Mpi, how: str) -> None:
    login, outcome = jobs.ended(how)
    assert outcome.code == STOPPED, str(outcome)
    # SLURM may have told of the limit before it sends SIGTERM.
    stopped = "SIGTERM came" if how == "scancel" else ""
    assert f"mpitasks: stopped: {stopped}" in outcome.out, str(outcome)
    status = json.loads(login.read(f"fit-{number_of(outcome)}.status"))
    assert (status["state"], status["code"]) == ("stopped", STOPPED)


def test_words_and_files_of_the_user(jobs: Together, mpich: Mpi) -> None:
    login, outcome = jobs.ended("words")
    assert outcome.code == 0, str(outcome)
    number = number_of(outcome)
    assert login.read("run.out") == f"{ARGUMENTS}\n"
    record = login.cluster.call("scontrol", "show", "job", number)
    assert f" Comment={COMMENT} \n" in record, record
    assert login.field(number, "TimeLimit") == "00:01:00"
    assert login.read("run.sh") == "mine"
    assert {f"run-{number}.sh", f"run-{number}.status"} < login.files()
    assert "TRAP" not in login.files()
    shown = login.mpitasks(mpich, "status", number)
    assert "finished with exit code 0" in shown.out, str(shown)


def test_a_job_that_survives_a_death(jobs: Together, openmpi: Mpi) -> None:
    login, outcome = jobs.ended("survive")
    assert "sum 4950 2\n" in log_of(login, outcome, "fit")


def test_no_pmix_where_srun_cannot_load_it(login: Login, openmpi: Mpi) -> None:
    offered = login.run("srun", "--mpi=list")
    tried = login.run("srun", "--mpi=pmix", "--test-only", "-n1", "true")
    if "pmix" not in offered.out + offered.err or "Invalid MPI type" not in tried.err:
        pytest.skip("this srun has no pmix, or can load it")
    login.script("pass")
    # An Open MPI without its mpiexec beside it, as a site's own.
    python = login.folder / "python"
    python.write_text(f'#!/bin/sh\nexec {openmpi.python} "$@"\n')
    python.chmod(0o755)
    probe = (
        "from mpitasks.slurm import probe; "
        f"print(*probe.choose_launcher(None, probe.probe('{python}')).words)"
    )
    outcome = login.run(openmpi.python, "-c", probe)
    assert outcome.out == "mpiexec\n", str(outcome)
    doctor = login.mpitasks(openmpi, "doctor")
    assert "so srun cannot start it" in doctor.out, str(doctor)
