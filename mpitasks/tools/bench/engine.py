"""``bench throughput``, ``latency``, ``bandwidth``: the engine itself, with null tasks.

Latency and bandwidth take one worker and stand beside raw mpi4py between the same two
ranks. Both are measured in turn in each round, so that they see the same machine; the
median of all samples counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mpitasks
from mpitasks.tools.bench import raw
from mpitasks.tools.bench.report import Column, Report, Value
from mpitasks.tools.bench.series import (
    format_size,
    median,
    parse_count,
    parse_size,
    percentile,
    seconds_of,
)
from mpitasks.tools.bench.tasks import identity

if TYPE_CHECKING:
    from mpitasks.tools.bench.machine import Machine

__all__ = [
    "add_bandwidth_arguments",
    "add_latency_arguments",
    "add_throughput_arguments",
    "measure_bandwidth",
    "measure_latency",
    "measure_throughput",
]

THROUGHPUT_COLUMNS = (
    Column("workers", "workers", "d"),
    Column("submit_per_second", "submit (tasks/s)", ",.0f"),
    Column("map_per_second", "map (tasks/s)", ",.0f"),
)

LATENCY_COLUMNS = (
    Column("what", "there and back"),
    Column("median_seconds", "median (us)", ",.1f", 1e6),
    Column("p99_seconds", "99th percentile (us)", ",.1f", 1e6),
    Column("fastest_seconds", "fastest (us)", ",.1f", 1e6),
    Column("trips"),
)

BANDWIDTH_COLUMNS = (
    Column("bytes"),
    Column("size", "array"),
    Column("seconds", "mpitasks (ms)", ",.3f", 1e3),
    Column("bytes_per_second", "(GiB/s)", ".2f", 1 / (1 << 30)),
    Column("raw_seconds", "raw MPI (ms)", ",.3f", 1e3),
    Column("raw_bytes_per_second", "(GiB/s)", ".2f", 1 / (1 << 30)),
    Column("rate_over_raw", "rate/raw", ".2f"),
)

SIZES = [1 << shift for shift in range(16, 27, 2)]
"""64 KiB, from which on arrays travel as their own memory, to 64 MiB."""

BYTES_PER_ROUND = 128 << 20
MOST_TRIPS = 50


def add_throughput_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the benchmark can be told."""
    _add_count(parser, "--tasks", 20_000, "null tasks in one run")
    _add_count(parser, "--repeat", 5, "rounds, of which the median run counts")


def measure_throughput(options: argparse.Namespace, machine: Machine) -> Report:
    """Measure null tasks a second; `options.workers` says with how many workers."""
    counts: list[int] = options.workers
    tasks: int = options.tasks
    samples: dict[str, dict[int, list[float]]] = {
        way: {count: [] for count in counts} for way in ("submit", "map")
    }
    for _ in range(options.repeat):
        for count in counts:
            with mpitasks.Executor(max_workers=count) as executor:
                _submit_all(executor, 100 * count)  # as in a run that is under way
                for way, work in (("submit", _submit_all), ("map", _map_all)):
                    seconds = seconds_of(lambda: work(executor, tasks))  # noqa: B023
                    samples[way][count].append(seconds)
    return Report(
        benchmark="throughput",
        machine=machine,
        work=f"{tasks:,} null tasks for each figure; the median of {options.repeat}",
        options={"tasks": tasks, "repeat": options.repeat},
        columns=THROUGHPUT_COLUMNS,
        rows=[
            {
                "workers": count,
                "submit_per_second": tasks / median(samples["submit"][count]),
                "map_per_second": tasks / median(samples["map"][count]),
            }
            for count in counts
        ],
        samples=samples,
        notes=machine.notes(),
    )


def _submit_all(executor: mpitasks.Executor, tasks: int) -> None:
    futures = [executor.submit(identity, number) for number in range(tasks)]
    for future in futures:
        future.result()


def _map_all(executor: mpitasks.Executor, tasks: int) -> None:
    for _ in executor.map(identity, range(tasks)):
        pass


