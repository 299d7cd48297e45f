"""The sections of a report, as HTML: all but the timeline, which is drawn by a script.

Whatever comes from the trace, which anybody may have written, is escaped here.
`mpitasks.observe.report` puts the sections together.
"""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mpitasks.observe.idleness import CAUSES
from mpitasks.observe.progress import duration
from mpitasks.observe.slices import Durations
from mpitasks.observe.verdict import between, losses_of, verdict_of

__all__ = ["colour_of", "sections"]

MOST_ROWS = 200
MOST_POINTS = 1_000

COLOURS = [
    "#4c86b8", "#4f9d69", "#c8873a", "#8e6bb0", "#b8595a", "#4aa3a3", "#9b8a3e",
    "#c06c9c",
]  # fmt: skip
OTHER = "#8a8d93"


def sections(
    summary: dict[str, Any], events: list[dict[str, Any]], total: int, shown: int
) -> Iterable[str]:
    """Yield the parts of the page."""
    verdict = verdict_of(summary)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(summary["began"])))
    tasks = f"{summary['succeeded']} tasks succeeded, {summary['failed']} failed"
    for name in ("cancelled", "unfinished", "retries"):
        if summary[name]:
            tasks += f", {summary[name]} {name}"
    yield f"<h1>{_text(summary['program'])}</h1>"
    yield _soft(
        f"{when}, {duration(float(summary['seconds']))} on {summary['workers']} "
        f"workers, exit code {summary['code']}. {tasks}."
    )
    yield f'<p class="verdict" id="verdict">{_text(verdict.text)}</p>'
    yield _time(summary)
    yield "<h2>Timeline</h2>"
    if total:
        note = (
            f"{shown} of {total} slices: neighbours are joined, and paler where they "
            f"leave gaps."
            if shown < total
            else "All slices of the trace."
        )
        yield _soft(
            f"{note} Drag over a part to enlarge it, or turn the wheel with Shift. "
            "Red marks: failures, retries, losses."
        )
        yield (
            '<p><button id="in">+</button> <button id="out">&minus;</button> '
            '<button id="whole">whole run</button></p>'
            '<div class="panel"><canvas id="timeline"></canvas>'
            '<div id="tip" hidden></div></div>'
        )
    else:
        yield _soft("No task was finished.")
    yield _labels(summary)
    yield _slowest(summary)
    yield _failures(summary)
    yield _moved(summary)
    yield _load(summary, events)
    yield _environment(summary)


def _time(summary: dict[str, Any]) -> str:
    """Return where the time of the workers went."""
    total = float(summary["workers"] * summary["seconds"])
    if total <= 0:
        return ""
    rows = [("in functions of tasks", summary["busy"], "--busy")]
    name = next(
        (
            loss.what
            for loss in losses_of(summary)
            if loss.name in ("rank 0", "transfers")
        ),
        "messages and pickling",
    )
    told = [
        (name, between(summary)),
        ("making functions, imports", float(summary.get("loading", 0.0))),
        ("copying kept results", float(summary.get("copying", 0.0))),
    ]
    rows += [
        (f"between functions: {what}", seconds, "--overhead")
        for at, (what, seconds) in enumerate(told)
        if seconds > 0 or at == 0
    ]
    causes = sorted(CAUSES, key=lambda cause: -summary["idle"][cause])
    rows += [
        (f"idle: {CAUSES[cause]}", summary["idle"][cause], "--idle")
        for cause in causes
        if summary["idle"][cause] > 0
    ]
    shaded = [*zip(rows, _shades(rows), strict=True)]
    bar = "".join(
        f'<span style="flex:{max(float(seconds), 0.0) / total:.6f};'
        f'background:var({colour});opacity:{shade:.2f}" title="{_text(what)}"></span>'
        for (what, seconds, colour), shade in shaded
    )
    table = _table(
        ["seconds of the workers", "", "part"],
        [
            [
                f'<span class="key" style="background:var({colour});'
                f'opacity:{shade:.2f}"></span>{_text(what)}',
                _seconds(seconds),
                f"{100 * seconds / total:.1f}%",
            ]
            for (what, seconds, colour), shade in shaded
        ],
        numbers={1, 2},
    )
    return f'<h2>Where the time went</h2><div class="bar">{bar}</div>{table}'


