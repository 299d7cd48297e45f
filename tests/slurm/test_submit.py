"""``mpitasks submit`` on a real SLURM of two nodes, from refusals to a job's status."""

from __future__ import annotations

import re

import pytest

from launching import Mpi
from login import Login

WHERE = "import mpitasks"

SETUP = 78

TWO_NODES = ("-N", "2", "--ntasks-per-node=2", "-t", "2")


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


def test_a_script_is_kept_in_the_place_of_nothing_else(
    login: Login, mpich: Mpi
) -> None:
    login.script("print('ran')")
    (login.folder / "precious").write_text("precious")
    first = login.mpitasks(mpich, "submit", "-n1", "-t2", "--wait", "fit.py")
    assert first.code == 0, str(first)
    match = re.match(r"job (\d+): fit-(\d+)\.sh", first.out)
    assert match is not None, str(first)
    link = login.folder / f"fit-{int(match[1]) + 1}.sh"
    link.symlink_to("precious")
    second = login.mpitasks(mpich, "submit", "-n1", "-t2", "--wait", "fit.py")
    assert second.code == 0, str(second)
    assert f"job {int(match[1]) + 1}: " in second.out
    assert "the job script is not kept: " in second.err
    assert "is a link, and is left as it is" in second.err
    assert link.is_symlink()
    assert login.read("precious") == "precious"


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
    submit = [mpich.python, "-m", "mpitasks", "submit"]
    hold = "--sbatch-arg=--hold"
    outcome = login.run(*submit, "-N2", "-t1", hold, "fit.py")
    assert outcome.code == 0, str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "one rank a node" in outcome.said[0]
    alone = login.run(*submit, "-t1", hold, "fit.py")
    assert "warning: sbatch gives one rank, so no worker" in alone.err, str(alone)
    for many in (["-n2"], ["--sbatch-arg=--ntasks-per-core=1"]):
        told = login.run(*submit, *many, "-t1", hold, "fit.py")
        assert (told.code, told.err) == (0, ""), str(told)
