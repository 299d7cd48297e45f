"""What was measured, as JSON and as a table: figures, aims, ratios, the machine.

One launch of one program leaves one file NAME-RANKS.json. A figure has the values of
each round by candidate. A ratio is ours divided by the other's in the same round, and
its median over the rounds counts; a figure may have an aim of its own, in its unit,
and one for each ratio.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pools import OURS
from tasks import usable_cores

PACKAGES = ("mpitasks", "mpi4py", "numpy", "cloudpickle", "ray", "dask", "distributed")

Rounds = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Figure:
    """One thing that is measured.

    Attributes:
        name: Unique in its program.
        unit: Of the values.
        lower: Whether less is better.
        aim: What we want of our own value, in its unit.
        against: What we want of our ratio to these candidates; None for no aim.
        series: The curve it is a point of, if it is.
        x: Where on that curve.
    """

    name: str
    unit: str
    lower: bool = False
    aim: float | None = None
    against: Mapping[str, float | None] = field(default_factory=dict)
    series: str | None = None
    x: float | None = None


def publish(
    name: str,
    ranks: int,
    figures: Iterable[Figure],
    rounds: Rounds,
    options: argparse.Namespace,
    skipped: Sequence[str],
) -> None:
    """Print the table; write the file if `options` name a folder."""
    record = {
        "benchmark": name,
        "ranks": ranks,
        "machine": machine(),
        "quick": options.quick,
        "skipped": list(skipped),
        "figures": [summary(f, rounds[f.name]) for f in figures if f.name in rounds],
    }
    where = f"{name} on {ranks} ranks" if ranks > 1 else name
    print(where + (", quick: no figures" * options.quick))
    print("\n".join(table(record)))
    for line in skipped:
        print(f"skipped: {line}")
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        path = options.results / f"{name}-{ranks}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


def summary(figure: Figure, rounds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the record of one figure."""
    medians = {who: statistics.median(values) for who, values in rounds.items()}
    ours = rounds.get(OURS, ())
    ratios = {
        who: statistics.median(own / value for own, value in zip(ours, values))  # noqa: B905  a peer may have broken on the way
        for who, values in rounds.items()
        if who != OURS and ours and all(values)
    }
    return {
        "name": figure.name,
        "unit": figure.unit,
        "lower is better": figure.lower,
        "aim": figure.aim,
        "aims of ratios": dict(figure.against),
        "series": figure.series,
        "x": figure.x,
        "rounds": {who: list(values) for who, values in rounds.items()},
        "medians": medians,
        "ratios": ratios,
    }


def table(record: Mapping[str, Any]) -> list[str]:
    """Return a Markdown table of one launch: a line for each figure.

    Points of a curve that have no aim are for the picture alone, if there is more.
    """
    figures = [f for f in record["figures"] if f["series"] is None or verdict(f)]
    figures = figures or [f for f in record["figures"] if f["medians"]]
    names: list[str] = []
    for figure in figures:
        names += [who for who in figure["medians"] if who not in names]
    if OURS in names:
        names.remove(OURS)
        names.insert(0, OURS)
    lines = [["figure", *names, "aim"]]
    for figure in figures:
        cells = [cell(figure, who) for who in names]
        lines.append([f"{figure['name']} ({figure['unit']})", *cells, verdict(figure)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]


def cell(figure: Mapping[str, Any], who: str) -> str:
    """Return a candidate's median, and how ours compares to it."""
    value = figure["medians"].get(who)
    if value is None:
        return ""
    ratio = figure["ratios"].get(who)
    return digits(value) + (f" ({digits(ratio)}x)" if ratio is not None else "")


def verdict(figure: Mapping[str, Any]) -> str:
    """Return the aims, and whether each was met."""
    sign = "<=" if figure["lower is better"] else ">="
    checks = [("", figure["aim"], figure["medians"].get(OURS))]
    for who, aim in figure["aims of ratios"].items():
        checks.append((f"x {who}", aim, figure["ratios"].get(who)))
    words = []
    for what, aim, value in checks:
        if aim is not None and value is not None:
            met = value <= aim if figure["lower is better"] else value >= aim
            words.append(f"{sign} {digits(aim)}{what}: {'met' if met else 'missed'}")
    return "; ".join(words)


def digits(value: float) -> str:
    """Return a number with three digits that count: no figure is known better."""
    if value == 0 or abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:#.3g}".rstrip(".")


def machine() -> dict[str, Any]:
    """Return where and when: date, cores, memory, versions. No names of hosts."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": usable_cores(),
        "memory (GiB)": round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1
        ),
        "virtual": "hypervisor" in (_first("/proc/cpuinfo", "flags") or ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "mpi": _mpi(),
        "commit": commit(Path(__file__).parent),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _first(path: str, key: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return None


def _mpi() -> str:
    import mpi4py

    mpi4py.rc.initialize = False  # a program that is not under mpiexec asks, too
    from mpi4py import MPI

    lines = MPI.Get_library_version().strip("\0").splitlines()
    return " ".join(lines[0].split())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit(folder: Path) -> str | None:
    """Return the commit that a folder is of, if it is of a checkout.

    With "-dirty" behind it if files differ from it that are not results: a run of all
    programs replaces those one after the other.
    """
    try:
        name = _git(folder, "describe", "--always")
        root = _git(folder, "rev-parse", "--show-toplevel")
        tracked = "--untracked-files=no"
        own = ":!benchmarks/results"
        changed = _git(Path(root), "status", "--porcelain", tracked, "--", ".", own)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{name}-dirty" if changed else name


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()
