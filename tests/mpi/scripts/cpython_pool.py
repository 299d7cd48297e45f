"""CPython's own tests of `multiprocessing.pool`, with `mpitasks.Pool` in its place.

Usage: cpython_pool.py [isolate]

Prints a line for each test, and exits with 1 if one failed. The tests are those of the
interpreter that runs this: its package ``test`` must be there.
"""

from __future__ import annotations

import multiprocessing
import sys
import unittest
from typing import Any
from unittest import mock

import test._test_multiprocessing as cpython

import mpitasks as mt

CASES = ("_TestPool", "_TestPoolWorkerErrors", "_TestPoolWorkerLifetime")

CANNOT_APPLY = {
    "test_map_unplicklable": "here it is a SerializationError, which names the item",
    "test_unpickleable_result": "the result is a lambda, which can be pickled here",
    "test_pool_worker_lifetime": "compares the pids of a pool's processes, which are "
    "ranks; tests/test_sandbox.py has how their children are replaced",
    "test_worker_finalization_via_atexit_handler_of_multiprocessing": "starts a script "
    "that imports the standard library's pool",
}
"""Tests that cannot hold here, and why."""

ONLY_ISOLATED = {
    "test_terminate": "kills tasks that sleep for minutes",
    "test_async_timeout": "kills a task that sleeps for half a minute",
}
"""Those that cannot hold for tasks that run in the rank itself."""

ISOLATED = sys.argv[1:] == ["isolate"]


def make_pool(*args: Any, **options: Any) -> mt.Pool:
    """Return a pool, whose tasks are isolated if that was asked for."""
    if ISOLATED:
        options["isolate"] = True
    return mt.Pool(*args, **options)


def collect() -> unittest.TestSuite:
    """Return the tests that apply."""
    left_out = {*CANNOT_APPLY, *(() if ISOLATED else ONLY_ISOLATED)}
    unknown = {*left_out}
    suite = unittest.TestSuite()
    for name in CASES:
        body = {"TYPE": "processes", "Pool": staticmethod(make_pool)}
        case: Any = type(name, (getattr(cpython, name), unittest.TestCase), body)
        globals()[name] = case
        found = unittest.defaultTestLoader.getTestCaseNames(case)
        unknown.difference_update(found)
        suite.addTests(case(each) for each in found if each not in left_out)
    assert not unknown, f"there are no such tests: {unknown}"
    return suite


def main() -> int:
    """Run the tests."""
    with mock.patch.object(multiprocessing, "Pool", make_pool):
        runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2)
        result = runner.run(collect())
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
