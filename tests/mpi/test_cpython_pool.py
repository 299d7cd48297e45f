"""`mpitasks.Pool` passes CPython's own tests of `multiprocessing.pool`.

They are in the package ``test`` of the interpreter, which some distributions leave out.
"""

from __future__ import annotations

import importlib.util
import re

import pytest

from launching import SCRIPTS, Launch, Mpi, Outcome

SCRIPT = SCRIPTS / "cpython_pool.py"
SECONDS = 120.0
LEAST = 25
"""So many tests are run at least, on each version of Python."""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("test") is None
    or importlib.util.find_spec("test._test_multiprocessing") is None,
    reason="this interpreter has come without its tests",
)


def assert_all_passed(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome
    ran = re.search(r"^Ran (\d+) tests", outcome.out, re.MULTILINE)
    assert ran is not None, outcome
    assert int(ran[1]) >= LEAST, outcome
    assert "skipped" not in outcome.out, outcome


def test_on_workers_isolated(mpi: Mpi, launch: Launch) -> None:
    assert_all_passed(launch(mpi.runner(5, SCRIPT, "isolate"), seconds=SECONDS))


def test_on_workers(any_mpi: Mpi, launch: Launch) -> None:
    assert_all_passed(launch(any_mpi.runner(5, SCRIPT), seconds=SECONDS))
