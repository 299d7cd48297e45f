"""What the way from outside of MPI costs: `mpitasks.start` beside the same in a run.

    python benchmarks/outside.py

A round has two programs with one worker, one after the other: one starts its worker by
`mpitasks.start`, one is started by mpiexec. For each figure the table has the median of
the rounds for both, and the median of the ratios of a round. By hand only: no part of
`run.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mpitasks as mt
from bench import timed
from starting import mpiexec
from tasks import identity

LARGE = 8 << 20  # doubles: 64 MiB

UNITS = {
    "submit to result": "us",
    "null tasks by submit": "1,000/s",
    "null tasks by map": "1,000/s",
    "64 MiB out and back": "ms",
    "the same, made by the task": "ms",
    "start": "ms",
}


def made(size: int) -> object:
    """Return an array."""
    return np.ones(size)


def measure(executor: mt.Executor, share: float) -> dict[str, float]:
    """Return the figures that an Executor gives.

    Args:
        executor: With one worker.
        share: How much of the usual number of calls to make.
    """
    trips, calls, items = (int(share * n) for n in (3000, 100_000, 1_000_000))

    def trip() -> None:
        executor.submit(identity, 1).result()

    def submit() -> None:
        futures = [executor.submit(identity, k) for k in range(calls)]
        for future in futures:
            future.result()

    def bulk() -> None:
        for _ in executor.map(identity, range(items)):
            pass

    array = np.ones(LARGE)

    def there_and_back() -> None:
        executor.submit(identity, array).result()

    def back() -> None:
        executor.submit(made, LARGE).result()

    def median(call: Callable[[], None], times: int) -> float:
        call()
        return statistics.median(timed(call) for _ in range(times))

    return {
        "submit to result": 1e6 * median(trip, trips),
        "null tasks by submit": 1e-3 * calls / timed(submit),
        "null tasks by map": 1e-3 * items / timed(bulk),
        "64 MiB out and back": 1e3 * median(there_and_back, 5),
        "the same, made by the task": 1e3 * median(back, 5),
    }


def run(command: list[str]) -> dict[str, float]:
    """Run this program in one of its two ways; return the figures."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--way", choices=["outside", "inside"])
    options = parser.parse_args()
    if options.way is not None:
        began = time.perf_counter()
        outside = options.way == "outside"
        with mt.start(1) if outside else mt.Executor() as executor:
            started = 1e3 * (time.perf_counter() - began)
            found = measure(executor, options.share)
        print(json.dumps({**found, "start": started} if outside else found))
        return
    own = [str(Path(__file__)), f"--share={options.share}"]
    ways = {
        "outside": [sys.executable, *own, "--way=outside"],
        "inside": [*mpiexec(2), sys.executable, "-m", "mpitasks", *own, "--way=inside"],
    }
    rounds = [
        {way: run(command) for way, command in ways.items()}
        for _ in range(options.rounds)
    ]
    print(f"{'':40} {'start':>8} {'mpiexec':>8} {'ratio':>6}")
    for name, unit in UNITS.items():
        pairs = [(each["outside"][name], each["inside"].get(name)) for each in rounds]
        first = statistics.median(pair[0] for pair in pairs)
        second = [other for _, other in pairs if other is not None]
        line = f"{f'{name} ({unit})':40} {first:8.1f}"
        if second:
            ratio = statistics.median(one / other for one, other in pairs if other)
            line += f" {statistics.median(second):8.1f} {ratio:6.2f}"
        print(line)


if __name__ == "__main__":
    main()
