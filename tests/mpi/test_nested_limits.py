"""Tasks with a time limit that wait for their children."""

from __future__ import annotations

import sys

import pytest

from launching import Launch, Mpi
from mpitasks.scheduler.watchdog import GIVE_UP_SECONDS

LONG_CHILD = f"""
import time
import mpitasks as mt

def child():
    time.sleep({GIVE_UP_SECONDS + 4})
    return "done"

def parent():
    with mt.Executor() as ex:
        return ex.submit(child).result()

if __name__ == "__main__":
    with mt.Executor() as ex:
        print(ex.with_options(timeout=1.0).submit(parent).result())
"""


@pytest.mark.slow
def test_a_child_may_take_longer_than_its_parent(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(2, launch.script(LONG_CHILD)), seconds=60)
    assert outcome.out == "done\n", str(outcome)


@pytest.mark.slow
def test_and_in_one_process(launch: Launch) -> None:
    outcome = launch([sys.executable, launch.script(LONG_CHILD)], seconds=60)
    assert outcome.out == "done\n", str(outcome)
