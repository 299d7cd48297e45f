"""The words of ``mpitasks bench``: which benchmark, its options, where reports go."""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mpitasks
from mpitasks.files import refuse_other
from mpitasks.launch.verbs import UsageError, VerbParser
from mpitasks.tools.bench import engine, fibonacci, plot
from mpitasks.tools.bench.machine import Machine, describe
from mpitasks.tools.bench.report import (
    Report,
    format_head,
    format_table,
    is_of_report,
    write_csv,
    write_json,
)
from mpitasks.tools.bench.series import chosen_counts, parse_count

__all__ = ["main", "parse"]

EPILOG = """\
start it as a script:    mpiexec -n 8 python -m mpitasks bench fibonacci
or:                      mpitasks -n 8 bench fibonacci

Each prints a table and writes the same as CSV, as JSON with all samples, and as PNG.
Without MPI the tasks run in the process itself, and the report says so."""


@dataclass(frozen=True)
class Benchmark:
    """One of the benchmarks.

    Attributes:
        what: What it measures.
        add_arguments: Says what it can be told.
        measure: Measures.
        counts_workers: Whether it measures several worker counts.
    """

    what: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace, Machine], Report]
    counts_workers: bool


BENCHMARKS = {
    "fibonacci": Benchmark(
        "speed-up and efficiency of compute tasks, by the number of workers",
        fibonacci.add_arguments,
        fibonacci.measure,
        counts_workers=True,
    ),
    "throughput": Benchmark(
        "null tasks a second, by the number of workers",
        engine.add_throughput_arguments,
        engine.measure_throughput,
        counts_workers=True,
    ),
    "latency": Benchmark(
        "time from a submit to its result, beside raw mpi4py",
        engine.add_latency_arguments,
        engine.measure_latency,
        counts_workers=False,
    ),
    "bandwidth": Benchmark(
        "arrays out and back, beside raw mpi4py",
        engine.add_bandwidth_arguments,
        engine.measure_bandwidth,
        counts_workers=False,
    ),
}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``bench`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks bench",
        description="Measure mpitasks on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    choices = parser.add_subparsers(dest="benchmark", required=True, metavar="WHICH")
    for name, benchmark in BENCHMARKS.items():
        own = choices.add_parser(
            name, help=benchmark.what, description=benchmark.what, allow_abbrev=False
        )
        benchmark.add_arguments(own)
        if benchmark.counts_workers:
            own.add_argument(
                "--workers",
                type=parse_count,
                nargs="+",
                metavar="N",
                help="worker counts (default: 1, 2, 4, ... and all there are)",
            )
        own.add_argument(
            "--output",
            metavar="PREFIX",
            help="the files are PREFIX.csv, .json and .png; a folder keeps the usual "
            "names (default: mpitasks-bench-WHICH-DATE-TIME in the current folder)",
        )
    return parser.parse_args(words)


def main(options: argparse.Namespace) -> None:
    """Run the benchmark on rank 0.

    Raises:
        UsageError: The options do not fit the world or the file system.
    """
    benchmark = BENCHMARKS[options.benchmark]
    prefix = choose_prefix(options.benchmark, options.output)
    with mpitasks.Executor() as executor:
        machine = describe(executor)
    if benchmark.counts_workers:
        options.workers = chosen_counts(options.workers, machine.workers)
    print(format_head(options.benchmark, machine))
    report = benchmark.measure(options, machine)
    print(format_table(report), end="\n\n")
    write(report, prefix)


def choose_prefix(benchmark: str, wanted: str | None) -> Path:
    """Return what the names of the files begin with; make the folder they go to.

    Raises:
        UsageError: Nothing can be written there. Better said now than after an hour.
    """
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    usual = f"mpitasks-bench-{benchmark}-{now}"
    prefix = Path(wanted or usual)
    if wanted and (wanted.endswith("/") or prefix.is_dir()):
        prefix /= usual
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {wanted}: {error}") from error
    if not os.access(prefix.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"the files cannot be written to {prefix.parent.absolute()}; name another "
            f"place with --output"
        )
    for path in _files(prefix):
        try:
            refuse_other(str(path), is_of_report)
        except OSError as error:
            raise UsageError(f"--output {wanted}: {error}") from error
    return prefix


def _files(prefix: Path) -> list[Path]:
    return [Path(f"{prefix}.{suffix}") for suffix in ("csv", "json", "png")]


def write(report: Report, prefix: Path) -> None:
    """Write CSV, JSON and PNG, and say so."""
    csv, json, png = _files(prefix)
    write_csv(report, csv)
    write_json(report, json)
    if plot.draw(report, png):
        print(f"written: {prefix}.csv, .json, .png")
    else:
        print(f"written: {prefix}.csv, .json")
        print(plot.MISSING)
