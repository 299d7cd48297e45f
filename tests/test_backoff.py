"""The ladder of waiting: which step comes when, on a clock of the test's own."""

from __future__ import annotations

import os

import pytest

from mpitasks.wire import backoff
from mpitasks.wire.backoff import SILENT_POLLS, Backoff


class Ladder:
    """A Backoff whose clock stands still and whose steps are recorded."""

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
        self.look_often()

    def look_often(self) -> None:
        """Look so often in vain that the time alone decides on the next step."""
        for _ in range(SILENT_POLLS - 1):
            self.backoff.pause(1.0)

    def doze(self, _: float) -> bool:
        if self.can_doze:
            self.steps.append("doze")
        return self.can_doze

    def step(self, after: float) -> str:
        """Return what it does when nothing has come for so many seconds."""
        self.now = 1.0 + after
        step = self.look()
        if step == "doze":
            self.look_often()
        return step

    def look(self) -> str:
        """Return what it does after a look in vain."""
        self.steps.clear()
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


@pytest.mark.parametrize("spare_cores", [False, True])
def test_it_looks_again_and_again_before_it_dozes_and_after(
    monkeypatch: pytest.MonkeyPatch, *, spare_cores: bool
) -> None:
    """What rings may not be there yet at the first look."""
    ladder = Ladder(monkeypatch, spare_cores=spare_cores, can_doze=True)
    ladder.backoff.idle_since = 0.0
    assert ladder.look() == "spin"  # starts the clock anew
    ladder.now += 10.0
    assert [ladder.look() for _ in range(SILENT_POLLS - 2)] == ["yield"] * (
        SILENT_POLLS - 2
    )
    for _ in range(3):
        assert ladder.look() == "doze"
        assert [ladder.look() for _ in range(SILENT_POLLS - 1)] == ["yield"] * (
            SILENT_POLLS - 1
        )


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
