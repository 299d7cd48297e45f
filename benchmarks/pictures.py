"""Pictures of the results: all candidates side by side, and curves.

    summary.png   the figures that users ask for first, one panel each; points on a log
                  scale, since the length of a bar would mean nothing there
    curves.png    efficiency against the length of a task, speed-up against workers

Colours belong to candidates, the same in every picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pools import DASK, MPI4PY, MULTIPROCESSING, OURS, RAW, RAY
from results import digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]

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
]
LINEAR = ("fibonacci",)


def draw(records: Sequence[Record], folder: Path) -> None:
    """Draw all pictures for which there is something to show."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False})
    mpl.rcParams.update({"axes.spines.right": False, "axes.titlesize": 9})
    found = {(r["benchmark"], r["ranks"]): r for r in records}
    bars(found, folder / "summary.png")
    curves(found, folder / "curves.png")


def bars(found: Mapping[tuple[str, int], Record], path: Path) -> None:
    """Draw the summary."""
    panels = [
        (figure["medians"], title, program in LINEAR)
        for program, ranks, name, title in BARS
        for figure in found.get((program, ranks), {"figures": ()})["figures"]
        if figure["name"] == name
    ]
    if not panels:
        return
    rows = -(-len(panels) // 2)
    picture = Figure(figsize=(9, 2.1 * rows), layout="constrained")
    grid = picture.subplots(rows, 2, squeeze=False).ravel()
    for axes, (medians, title, linear) in zip(grid, panels, strict=False):
        bar_panel(axes, medians, title, linear=linear)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    picture.savefig(path, dpi=150)


def bar_panel(
    axes: Axes, medians: Mapping[str, float], title: str, *, linear: bool
) -> None:
    """Draw one figure: a line for each candidate, its value beside it."""
    order = [who for who in COLOURS if who in medians]
    values = [medians[who] for who in order]
    colours = [COLOURS[who] for who in order]
    if linear:
        axes.barh(order, values, color=colours, height=0.6)
        axes.set_xlim(0, max(values) * 1.2)
    else:
        least = min(values) / 3
        axes.hlines(order, least, values, color="#dddddd", lw=1)
        axes.scatter(values, order, color=colours, zorder=2)
        axes.set_xscale("log")
        axes.set_xlim(least, max(values) * (max(values) / least) ** 0.3)
    axes.set_ylim(len(order) - 0.5, -0.5)
    for place, value in enumerate(values):
        axes.annotate(
            digits(value),
            (value, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_title(title, loc="left")
    axes.tick_params(axis="y", length=0)


def curves(found: Mapping[tuple[str, int], Record], path: Path) -> None:
    """Draw efficiency and speed-up."""
    panels = [
        (
            "metg",
            "METG, map",
            "efficiency of map, 1 worker",
            "us of work in a task, log",
        ),
        (
            "metg",
            "METG, submit",
            "efficiency of submit, 1 worker",
            "us of work in a task, log",
        ),
        ("scaling", "map, ", "speed-up of map, tasks of 1 ms", "workers"),
        ("scaling", "one by one", "one submit, one Future each: tasks/s", "workers"),
    ]
    picture = Figure(figsize=(9, 6), layout="constrained")
    grid = picture.subplots(2, 2).ravel()
    drawn = False
    for axes, (program, series, title, label) in zip(grid, panels, strict=True):
        ranks = max((n for name, n in found if name == program), default=None)
        lines = series_of(found[program, ranks], series) if ranks else {}
        axes.set_visible(bool(lines))
        drawn = drawn or bool(lines)
        curve_panel(axes, lines, program)
        axes.set_title(title, loc="left")
        axes.set_xlabel(label)
    if drawn:
        picture.savefig(path, dpi=150)


def series_of(
    record: Record, prefix: str
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return the points of all curves of a name, by name and candidate."""
    lines: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for figure in record["figures"]:
        if (figure["series"] or "").startswith(prefix):
            for who, value in figure["medians"].items():
                lines[figure["series"], who].append((figure["x"], value))
    return lines


def curve_panel(
    axes: Axes, lines: Mapping[tuple[str, str], list], program: str
) -> None:
    """Draw the curves of one panel."""
    styles = {"map, spin 1 ms": "--"}
    for (series, who), points in lines.items():
        xs, heights = zip(*sorted(points), strict=True)
        label = who if program == "metg" else series
        style = styles.get(series, "-")
        axes.plot(xs, heights, style, marker="o", ms=3, color=COLOURS[who], label=label)
    ys = [y for points in lines.values() for _, y in points]
    if program == "metg":
        axes.set_xscale("log")
        axes.set_ylim(0, max([1.05, *ys]) * 1.05)
        axes.axhline(0.5, color="#cccccc", lw=0.8, zorder=0)
    elif lines:
        workers = sorted({x for points in lines.values() for x, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_ylim(0, max(ys) * 1.1)
        if "one by one" not in {series for series, _ in lines}:
            axes.set_yscale("log", base=2)
            axes.set_ylim(min(ys) / 1.1, max(workers) * 1.1)
            axes.set_yticks(workers, map(str, workers))
            axes.plot(workers, workers, color="#cccccc", lw=0.8, zorder=0)
        axes.set_xticks(workers, map(str, workers))
        axes.minorticks_off()
    if len(lines) > 1:
        axes.legend(frameon=False)
