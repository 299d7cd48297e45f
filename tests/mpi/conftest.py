"""Fixtures for tests that start real MPI jobs: which MPI, and how to launch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launching import MPIS, Launch, Mpi, find_mpi
from network import Hosts, hosts, why_not


def required_mpi(name: str) -> Mpi:
    """Return the MPI; skip where it is missing, fail where a CI lacks it."""
    found = find_mpi(name)
    if found is not None:
        return found
    reason = (
        f"{name} is neither in this environment nor in that of the python that "
        f"MPITASKS_TEST_{name.upper()} names"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(params=MPIS)
def mpi(request: pytest.FixtureRequest) -> Mpi:
    """Each of the MPIs in turn."""
    return required_mpi(request.param)


@pytest.fixture
def any_mpi() -> Mpi:
    """One MPI, for what does not depend on which."""
    for name in MPIS:
        found = find_mpi(name)
        if found is not None:
            return found
    return required_mpi(MPIS[0])


@pytest.fixture
def mpich() -> Mpi:
    """Where what is tested is MPICH's own."""
    return required_mpi("mpich")


@pytest.fixture
def openmpi() -> Mpi:
    """The only MPI that survives the death of a rank."""
    return required_mpi("openmpi")


@pytest.fixture
def two_hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Two hosts; skipped where there can be none, but never in a CI that is root."""
    reason = why_not()
    if reason is not None:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    with hosts(2, tmp_path) as made:
        yield made


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts jobs in a folder of their own; kills what a failed test leaves."""
    launch = Launch(tmp_path)
    yield launch
    launch.close()