def add_latency_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the benchmark can be told."""
    _add_count(parser, "--trips", 2_000, "tasks in one round, one after the other")
    _add_count(parser, "--repeat", 5, "rounds")


def measure_latency(options: argparse.Namespace, machine: Machine) -> Report:
    """Measure one submit to its result, and again; beside it an object over raw MPI."""
    trips: int = options.trips
    times: dict[str, list[float]] = {"submit to result": [], "raw mpi4py object": []}
    objection = raw.objection()
    with mpitasks.Executor(max_workers=1) as executor:
        for _ in range(options.repeat):
            if objection is None:
                times["raw mpi4py object"] += raw.object_trips(executor, trips)
            _round_trip(executor, 0)
            times["submit to result"] += [
                seconds_of(lambda: _round_trip(executor, 1)) for _ in range(trips)
            ]
    measured = {name: sorted(samples) for name, samples in times.items() if samples}
    return Report(
        benchmark="latency",
        machine=machine,
        work=f"{trips:,} trips in each of {options.repeat} rounds, one worker",
        options={"trips": trips, "repeat": options.repeat},
        columns=LATENCY_COLUMNS,
        rows=[_latency_row(name, samples) for name, samples in measured.items()],
        samples={
            name: {
                "percentiles": [percentile(samples, n) for n in range(101)],
                "round_medians": [
                    median(times[name][start : start + trips])
                    for start in range(0, len(samples), trips)
                ],
            }
            for name, samples in measured.items()
        },
        notes=_notes(machine, objection),
    )


def _latency_row(what: str, times: Sequence[float]) -> dict[str, Value]:
    return {
        "what": what,
        "median_seconds": median(times),
        "p99_seconds": percentile(times, 99),
        "fastest_seconds": min(times),
        "trips": len(times),
    }


def _round_trip(executor: mpitasks.Executor, value: object) -> object:
    return executor.submit(identity, value).result()


def add_bandwidth_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the benchmark can be told."""
    parser.add_argument(
        "--size",
        type=parse_size,
        nargs="+",
        default=SIZES,
        metavar="SIZE",
        help="sizes of the array: 64KiB, 1GiB, ... (default: 64 KiB to 64 MiB); rank "
        "0 holds two of them, the worker one",
    )
    _add_count(parser, "--repeat", 3, "rounds, of up to 50 trips for each size")


def measure_bandwidth(options: argparse.Namespace, machine: Machine) -> Report:
    """Measure arrays out and back, beside raw Send and Recv into fresh memory."""
    sizes = sorted(set(options.size))
    ours: dict[int, list[float]] = {size: [] for size in sizes}
    theirs: dict[int, list[float]] = {size: [] for size in sizes}
    objection = raw.objection()
    with mpitasks.Executor(max_workers=1) as executor:
        for _ in range(options.repeat):
            for size in sizes:
                if objection is None:
                    theirs[size] += _raw_trips(executor, size)
                ours[size] += _array_trips(executor, size)
    return Report(
        benchmark="bandwidth",
        machine=machine,
        work=f"each array out and back; the median trip of {options.repeat} rounds, "
        f"one worker",
        options={"sizes": sizes, "repeat": options.repeat},
        columns=BANDWIDTH_COLUMNS,
        rows=[_bandwidth_row(size, ours[size], theirs[size]) for size in sizes],
        samples={"mpitasks": ours, "raw mpi4py": theirs},
        notes=_notes(machine, objection),
    )


def trips_for(nbytes: int) -> int:
    """Return how many trips of this many bytes make up a round."""
    return max(2, min(MOST_TRIPS, BYTES_PER_ROUND // nbytes))


def _array_trips(executor: mpitasks.Executor, nbytes: int) -> list[float]:
    import numpy as np

    array = np.arange(nbytes // 8, dtype=float)
    back = _round_trip(executor, array)
    if not np.array_equal(np.asarray(back), array):
        raise RuntimeError(f"an array of {nbytes} bytes did not come back as it went")
    del back
    count = trips_for(nbytes)
    return [seconds_of(lambda: _round_trip(executor, array)) for _ in range(count)]


def _raw_trips(executor: mpitasks.Executor, nbytes: int) -> list[float]:
    import numpy as np

    array = np.arange(nbytes // 8, dtype=float)
    return raw.array_trips(executor, array, trips_for(nbytes))


def _bandwidth_row(
    nbytes: int, ours: Sequence[float], theirs: Sequence[float]
) -> dict[str, Value]:
    seconds = median(ours)
    limit = median(theirs) if theirs else None
    return {
        "bytes": nbytes,
        "size": format_size(nbytes),
        "seconds": seconds,
        "bytes_per_second": 2 * nbytes / seconds,
        "raw_seconds": limit,
        "raw_bytes_per_second": limit and 2 * nbytes / limit,
        "rate_over_raw": limit and limit / seconds,
    }


def _notes(machine: Machine, objection: str | None) -> list[str]:
    return machine.notes() + ([] if objection is None else [objection])


def _add_count(
    parser: argparse.ArgumentParser, name: str, default: int, what: str
) -> None:
    parser.add_argument(
        name,
        type=parse_count,
        default=default,
        metavar="N",
        help=f"{what} (%(default)s)",
    )
