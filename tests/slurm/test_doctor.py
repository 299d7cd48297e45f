"""The doctor, and the checks of every start, under a real srun and in a real job."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from launching import Mpi, find_mpi
from together import Together

SETUP = 78

SCRIPT = """
import mpitasks as mt
with mt.Executor() as ex:
    print(list(ex.map(abs, [-1])))
"""


SRUN = ["srun", "-N1", "-n4", "-t2"]
BATCH = ["sbatch", "--wait", "-N2", "-t2", "--ntasks-per-node=2", "-o", "said"]
STARTS = [
    ("doctor", "mpich", "pmi2"),
    ("doctor", "openmpi", "pmi2"),
    ("doctor", "mpich", "none"),
    ("script", "openmpi", "pmi2"),
    ("script", "mpich", "none"),
    ("job", "mpich", ""),
    ("mpiexec", "mpich", ""),
    ("mpiexec", "openmpi", ""),
]


@pytest.fixture(scope="module")
def runs(together: Together) -> Together:
    """The commands of all tests, started together."""
    for what, of, kind in STARTS:
        mpi = find_mpi(of)
        if mpi is None:  # the test of it is skipped
            continue
        login = together.login(f"{what} {of}")
        login.script(SCRIPT, "script.py")
        words = ["script.py"] if what == "script" else ["doctor", "--json"]
        command = [mpi.python, "-m", "mpitasks", *words]
        start = [*SRUN, f"--mpi={kind}", *command]
        if what == "mpiexec":
            command = [mpi.bin / "mpiexec", *command]
        if what in ("job", "mpiexec"):
            start = [*BATCH, f"--wrap={' '.join(map(str, command))}"]
        environ = {"PATH": f"{mpi.bin}:{os.environ['PATH']}", **AS_ROOT}
        together.start(f"{what} {of} {kind}".strip(), login, *start, environ=environ)
    return together


AS_ROOT = dict.fromkeys(
    ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1"
)


def one(report: dict[str, Any], check: str) -> dict[str, str]:
    """Return the one finding of a check."""
    (found,) = [f for f in report["findings"] if f["check"] == check]
    assert isinstance(found, dict)
    return found


def test_srun_that_fits(runs: Together, mpich: Mpi) -> None:
    _, outcome = runs.ended("doctor mpich pmi2")
    report = json.loads(outcome.out)
    assert outcome.code == report["exit_code"] != SETUP, str(outcome)
    assert one(report, "launch")["why"] == "srun started one world of 4"
    assert "srun --mpi=pmi2 fits" in one(report, "SLURM")["why"]
    assert {"none", "pmi2"} <= set(report["slurm"]["kinds"])
    assert report["slurm"]["variables"]["SLURM_STEP_NUM_TASKS"] == "4"
    assert len(report["ranks"]) == 4
    assert len(report["pairs"]) == 1


@pytest.mark.parametrize("of", ["mpich", "openmpi"])
def test_an_mpiexec_in_a_job(runs: Together, mpich: Mpi, openmpi: Mpi, of: str) -> None:
    """Its helpers are tasks of srun, one on each node, and variables tell of these."""
    login, _ = runs.ended(f"mpiexec {of}")
    text = (login.folder / "said").read_text()
    assert "{\n" in text, text
    report, _ = json.JSONDecoder().raw_decode(text, text.index("{\n"))
    assert one(report, "launch")["why"].endswith(" started one world of 4"), text
    assert one(report, "hosts, ranks")["why"].startswith("4 ranks on "), text
    assert " with 4 tasks;" in one(report, "SLURM")["why"], text
    assert report["slurm"]["variables"]["SLURM_NTASKS"] == "4"
    assert len(report["ranks"]) == 4


def test_srun_that_does_not_fit_gives_one_report(runs: Together, openmpi: Mpi) -> None:
    _, outcome = runs.ended("doctor openmpi pmi2")
    assert outcome.code == SETUP, str(outcome)
    report = json.loads(outcome.out)
    finding = one(report, "launch")
    assert finding["level"] == "error"
    assert "srun started 4 copies, and each is alone: Open MPI v5" in finding["why"]
    assert "srun --mpi=pmix" in finding["cure"]


def test_copies_without_any_pmi_give_one_report(runs: Together, mpich: Mpi) -> None:
    """MPICH has started by then, each copy as a world of its own."""
    _, outcome = runs.ended("doctor mpich none")
    assert outcome.code == SETUP, str(outcome)
    finding = one(json.loads(outcome.out), "launch")
    assert "4 copies, and each is alone: MPICH 5" in finding["why"]
    assert "srun --mpi=pmi2" in finding["cure"]


def test_open_mpi_under_pmi2_is_refused_with_one_line(
    runs: Together, openmpi: Mpi
) -> None:
    _, outcome = runs.ended("script openmpi pmi2")
    assert outcome.code == SETUP, str(outcome)
    assert outcome.out == "", str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "srun started 4 copies, but each is alone" in outcome.said[0]
    assert "srun --mpi=pmix" in outcome.said[0]


def test_mpich_without_pmi_is_refused_with_one_line(runs: Together, mpich: Mpi) -> None:
    _, outcome = runs.ended("script mpich none")
    assert outcome.code == SETUP, str(outcome)
    assert outcome.out == "", str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "srun --mpi=pmi2" in outcome.said[0]


def test_in_a_batch_job(runs: Together, mpich: Mpi) -> None:
    """Alone there, it tries what the job could start."""
    login, outcome = runs.ended("job mpich")
    report = json.loads(login.read("said"))
    assert outcome.code == report["exit_code"], str(outcome)
    assert one(report, "mpiexec -n 2")["level"] == "ok", report
    assert "job " in one(report, "SLURM")["why"]
    assert "with 4 tasks" in one(report, "SLURM")["why"]
