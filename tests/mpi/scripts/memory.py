"""Messages that are too large for a rank's memory fail their tasks, and nothing else.

Prints "ok" if so. With the word "frame" the last cannot be received at all, and fails
what is outstanding.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

import mpitasks as mt

ITEMS = 8_000_000
ROOM = 40_000_000


def limit(room: int) -> None:
    """Let this process have so many bytes more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def unlimit() -> None:
    """Let this process have what it wants."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def total(values: np.ndarray[Any, Any]) -> float:
    """A task with an argument."""
    return float(values.sum())


def make(count: int) -> np.ndarray[Any, Any]:
    """A task with a result."""
    return np.ones(count)


def words(count: int) -> list[str]:
    """A task with a result that is one long frame."""
    return [f"{number:0200}" for number in range(count)]


def check(ex: mt.Executor) -> None:
    """Try arguments and results."""
    large = np.ones(ITEMS)
    assert ex.submit(total, large[:9000]).result(120) == 9000  # NumPy is there now
    ex.submit(limit, ROOM).result(120)
    for options in ({}, {"isolate": True}):
        view = ex.with_options(**options)
        assert type(view.submit(total, large).exception(120)) is MemoryError
        assert view.submit(total, large[:1000]).result(120) == 1000
    items = [large[:10], large, large[:9000]]
    values: list[Any] = list(ex.map(total, items, return_exceptions=True))
    assert [values[0], type(values[1]), values[2]] == [10, MemoryError, 9000]
    ex.submit(unlimit).result(120)
    limit(ROOM)
    error = ex.submit(make, ITEMS).exception(120)
    assert type(error) is MemoryError
    assert "0.064 GB was sent to rank 0" in str(error)
    sizes = [10, ITEMS, 9000]
    values = list(ex.map(make, sizes, return_exceptions=True))
    assert [len(values[0]), type(values[1]), len(values[2])] == [10, MemoryError, 9000]
    if "frame" in sys.argv:
        error = ex.submit(words, 400_000).exception(120)
        assert type(error) is mt.TransportError, repr(error)
        assert "does not fit into the memory of rank 0" in str(error)
    unlimit()


if __name__ == "__main__":
    with mt.Executor() as ex:
        check(ex)
    print("ok")
