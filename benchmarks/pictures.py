"""Pictures of the results: all candidates side by side, and curves.

    summary.png   the figures that users ask for first, one panel each; points on a log
                  scale, since the length of a bar would mean nothing there
    curves.png    efficiency against the length of a task, speed-up against workers

A point is the median of the rounds, a bar goes from the least round to the greatest. A
number has two digits, or one where the middle half of the rounds spreads widely.
Colours belong to candidates, the same in every picture. Below stands when, on what and
of which commit it was measured, and what a reader could take for a mistake.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pools import DASK, MPI4PY, MULTIPROCESSING, OURS, RAW, RAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]
Spread = Sequence[float]
"""The values of the rounds, the least first."""

COLOURS = {
    OURS: "#c8352b",
    RAW: "#4a4a4a",
    "one core": "#4a4a4a",
    MPI4PY: "#3b78b0",
    MULTIPROCESSING: "#7fa8cf",
    RAY: "#8c8c8c",
    DASK: "#b5b5b5",
}
BARS = [
    ("throughput", 2, "one by one", "one submit, one Future each: tasks/s, 1 worker"),
    ("throughput", 3, "map", "map, no chunksize: tasks/s, 2 workers"),
    ("latency", 2, "median", "submit to result: us (less is better)"),
    ("metg", 2, "METG(50%) by submit", "METG(50%), submit: us (less is better)"),
    ("bandwidth", 2, "64 MiB out and back", "64 MiB out and back: ms (less is better)"),
    ("fibonacci", 3, "speed-up", "Fibonacci: speed-up with 2 workers"),
    ("graphs", 2, "chain", "a chain of 1,000 tasks: us a task (less is better)"),
    ("graphs", 3, "tree", "a tree of 2,047, 2 workers: us a task (less is better)"),
]
IDEALS = {"fibonacci": 2.0}
"""Panels on a linear scale, and the most that can be expected there."""

WORK = {
    "map, sleep 1 ms": ("-", ", tasks that sleep"),
    "map, spin 1 ms": ("--", ", tasks that compute"),
}
"""How curves of the speed-up are drawn and called."""

ABOVE = (
    "Points: medians of the rounds; bars: from the least round to the greatest. "
    "Efficiency and speed-up divide the times of two runs, one after the other. The "
    "machine changes its speed meanwhile, so some rounds, and medians, lie above the "
    "ideal."
)
WIDTH = 165  # of the lines below a picture, in characters
ONE_CORE = '"one core" is a plain loop without any scheduler.'


def draw(records: Sequence[Record], folder: Path) -> None:
    """Draw all pictures for which there is something to show."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False})
    mpl.rcParams.update({"axes.spines.right": False, "axes.titlesize": 9})
    found = {(r["benchmark"], r["ranks"]): r for r in records}
    bars(found, folder / "summary.png")
    curves(found, folder / "curves.png")


def known(rounds: Spread) -> str:
    """Return the median with the digits that the rounds support."""
    median = statistics.median(rounds)
    if not median:
        return "0"
    quarter = len(rounds) // 4
    middle = rounds[-1 - quarter] - rounds[quarter]
    count = 2 if middle < median / 2 else 1
    place = count - 1 - math.floor(math.log10(abs(median)))
    rounded = round(median, place)
    if abs(rounded) >= 1e6:
        return f"{rounded / 1e6:,.{max(place + 6, 0)}f} million"
    return f"{rounded:,.{max(place, 0)}f}"


def foot(records: Sequence[Record], *remarks: str) -> str:
    """Return what stands below a picture."""
    lines = textwrap.wrap(" ".join(remarks), WIDTH)
    for words in dict.fromkeys(map(where, records)):
        lines += textwrap.wrap(words, WIDTH)
    return "\n".join(lines)


def where(record: Record) -> str:
    """Return when, on what and of which commit a launch measured."""
    machine = record["machine"]
    rounds = {len(r) for f in record["figures"] for r in f["rounds"].values()}
    commit = str(machine["commit"])
    words = [
        machine["date"],
        f"{machine['cores']} cores of {machine['processor']}"
        + ", a virtual machine" * machine["virtual"],
        f"Linux {machine['kernel']}",
        f"Python {machine['python']}",
        machine["mpi"].replace("Version: ", ""),
        f"mpitasks {machine['versions']['mpitasks']}",
        f"commit {commit.removesuffix('-dirty')}"
        + ", with changes" * commit.endswith("-dirty"),
        f"{max(rounds, default=0)} rounds",
    ]
    return ", ".join(words)


def finish(picture: Figure, text: str, path: Path) -> None:
    """Write a picture with some lines below it."""
    picture.supxlabel(text, fontsize=7, color="#555555", x=0.01, ha="left")
    picture.savefig(path, dpi=150)


