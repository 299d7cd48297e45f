"""Tasks that submit tasks: Fibonacci's numbers and quicksort by recursion.

Each call that is large enough is a task and opens an Executor for its own calls. A task
that waits for its children runs them itself, so that recursion needs no more workers,
and cannot come to a stop. Start it with workers, or without:

    mpiexec -n 3 python -m mpitasks examples/recursion.py
    python examples/recursion.py --fib 20 --sort 100000
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import mpitasks

SMALL_FIB, SMALL_SORT = 10, 5_000
"""What is no larger is done by plain calls: a task takes some 30 us."""


def fib(n: int) -> int:
    """Return Fibonacci's number n."""
    if n < 2:
        return n
    if n <= SMALL_FIB:
        return fib(n - 1) + fib(n - 2)
    with mpitasks.Executor() as executor:
        one, other = executor.submit(fib, n - 1), executor.submit(fib, n - 2)
        return int(one.result() + other.result())


def quicksort(values: np.ndarray) -> np.ndarray:
    """Return the values in order."""
    if len(values) <= SMALL_SORT:
        return np.sort(values)
    pivot = values[len(values) // 2]
    parts = [values[values < pivot], values[values > pivot]]
    with mpitasks.Executor() as executor:
        low, high = executor.map(quicksort, parts)
    return np.concatenate([low, values[values == pivot], high])


def main() -> None:
    """Run both, and say how long they took."""
    parser = argparse.ArgumentParser(description="Fibonacci and quicksort by tasks.")
    parser.add_argument("--fib", type=int, default=18)
    parser.add_argument("--sort", type=int, default=200_000, help="how many values")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with mpitasks.Executor() as executor:
        start = time.perf_counter()
        number = executor.submit(fib, args.fib).result()
        print(f"fib({args.fib}) = {number}, {time.perf_counter() - start:.2f} s")
        values = np.random.default_rng(args.seed).random(args.sort)
        start = time.perf_counter()
        ordered = executor.submit(quicksort, values).result()
        seconds = time.perf_counter() - start
        is_sorted = bool(np.all(ordered[:-1] <= ordered[1:]))
        print(f"{len(ordered)} values, sorted: {is_sorted}, {seconds:.2f} s")


if __name__ == "__main__":
    main()
