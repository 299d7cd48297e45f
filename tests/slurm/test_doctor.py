"""The doctor, and the checks of every start, under a real srun and in a real job."""

from __future__ import annotations

import json
import os
from typing import Any

from launching import Mpi
from login import Login

SETUP = 78

SCRIPT = """
import mpitasks as mt
with mt.Executor() as ex:
    print(list(ex.map(abs, [-1])))
"""


def srun(kind: str, mpi: Mpi, *words: object, tasks: int = 4) -> list[object]:
    """Return the words that start so many copies."""
    start = ["srun", "-N1", f"-n{tasks}", "-t2", f"--mpi={kind}"]
    return [*start, mpi.python, "-m", "mpitasks", *words]


def one(report: dict[str, Any], check: str) -> dict[str, str]:
    """Return the one finding of a check."""
    (found,) = [f for f in report["findings"] if f["check"] == check]
    assert isinstance(found, dict)
    return found


def test_srun_that_fits(login: Login, mpich: Mpi) -> None:
    outcome = login.run(*srun("pmi2", mpich, "doctor", "--json"))
    report = json.loads(outcome.out)
    assert outcome.code == report["exit_code"] != SETUP, str(outcome)
    assert one(report, "launch")["why"] == "srun started one world of 4"
    assert "srun --mpi=pmi2 fits" in one(report, "SLURM")["why"]
    assert {"none", "pmi2"} <= set(report["slurm"]["kinds"])
    assert report["slurm"]["variables"]["SLURM_STEP_NUM_TASKS"] == "4"
    assert len(report["ranks"]) == 4
    assert len(report["pairs"]) == 1


def test_srun_that_does_not_fit_gives_one_report(login: Login, openmpi: Mpi) -> None:
    outcome = login.run(*srun("pmi2", openmpi, "doctor", "--json"))
    assert outcome.code == SETUP, str(outcome)
    report = json.loads(outcome.out)
    finding = one(report, "launch")
    assert finding["level"] == "error"
    assert "srun started 4 copies, and each is alone: Open MPI v5" in finding["why"]
    assert "srun --mpi=pmix" in finding["cure"]


def test_copies_without_any_pmi_give_one_report(login: Login, mpich: Mpi) -> None:
    """MPICH has started by then, each copy as a world of its own."""
    outcome = login.run(*srun("none", mpich, "doctor", "--json"))
    assert outcome.code == SETUP, str(outcome)
    finding = one(json.loads(outcome.out), "launch")
    assert "4 copies, and each is alone: MPICH 5" in finding["why"]
    assert "srun --mpi=pmi2" in finding["cure"]


def test_open_mpi_under_pmi2_is_refused_with_one_line(
    login: Login, openmpi: Mpi
) -> None:
    outcome = login.run(*srun("pmi2", openmpi, login.script(SCRIPT, "script.py")))
    assert outcome.code == SETUP, str(outcome)
    assert outcome.out == "", str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "srun started 4 copies, but each is alone" in outcome.said[0]
    assert "srun --mpi=pmix" in outcome.said[0]


def test_mpich_without_pmi_is_refused_with_one_line(login: Login, mpich: Mpi) -> None:
    outcome = login.run(*srun("none", mpich, login.script(SCRIPT, "script.py")))
    assert outcome.code == SETUP, str(outcome)
    assert outcome.out == "", str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "srun --mpi=pmi2" in outcome.said[0]


def test_in_a_batch_job(login: Login, mpich: Mpi) -> None:
    """Alone there, it tries what the job could start."""
    line = f"{mpich.python} -m mpitasks doctor --json"
    outcome = login.run(
        *("sbatch", "--wait", "-N2", "-t2", "--ntasks-per-node=2", "-o", "said"),
        f"--wrap={line}",
        environ={"PATH": f"{mpich.bin}:{os.environ['PATH']}"},
    )
    report = json.loads(login.read("said"))
    assert outcome.code == report["exit_code"], str(outcome)
    assert one(report, "mpiexec -n 2")["level"] == "ok", report
    assert "job " in one(report, "SLURM")["why"]
    assert "with 4 tasks" in one(report, "SLURM")["why"]
