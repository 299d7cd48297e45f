"""What runs on the workers. A module of its own, as each worker imports it."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

__all__ = ["Place", "fibonacci", "identity", "where"]

Place = tuple[str, int, list[int]]
"""A process: its host, its pid, and the cores that it may use."""


def identity(value: Any) -> Any:
    """The null task."""
    return value


def fibonacci(size: int) -> int:
    """Build the list of the sequence's first numbers; return how many they are."""
    numbers: list[int] = []
    for i in range(size):
        numbers.append(i if i < 2 else numbers[i - 1] + numbers[i - 2])
    return len(numbers)


def where(seconds: float = 0.0) -> Place:
    """Return where this runs, after a pause in which other workers get their turn."""
    time.sleep(seconds)
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
    else:
        cores = list(range(os.cpu_count() or 1))
    return socket.gethostname(), os.getpid(), cores
