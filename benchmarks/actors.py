"""Actors: what a call costs beside a plain task.

mpiexec -n 2 python benchmarks/actors.py

call to result           a method is called and waited for, one at a time: median
submit to result         the same for a plain task
calls, pipelined         calls made first and waited for then, calls a second
submit, pipelined        the same for plain tasks
calls of tasks           a task on the same worker calls and waits, calls a second
one actor a call         actors made, called once and dropped, actors a second
"""

from __future__ import annotations

import functools
from typing import Any

from bench import Bench, parser, timed
from pools import OURS, Futures
from results import Figure
from tasks import identity

FIGURES = [
    Figure("call to result", "us"),
    Figure("submit to result", "us"),
    Figure("calls, pipelined", "calls/s", aim=150_000),
    Figure("submit, pipelined", "tasks/s"),
    Figure("calls of tasks", "calls/s"),
    Figure("one actor a call", "actors/s"),
]


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, n: int) -> int:
        """Count on."""
        self.value += n
        return self.value


def count(counter: Any, calls: int) -> int:
    """Call an actor and wait, so often; return the last answer."""
    value = 0
    for _ in range(calls):
        value = counter.add(1).result()
    return value


def one_by_one(call: Any, calls: int) -> None:
    """Call, and wait for each."""
    for _ in range(calls):
        call(1).result()


def pipelined(call: Any, calls: int) -> None:
    """Call, and wait for all then."""
    for future in [call(1) for _ in range(calls)]:
        future.result()


def measure(pool: Futures, calls: int, many: int) -> dict[str, float]:
    """Measure once."""
    executor: Any = pool.executor

    def submit(item: int) -> Any:
        return executor.submit(identity, item)

    def make_actors() -> None:
        for _ in range(calls // 10):
            executor.actor(Counter).add(1).result()

    with executor.actor(Counter) as counter:
        one_by_one(counter.add, 100)
        one_by_one(submit, 100)
        return {
            "call to result": timed(one_by_one, counter.add, calls) / calls * 1e6,
            "submit to result": timed(one_by_one, submit, calls) / calls * 1e6,
            "calls, pipelined": many / timed(pipelined, counter.add, many),
            "submit, pipelined": many / timed(pipelined, submit, many),
            "calls of tasks": calls
            / timed(pool.call, functools.partial(count, counter), calls),
            "one actor a call": calls // 10 / timed(make_actors),
        }


def main() -> None:
    """Run the benchmark."""
    bench = Bench("actors", FIGURES, parser(__doc__).parse_args(), measure)
    calls, many = (50, 500) if bench.quick else (5_000, 50_000)
    for _ in bench.rounds():
        bench.note(OURS, bench.run(OURS, calls=calls, many=many))
    bench.finish()


if __name__ == "__main__":
    main()
