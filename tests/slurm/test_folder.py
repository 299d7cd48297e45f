"""The job scripts in ``slurm/`` run, given a smaller cluster and the way to python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launching import Mpi
from login import Login

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


@pytest.mark.parametrize(
    ("name", "sizes", "prints"),
    [
        ("one-node", ["--ntasks-per-node=3"], "2 workers 1 threads None"),
        (
            "several-nodes",
            ["--nodes=2", "--ntasks-per-node=2"],
            "3 workers 2 threads None",
        ),
        ("array", ["--ntasks=2", "--array=5"], "1 workers 1 threads 5"),
        ("mpich-srun", ["--ntasks-per-node=2"], "3 workers 1 threads None"),
        ("openmpi-mpiexec", ["--ntasks-per-node=2"], "3 workers 1 threads None"),
    ],
)
def test_script_runs(
    login: Login,
    request: pytest.FixtureRequest,
    name: str,
    sizes: list[str],
    prints: str,
) -> None:
    mpi: Mpi = request.getfixturevalue("openmpi" if "openmpi" in name else "mpich")
    login.script(SCRIPT, "script.py")
    outcome = login.run(
        "sbatch",
        "--parsable",
        "--time=2",
        *sizes,
        FOLDER / f"{name}.sh",
        environ={"PATH": f"{mpi.bin}:{os.environ['PATH']}"},
    )
    assert outcome.code == 0, str(outcome)
    job = outcome.out.strip()
    login.until(lambda: not login.cluster.jobs(), "the job is over")
    stem = f"{name}-{job}_5" if name == "array" else f"{name}-{job}"
    lines = login.read(f"{stem}.out").splitlines()
    assert [line for line in lines if "mpitasks: warning" not in line] == [prints]
    assert login.field(job, "JobState") == "COMPLETED"
    assert f"{stem}.status" in login.files()
