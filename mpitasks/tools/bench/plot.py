"""The picture of a report, by matplotlib, which need not be there and is imported late.

By `Figure` alone, without pyplot: no display is looked for, and no state is left. Lines
go through the figures of the table; pale bars show how far the runs lie apart that made
them. Below stands on what they were measured, and when.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpitasks.tools.bench.report import PICTURE, write

if TYPE_CHECKING:
    from mpitasks.tools.bench.report import Report

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
    where = f"{machine.hosts[0]}{' and others' if len(machine.hosts) > 1 else ''}"
    bars = _BARS.get(report.benchmark, "")
    figure.suptitle(f"mpitasks bench {report.benchmark}", fontsize=12)
    figure.text(
        0.995,
        -0.005,
        f"{report.work}{bars}\n"
        f"{where}: {machine.processor}, {machine.system}\n"
        f"{mpi}, Python {machine.python}, mpitasks {machine.versions['mpitasks']}, "
        f"{machine.date[:10]}",
        fontsize=7.5,
        color="#555555",
        ha="right",
        va="top",
    )
    drawn = io.BytesIO()
    figure.savefig(
        drawn,
        dpi=144,
        format="png",
        bbox_inches="tight",
        pad_inches=0.15,
        metadata={"Title": PICTURE},
    )
    write(path, drawn.getvalue())
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
    serial, runs = report.samples["serial"], report.samples["workers"]
    spreads = [[min(serial) / seconds for seconds in runs[count]] for count in counts]
    _spread(left, counts, spreads, OURS)
    _count_axis(left, counts)
    left.set_yscale("log", base=2)
    slowest, fastest = min(map(min, spreads)), max(map(max, spreads))
    bottom, top = min(ends[0], slowest) / MARGIN, max(ends[1], fastest)
    powers = [2.0**n for n in range(-20, 30) if bottom <= 2.0**n <= top]
    left.set_yticks(powers, [f"{power:g}" for power in powers])
    left.minorticks_off()
    left.set_ylim(bottom, top)
    left.set_ylabel("speed-up over the serial time")
    left.legend(frameon=False, loc="upper left")
    percent = [100 * value for value in _values(report, "efficiency")]
    right.axhline(100, color=IDEAL, linestyle="--", label="ideal")
    right.plot(counts, percent, color=OURS, label="measured", **LINE)
    shares = [
        [100 * speedup / count for speedup in spread]
        for count, spread in zip(counts, spreads, strict=True)
    ]
    _spread(right, counts, shares, OURS)
    _count_axis(right, counts)
    right.set_ylim(0, max(110.0, 1.05 * max(percent)))
    right.set_ylabel("efficiency: speed-up per worker (%)")
    right.legend(frameon=False, loc="lower left")


def _draw_throughput(figure: Any, report: Report) -> None:
    counts = _values(report, "workers")
    axes = figure.subplots()
    tasks = report.options["tasks"]
    rates: list[float] = []
    for way, label, colour in (
        ("map", "map", OURS),
        ("submit", "submit, one Future each", OTHER),
    ):
        medians = _values(report, f"{way}_per_second")
        axes.plot(counts, medians, color=colour, label=label, **LINE)
        runs = [[tasks / s for s in report.samples[way][count]] for count in counts]
        _spread(axes, counts, runs, colour)
        rates += [rate for run in runs for rate in run]
    _count_axis(axes, counts)
    axes.set_yscale("log")
    axes.set_ylim(_decade(min(rates), math.floor), _decade(max(rates), math.ceil))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel("null tasks a second")
    axes.legend(frameon=False)


def _draw_latency(figure: Any, report: Report) -> None:
    axes = figure.subplots()
    looks = ((OURS, (7, -9), "left"), (OTHER, (-7, 4), "right"))
    for (name, samples), look in zip(report.samples.items(), looks, strict=False):
        colour, offset, side = look
        times = [1e6 * seconds for seconds in samples["percentiles"]]
        axes.plot(times, range(101), color=colour, linewidth=1.8, label=name)
        for percent in (50, 99):
            axes.plot(times[percent], percent, "o", color=colour, markersize=5)
            axes.annotate(
                two_digits(times[percent]),
                (times[percent], percent),
                xytext=offset,
                ha=side,
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
    for who, label, key, colour in (
        ("mpitasks", "mpitasks", "bytes_per_second", OURS),
        ("raw mpi4py", "raw mpi4py, into new arrays", "raw_bytes_per_second", OTHER),
    ):
        rates = _values(report, key)
        if None not in rates:
            rates = [rate / (1 << 30) for rate in rates]
            axes.plot(sizes, rates, color=colour, label=label, **LINE)
            trips = [_middle_half(report.samples[who][size]) for size in sizes]
            middle = [
                [2 * size / seconds / (1 << 30) for seconds in some]
                for size, some in zip(sizes, trips, strict=True)
            ]
            _spread(axes, sizes, middle, colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [row["size"] for row in report.rows])
    axes.minorticks_off()
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size of the array")
    axes.set_ylabel("out and back (GiB/s, both ways counted)")
    _tidy(axes)
    axes.legend(frameon=False)


def two_digits(value: float) -> str:
    """Return a positive number with two digits: trips vary by more than that."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:#.2g}"


def _spread(
    axes: Any, places: Sequence[float], runs: Sequence[Sequence[float]], colour: str
) -> None:
    """Draw from where to where the runs reach at each place."""
    lows, highs = [*map(min, runs)], [*map(max, runs)]
    axes.vlines(places, lows, highs, color=colour, linewidth=5, alpha=0.25)


def _middle_half(samples: Sequence[float]) -> list[float]:
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return ordered[quarter : len(ordered) - quarter]


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


_BARS = {
    "fibonacci": "; pale bars: all runs",
    "throughput": "; pale bars: all runs",
    "bandwidth": "; pale bars: the middle half of the trips",
}
"""What the pale bars of a picture reach over, if it has some."""

_PAINTERS: dict[str, tuple[Callable[[Any, Report], None], float]] = {
    "fibonacci": (_draw_fibonacci, 9.0),
    "throughput": (_draw_throughput, 6.4),
    "latency": (_draw_latency, 6.4),
    "bandwidth": (_draw_bandwidth, 6.4),
}
