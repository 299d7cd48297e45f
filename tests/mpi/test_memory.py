"""Messages that are too large for the memory of the rank that gets them."""

from __future__ import annotations

from launching import SCRIPTS, Launch, Mpi

MEMORY = SCRIPTS / "memory.py"


def test_too_large_a_message_fails_its_task(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(2, MEMORY), seconds=90)
    assert outcome.code == 0, str(outcome)
    assert outcome.out == "ok\n"


def test_a_message_that_cannot_be_received_ends_the_run(
    mpi: Mpi, launch: Launch
) -> None:
    outcome = launch(mpi.runner(2, MEMORY, "frame"), seconds=90)
    assert "ok\n" in outcome.out, str(outcome)
    assert outcome.code != 0