def bars(found: Mapping[tuple[str, int], Record], path: Path) -> None:
    """Draw the summary."""
    panels = [
        (figure, title, IDEALS.get(program))
        for program, ranks, name, title in BARS
        for figure in found.get((program, ranks), {"figures": ()})["figures"]
        if figure["name"] == name
    ]
    if not panels:
        return
    rows = -(-len(panels) // 2)
    picture = Figure(figsize=(9, 2.1 * rows + 0.5), layout="constrained")
    grid = picture.subplots(rows, 2, squeeze=False).ravel()
    for axes, (figure, title, ideal) in zip(grid, panels, strict=False):
        rounds = figure["rounds"]
        spreads = {who: sorted(rounds[who]) for who in COLOURS if who in rounds}
        bar_panel(axes, spreads, title, ideal)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    shown = [
        found[key] for key in dict.fromkeys(bar[:2] for bar in BARS) if key in found
    ]
    finish(picture, foot(shown, ABOVE, ONE_CORE), path)


def bar_panel(
    axes: Axes, spreads: Mapping[str, Spread], title: str, ideal: float | None
) -> None:
    """Draw one figure: a line for each candidate, its value beside it."""
    greatest = max(rounds[-1] for rounds in spreads.values())
    if ideal is None:
        least = min(rounds[0] for rounds in spreads.values()) / 3
        axes.set_xscale("log")
        axes.set_xlim(least, greatest * (greatest / least) ** 0.35)
    else:
        least = 0.0
        axes.set_xlim(0, max(greatest, ideal) * 1.25)
        axes.axvline(ideal, color="#999999", lw=0.8, ls="--", zorder=0)
        axes.text(ideal, len(spreads) - 0.55, " ideal", color="#777777", size=8)
    for place, (who, rounds) in enumerate(spreads.items()):
        low, high = rounds[0], rounds[-1]
        axes.hlines(place, least, low, color="#dddddd", lw=1)
        axes.hlines(place, low, high, color=COLOURS[who], lw=4, alpha=0.35)
        axes.plot(statistics.median(rounds), place, "o", color=COLOURS[who], ms=6)
        axes.annotate(
            known(rounds),
            (high, place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_yticks(range(len(spreads)), [*spreads])
    axes.set_ylim(len(spreads) - 0.5, -0.7)
    axes.set_title(title, loc="left", pad=8)
    axes.tick_params(axis="y", length=0)


def curves(found: Mapping[tuple[str, int], Record], path: Path) -> None:
    """Draw efficiency and speed-up."""
    length = "us of work in a task, log scale"
    panels = [
        ("metg", "METG, map", "efficiency of map, 1 worker", length),
        ("metg", "METG, submit", "efficiency of submit, 1 worker", length),
        ("scaling", "map, ", "speed-up of map, tasks of 1 ms", "workers"),
        ("scaling", "one by one", "one submit, one Future each: tasks/s", "workers"),
    ]
    picture = Figure(figsize=(9, 6.8), layout="constrained")
    grid = picture.subplots(2, 2).ravel()
    shown = []
    for axes, (program, series, title, label) in zip(grid, panels, strict=True):
        ranks = max((n for name, n in found if name == program), default=None)
        lines = series_of(found[program, ranks], series) if ranks else {}
        axes.set_visible(bool(lines))
        if lines:
            shown.append(found[program, ranks])
            curve_panel(axes, lines, program)
        axes.set_title(title, loc="left")
        axes.set_xlabel(label)
    if shown:
        cores = min(record["machine"]["cores"] for record in shown)
        words = (
            f"METG is the length at 50%. From {cores} workers on, ranks share cores."
        )
        finish(picture, foot(shown, ABOVE, words), path)


def series_of(
    record: Record, prefix: str
) -> dict[tuple[str, str], list[tuple[float, Spread]]]:
    """Return the points of all curves of a name, by name and candidate."""
    lines: defaultdict[tuple[str, str], list[tuple[float, Spread]]] = defaultdict(list)
    for figure in record["figures"]:
        if (figure["series"] or "").startswith(prefix):
            for who, rounds in figure["rounds"].items():
                lines[figure["series"], who].append((figure["x"], sorted(rounds)))
    return lines


def curve_panel(
    axes: Axes, lines: Mapping[tuple[str, str], list], program: str
) -> None:
    """Draw the curves of one panel."""
    for (series, who), points in lines.items():
        xs, spreads = zip(*sorted(points), strict=True)
        lows = [rounds[0] for rounds in spreads]
        highs = [rounds[-1] for rounds in spreads]
        axes.vlines(xs, lows, highs, color=COLOURS[who], lw=3, alpha=0.3)
        style, words = WORK.get(series, ("-", ""))
        medians = [*map(statistics.median, spreads)]
        axes.plot(
            xs, medians, style, marker="o", ms=3, color=COLOURS[who], label=who + words
        )
    lows = [rounds[0] for points in lines.values() for _, rounds in points]
    highs = [rounds[-1] for points in lines.values() for _, rounds in points]
    if program == "metg":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_ylim(0, max([1.05, *highs]) * 1.05)
        for height, words in ((0.5, "50%"), (1.0, "ideal")):
            axes.axhline(height, color="#999999", lw=0.8, ls="--", zorder=0)
            axes.annotate(
                words,
                (0, height),
                xytext=(2, 2),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                color="#777777",
                size=7,
            )
    else:
        workers = sorted({x for points in lines.values() for x, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_ylim(0, max(highs) * 1.1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if "one by one" not in {series for series, _ in lines}:
            axes.set_yscale("log", base=2)
            axes.set_ylim(min(lows) / 1.1, max(workers) * 1.1)
            axes.set_yticks(workers, map(str, workers))
            axes.plot(workers, workers, ":", color="#777777", zorder=0, label="ideal")
        axes.set_xticks(workers, map(str, workers))
        axes.minorticks_off()
    axes.legend(fontsize=8, facecolor="white", edgecolor="none", framealpha=0.8)
