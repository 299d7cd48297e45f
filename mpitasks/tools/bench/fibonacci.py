"""``bench fibonacci``: how one amount of work speeds up with the number of workers.

Each worker count gets the same sequences; the serial time is that of the same sequences
one after the other on rank 0, without the library. All are measured in turn in each
round, so that they see the same machine, and the fastest run of each counts: what makes
a run slower is the rest of the machine. How much it does, the median tells.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mpitasks
from mpitasks.tools.bench.report import Column, Report, Value
from mpitasks.tools.bench.series import median, parse_count, seconds_of
from mpitasks.tools.bench.tasks import fibonacci, identity

if TYPE_CHECKING:
    from mpitasks.tools.bench.machine import Machine

__all__ = ["add_arguments", "measure"]

SIZE = 20_000
"""Some 20 ms and 17 MB a sequence; both grow with the square."""

SEQUENCES_PER_WORKER = 8

COLUMNS = (
    Column("workers", "workers", "d"),
    Column("seconds", "time (s)", ".3f"),
    Column("median_seconds", "median (s)", ".3f"),
    Column("serial_seconds", "serial (s)", ".3f"),
    Column("speedup", "speed-up", ".2f"),
    Column("efficiency", "efficiency", ".1%"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the benchmark can be told."""
    parser.add_argument(
        "--size",
        type=parse_count,
        default=SIZE,
        metavar="N",
        help="numbers in one sequence (%(default)s)",
    )
    parser.add_argument(
        "--sequences",
        type=parse_count,
        metavar="N",
        help=f"sequences, the same for every worker count (default: "
        f"{SEQUENCES_PER_WORKER} for each worker of the largest)",
    )
    parser.add_argument(
        "--repeat",
        type=parse_count,
        default=5,
        metavar="N",
        help="rounds, of which the fastest run counts (%(default)s)",
    )


def measure(options: argparse.Namespace, machine: Machine) -> Report:
    """Measure every worker count; `options.workers` says which."""
    counts: list[int] = options.workers
    size: int = options.size
    sequences = options.sequences or SEQUENCES_PER_WORKER * max(counts)
    serial: list[float] = []
    parallel: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(options.repeat):
        serial.append(seconds_of(lambda: [fibonacci(size) for _ in range(sequences)]))
        for count in counts:
            parallel[count].append(run_workers(count, size, sequences))
    return Report(
        benchmark="fibonacci",
        machine=machine,
        work=f"{sequences} sequences of {size:,} numbers for each line; the fastest of "
        f"{options.repeat}",
        options={"size": size, "sequences": sequences, "repeat": options.repeat},
        columns=COLUMNS,
        rows=make_rows(serial, parallel),
        samples={"serial": serial, "workers": parallel},
        notes=make_notes(counts, sequences, machine),
    )


def run_workers(workers: int, size: int, sequences: int) -> float:
    """Return the seconds that the sequences take on this many workers."""

    def work() -> None:
        futures = [executor.submit(fibonacci, size) for _ in range(sequences)]
        for future in futures:
            future.result()

    with mpitasks.Executor(max_workers=workers) as executor:
        # Workers sleep longer and longer while there is nothing to do: wake them.
        # Not with `fibonacci`, since what it takes must not seem to be known.
        list(executor.map(identity, range(workers), chunksize=1))
        return seconds_of(work)


def make_rows(
    serial: Sequence[float], parallel: dict[int, list[float]]
) -> list[dict[str, Value]]:
    """Return the rows: speed-up over the serial time, and that for each worker."""
    alone = min(serial)
    return [
        {
            "workers": count,
            "seconds": min(runs),
            "median_seconds": median(runs),
            "serial_seconds": alone,
            "speedup": alone / min(runs),
            "efficiency": alone / min(runs) / count,
        }
        for count, runs in parallel.items()
    ]


def make_notes(counts: Sequence[int], sequences: int, machine: Machine) -> list[str]:
    """Return what keeps the figures from the ideal, whatever the library does."""
    notes = machine.notes()
    for count in counts:
        best = sequences / (count * -(-sequences // count))
        if best < 0.97:
            notes.append(
                f"{sequences} sequences do not divide evenly by {count}: with so many "
                f"workers the efficiency is {best:.0%} at best"
            )
    return notes
