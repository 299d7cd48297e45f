"""What a job, and SLURM's programs, get of the environment of who asks for it."""

from __future__ import annotations

import pytest

from mpitasks.slurm.inherited import (
    for_job,
    for_programs,
    for_successor,
    left_out,
)

MINE = {"HOME": "/home/me", "PATH": "/bin", "OMPI_MCA_btl": "tcp,self"}
CLUSTER = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "big"}
SETTINGS = {
    "SLURM_CPU_BIND": "cores",
    "SLURM_MPI_TYPE": "pmix",
    "OMP_NUM_THREADS": "4",
}
JOB = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_END_TIME": "5",
    "SLURM_ARRAY_JOB_ID": "15",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_RESTART_COUNT": "2",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "0",
}
LAUNCHED = {
    "PMI_RANK": "0",
    "PMIX_RANK": "0",
    "OMPI_COMM_WORLD_RANK": "0",
    "MPITASKS_ROUND": "2",
    "MPITASKS_SUPERVISOR": "x",
}
FORMATS = {
    "SQUEUE_STATES": "PENDING",
    "SLURM_TIME_FORMAT": "%H:%M",
    "SACCT_FORMAT": "user",
}
SBATCH = {"SBATCH_TIMELIMIT": "1", "SBATCH_ARRAY_INX": "0-9", "SBATCH_ACCOUNT": "a"}
EVERYTHING = {**MINE, **CLUSTER, **SETTINGS, **JOB, **LAUNCHED, **FORMATS, **SBATCH}


def test_from_a_job() -> None:
    around = {
        "SRUN_CPUS_PER_TASK": "8",
        "SLURMD_NODENAME": "n1",
        "MKL_NUM_THREADS": "1",
    }
    assert for_job({**EVERYTHING, **around}) == {**MINE, **CLUSTER}


@pytest.mark.parametrize("left", [name for name in JOB if name != "SLURM_JOB_ID"])
def test_from_a_login_node(left: str) -> None:
    """What the user has set for programs of the job is kept; what is left is not."""
    environ = {**MINE, **CLUSTER, **SETTINGS, **SBATCH, left: "5"}
    assert for_job(environ) == {**MINE, **CLUSTER, **SETTINGS}


def test_for_a_successor() -> None:
    threads = {"OMP_NUM_THREADS": "4"}
    assert for_successor(EVERYTHING) == {**MINE, **CLUSTER, **threads}


def test_for_programs() -> None:
    kept = {**MINE, **CLUSTER, **SETTINGS, **JOB, **SBATCH}
    assert for_programs(EVERYTHING) == kept


def test_what_is_left_out_is_named() -> None:
    assert left_out({**EVERYTHING}) == ["SBATCH_ARRAY_INX", "SBATCH_TIMELIMIT"]
    assert left_out(MINE) == []
