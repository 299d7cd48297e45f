"""What SLURM says here: its variables, and which MPIs its srun can start."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

from mpitasks.launch.environment import launch_hint
from mpitasks.slurm.probe import loadable
from mpitasks.subprocesses import LAUNCH
from mpitasks.tools.doctor.facts import SlurmFacts

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


_OF_HELPERS = (
    "SLURM_NTASKS",
    "SLURM_TASKS_PER_NODE",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_PROCID",
)
"""Those that may be about the helpers of an mpiexec, which it has srun start."""


def look_at_slurm(environ: Mapping[str, str] = LAUNCH) -> SlurmFacts:
    """Return what there is of SLURM."""
    variables = {name: environ[name] for name in _TELLING if environ.get(name)}
    hint = launch_hint(environ)
    if hint is not None and hint.launcher != "srun":
        for name in _OF_HELPERS:
            variables.pop(name, None)
        if tasks := _ask_for_tasks(environ.get("SLURM_JOB_ID", "")):
            variables["SLURM_NTASKS"] = tasks
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
    kinds = list(loadable(read_kinds(text)))
    problem = "" if kinds else " ".join(text.split()) or f"exit code {done.returncode}"
    return SlurmFacts(srun, variables, kinds, problem)


def _ask_for_tasks(job: str) -> str:
    """Return how many tasks a job was given; empty if SLURM does not say."""
    if not job:
        return ""
    try:
        done = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job}", "--Format=NumTasks"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    said = done.stdout.strip()
    return said if said.isdigit() else ""


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
