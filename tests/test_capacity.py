"""For how many ranks there is room, and what Open MPI's mpiexec has to be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpitasks.launch import mpiexec
from mpitasks.launch.capacity import job_ranks, room_for_ranks, whole_cores
from mpitasks.launch.cores import usable_cores
from mpitasks.launch.mpiexec import POLICY, permissions

CORES = len(usable_cores())


@pytest.mark.parametrize(
    ("environ", "ranks"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "6", "SLURM_TASKS_PER_NODE": "3(x2)"}, 6),
        ({"SLURM_JOB_ID": "7", "SLURM_TASKS_PER_NODE": "4(x2),1"}, 9),
        ({"SLURM_NTASKS": "1"}, 1),
        ({"PBS_NP": "12"}, 12),
        ({"LSB_DJOB_NUMPROC": "5"}, 5),
        ({"NSLOTS": "3"}, 3),
        ({"PJM_MPI_PROC": "48"}, 48),
        ({"PBS_NODEFILE": "/no/such/file"}, None),
        ({"SLURM_NTASKS": "many"}, None),
    ],
)
def test_ranks_of_jobs(environ: dict[str, str], ranks: int | None) -> None:
    assert job_ranks(environ) == ranks
    wanted = ranks if ranks is not None and ranks > 1 else CORES
    assert room_for_ranks(environ, "/nowhere") == wanted


def test_ranks_of_a_file_of_nodes(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("n1\nn1\nn2\nn2\nn3\n")
    for name in ("PBS_NODEFILE", "OAR_NODEFILE"):
        assert job_ranks({name: str(tmp_path / "nodes")}) == 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two threads a core, as the kernel shows them; a quota is written by the test."""
    for core in range(max(usable_cores()) + 1):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/topology"
        folder.mkdir(parents=True)
        first = core // 2 * 2
        (folder / "thread_siblings_list").write_text(f"{first}-{first + 1}\n")
    return tmp_path


def test_threads_of_a_core_are_one(root: Path) -> None:
    assert whole_cores(str(root)) == len({core // 2 for core in usable_cores()})
    assert whole_cores("/nowhere") == CORES


@pytest.mark.parametrize(("quota", "ranks"), [(150, 1), (50, 1), (100 * CORES, CORES)])
def test_a_container_has_less(root: Path, quota: int, ranks: int) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text(f"{quota}000 100000\n")
    assert room_for_ranks({}, str(root)) == min(ranks, CORES)


def test_only_the_cores_that_may_be_used_count() -> None:
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        assert (room_for_ranks({}, "/nowhere"), whole_cores()) == (1, 1)
    finally:
        os.sched_setaffinity(0, own)


MANY = CORES + 1
JOB = {"SLURM_JOB_ID": "7"}
ONE_NODE = {"SLURM_JOB_NUM_NODES": "1"}


@pytest.mark.parametrize(
    ("ranks", "extra", "environ", "words"),
    [
        (1, [], {}, []),
        (MANY, [], {}, ["--oversubscribe"]),
        (MANY, ["--map-by", "node"], {}, ["--oversubscribe"]),
        (MANY, ["--map-by", "node:OVERSUBSCRIBE"], {}, []),
        (MANY, ["--oversubscribe"], {}, []),
        (MANY, ["--nooversubscribe"], {}, []),
        (MANY, [], {POLICY: "node"}, ["--map-by", "node:OVERSUBSCRIBE"]),
        (MANY, [], {POLICY: "core:PE=1"}, ["--map-by", "core:PE=1:OVERSUBSCRIBE"]),
        (MANY, ["--map-by", "slot"], {POLICY: "node"}, ["--oversubscribe"]),
        (MANY, [], {POLICY: ":NOOVERSUBSCRIBE"}, []),
        (MANY, [], {POLICY: ":oversubscribe"}, []),
        (2, [], {**JOB, "SLURM_NTASKS": "1"}, ["--oversubscribe"]),
        (MANY, [], {**JOB, "SLURM_NTASKS": str(MANY)}, []),
        (MANY, [], {**JOB, **ONE_NODE, "SLURM_NTASKS": str(MANY)}, ["--oversubscribe"]),
        (MANY, [], {"LSB_DJOB_NUMPROC": str(MANY)}, ["--oversubscribe"]),
    ],
)
@pytest.mark.parametrize("user", [0, 1000])
def test_what_open_mpi_is_told(
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
    extra: list[str],
    environ: dict[str, str],
    words: list[str],
    user: int,
) -> None:
    monkeypatch.setattr(mpiexec, "whole_cores", lambda: CORES)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    asroot = ["--allow-run-as-root"] if user == 0 else []
    assert permissions(ranks, extra, environ) == [*asroot, *words]
