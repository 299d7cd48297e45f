"""The same bits on any number of ranks, after retries, after a death, and a resume."""

from __future__ import annotations

from launching import Launch, Mpi

SCRIPT = """
import os, sys
import numpy as np
import mpitasks as mt

HOW = sys.argv[1]
MARK = "once"

def value(n):
    if n == 2500 and HOW == "die" and not os.path.exists(MARK):
        open(MARK, "w").close()
        os.kill(os.getpid(), 9)
    if HOW == "retry" and n % 700 == 0 and mt.current_task().attempt < 2:
        raise ValueError(n)
    return np.sin(np.arange(50.0) + n) * 1.1 ** (n % 300)

with mt.Executor() as executor:
    executor = executor.with_options(retries=2 if HOW == "retry" else 0)
    total = executor.map_reduce(value, range(4000), np.add)
    parts = [executor.submit(value, n) for n in range(50)]
    whole = executor.reduce(np.add, parts).result()
print(total.tobytes().hex(), whole.tobytes().hex())
"""


def bits(launch: Launch, mpi: Mpi, ranks: int, *options: str, how: str = "") -> str:
    command = mpi.runner(ranks, *options, launch.script(SCRIPT), how)
    outcome = launch(command, seconds=60)
    assert outcome.code == 0, outcome
    assert len(outcome.out) == 2 * 50 * 8 * 2 + 2, outcome
    return outcome.out


def test_on_any_number_of_ranks_and_after_retries(any_mpi: Mpi, launch: Launch) -> None:
    first = bits(launch, any_mpi, 1)
    for ranks in (2, 3, 4, 8):
        assert bits(launch, any_mpi, ranks) == first
    assert bits(launch, any_mpi, 3, how="retry") == first
    assert bits(launch, any_mpi, 3, "--isolate") == first


def test_after_a_death_and_a_resume(mpi: Mpi, launch: Launch) -> None:
    first = bits(launch, mpi, 3)
    script = launch.script(SCRIPT)
    journal = ("--journal", "run.db")
    dead = launch(mpi.runner(3, *journal, script, "die"), seconds=60)
    assert dead.code != 0, dead
    assert bits(launch, mpi, 2, *journal, how="die") == first


def test_a_rank_that_is_killed(openmpi: Mpi, launch: Launch) -> None:
    first = bits(launch, openmpi, 3)
    words = ["-m", "mpitasks", "-n", "4", "--survive", launch.script(SCRIPT), "die"]
    outcome = launch([openmpi.python, *words], seconds=60)
    assert outcome.code == 0, outcome
    assert outcome.out == first
