"""The trace: what is in it, what it replaces, and what is refused as none."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpitasks.errors import ConfigurationError
from mpitasks.observe.trace import events_of, is_trace, read, write
from mpitasks.scheduler.events import InputReady
from test_recording import Run, task
from trace_format import check_format

HOSTS = {0: "node1", 1: "node1", 2: "node2"}


def recorded() -> Run:
    run = Run(2)
    waiting = task(2, "sum", inputs=(0,))
    run.submit(0.0, task(0), task(1), waiting)
    run.done(1.0, run.holder(0), 0, 1.0)
    run.at(1.0, InputReady(0, [waiting]))
    run.done(2.0, run.holder(1), 1, 2.0)
    run.done(3.0, run.holder(2), 2, 1.5)
    return run


def events() -> list[dict[str, Any]]:
    return list(events_of(recorded().recording, HOSTS, "fit.py"))


def of(kind: str) -> list[dict[str, Any]]:
    return [event for event in events() if event["ph"] == kind]


def test_a_process_for_each_host_and_a_thread_for_each_rank() -> None:
    names = {
        (event["pid"], event.get("tid")): event["args"].get("name")
        for event in of("M")
        if event["name"] != "thread_sort_index"
    }
    assert names == {
        (1, None): "node1 fit.py",
        (2, None): "node2 fit.py",
        (1, 0): "rank 0, the script",
        (1, 1): "rank 1",
        (2, 2): "rank 2",
    }


def test_tasks_are_where_they_ran() -> None:
    tasks = of("X")
    assert sorted(event["name"] for event in tasks) == ["fit", "fit", "sum"]
    (last,) = (event for event in tasks if event["name"] == "sum")
    assert (last["ts"], last["dur"]) == (1_500_000.0, 1_500_000.0)
    assert last["args"] == {"task": 2, "inputs": 1}
    assert {(event["pid"], event["tid"]) for event in tasks} <= {(1, 1), (2, 2)}


def test_an_arrow_begins_and_ends_in_its_tasks() -> None:
    (begin,), (end,) = of("s"), of("f")
    assert begin["id"] == end["id"]
    assert end["bp"] == "e"
    slices = {event["args"]["task"]: event for event in of("X")}
    for arrow, own in ((begin, slices[0]), (end, slices[2])):
        assert (arrow["pid"], arrow["tid"]) == (own["pid"], own["tid"])
        assert own["ts"] <= arrow["ts"] <= own["ts"] + own["dur"]


def test_counters() -> None:
    counters = [event for event in of("C") if event["name"] == "tasks"]
    assert counters[0]["args"] == {"queued": 1, "running": 2}
    assert counters[-1]["args"] == {"queued": 0, "running": 0}


def formed(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return events as a trace."""
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {}}


SECONDS = st.floats(0, 1e6) | st.sampled_from([1e-9, 0.1, 1 / 3])


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=2, max_size=30))
def test_any_run_is_shown_whole(steps: list[tuple[float, float]]) -> None:
    """Whatever clocks say: tasks may have taken longer than there was time."""
    run = Run(2)
    now = 0.0
    pairs = zip(steps[::2], steps[1::2], strict=False)
    for id, ((wait, took), (more, later)) in enumerate(pairs):
        waiting = task(2 * id + 1, inputs=(2 * id,))
        run.submit(now, task(2 * id), waiting)
        now += wait
        run.done(now, run.holder(2 * id), 2 * id, took)
        run.at(now, InputReady(2 * id, [waiting]))
        now += more
        run.done(now, run.holder(2 * id + 1), 2 * id + 1, later)
    found = list(events_of(run.recording, HOSTS, "fit.py"))
    check_format(formed(found))
    kinds = [event["ph"] for event in found]
    assert kinds.count("X") == len(steps) // 2 * 2


DAMAGE: list[Callable[[dict[str, dict[str, Any]]], object]] = [
    lambda of: of["X"].update(dur=1_500_000.001),
    lambda of: of["X"].update(ts=-1.0),
    lambda of: of["X"].update(dur=float("nan")),
    lambda of: of["X"].update(tid=7),
    lambda of: of["X"].pop("name"),
    lambda of: of["s"].update(id=77),
    lambda of: of["f"].update(ts=0.0),
    lambda of: of["f"].update(bp="x"),
    lambda of: of["C"].update(args={"queued": "2"}),
    lambda of: of["M"].update(pid=9),
    lambda of: of["M"].update(name="process"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_check_sees_what_is_wrong(damage: Any) -> None:
    sound = events()
    check_format(formed(sound))
    of: dict[str, dict[str, Any]] = {}
    threads = Counter(event["tid"] for event in sound if event["ph"] == "X")
    for event in sound:
        if event["ph"] != "X" or threads[event["tid"]] > 1:  # another one follows
            of.setdefault(event["ph"], event)
    damage(of)
    with pytest.raises((AssertionError, ValueError, KeyError)):
        check_format(formed(sound))


@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_a_trace_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for _ in range(2):  # the second replaces the first
        write(str(path), events(), {"tasks": 3})
    trace = read(str(path))
    assert trace["traceEvents"] == events()
    assert trace["otherData"] == {"tasks": 3}
    assert list(tmp_path.iterdir()) == [path]
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith("gz")


@pytest.mark.parametrize(
    "content",
    [b"results of a year", gzip.compress(b"results", mtime=0), b"\x1f\x8b junk",
     b'{"traceEvents":[{"name":"of another program"}]}'],
)  # fmt: skip
def test_other_files_are_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json.gz"
    path.write_bytes(content)
    with pytest.raises(FileExistsError, match="was not written by mpitasks"):
        write(str(path), events(), {})
    assert path.read_bytes() == content
    with pytest.raises(ConfigurationError, match="no trace"):
        read(str(path))


def whole() -> bytes:
    content = {"traceEvents": events(), "otherData": {}}
    return json.dumps(content, separators=(",", ":")).encode()


@given(
    st.binary()
    | st.integers(0, len(whole()) - 1).map(lambda cut: whole()[:cut])
    | st.integers(0, 400).map(lambda cut: gzip.compress(whole())[:cut])
    | st.sampled_from([b'{"traceEvents":' + b"[" * 100_000 + b"mpitasks_trace"])
)
def test_any_content_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("trace") / "a"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no trace"):
        read(str(path))


def test_a_trace_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    changed = events()
    changed[0]["args"]["mpitasks_trace"] = 99
    write(str(path), changed, {})
    with pytest.raises(ConfigurationError, match="of format 99, and this mpitasks"):
        read(str(path))


def test_a_long_program_hides_no_mark() -> None:
    recording = recorded().recording
    content = json.dumps(
        {"traceEvents": list(events_of(recording, HOSTS, "x" * 100_000))},
        separators=(",", ":"),
    )
    assert is_trace(content.encode())
