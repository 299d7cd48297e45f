"""What SLURM's programs, and new jobs, do not inherit of the environment.

sbatch hands the environment on to the job. Of a job around it, or of settings that are
stronger than what was asked, nothing may arrive there. Pure: mappings in, mappings out.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpitasks.launch.threads import VARIABLES
from mpitasks.subprocesses import of_launch

__all__ = ["DEFAULTS", "for_job", "for_programs", "for_successor", "left_out"]

FORMATS = ("SACCT_", "SCONTROL_", "SLURM_TIME_FORMAT", "SQUEUE_")
"""So begin those by which users choose what SLURM's programs show, and how."""

OF_A_JOB = (
    "SLURM_ARRAY_",
    "SLURM_CPUS_",
    "SLURM_GTIDS",
    "SLURM_JOB",
    "SLURM_LOCALID",
    "SLURM_NNODES",
    "SLURM_NODEID",
    "SLURM_NODELIST",
    "SLURM_NPROCS",
    "SLURM_NTASKS",
    "SLURM_PMI",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "SLURM_SRUN_COMM_",
    "SLURM_STEP",
    "SLURM_SUBMIT_",
    "SLURM_TASK",
)
"""So begin those that are about a job. Others of SLURM's may be settings for srun, but
in a job nobody can tell which."""

CLUSTER = (
    "SLURM_CLUSTERS",
    "SLURM_CLUSTER_NAME",
    "SLURM_CONF",
    "SLURM_CONF_SERVER",
    "SLURM_JWT",
)
"""Those by which SLURM's programs find the cluster."""

DEFAULTS = {
    "account": "SBATCH_ACCOUNT",
    "partition": "SBATCH_PARTITION",
    "qos": "SBATCH_QOS",
}
"""By option of a job: sbatch's variable that stands for it where it is not asked."""


def for_programs(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which SLURM's programs answer as they are asked."""
    return _without(environ, FORMATS)


def for_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a job that is submitted from here.

    Where this is a job itself, its numbers of threads are those of its ranks.
    """
    names: tuple[str, ...] = (*OF_A_JOB, *FORMATS, "SBATCH_")
    if "SLURM_JOB_ID" in environ or "SLURM_JOBID" in environ:
        names = (*names, "SLURM_", "SLURMD_", "SRUN_", *VARIABLES)
    return _without(environ, names)


def for_successor(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a job that goes on where this one ends."""
    return _without(environ, (*FORMATS, "SBATCH_", "SLURM_", "SLURMD_"))


def left_out(environ: Mapping[str, str]) -> list[str]:
    """Return the names of sbatch's settings that a job does not get."""
    return sorted(
        name
        for name in environ
        if name.startswith("SBATCH_") and name not in DEFAULTS.values()
    )


def _without(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name in CLUSTER
        or not (name.startswith(names) or (of_launch(name) and name[:6] != "SLURM_"))
    }
