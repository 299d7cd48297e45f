"""A trace: what a recording has, in the Trace Event format of Chromium.

Perfetto (https://ui.perfetto.dev) and chrome://tracing open it. Each host is a process
and each rank a thread. Events and their fields are those of "Trace Event Format"
(Chromium, catapult): X is something that took a while, C a counter, i an instant, s and
f the two ends of an arrow, M a name. Times are in microseconds.

`otherData` has the summary of the run, of which `mpitasks report` makes a page.
"""

# ruff: noqa: PTH123

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import ConfigurationError
from mpitasks.files import open_regular, replacing

if TYPE_CHECKING:
    from mpitasks.observe.recording import Recording
    from mpitasks.observe.slices import Unfinished

__all__ = ["FORMAT", "MARK", "events_of", "is_trace", "read", "write"]

MARK = "mpitasks_trace"
"""The argument of the first event that makes it a trace of ours, with its format."""

FORMAT = 1

MODE = 0o644
MOST_BYTES = 1 << 30
"""A trace that is larger, unpacked, is none of ours."""

GZIP = b"\x1f\x8b"


def events_of(
    recording: Recording,
    hosts: Mapping[int, str],
    program: str,
    unfinished: Iterable[Unfinished] = (),
) -> Iterator[dict[str, Any]]:
    """Yield the events of a trace.

    Args:
        recording: What happened.
        hosts: Where each rank is, rank 0 too.
        program: What was run.
        unfinished: What workers were at in the end.
    """
    numbers = {host: at for at, host in enumerate(dict.fromkeys(hosts.values()), 1)}
    pids = {rank: numbers[host] for rank, host in hosts.items()}
    master = pids[0]
    for host, pid in numbers.items():
        args = {MARK: FORMAT, "name": f"{host} {program[:200]}"}
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": args}
    for rank, pid in pids.items():
        place = {"ph": "M", "pid": pid, "tid": rank}
        name = "rank 0, the script" if rank == 0 else f"rank {rank}"
        yield {**place, "name": "thread_name", "args": {"name": name}}
        yield {**place, "name": "thread_sort_index", "args": {"sort_index": rank}}
    for rank, each in recording.slices():
        args = {}
        if each.id is not None:
            args["task"] = each.id
        elif each.item is not None:
            args["item"] = each.item
        if each.items > 1:
            args["tasks"] = each.items
            args["seconds"] = round(each.seconds, 9)
        for name, value in (("failed", each.failed), ("inputs", each.inputs)):
            if value:
                args[name] = value
        if each.attempt > 1:
            args["attempt"] = each.attempt
        yield {
            "ph": "X",
            "cat": "task",
            "name": each.label,
            "pid": pids[rank],
            "tid": rank,
            **_span(each.begin, each.end),
            "args": args,
        }
    for left in unfinished:
        end = max(recording.end - recording.start, left.begin)
        yield {
            "ph": "X",
            "cat": "unfinished",
            "name": left.label,
            "pid": pids[left.rank],
            "tid": left.rank,
            **_span(left.begin, end),
            "args": {"unfinished": left.held},
        }
    for number, arrow in enumerate(recording.arrows.copy()):
        base = {"cat": "result", "name": "result", "id": number}
        source, target = pids[arrow.source], pids[arrow.target]
        # Within the slices, so that it is known which ones are meant.
        sent = max(_nanoseconds(arrow.sent) - 1, 0)
        taken = _nanoseconds(arrow.taken) + 1
        yield {
            **base,
            "ph": "s",
            "pid": source,
            "tid": arrow.source,
            "ts": sent / 1000,
        }
        yield {
            **base,
            "ph": "f",
            "bp": "e",
            "pid": target,
            "tid": arrow.target,
            "ts": taken / 1000,
        }
    for moment in recording.instants.copy():
        yield {
            "ph": "i",
            "s": "t" if moment.rank else "g",
            "cat": "run",
            "name": moment.name,
            "pid": pids[moment.rank],
            "tid": moment.rank,
            "ts": _microseconds(moment.time),
        }
    before = None
    for sample in recording.samples.copy():
        base = {"ph": "C", "pid": master, "ts": _microseconds(sample.time)}
        counts = {"queued": sample.queued, "running": sample.running}
        yield {**base, "name": "tasks", "args": counts}
        yield {**base, "name": "bytes moved", "args": {"bytes": sample.nbytes}}
        if before is not None and sample.time > before.time:
            load = (sample.cpu - before.cpu) / (sample.time - before.time)
            args = {"load": round(100 * load, 1)}
            yield {**base, "name": "rank 0, % of a core", "args": args}
        before = sample


def write(path: str, events: Sequence[dict[str, Any]], summary: Any) -> None:
    """Write a trace, packed if the name ends with ".gz".

    Args:
        path: The file. A trace of that name is replaced.
        events: The events.
        summary: What is known of the run as a whole.

    Raises:
        OSError: It cannot be written, or something else is there.
    """
    whole = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": summary,
    }
    content = json.dumps(whole, separators=(",", ":")).encode()
    if path.endswith(".gz"):
        content = gzip.compress(content, compresslevel=3)
    with replacing(path, is_trace, mode=MODE) as file:
        file.write(content)


def is_trace(head: bytes) -> bool:
    """Whether a file that begins so is a trace of ours."""
    if head.startswith(GZIP):
        try:
            head = zlib.decompressobj(31).decompress(head, 1 << 12)
        except zlib.error:
            return False
    return head.startswith(b'{"traceEvents"') and MARK.encode() in head[: 1 << 12]


def read(path: str) -> dict[str, Any]:
    """Read a trace, which anybody may have written.

    Raises:
        ConfigurationError: It is not there, cannot be read, or is none.
    """
    try:
        with open(open_regular(path), "rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            source: Any = gzip.GzipFile(fileobj=file) if packed else file
            content = source.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"no trace: {error}") from error
    try:
        if len(content) > MOST_BYTES or not is_trace(content[: 1 << 16]):
            raise ValueError
        trace = json.loads(content)
        if not isinstance(trace["otherData"], dict):
            raise TypeError
        version = trace["traceEvents"][0]["args"][MARK]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise ConfigurationError(f"{path} is no trace of mpitasks") from None
    if version != FORMAT:
        raise ConfigurationError(
            f"{path} is a trace of format {version!r:.20}, and this mpitasks reads "
            f"{FORMAT}: look at it with the mpitasks that has written it"
        )
    found: dict[str, Any] = trace
    return found


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _microseconds(seconds: float) -> float:
    return _nanoseconds(seconds) / 1000


def _span(begin: float, end: float) -> dict[str, float]:
    """Return when something began, and how long it took.

    Slices that follow each other must not overlap by a nanosecond, so both ends are
    rounded before they are subtracted: Perfetto drops what overlaps.
    """
    first, last = _nanoseconds(begin), _nanoseconds(end)
    return {"ts": first / 1000, "dur": (last - first) / 1000}
