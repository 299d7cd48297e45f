"""The Executor's contract over every MPI, at several sizes, and without any MPI.

The checks are in scripts/contract_*.py; each launch runs all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launching import SCRIPTS, Launch, Mpi, Outcome

CONTRACT = SCRIPTS / "contract.py"
MAIN = SCRIPTS / "contract_main.py"
SECONDS = 110.0
"""The checks take a quarter of it on a machine that does nothing else."""


def assert_all_passed(outcome: Outcome) -> None:
    """Every check ran and passed, and nobody had anything else to say."""
    assert outcome.code == 0, str(outcome)
    assert " passed, 0 failed" in outcome.out, str(outcome)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_contract(mpi: Mpi, ranks: int, launch: Launch) -> None:
    command = mpi.runner(ranks, CONTRACT, str(ranks - 1))
    outcome = launch(command, seconds=SECONDS)
    assert_all_passed(outcome)
    assert outcome.unforeseen == "", str(outcome)


def test_contract_isolated(mpi: Mpi, launch: Launch) -> None:
    command = mpi.runner(3, "--isolate", CONTRACT, "2")
    outcome = launch(command, seconds=SECONDS)
    assert_all_passed(outcome)
    assert outcome.unforeseen == "", str(outcome)


@pytest.mark.parametrize("ranks", [2, 3])
def test_functions_of_main(mpi: Mpi, ranks: int, launch: Launch) -> None:
    outcome = launch(mpi.runner(ranks, MAIN))
    assert_all_passed(outcome)
    assert outcome.unforeseen == "", str(outcome)


@pytest.mark.parametrize("script", [CONTRACT, MAIN])
def test_in_one_process(script: Path, launch: Launch) -> None:
    outcome = launch([sys.executable, script], seconds=SECONDS)
    assert_all_passed(outcome)
    assert outcome.err.count("\n") == 1, str(outcome)
    assert "one process" in outcome.said[0]


def test_in_a_world_of_one(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(1, CONTRACT, "1"), seconds=SECONDS)
    assert_all_passed(outcome)
    assert outcome.err.count("\n") == 1, str(outcome)
    assert "one process" in outcome.said[0]


def test_in_one_process_without_mpi4py(launch: Launch) -> None:
    launch.script("import sys\nsys.modules['mpi4py'] = None\n", "sitecustomize.py")
    launch.script("import mpi4py", "other.py")
    environ = {"PYTHONPATH": str(launch.folder)}
    refused = launch([sys.executable, "other.py"], environ=environ)
    assert "ModuleNotFoundError" in refused.err  # it is not importable indeed
    command = [sys.executable, CONTRACT, "1"]
    outcome = launch(command, seconds=SECONDS, environ=environ)
    assert_all_passed(outcome)


@pytest.mark.large
def test_more_than_two_gibibytes(mpi: Mpi, launch: Launch) -> None:
    command = mpi.runner(2, SCRIPTS / "large.py", str(2_362_232_013))
    outcome = launch(command, seconds=120)
    assert outcome.code == 0, str(outcome)
    assert outcome.out == "back and right\n", str(outcome)
