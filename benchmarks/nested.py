"""Tasks that have tasks: what a child costs that runs on its parent's rank.

    mpiexec -n 2 python benchmarks/nested.py

    fib, a task per call     Fibonacci's number 18 by recursion; each call is a task,
                             and each but the last ones opens an Executor: tasks a
                             second
    the same, plain calls    the same recursion in the script, calls a second
    plain submit             as many tasks that do nothing, submitted by the script and
                             then waited for
    500 parents              each parent submits 10 children and adds up their results:
                             tasks a second, parents and children
    map in a task            a task maps a function over 10,000 items, items a second

A parent's children run on its own rank, so that one worker does all of the first.
"""

from __future__ import annotations

import mpitasks
from bench import Bench, parser, timed
from pools import OURS, Futures
from results import Figure
from tasks import identity

FIGURES = [
    Figure("fib, a task per call", "tasks/s", aim=50_000),
    Figure("the same, plain calls", "calls/s"),
    Figure("plain submit", "tasks/s"),
    Figure("500 parents", "tasks/s"),
    Figure("map in a task", "items/s"),
]
CHILDREN = 10


def fib(n: int) -> int:
    """Return Fibonacci's number; each call is a task."""
    if n < 2:
        return n
    with mpitasks.Executor() as executor:
        one, other = executor.submit(fib, n - 1), executor.submit(fib, n - 2)
        return int(one.result() + other.result())


def plain_fib(n: int) -> int:
    """Return the same by plain calls."""
    return n if n < 2 else plain_fib(n - 1) + plain_fib(n - 2)


def calls_of(n: int) -> int:
    """Return how many calls that takes."""
    return 1 if n < 2 else 1 + calls_of(n - 1) + calls_of(n - 2)


def parent(first: int) -> int:
    """Return the sum of numbers that children return."""
    with mpitasks.Executor() as executor:
        items = range(first, first + CHILDREN)
        futures = [executor.submit(identity, item) for item in items]
        return sum(future.result() for future in futures)


def map_items(count: int) -> int:
    """Map the null task over so many items."""
    with mpitasks.Executor() as executor:
        return sum(executor.map(identity, range(count)))


def measure(pool: Futures, n: int, parents: int, items: int) -> dict[str, float]:
    """Measure once."""
    submit = pool.executor.submit
    pool.call(fib, 4)  # so that the functions are known, and a nested master is made
    pool.call(map_items, 10)
    count = calls_of(n)

    def submit_plain() -> None:
        for future in [submit(identity, i) for i in range(count)]:
            future.result()

    def run_parents() -> None:
        for future in [submit(parent, i) for i in range(parents)]:
            future.result()

    return {
        "fib, a task per call": count / timed(pool.call, fib, n),
        "the same, plain calls": count / timed(plain_fib, n),
        "plain submit": count / timed(submit_plain),
        "500 parents": parents * (1 + CHILDREN) / timed(run_parents),
        "map in a task": items / timed(pool.call, map_items, items),
    }


def main() -> None:
    """Run the benchmark."""
    bench = Bench("nested", FIGURES, parser(__doc__).parse_args(), measure)
    n, parents, items = (6, 5, 100) if bench.quick else (18, 500, 10_000)
    for _ in bench.rounds():
        bench.note(OURS, bench.run(OURS, n=n, parents=parents, items=items))
    bench.finish()


if __name__ == "__main__":
    main()
