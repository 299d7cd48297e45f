"""The report of a run: one page that needs nothing else, made from a trace.

The verdict comes first, then what it rests on. All but the timeline is plain HTML, so
the page can be read without scripts and on paper. Whatever comes from the trace, which
anybody may have written, is escaped. The page loads nothing from anywhere, which its
content security policy holds as well.
"""

# ruff: noqa: PTH118, PTH120, PTH123

from __future__ import annotations

import html
import json
import os
from typing import Any

from mpitasks.errors import ConfigurationError
from mpitasks.files import replacing
from mpitasks.observe.page import colour_of, sections
from mpitasks.observe.slices import Slice, join

__all__ = ["is_report", "render", "write"]

MARK = "<!-- made by mpitasks -->"
MODE = 0o644

MOST_SLICES = 20_000
MOST_INSTANTS = 2_000

TEMPLATE = os.path.join(os.path.dirname(__file__), "report.html")


def write(path: str, trace: dict[str, Any]) -> None:
    """Write a report.

    Args:
        path: The file. A report of that name is replaced.
        trace: The trace.

    Raises:
        ConfigurationError: The trace is damaged.
        OSError: It cannot be written, or something else is there.
    """
    page = render(trace)
    with replacing(path, is_report, mode=MODE) as file:
        file.write(page.encode(errors="replace"))


def is_report(head: bytes) -> bool:
    """Whether a file that begins so is a report of ours."""
    return MARK.encode() in head


def render(trace: dict[str, Any]) -> str:
    """Return the page.

    Raises:
        ConfigurationError: The trace is damaged.
    """
    try:
        summary = trace["otherData"]
        lanes = _lanes(trace["traceEvents"])
        total = sum(map(len, lanes.values()))
        join(lanes, MOST_SLICES)
        shown = sum(map(len, lanes.values()))
        body = "\n".join(sections(summary, trace["traceEvents"], total, shown))
        data = json.dumps(_data(summary, trace["traceEvents"], lanes), allow_nan=False)
        title = html.escape(f"{summary['program']}: report")
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        OSError,  # of a time that is none
    ) as error:
        raise ConfigurationError(f"the trace is damaged: {error!r:.200}") from error
    with open(TEMPLATE, encoding="utf-8") as file:
        first, rest = file.read().split("@TITLE@")
    second, rest = rest.split("@BODY@")
    third, last = rest.split("@DATA@")
    data = data.replace("<", "\\u003c")
    return f"{first}{title}{second}{MARK}\n{body}{third}{data}{last}"


def _lanes(events: list[dict[str, Any]]) -> dict[int, list[Slice]]:
    """Return the slices of each rank, in order."""
    lanes: dict[int, list[Slice]] = {}
    for event in events:
        if event["ph"] == "M" and event["name"] == "thread_name" and event["tid"]:
            lanes.setdefault(int(event["tid"]), [])
        if event["ph"] != "X" or event["cat"] != "task":
            continue
        args = event["args"]
        begin, took = event["ts"] / 1e6, event["dur"] / 1e6
        lanes.setdefault(int(event["tid"]), []).append(
            Slice(
                begin,
                begin + took,
                str(event["name"]),
                int(args.get("tasks", 1)),
                float(args.get("seconds", took)),
                int(args.get("failed", 0)),
            )
        )
    for slices in lanes.values():
        slices.sort()
    return dict(sorted(lanes.items()))


def _data(
    summary: dict[str, Any],
    events: list[dict[str, Any]],
    lanes: dict[int, list[Slice]],
) -> dict[str, Any]:
    """Return what the timeline needs."""
    hosts = {link[0]: str(link[1]) for link in summary["links"]}
    kinds: dict[str, int] = {str(label["label"]): 0 for label in summary["labels"]}
    for slices in lanes.values():
        kinds.update(dict.fromkeys(each.label for each in slices))  # type: ignore[arg-type]
    kinds = {label: at for at, label in enumerate(kinds)}
    return {
        "seconds": float(summary["seconds"]),
        "labels": list(kinds),
        "colours": [colour_of(at) for at in range(len(kinds))],
        "instants": [
            [round(event["ts"] / 1e6, 6), str(event["name"])]
            for event in events
            if event["ph"] == "i"
        ][:MOST_INSTANTS],
        "lanes": [
            {
                "rank": rank,
                "host": hosts.get(rank, ""),
                "slices": [
                    [
                        round(each.begin, 6),
                        round(each.end - each.begin, 7),
                        kinds[each.label],
                        each.items,
                        each.failed,
                        round(each.seconds, 7),
                    ]
                    for each in slices
                ],
            }
            for rank, slices in lanes.items()
        ],
    }
