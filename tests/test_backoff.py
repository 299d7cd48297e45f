"""The ladder of waiting: which step comes when, on a clock of the test's own."""

from __future__ import annotations

import os

import pytest

from mpitasks.wire import backoff
from mpitasks.wire.backoff import Backoff


class Ladder:
    """A Patience whose clock stands still and whose steps are recorded."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, spare_cores: bool, can_doze: bool
    ) -> None:
        self.now = 1.0
        self.steps: list[str] = []
        self.can_doze = can_doze
        monkeypatch.setattr(backoff, "perf_counter", lambda: self.now)
        monkeypatch.setattr(backoff, "sleep", lambda _: self.steps.append("nap"))
        monkeypatch.setattr(os, "sched_yield", lambda: self.steps.append("yield"))
        self.backoff = Backoff(spare_cores, self.doze)
        self.backoff.pause(1.0)  # starts the clock of this wait

    def doze(self, _: float) -> bool:
        if self.can_doze:
            self.steps.append("doze")
        return self.can_doze

    def step(self, after: float) -> str:
        """Return what it does when nothing has come for so many seconds."""
        self.steps.clear()
        self.now = 1.0 + after
        self.backoff.pause(1.0)
        return " ".join(self.steps) or "spin"


@pytest.mark.parametrize(
    ("spare_cores", "can_doze", "expected"),
    [
        (True, True, ["spin", "yield", "yield", "doze", "doze"]),
        (True, False, ["spin", "yield", "yield", "nap", "nap"]),
        (False, True, ["yield", "doze", "doze", "doze", "doze"]),
        (False, False, ["yield", "yield", "nap", "nap", "nap"]),
    ],
)
def test_steps(
    monkeypatch: pytest.MonkeyPatch,
    expected: list[str],
    *,
    spare_cores: bool,
    can_doze: bool,
) -> None:
    ladder = Ladder(monkeypatch, spare_cores=spare_cores, can_doze=can_doze)
    times = [20e-6, 100e-6, 1e-3, 3e-3, 10.0]
    assert [ladder.step(after) for after in times] == expected


def test_while_it_spins_a_message_is_looked_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ladder = Ladder(monkeypatch, spare_cores=True, can_doze=False)
    for after in (0.0, 20e-6):
        ladder.step(after)
        assert ladder.backoff.look_seconds > 0.0
    for after in (100e-6, 3e-3):
        ladder.step(after)
        assert ladder.backoff.look_seconds == 0.0
    ladder.backoff.idle_since = 0.0
    ladder.step(3e-3)
    assert ladder.backoff.look_seconds > 0.0


def test_on_a_crowded_node_it_is_looked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ladder = Ladder(monkeypatch, spare_cores=False, can_doze=False)
    for after in (0.0, 20e-6, 3e-3):
        ladder.step(after)
        assert ladder.backoff.look_seconds == 0.0


def test_what_happens_starts_the_ladder_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ladder = Ladder(monkeypatch, spare_cores=True, can_doze=True)
    assert ladder.step(1.0) == "doze"
    ladder.backoff.idle_since = 0.0
    assert ladder.step(1.0) == "spin"
    assert ladder.step(1.0 + 20e-6) == "spin"
