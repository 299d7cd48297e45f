"""What SLURM says here: its variables, and which MPIs its srun can start."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from mpitasks.launch.doctor.facts import SlurmFacts

__all__ = ["look_at_slurm", "read_kinds"]

SECONDS = 15.0

_TELLING = (
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NUM_NODES",
    "SLURM_NTASKS",
    "SLURM_TASKS_PER_NODE",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_CPUS_PER_NODE",
    "SLURM_MEM_PER_NODE",
    "SLURM_MPI_TYPE",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_PROCID",
)


def look_at_slurm(environ: Mapping[str, str] = os.environ) -> SlurmFacts:
    """Return what there is of SLURM."""
    variables = {name: environ[name] for name in _TELLING if environ.get(name)}
    srun = shutil.which("srun")
    if srun is None:
        return SlurmFacts("", variables)
    try:
        done = subprocess.run(
            [srun, "--mpi=list"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return SlurmFacts(srun, variables, [], str(error))
    text = f"{done.stdout}\n{done.stderr}"
    kinds = read_kinds(text)
    problem = "" if kinds else " ".join(text.split()) or f"exit code {done.returncode}"
    return SlurmFacts(srun, variables, kinds, problem)


def read_kinds(text: str) -> list[str]:
    """Return the names out of the answer to ``srun --mpi=list``.

    SLURM 22 writes a heading and one indented name a line, to standard error; before
    it each line began with "srun: "; a line of versions may follow (23 on).
    """
    kinds: list[str] = []
    heard = False
    for line in text.splitlines():
        words = line.removeprefix("srun:").split()
        if "MPI" in words and "types" in words:
            heard = True
        elif heard and len(words) == 1:
            kinds.append(words[0])
    return kinds
