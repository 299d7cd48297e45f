"""What compare.py measures: one program of it, on one side, in one launch.

    mpiexec -n 2 python -m mpitasks benchmarks/compare_script.py submit --out FILE

It is the user's script itself, not `mpitasks.run`, since it asks what functions,
classes and data of a script cost. It uses only what mpitasks had at commit 7a26e60, so
that any later version can be compared with that one.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mpitasks
import tasks
from bench import median_time, timed
from pools import Futures

MIB = 1 << 20
WARM_UP = 200
QUICK = 1000
"""By how much --quick divides the sizes."""


@dataclass
class Reading:
    """A record of the script, as tasks return it; `tasks.Reading` is its like."""

    number: int
    value: float
    name: str


class Scale:
    """A class of the script that a function uses."""

    factor = 2

    @classmethod
    def apply(cls, value: int) -> int:
        """Return the value times the factor."""
        return value * cls.factor


OFFSET = 3
LIMITS = {"low": 0, "high": 1 << 60, "step": 1}
WEIGHTS = np.arange(100.0)


def clip(value: int) -> int:
    """Return the value within the limits; a helper of the script."""
    return min(max(value, LIMITS["low"]), LIMITS["high"])


def five_globals(value: int) -> float:
    """Read a number, a dict, a function, a class and an array of the script."""
    step = LIMITS["step"]
    return clip(Scale.apply(value) + OFFSET) * step + float(WEIGHTS[value % 100])


def own_reading(number: int) -> Reading:
    """Return a record of a class of the script."""
    return Reading(number, 0.5 * number, "a sample")


def member(table: np.ndarray, index: int) -> float:
    """Return one number of a table, which a partial holds."""
    return float(table[index])


def submit(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure null tasks, a Future each."""
    return {"submit": rate(pool.stream, tasks.identity, size(50_000))}


def map_(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure a map of null tasks."""
    return {"map": rate(pool.map, tasks.identity, size(1_000_000))}


def latency(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure from submit to result."""
    seconds = median_time(size(10_000), pool.call, tasks.identity, 1)
    return {"submit to result": 1e6 * seconds}


def arrays(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure an array out and back, and many in each direction."""
    large, count, nbytes = np.ones(size(64 * MIB) // 8), size(1000), size(MIB)
    one = np.ones(nbytes // 8)
    for function, item in [(tasks.identity, large), (tasks.block, nbytes)]:
        pool.call(function, item)
    echo = median_time(5, pool.call, tasks.identity, large)
    work = {
        "1,000 results of 1 MiB, made once": (pool.map, tasks.block, [nbytes] * count),
        "1,000 results of 1 MiB, made anew": (
            pool.map,
            tasks.fresh_block,
            [nbytes] * count,
        ),
        "1,000 arguments of 1 MiB, one array": (
            pool.stream,
            tasks.measure_array,
            [one] * count,
        ),
    }
    rates = {name: count / timed(*words) for name, words in work.items()}
    return {"64 MiB out and back": 1e3 * echo, **rates}


def journal(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure calls that are journalled, and the same calls coming back."""
    pool.executor.shutdown()
    calls, items = range(size(100_000)), range(-size(300_000), 0)
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        for how in ("journalled", "coming back"):
            # The second one finds what the first has kept.
            path = Path(folder, "run.db")
            with mpitasks.Executor(journal=path) as executor:
                kept = Futures(executor)
                for name, work, numbers in [
                    ("submit", kept.stream, calls),
                    ("map", kept.map, items),
                ]:
                    seconds = timed(work, tasks.identity, numbers)
                    values[f"{name}, {how}"] = len(numbers) / seconds
    return values


def globals_(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure a function of the script that reads five globals."""
    return {
        "submit, five globals": rate(pool.stream, five_globals, size(50_000)),
        "map, five globals": rate(pool.map, five_globals, size(200_000)),
    }


def dataclasses(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure a map that returns records, of the script and of a module."""
    return {
        "records of the script": rate(pool.map, own_reading, size(20_000)),
        "records of a module": rate(pool.map, tasks.reading, size(20_000)),
    }


def partial(pool: Futures, size: Callable[[int], int]) -> Mapping[str, float]:
    """Measure calls of a partial that holds 20 MB, the first one with them."""
    held = functools.partial(member, np.arange(size(20_000_000) / 8))
    return {
        "20 calls, 20 MB held": 1e3 * timed(pool.stream, held, range(20)),
        "20 calls, 20 MB held, again": 1e3 * timed(pool.stream, held, range(20)),
    }


def rate(work: Callable[..., object], function: Callable[..., Any], n: int) -> float:
    """Return the calls a second, the median of three times."""
    work(function, range(WARM_UP))
    return n / statistics.median(timed(work, function, range(n)) for _ in range(3))


PROGRAMS = {
    "submit": submit,
    "map": map_,
    "latency": latency,
    "arrays": arrays,
    "journal": journal,
    "globals": globals_,
    "dataclasses": dataclasses,
    "partial": partial,
}


def main() -> None:
    """Measure one program; leave its values and whose they are in a file."""
    options = argparse.ArgumentParser()
    options.add_argument("program", choices=PROGRAMS)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--quick", action="store_true")
    words = options.parse_args()

    def size(full: int) -> int:
        return max(full // QUICK, 10) if words.quick else full

    with mpitasks.Executor() as executor:
        pool = Futures(executor)
        pool.stream(tasks.identity, range(WARM_UP))
        values = PROGRAMS[words.program](pool, size)
    folder = str(Path(mpitasks.__file__).parent)
    words.out.write_text(json.dumps({"folder": folder, "values": values}))


if __name__ == "__main__":
    main()
