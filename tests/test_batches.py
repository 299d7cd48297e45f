"""What a worker keeps of the functions and globals that it was sent."""

from __future__ import annotations

from collections import deque

import pytest

from mpitasks.master import batches
from mpitasks.master.batches import _Kept
from mpitasks.master.script_state import Definition

DROPPED: deque[int] = deque()


def definition(number: int, *needs: Definition) -> Definition:
    made = Definition(number, None, b"frame", [], DROPPED)
    made.needs = needs
    return made


def filled(count: int, *needs: Definition) -> _Kept:
    kept = _Kept()
    for need in needs:
        kept.add(need)
    for number in range(100, 100 + count):
        kept.add(definition(number, *needs))
    return kept


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "KEPT_DEFINITIONS", 10)


def test_the_oldest_go_first_and_what_is_needed_stays() -> None:
    shared = definition(1)
    kept = filled(12, shared)
    kept.make_room({111})
    assert kept.forget == [100, 101, 102]
    assert {1, 111} <= kept.known.keys()
    assert len(kept.known) == 10
    assert kept.nbytes == 10 * len(b"frame")


def test_who_needs_what_is_forgotten_is_forgotten_too() -> None:
    first, second = definition(1), definition(2)
    kept = filled(4, first)
    kept.add(second)
    for number in range(200, 206):
        kept.add(definition(number, second))
    kept.make_room({205})
    assert kept.forget == [1, 100, 101, 102, 103]
    assert 2 in kept.known


def test_nothing_goes_if_all_is_used() -> None:
    kept = filled(12)
    kept.make_room({*kept.known})
    assert kept.forget == []
