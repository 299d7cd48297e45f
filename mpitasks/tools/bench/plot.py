"""The picture of a report, by matplotlib, which need not be there and is imported late.

By `Figure` alone, without pyplot: no display is looked for, and no state is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpitasks.launch.bench.report import Report

__all__ = ["MISSING", "draw", "tick_counts"]

MISSING = (
    "no picture, as matplotlib is not installed here: pip install 'mpitasks[plot]'"
)

OURS, OTHER, IDEAL = "#1f5fa8", "#c8641b", "#8a8a8a"
LINE = {"marker": "o", "markersize": 5, "linewidth": 1.8, "clip_on": False, "zorder": 3}
MARGIN = 1.2
"""How far the axes go beyond the points, which are on logarithmic scales."""


def draw(report: Report, path: Path) -> bool:
    """Draw the report into a PNG; return False if there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    painter, width = _PAINTERS[report.benchmark]
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    painter(figure, report)
    machine = report.machine
    mpi = machine.mpi if not machine.alone else "one process"
    where = f"{machine.hosts[0].name}{' and others' if len(machine.hosts) > 1 else ''}"
    figure.suptitle(f"mpitasks bench {report.benchmark}", fontsize=12)
    figure.text(
        0.995,
        -0.005,
        f"{where}, {mpi}, Python {machine.python}, mpitasks "
        f"{machine.versions['mpitasks']}, {machine.date[:10]}",
        fontsize=7.5,
        color="#555555",
        ha="right",
        va="top",
    )
    figure.savefig(path, dpi=144, format="png", bbox_inches="tight", pad_inches=0.15)
    return True


def tick_counts(counts: Sequence[int]) -> list[int]:
    """Return the worker counts that get a tick: those whose labels do not touch."""
    ticks: list[int] = []
    for count in reversed(counts):
        if not ticks or ticks[-1] / count > 1.3:
            ticks.append(count)
    return ticks[::-1]


def _draw_fibonacci(figure: Any, report: Report) -> None:
    counts = _values(report, "workers")
    left, right = figure.subplots(1, 2)
    speedups = _values(report, "speedup")
    ends = [counts[0] / MARGIN, counts[-1] * MARGIN]
    left.plot(ends, ends, color=IDEAL, linestyle="--", label="ideal")
    left.plot(counts, speedups, color=OURS, label="measured", **LINE)
    _count_axis(left, counts)
    left.set_yscale("log", base=2)
    bottom, top = min(ends[0], *speedups) / MARGIN, max(ends[1], *speedups)
    powers = [2.0**n for n in range(-20, 30) if bottom <= 2.0**n <= top]
    left.set_yticks(powers, [f"{power:g}" for power in powers])
    left.minorticks_off()
    left.set_ylim(bottom, top)
    left.set_ylabel("speed-up over the serial time")
    left.legend(frameon=False, loc="upper left")
    percent = [100 * value for value in _values(report, "efficiency")]
    right.axhline(100, color=IDEAL, linestyle="--", label="ideal")
    right.plot(counts, percent, color=OURS, label="measured", **LINE)
    _count_axis(right, counts)
    right.set_ylim(0, max(110.0, 1.05 * max(percent)))
    right.set_ylabel("efficiency: speed-up per worker (%)")
    right.legend(frameon=False, loc="lower left")


def _draw_throughput(figure: Any, report: Report) -> None:
    counts = _values(report, "workers")
    axes = figure.subplots()
    ways = {
        "map": ("map_per_second", OURS),
        "submit, one Future each": ("submit_per_second", OTHER),
    }
    for label, (key, colour) in ways.items():
        axes.plot(counts, _values(report, key), color=colour, label=label, **LINE)
    _count_axis(axes, counts)
    rates = [rate for key, _ in ways.values() for rate in _values(report, key)]
    axes.set_yscale("log")
    axes.set_ylim(_decade(min(rates), math.floor), _decade(max(rates), math.ceil))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel("null tasks a second")
    axes.legend(frameon=False)


def _draw_latency(figure: Any, report: Report) -> None:
    axes = figure.subplots()
    for (name, samples), colour in zip(
        report.samples.items(), (OURS, OTHER), strict=False
    ):
        times = [1e6 * seconds for seconds in samples["percentiles"]]
        axes.plot(times, range(101), color=colour, linewidth=1.8, label=name)
        for percent in (50, 99):
            axes.plot(times[percent], percent, "o", color=colour, markersize=5)
            axes.annotate(
                f"{times[percent]:,.1f}",
                (times[percent], percent),
                xytext=(7, -9),
                textcoords="offset points",
                fontsize=8.5,
                color=colour,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xlabel("there and back (us). Marked: median and 99th percentile")
    axes.set_ylabel("trips that took at most so long (%)")
    axes.set_ylim(0, 102)
    _tidy(axes)
    axes.legend(frameon=False, loc="center right")


def _draw_bandwidth(figure: Any, report: Report) -> None:
    axes = figure.subplots()
    sizes = _values(report, "bytes")
    for label, key, colour in (
        ("mpitasks", "bytes_per_second", OURS),
        ("raw mpi4py, into new arrays", "raw_bytes_per_second", OTHER),
    ):
        rates = _values(report, key)
        if None not in rates:
            rates = [rate / (1 << 30) for rate in rates]
            axes.plot(sizes, rates, color=colour, label=label, **LINE)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [row["size"] for row in report.rows])
    axes.minorticks_off()
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size of the array")
    axes.set_ylabel("out and back (GiB/s, both ways counted)")
    _tidy(axes)
    axes.legend(frameon=False)


def _decade(rate: float, rounded: Callable[[float], int]) -> float:
    """Return the power of ten below or above a rate."""
    return 10.0 ** rounded(math.log10(rate))


def _values(report: Report, key: str) -> list[Any]:
    return [row[key] for row in report.rows]


def _count_axis(axes: Any, counts: Sequence[int]) -> None:
    """Worker counts from left to right, each doubling as wide as the next."""
    axes.set_xscale("log", base=2)
    ticks = tick_counts(counts)
    axes.set_xticks(ticks, [str(count) for count in ticks])
    axes.minorticks_off()
    axes.set_xlim(counts[0] / MARGIN, counts[-1] * MARGIN)
    axes.set_xlabel("workers")
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


_PAINTERS: dict[str, tuple[Callable[[Any, Report], None], float]] = {
    "fibonacci": (_draw_fibonacci, 9.0),
    "throughput": (_draw_throughput, 6.4),
    "latency": (_draw_latency, 6.4),
    "bandwidth": (_draw_bandwidth, 6.4),
}
