"""Chaos: whatever tasks and ranks do, each future is resolved once, and rightly.

The seed is in the line that the script prints; `scripts/chaos.py --seed` repeats it.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from launching import SCRIPTS, Launch, Mpi, Outcome

CHAOS = SCRIPTS / "chaos.py"
GIVEN_SEED = os.environ.get("MPITASKS_CHAOS_SEED")
SEED = int(GIVEN_SEED) if GIVEN_SEED else random.SystemRandom().getrandbits(20)
SHARED = Path("/dev/shm")


def shared_segments() -> set[str]:
    """Return the shared-memory segments that could be ours."""
    return {path.name for path in SHARED.iterdir() if "mpitasks" in path.name}


def run(launch: Launch, command: list[str], tmp_path: Path, tasks: int) -> None:
    """Run the script, and look at what it says and leaves."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    before = shared_segments()
    outcome: Outcome = launch(
        [*command, "--seed", str(SEED), "--tasks", str(tasks)],
        seconds=240.0,
        environ={"TMPDIR": str(scratch)},
    )
    print(outcome)  # shown when the test fails, seed and all
    assert outcome.code == 0, str(outcome)
    told = json.loads(outcome.out.splitlines()[-1])
    assert told["seed"] == SEED
    assert (told["wrong"], told["tasks"]) == (0, tasks)
    assert sum(told["outcomes"].values()) == tasks
    assert shared_segments() == before
    left = [path.name for path in scratch.iterdir() if "mpitasks" in path.name]
    assert left == []


def test_under_both_mpis(launch: Launch, mpi: Mpi, tmp_path: Path) -> None:
    run(launch, mpi.runner(4, CHAOS), tmp_path, 150)


def test_in_one_process(launch: Launch, any_mpi: Mpi, tmp_path: Path) -> None:
    run(launch, [str(any_mpi.python), str(CHAOS)], tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 3])
def test_while_ranks_are_killed(
    launch: Launch, openmpi: Mpi, tmp_path: Path, kills: int
) -> None:
    words = ["-m", "mpitasks", "-n", "5", "--survive", str(CHAOS)]
    command = [str(openmpi.python), *words, "--kills", str(kills)]
    run(launch, command, tmp_path, 150)
