"""docs/design.md has the tables of states and the messages as they are in the code."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mpitasks.records import names_of
from mpitasks.scheduler import mailboxes, transitions
from mpitasks.scheduler.events import TaskState, WorkerState
from mpitasks.wire import messages

DESIGN = (Path(__file__).parents[1] / "docs" / "design.md").read_text()


def _rows(first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with these words."""
    table = DESIGN[DESIGN.index(first) :].split("\n\n")[0]
    lines = [line.strip("|").split("|") for line in table.splitlines()]
    return [[cell.strip() for cell in line] for line in lines if "---" not in line[0]]


@pytest.mark.parametrize(
    ("first", "states", "moves"),
    [
        ("| state | meaning |", TaskState, transitions.TASK_TRANSITIONS),
        ("| state | stop |", WorkerState, transitions.WORKER_TRANSITIONS),
        ("| actor | send |", mailboxes.ActorState, mailboxes.ACTOR_TRANSITIONS),
    ],
)
def test_states(
    first: str, states: type[enum.IntEnum], moves: Mapping[Any, Mapping[Any, Any]]
) -> None:
    head, *rows = _rows(first)
    assert head[-len(moves) :] == [event.name.lower() for event in moves]
    assert [row[0] for row in rows] == [state.name for state in states]
    for row, state in zip(rows, states, strict=True):
        cells = [cell.partition(" ")[0] for cell in row[-len(moves) :]]
        follows = [
            table[state].name if state in table else "-" for table in moves.values()
        ]
        assert cells == follows, state


def test_messages() -> None:
    shown = {name.strip("`"): fields for name, _, fields in _rows("| message |")[1:]}
    assert shown.keys() == {kind.__name__ for kind in messages._KINDS}
    for kind in messages._KINDS:
        names = re.split(r"[;:]", shown[kind.__name__])[0]
        fields = [name for name in names_of(kind) if name != "buffers"]
        assert re.findall(r"\w+", names) == fields, kind
