"""Fibonacci sequences, one after the other here and then as tasks on the workers.

After the first example of Ray's tutorial. Start it with workers, or without:

    mpiexec -n 4 python -m mpitasks examples/fibonacci.py 20000 100000
    python examples/fibonacci.py
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import mpitasks

SIZES = [20_000, 50_000, 100_000]


def fibonacci(seq_size: int) -> int:
    """Build the list of the sequence's first numbers; return how many they are."""
    numbers: list[int] = []
    for i in range(seq_size):
        numbers.append(i if i < 2 else numbers[i - 1] + numbers[i - 2])
    return len(numbers)


def run_local(seq_size: int, sequences: int) -> list[int]:
    """Build the sequences here, one after the other."""
    return [fibonacci(seq_size) for _ in range(sequences)]


def run_remote(executor: mpitasks.Executor, seq_size: int, sequences: int) -> list[int]:
    """Build the sequences on the workers."""
    futures = [executor.submit(fibonacci, seq_size) for _ in range(sequences)]
    return [future.result() for future in futures]


def fastest(repeat: int, run: Callable[..., object], *args: object) -> float:
    """Return the seconds that the fastest of several runs took."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        run(*args)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def count_ranks(executor: mpitasks.Executor) -> int:
    """Return how many ranks there are: the workers and, unless it is alone, rank 0."""
    alone = executor.submit(os.getpid).result() == os.getpid()
    return executor.num_workers + (not alone)


def main() -> None:
    """Time both ways for each size."""
    parser = argparse.ArgumentParser(description="Time Fibonacci sequences both ways.")
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, metavar="SIZE")
    parser.add_argument("--sequences", type=int, help="default: one for each worker")
    parser.add_argument("--repeat", type=int, default=2, help="the fastest run counts")
    args = parser.parse_args()
    with mpitasks.Executor() as executor:
        ranks = count_ranks(executor)
        count = args.sequences or executor.num_workers
        for size in args.sizes:
            local = fastest(args.repeat, run_local, size, count)
            print(f"Sequence size: {size}, Local execution time: {local:.2f}")
            remote = fastest(args.repeat, run_remote, executor, size, count)
            print(f"Sequence size: {size}, Remote execution time: {remote:.2f}")
            ratio = local / remote
            print(f"Speed-up: {ratio:.2f}, Sequences: {count}, Ranks: {ranks}")


if __name__ == "__main__":
    main()
