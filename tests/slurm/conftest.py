"""Fixtures for tests on a real SLURM: one cluster for all, a folder for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import Cluster, why_not
from launching import Mpi, find_mpi
from login import Login
from together import Together


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two virtual nodes; skipped where there can be none, but never in CI."""
    reason = why_not()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        left = made.stop()
    assert not left, f"jobs left running: {left}"
    assert not made.folder.exists()


@pytest.fixture
def login(cluster: Cluster, tmp_path: Path) -> Iterator[Login]:
    """A login node; whatever a test submits must end without a trace."""
    yield Login(cluster, tmp_path)
    cluster.clear()
    left = cluster.settled()
    assert not left, f"left running: {left}"


@pytest.fixture(scope="module")
def together(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Together]:
    """For the jobs of a module that run at the same time."""
    made = Together(cluster, tmp_path_factory)
    yield made
    made.close()


def _required(name: str) -> Mpi:
    found = find_mpi(name)
    if found is not None:
        return found
    reason = f"needs {name}; name a python that has it in MPITASKS_TEST_{name.upper()}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def mpich() -> Mpi:
    """The MPI that srun starts by PMI-2."""
    return _required("mpich")


@pytest.fixture
def openmpi() -> Mpi:
    """The MPI that only its own mpiexec starts."""
    return _required("openmpi")