def _shades(rows: Sequence[tuple[str, float, str]]) -> list[float]:
    """Return how strong the colours are: each gets paler with every use."""
    used: Counter[str] = Counter()
    shades = []
    for _, _, colour in rows:
        shades.append(max(1.0 - 0.18 * used[colour], 0.25))
        used[colour] += 1
    return shades


def _labels(summary: dict[str, Any]) -> str:
    rows = []
    for at, each in enumerate(summary["labels"]):
        key = f'<span class="key" style="background:{colour_of(at)}"></span>'
        rows.append(
            [
                key + _text(each["label"]),
                f"{each['count']}",
                *[
                    _seconds(each[name])
                    for name in ("seconds", "median", "p95", "longest")
                ],
                f"{each['failed']}",
                f"{each['retries']}",
                _histogram(each["bins"]),
            ]
        )
    head = ["label", "tasks", "in all", "median", "95%", "longest", "failed", "retries"]
    note = _of(summary["shown"]["labels"], "labels")
    note += " Tasks that were measured together count as equally long."
    table = _table([*head, "distribution"], rows, numbers=set(range(1, 8)))
    return f"<h2>Durations by label</h2>{_soft(note)}{table}"


def _histogram(bins: Sequence[Sequence[int]]) -> str:
    """Return bars: how many tasks took how long, in steps of a factor of 2^(1/4)."""
    if not bins:
        return ""
    low, high = int(bins[0][0]), int(bins[-1][0])
    most = max(int(count) for _, count in bins)
    rects = "".join(
        f'<rect x="{int(at) - low}" y="{20 - 20 * int(count) / most:.2f}" '
        f'width="0.9" height="{20 * int(count) / most:.2f}"/>'
        for at, count in bins
    )
    ends = [
        _seconds(Durations.BIN_SECONDS * 2.0 ** (at / Durations.BINS))
        for at in (low, high + 1)
    ]
    return (
        f'<svg viewBox="0 0 {high - low + 1} 20" width="120" height="20" '
        f'preserveAspectRatio="none" role="img"><title>{ends[0]} to {ends[1]}</title>'
        f"{rects}</svg>"
    )


def _slowest(summary: dict[str, Any]) -> str:
    rows = [
        [
            _seconds(seconds),
            _text(label),
            _text(name),
            f"{int(rank)}",
            _seconds(begin),
            f"<code>{_text(arguments)}</code>" if arguments else "",
        ]
        for seconds, label, name, rank, begin, arguments in summary["slowest"]
    ]
    if not rows:
        return ""
    head = ["took", "label", "task", "rank", "began at", "arguments, if plain"]
    return f"<h2>Slowest tasks</h2>{_table(head, rows, numbers={0, 3, 4})}"


def _failures(summary: dict[str, Any]) -> str:
    parts = []
    for kind, count, retried, label, text in summary["failures"]:
        counts = f"{int(count)} for good, {int(retried)} tried again"
        if text:
            counts += f"; the first in {_text(label)}:"
        parts.append(f"<p><strong>{_text(kind)}</strong>: {counts}</p>")
        if text:
            parts.append(f"<pre>{_text(text)}</pre>")
    known = sum(int(count) for _, count, *_ in summary["failures"])
    if int(summary["failed"]) > known:
        parts.append(
            f"<p>{int(summary['failed']) - known} more were lost with their worker, or "
            f"not run since something that they need has failed.</p>"
        )
    if not parts:
        return ""
    return "<h2>Failures</h2>" + "".join(parts)


