"""The Trace Event format, as a check: whether Perfetto shows all that a trace has.

By "Trace Event Format" (Google, 2016) and by what Perfetto makes of such files: slices
of a thread nest or follow each other, to the nanosecond, since it drops those that
overlap; an arrow has two ends with one id, the first not after the second; counters are
numbers; threads and processes have names. Knows nothing of what mpitasks means by it.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

NAMES = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
NEEDED = {
    "M": {"name", "pid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "i": {"name", "cat", "pid", "tid", "ts", "s"},
    "C": {"name", "pid", "ts", "args"},
    "s": {"name", "cat", "pid", "tid", "ts", "id"},
    "f": {"name", "cat", "pid", "tid", "ts", "id", "bp"},
}
Place = tuple[int, int]


def check_format(trace: Any) -> None:
    """Look whether a trace is one, and all of it would be shown.

    Args:
        trace: What its JSON says.

    Raises:
        AssertionError: It is not.
    """
    json.dumps(trace, allow_nan=False)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events = trace["traceEvents"]
    for event in events:
        needed = NEEDED[event["ph"]]
        assert needed <= event.keys() <= {*needed, "ph", "tid", "args"}, event
        assert type(event["pid"]) is type(event.get("tid", 0)) is int, event
        assert isinstance(event["name"], str), event
    _check_names(events)
    slices = _check_slices([event for event in events if event["ph"] == "X"])
    _check_arrows([event for event in events if event["ph"] in "sf"], slices)
    for event in events:
        if event["ph"] == "C":
            assert event["args"], event
            assert all(map(_is_number, event["args"].values())), event
            assert nanoseconds(event["ts"]) >= 0, event
        elif event["ph"] == "i":
            assert event["s"] in ("t", "p", "g"), event
            assert nanoseconds(event["ts"]) >= 0, event


def nanoseconds(microseconds: float) -> int:
    """Return a time as Perfetto keeps it; it must be one to the nanosecond."""
    assert _is_number(microseconds), microseconds
    whole = round(microseconds * 1000)
    assert whole / 1000 == microseconds, microseconds
    return whole


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _check_names(events: Iterable[dict[str, Any]]) -> None:
    """Each process and each thread has one name, and no name is of none."""
    named: set[tuple[str, int, int | None]] = set()
    for event in events:
        if event["ph"] == "M":
            assert event["name"] in NAMES, event
            kind = "sort_index" if event["name"].endswith("sort_index") else "name"
            assert type(event["args"][kind]) is (int if "_" in kind else str), event
            key = event["name"], event["pid"], event.get("tid")
            assert key not in named, event
            named.add(key)
    for event in events:
        assert ("process_name", event["pid"], None) in named, event
        if event["ph"] not in "MC":
            assert ("thread_name", event["pid"], event["tid"]) in named, event


def _check_slices(slices: Iterable[dict[str, Any]]) -> dict[Place, list[Place]]:
    """Return begin and end of the slices of each thread, which nest."""
    found: defaultdict[Place, list[Place]] = defaultdict(list)
    for event in slices:
        begin, took = nanoseconds(event["ts"]), nanoseconds(event["dur"])
        assert begin >= 0 <= took, event
        assert isinstance(event["args"], dict), event
        found[event["pid"], event["tid"]].append((begin, begin + took))
    for place, spans in found.items():
        open_ends: list[int] = []
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1], f"overlap at {place}: {begin}"
            open_ends.append(end)
    return found


def _check_arrows(
    ends: Iterable[dict[str, Any]], slices: dict[Place, list[Place]]
) -> None:
    """Each arrow has two ends, in slices, and goes forward in time."""
    arrows: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
    for event in ends:
        own = arrows[event["cat"], event["name"], event["id"]]
        assert event["ph"] not in own, event
        own[event["ph"]] = event
        time = nanoseconds(event["ts"])
        spans = slices[event["pid"], event["tid"]]
        # Of a task that took no time the arrows are a nanosecond beside it.
        assert any(
            begin - (begin == end) <= time <= end + (begin == end)
            for begin, end in spans
        ), event
        assert event.get("bp", "e") == "e", event
    for arrow in arrows.values():
        assert arrow.keys() == {"s", "f"}, arrow
        assert nanoseconds(arrow["s"]["ts"]) <= nanoseconds(arrow["f"]["ts"]), arrow
