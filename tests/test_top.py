"""What `mpitasks top` shows of a status, and which status files it can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mpitasks.errors import ConfigurationError
from mpitasks.observe import status as statuses
from mpitasks.observe.status import Details, Meter, Status
from mpitasks.records import as_dict, replace
from mpitasks.scheduler.statistics import Statistics
from mpitasks.tools.top import command, picture

HELD = [(1, "node1", "fit", 3, 70), (2, "node2", "simulate", 1, 71)]


def meter() -> Meter:
    return Meter(
        script="fit.py",
        host="node1",
        pid=7,
        job=None,
        end=None,
        started=0.0,
        period=2.0,
    )


def counts(**more: int) -> Statistics:
    fields = {"workers": 3, "queued": 50, "assigned": 4, "succeeded": 40}
    return Statistics(**{**fields, "failed": 10, "cancelled": 0, **more})


def status(held: Any = HELD, kept: Any = None, **more: int) -> Status:
    made = meter()
    details = Details(held, kept or {})
    made.take(counts(), 100.0, state="running", details=details)
    return made.take(counts(**more), 104.0, state="running", details=details)


def shown(of: Status, now: float = 105.0, width: int = 80, **more: Any) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(picture.picture(of, now, width=width, **{"height": None, **more}))
    return [line.rstrip() for line in capture.get().splitlines()]


def table(lines: list[str]) -> list[str]:
    """Return the lines of the table, without the one below."""
    (first,) = [at for at, line in enumerate(lines) if line.startswith("rank ")]
    return lines[first:-1]


def test_it_tells_what_workers_hold_and_for_how_long() -> None:
    lines = shown(status())
    assert lines[0] == "fit.py: running for 1:45 min on 3 workers"
    assert lines[2].startswith("tasks: 40 done, 4 running, 10 failed, 50 waiting")
    assert [line.split() for line in table(lines)] == [
        ["rank", "host", "task", "held", "for"],
        ["1", "node1", "fit", "3", "4", "s"],
        ["2", "node2", "simulate", "1", "4", "s"],
    ]
    assert lines[-1] == "2 of 3 workers hold tasks"


def test_a_task_that_is_new_begins_at_zero() -> None:
    made = meter()
    made.take(counts(), 100.0, state="running", details=Details(HELD))
    other = [(1, "node1", "fit", 3, 70), (2, "node2", "simulate", 1, 99)]
    now = made.take(counts(), 104.0, state="running", details=Details(other))
    assert [row[-1] for row in now.held] == [4.0, 0.0]


def test_those_that_have_held_longest_come_first_where_there_is_no_room() -> None:
    made = meter()
    first = [(rank, "n", f"task{rank}", 1, rank) for rank in range(1, 10)]
    made.take(counts(), 0.0, state="running", details=Details(first[4:5]))
    now = made.take(counts(), 9.0, state="running", details=Details(first))
    lines = shown(now, now=9.0, height=11)
    assert table(lines)[1].split()[:3] == ["5", "n", "task5"]
    assert lines[-1] == "9 of 9 workers hold tasks, 2 are shown"
    assert len(lines) <= 11


def test_many_workers_make_no_large_file() -> None:
    made = meter()
    held = [(rank, "n", "f", 1, rank) for rank in range(1000)]
    made.take(counts(), 0.0, state="running", details=Details(held[-2:]))
    now = made.take(counts(), 5.0, state="running", details=Details(held))
    assert len(now.held) == statuses.MOST_HELD
    assert [row[0] for row in now.held[-2:]] == [998, 999]


def test_kept_bytes_are_told_by_host() -> None:
    lines = shown(status(kept={"node2": 3 << 30, "node1": 5 << 20, "node3": 0}))
    assert "kept results: 5 MiB on node1, 3.0 GiB on node2" in lines


def test_a_narrow_terminal_leaves_columns_out() -> None:
    rows = table(shown(status(), width=40))
    assert rows[0].split() == ["rank", "task", "for"]
    assert all(len(row) <= 40 for row in rows)


def test_texts_of_others_are_shown_as_they_stand() -> None:
    held = [(1, "no\x1b[2Jde", "[bold]fit\x07", 1, 70)]
    text = "\n".join(shown(status(held)))
    assert "[bold]fit\\x07" in text
    assert "\x1b" not in text


def test_a_run_that_is_over_has_no_workers() -> None:
    done = replace(status(), state="failed", code=3)
    lines = shown(done)
    assert lines[0].startswith("fit.py: failed with exit code 3")
    assert not any("rank" in line for line in lines)


def test_a_file_without_news_is_said_to_be_gone() -> None:
    assert "gone" in shown(status(), now=1000.0)[0]


def test_a_file_of_format_1_is_read(tmp_path: Path) -> None:
    fields = as_dict(status())
    for name in ("held", "kept"):
        del fields[name]
    path = tmp_path / "old.status"
    path.write_text(json.dumps({statuses.MARK: 1, **fields}))
    assert statuses.read(str(path)) == replace(status(), held=[], kept=[])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("held", {}),
        ("held", [[1, "n", "f", 1]]),
        ("held", [["1", "n", "f", 1, 0.0]]),
        ("held", [[1, "n", None, 1, 0.0]]),
        ("held", [[1, "n", "f", 1, 1e300]]),
        ("kept", [["n"]]),
        ("kept", [["n", 1.5]]),
        ("kept", "n"),
    ],
)
def test_rows_that_cannot_be_are_damage(
    tmp_path: Path, name: str, value: object
) -> None:
    path = tmp_path / "bad.status"
    fields = {**as_dict(status()), name: value}
    path.write_text(json.dumps({statuses.MARK: statuses.FORMAT, **fields}))
    with pytest.raises(ConfigurationError, match=f"damaged: {name} is"):
        statuses.read(str(path))


def test_without_a_terminal_it_prints_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.status"
    statuses.write(str(path), status())
    command.main(command.parse([str(path)]))
    assert capsys.readouterr().out.startswith("fit.py: ")
