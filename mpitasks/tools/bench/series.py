"""Which points a benchmark measures, and how samples become figures."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

from mpitasks.launch.verbs import UsageError

__all__ = [
    "chosen_counts",
    "format_size",
    "median",
    "parse_count",
    "parse_size",
    "percentile",
    "seconds_of",
    "worker_counts",
]

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def worker_counts(workers: int) -> list[int]:
    """Return 1, 2, 4, ... up to `workers`, which is the last one in any case."""
    powers = [1 << i for i in range(workers.bit_length())]
    return powers if powers[-1] == workers else [*powers, workers]


def chosen_counts(wanted: Sequence[int] | None, workers: int) -> list[int]:
    """Return the worker counts to measure.

    Args:
        wanted: What the user asked for; None for the usual series.
        workers: How many there are.

    Raises:
        UsageError: There are fewer than was asked for.
    """
    if wanted is None:
        return worker_counts(workers)
    if max(wanted) > workers:
        raise UsageError(
            f"--workers {max(wanted)} is more than there are: {workers}, since rank 0 "
            f"is none; start more ranks"
        )
    return sorted(set(wanted))


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that this percentage of them does not exceed."""
    position = math.ceil(len(samples) * percent / 100) - 1
    return sorted(samples)[max(position, 0)]


def median(samples: Sequence[float]) -> float:
    """Return the 50th percentile, which is one of the samples."""
    return percentile(samples, 50)


def seconds_of(work: Callable[[], object]) -> float:
    """Return how many seconds one call of `work` took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def parse_count(text: str) -> int:
    """Return the number that an option was given; for argparse.

    Raises:
        argparse.ArgumentTypeError: It is no whole number above 0.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"a whole number above 0 is needed, not {text}"
        )
    return int(text)


def parse_size(text: str) -> int:
    """Return the bytes that an option was given, as 65536, 64KiB or 1GiB; for argparse.

    Raises:
        argparse.ArgumentTypeError: It is no size, or no multiple of 8 bytes.
    """
    number = text.rstrip("BGKMi")
    unit = _UNITS.get(text[len(number) :])
    nbytes = int(number) * unit if unit and number.isdecimal() else 0
    if nbytes < 8 or nbytes % 8:
        raise argparse.ArgumentTypeError(
            f"a size such as 64KiB, 16MiB or 1GiB is needed (a multiple of 8 bytes), "
            f"not {text}"
        )
    return nbytes


def format_size(nbytes: int) -> str:
    """Return the size as `parse_size` reads it, in the largest unit that fits."""
    for unit in ("GiB", "MiB", "KiB"):
        if nbytes % _UNITS[unit] == 0:
            return f"{nbytes // _UNITS[unit]} {unit}"
    return f"{nbytes} B"
