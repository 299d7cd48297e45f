"""The job scripts in ``slurm/`` run, given a smaller cluster and the way to python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launching import find_mpi
from together import Together

FOLDER = Path(__file__).parents[2] / "slurm"

SCRIPT = """
import os
import mpitasks as mt

with mt.Executor() as ex:
    list(ex.map(abs, range(9)))
    index = os.environ.get("SLURM_ARRAY_TASK_ID")
    threads = os.environ["OMP_NUM_THREADS"]
    print(ex.num_workers, "workers", threads, "threads", index)
"""


SCRIPTS = {
    "one-node": (["--ntasks-per-node=3"], "2 workers 1 threads None"),
    "several-nodes": (
        ["--nodes=2", "--ntasks-per-node=2"],
        "3 workers 2 threads None",
    ),
    "array": (["--ntasks=2", "--array=5"], "1 workers 1 threads 5"),
    "mpich-srun": (["--ntasks-per-node=2"], "3 workers 1 threads None"),
    "openmpi-mpiexec": (["--ntasks-per-node=2"], "3 workers 1 threads None"),
}


@pytest.fixture(scope="module")
def jobs(together: Together) -> Together:
    """All the jobs, started together."""
    for name, (sizes, _) in SCRIPTS.items():
        mpi = find_mpi(mpi_of(name))
        if mpi is not None:  # else the test of it is skipped
            login = together.login(name)
            login.script(SCRIPT, "script.py")
            command = ["sbatch", "--wait", "--parsable", "--time=2", *sizes]
            environ = {"PATH": f"{mpi.bin}:{os.environ['PATH']}"}
            script = FOLDER / f"{name}.sh"
            together.start(name, login, *command, script, environ=environ)
    return together


def mpi_of(name: str) -> str:
    return "openmpi" if "openmpi" in name else "mpich"


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_runs(jobs: Together, request: pytest.FixtureRequest, name: str) -> None:
    request.getfixturevalue(mpi_of(name))
    login, outcome = jobs.ended(name)
    assert outcome.code == 0, str(outcome)
    job = outcome.out.strip()
    stem = f"{name}-{job}_5" if name == "array" else f"{name}-{job}"
    lines = login.read(f"{stem}.out").splitlines()
    prints = SCRIPTS[name][1]
    assert [line for line in lines if "mpitasks: warning" not in line] == [prints]
    assert login.field(job, "JobState") == "COMPLETED"
    assert f"{stem}.status" in login.files()
