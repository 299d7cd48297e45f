"""What tasks replace in their process is noticed, and put back when a rank ends."""

from __future__ import annotations

import builtins
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mpitasks.runner import damage
from mpitasks.wire.messages import Shutdown
from working import Running


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Leave nothing to be put back in the process of the tests."""
    yield
    damage._memory.clear()
    damage._limits.clear()


def test_what_was_replaced_or_taken_away_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock, sleep = threading.Lock, time.sleep
    damage.remember()
    monkeypatch.setattr(threading, "Lock", None)
    monkeypatch.delattr(time, "sleep")
    monkeypatch.setattr(threading, "of_the_task", 1, raising=False)
    monkeypatch.delitem(sys.modules, "pickle")
    assert damage.put_back() == ["threading.Lock", "time.sleep", "sys.modules"]
    assert (threading.Lock, time.sleep) == (lock, sleep)
    assert threading.of_the_task == 1  # type: ignore[attr-defined]
    assert "pickle" in sys.modules
    assert damage.put_back() == []


def test_what_was_not_remembered_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "Event", None)
    assert damage.put_back() == []
    assert threading.Event is None


def test_replaced_builtins_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert damage.replaced() == []
    before = builtins.len
    builtins.len = lambda _: 1  # type: ignore[assignment]
    found = damage.replaced()
    builtins.len = before
    assert found == ["builtins.len"]


@pytest.mark.parametrize("own", [True, False])
def test_a_rank_puts_back_what_its_tasks_replaced_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, *, own: bool
) -> None:
    """Not where the process is the script's, which may have replaced it itself."""
    damage.remember()
    master = Running()
    master.worker._has_process = own
    monkeypatch.setattr(threading, "Timer", None)
    master.end.send(1, Shutdown())
    master.thread.join(120.0)
    assert (threading.Timer is None) is not own
