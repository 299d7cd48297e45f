"""The transport over MPI keeps the contract of all transports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import transport_contract
from launching import SCRIPTS, Launch, Mpi

BELL = pytest.param(
    "--bell",
    marks=pytest.mark.skipif(sys.platform != "linux", reason="there is no doorbell"),
)


OPTIONS = ["--spare-cores", "--crowded", "--any-source", "--survives", BELL]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_contract(mpi: Mpi, launch: Launch, option: str) -> None:
    script = SCRIPTS / "transport.py"
    outcome = launch(
        [*mpi.mpiexec(2), mpi.python, script, option],
        seconds=50,
        environ={"PYTHONPATH": str(Path(transport_contract.__file__).parent)},
    )
    assert outcome.code == 0, str(outcome)
    assert f"checks: {len(transport_contract.CHECKS)} passed" in outcome.out
    assert outcome.unforeseen == "", str(outcome)
