"""The end of scripts with a `Pool`: what is left of it keeps nobody, and says nothing.

What a pool does before is checked by `scripts/contract_pool.py`.
"""

from __future__ import annotations

import sys

from launching import Launch, Mpi

CARRIED = """
import mpitasks as mt

class Sampler:
    def __init__(self, pool):
        self.pool = pool
    def double(self, x):
        return 2 * x

def work(x):
    return sampler.double(x)

with mt.Pool() as pool:
    sampler = Sampler(pool)
    print(pool.map(work, range(3)))
"""

UNCLOSED = """
import itertools
import mpitasks as mt

pool = mt.Pool()
values = pool.imap(abs, itertools.count())
print(next(values), next(values))
dropped = pool.imap_unordered(abs, itertools.count())
print(type(next(dropped)).__name__)
del dropped
pool.apply_async(abs, (-1,), callback=lambda value: None)
"""

RUNNING = """
import sys
import time
from pathlib import Path
import mpitasks as mt

def work(path):
    Path(path).touch()
    time.sleep(600)

path = Path("begun").resolve()
with mt.Pool() as pool:
    pool.map_async(work, [path] * 100, callback=print)
    while not path.exists():
        time.sleep(0.01)
sys.exit(7)
"""


def test_a_pool_that_was_carried_to_workers(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(3, launch.script(CARRIED)))
    assert outcome.code == 0, outcome
    assert outcome.out == "[0, 2, 4]\n"
    assert outcome.unforeseen == "", outcome


def test_a_pool_that_nobody_closed(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(3, launch.script(UNCLOSED)))
    assert outcome.code == 0, outcome
    assert outcome.out == "0 1\nint\n"
    assert outcome.unforeseen == "", outcome


def test_nobody_waits_for_what_was_dropped(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(3, launch.script(RUNNING)), seconds=60)
    assert outcome.code == 7, outcome
    assert outcome.out == "", outcome


def test_the_same_in_one_process(launch: Launch) -> None:
    for script, out in ((CARRIED, "[0, 2, 4]\n"), (UNCLOSED, "0 1\nint\n")):
        outcome = launch([sys.executable, launch.script(script)])
        assert outcome.code == 0, outcome
        assert outcome.out == out
        assert outcome.err.count("\n") == 1, outcome  # that there is one process