def _moved(summary: dict[str, Any]) -> str:
    """Return how many bytes went where, in sum and for each worker."""
    links = [[*link, 0, 0, 0][:8] for link in summary["links"]]
    sums = [
        ("rank 0 to workers: arguments", sum(link[2] for link in links)),
        ("rank 0 to workers: shared objects", sum(link[7] for link in links)),
        ("workers to rank 0: results", sum(link[3] for link in links)),
        ("worker to worker, on one host", sum(link[5] for link in links)),
        ("worker to worker, between hosts", sum(link[6] for link in links)),
    ]
    moved = [[what, _bytes(nbytes)] for what, nbytes in sums if nbytes]
    kept = [
        f"{_bytes(most)} on {host} ({_bytes(now)} at the end)"
        for host, now, most in summary.get("kept", [])[:MOST_ROWS]
        if most
    ]
    said = "Workers kept results of at most " + ", ".join(kept) + "." if kept else ""
    rows = [
        [
            f"{int(rank)}",
            _text(host),
            _bytes(sent + shared),
            _bytes(received),
            _bytes(near + far),
            f"{int(tasks)}",
        ]
        for rank, host, sent, received, tasks, near, far, shared in links[:MOST_ROWS]
    ]
    head = ["rank", "host", "from rank 0", "to rank 0", "from workers", "calls, chunks"]
    return (
        f"<h2>Data moved</h2>{_table(['link', 'bytes'], moved, numbers={1})}"
        f"{_soft(said)}{_soft(_of([len(rows), len(links)], 'workers'))}"
        f"{_table(head, rows, numbers={0, 2, 3, 4, 5})}"
    )


def _load(summary: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """Return what rank 0 had to do."""
    seconds = max(float(summary["seconds"]), 1e-9)
    text = (
        f"Rank 0 used {100 * float(summary['load']):.0f}% of a core, the script "
        f"included, and handled {int(summary['messages'])} messages, "
        f"{int(summary['messages']) / seconds:.3g} a second."
    )
    points = [
        (event["ts"] / 1e6, event["args"]["queued"], event["args"]["running"])
        for event in events
        if event["ph"] == "C" and event["name"] == "tasks"
    ]
    points = points[:: max(len(points) // MOST_POINTS, 1)]
    if len(points) < 2:
        return f"<h2>Rank 0</h2><p>{_text(text)}</p>"
    curves = ""
    legend = []
    for at, name in ((1, "queued"), (2, "running")):
        most = max(point[at] for point in points) or 1
        line = " ".join(
            f"{1000 * point[0] / seconds:.1f},{99 - 97 * point[at] / most:.1f}"
            for point in points
        )
        curves += f'<polyline class="{name}" points="{line}"/>'
        colour = "--overhead" if at == 1 else "--accent"
        legend.append(
            f'<span class="key" style="background:var({colour})"></span>'
            f"{name}, at most {int(most)}"
        )
    return (
        f"<h2>Rank 0</h2><p>{_text(text)}</p>"
        f'<div class="panel"><svg viewBox="0 0 1000 100" width="100%" height="120" '
        f'preserveAspectRatio="none">{curves}</svg></div>'
        f'<p class="soft">Tasks over the time of the run: {" ".join(legend)}</p>'
    )


def _environment(summary: dict[str, Any]) -> str:
    hosts: dict[str, int] = {}
    for link in summary["links"]:
        hosts[str(link[1])] = hosts.get(str(link[1]), 0) + 1
    named = ", ".join(f"{host} ({count})" for host, count in [*hosts.items()][:50])
    if len(hosts) > 50:
        named += f" and {len(hosts) - 50} more"
    rows = [
        ["hosts (workers)", _text(named)],
        ["mpitasks", _text(summary["mpitasks"])],
        ["Python", _text(summary["python"])],
        ["MPI", _text(summary["mpi"] or "none: one process")],
        ["system", _text(summary["platform"])],
        ["cores of rank 0's host", _text(summary["cores"])],
        ["job", _text(summary["job"] or "none")],
    ]
    return f"<h2>Environment</h2>{_table(['', ''], rows)}"


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()
) -> str:
    """Return a table of cells that are HTML already."""
    right = set(numbers)

    def row(kind: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{kind} class="{"n" if at in right else "text"}">{cell}</{kind}>'
            for at, cell in enumerate(cells)
        )

    top = f"<tr>{row('th', head)}</tr>" if any(head) else ""
    lines = "".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table>{top}{lines}</table></div>'


def _of(shown: Sequence[int], what: str) -> str:
    count, total = shown
    return f"{count} of {total} {what}." if count < total else f"All {what}."


def _soft(text: str) -> str:
    return f'<p class="soft">{_text(text)}</p>'


def _text(value: Any) -> str:
    return html.escape(str(value))


def _seconds(value: float) -> str:
    seconds = float(value)
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.4g} s"


def _bytes(value: int) -> str:
    size = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def colour_of(at: int) -> str:
    return COLOURS[at] if at < len(COLOURS) else OTHER
