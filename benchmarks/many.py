"""Many things at once: arrays in one message, and functions that are new each time.

    mpiexec -n 2 python benchmarks/many.py

    10,000 of 70 kB    a list of so many arrays, each of which travels from its own
                       memory: to a task that counts them, and back from one that makes
                       them, by way of the rank itself and of an isolated child
    100,000 of 100 B   the same for arrays that travel inside the pickle
    one of each        an array of 70 kB and one of 100 B, to a task; median
    closures           submit to result of 20,000 functions made by another, for each
    closures back      as many as the results of a map, for each

The limit "pickle" is what pickle itself takes for the same in one process: to take
apart (protocol 5, large arrays out of band), to copy those arrays, and to put together
again. That of the closures is cloudpickle, which takes each apart and puts it together.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np

from bench import Bench, median_time, parser, timed
from pools import OURS, Futures
from results import Figure

PICKLE = "pickle"
LARGE, SMALL = 70_000, 100  # bytes: above and below what goes out of band
MANY = {LARGE: "10,000 of 70 kB", SMALL: "100,000 of 100 B"}


def _figures() -> Iterator[Figure]:
    for what in MANY.values():
        for way in ("to a task", "back", "to a task, isolated", "back, isolated"):
            name = f"{what} {way}"
            yield Figure(name, "ms", lower=True, against={PICKLE: None})
    yield Figure("one of each", "us", lower=True, against={PICKLE: None})
    yield Figure("closures", "us", lower=True, against={PICKLE: None})
    yield Figure("closures back", "us", lower=True, against={PICKLE: None})


def make(count: int, nbytes: int) -> list[Any]:
    """Make arrays."""
    return [np.full(nbytes, number % 251, np.uint8) for number in range(count)]


def adder(number: int) -> Callable[[int], int]:
    """Make a closure."""

    def add(other: int) -> int:
        return number + other

    return add


def copied(value: Any) -> Any:
    """Return a copy by pickle."""
    buffers: list[Any] = []
    frame = pickle.dumps(value, 5, buffer_callback=buffers.append)
    return pickle.loads(frame, buffers=[bytearray(each) for each in buffers])


def measure(
    pool: Futures, large: int, small: int, closures: int, trips: int
) -> dict[str, float]:
    """Measure mpitasks."""
    values = {}
    pool.call(len, make(2, LARGE))  # so that NumPy is there
    for count, nbytes in ((large, LARGE), (small, SMALL)):
        arrays = make(count, nbytes)
        for isolated in (False, True):
            ours = pool.executor.with_options(isolate=isolated)
            ours.submit(len, [1]).result()
            end = ", isolated" * isolated
            start = time.perf_counter()
            assert ours.submit(len, arrays).result() == count
            to = time.perf_counter() - start
            start = time.perf_counter()
            assert len(ours.submit(make, count, nbytes).result()) == count
            back = time.perf_counter() - start
            values[f"{MANY[nbytes]} to a task{end}"] = 1e3 * to
            values[f"{MANY[nbytes]} back{end}"] = 1e3 * back
    pair = [*make(1, LARGE), *make(1, SMALL)]
    values["one of each"] = 1e6 * median_time(trips, pool.call, len, pair)
    functions = [adder(number) for number in range(closures)]
    start = time.perf_counter()
    futures = [pool.executor.submit(each, 1) for each in functions]
    assert [each.result() for each in futures] == [*range(1, closures + 1)]
    values["closures"] = 1e6 * (time.perf_counter() - start) / closures
    seconds = timed(pool.map, adder, range(closures))
    values["closures back"] = 1e6 * seconds / closures
    return values


def limits(large: int, small: int, closures: int, trips: int) -> dict[str, float]:
    """Measure pickle and cloudpickle alone."""
    values = {}
    for count, nbytes in ((large, LARGE), (small, SMALL)):
        arrays = make(count, nbytes)
        seconds = timed(copied, arrays)
        for way in ("to a task", "to a task, isolated"):
            values[f"{MANY[nbytes]} {way}"] = 1e3 * seconds
        # Those that come back are made in that time as well.
        seconds = timed(lambda: copied(make(count, nbytes)))  # noqa: B023
        for way in ("back", "back, isolated"):
            values[f"{MANY[nbytes]} {way}"] = 1e3 * seconds
    pair = [*make(1, LARGE), *make(1, SMALL)]
    values["one of each"] = 1e6 * median_time(trips, copied, pair)
    functions = [adder(number) for number in range(closures)]
    start = time.perf_counter()
    for each in functions:
        pickle.loads(cloudpickle.dumps(each))
    seconds = time.perf_counter() - start
    values["closures"] = values["closures back"] = 1e6 * seconds / closures
    return values


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("many", _figures(), options, measure)
    sizes = {"large": 10_000, "small": 100_000, "closures": 20_000, "trips": 500}
    if bench.quick:
        sizes = {"large": 10, "small": 100, "closures": 20, "trips": 5}
    for _ in bench.rounds():
        bench.note(PICKLE, limits(**sizes) if bench.rank == 0 else {})
        bench.note(OURS, bench.run(OURS, **sizes))
    bench.finish()


if __name__ == "__main__":
    main()
