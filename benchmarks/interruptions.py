"""How often this machine stops a program that does nothing but look at the clock.

    python benchmarks/interruptions.py

For each core, one after the other: how many times a second a gap of more than 20 us
opened between two looks, how long these gaps are, and what share of the time they take.
No program on that core is faster than this lets it: see the 99th percentile of
latency.py. By hand only: no part of `run.py`.
"""

from __future__ import annotations

import os
import time

SECONDS = 3.0
LEAST = 20e-6


def gaps(seconds: float) -> list[float]:
    """Return the lengths of the gaps in so many seconds."""
    clock = time.perf_counter
    found = []
    last = clock()
    end = last + seconds
    while last < end:
        now = clock()
        if now - last > LEAST:
            found.append(now - last)
        last = now
    return found


def main() -> None:
    """Print the table."""
    print(
        f"{'core':>4} {'a second':>8} {'median (us)':>11} {'p90 (us)':>8} {'share':>5}"
    )
    for core in sorted(os.sched_getaffinity(0)):
        os.sched_setaffinity(0, {core})
        found = sorted(gaps(SECONDS)) or [0.0]
        low, high = (1e6 * found[int(share * len(found))] for share in (0.5, 0.9))
        rate, part = len(found) / SECONDS, sum(found) / SECONDS
        print(f"{core:4} {rate:8.0f} {low:11.0f} {high:8.0f} {part:5.1%}")


if __name__ == "__main__":
    main()
