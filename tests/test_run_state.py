"""The steps to the end, by time and by signals."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mpitasks.scheduler.run_state import RunState, Step, choose_margin

IDLE = {"running": 0, "queued": 0, "stranded": False, "waiting": False}
BUSY = {"running": 2, "queued": 9, "stranded": False, "waiting": True}
STRANDED = {"running": 0, "queued": 9, "stranded": True, "waiting": False}
UNRESPONSIVE = {**STRANDED, "waiting": True}


def run_state() -> RunState:
    """A job that ends at 1000, with a margin of 60 (so 10 for the end itself)."""
    return RunState(1000.0, 60.0, 10.0)


@pytest.mark.parametrize(
    ("now", "counts", "step"),
    [
        (0.0, IDLE, Step.GO),
        (939.9, BUSY, Step.GO),
        (500.0, STRANDED, Step.GO),  # the script may still submit what fits
        (500.0, UNRESPONSIVE, Step.INTERRUPT),
        (940.0, IDLE, Step.DRAIN),  # the script may use up the time that is left
        (940.0, BUSY, Step.DRAIN),
        (989.9, BUSY, Step.DRAIN),
        (940.0, STRANDED, Step.HALT),
        (940.0, UNRESPONSIVE, Step.INTERRUPT),
        (990.0, IDLE, Step.INTERRUPT),
        (990.0, BUSY, Step.INTERRUPT),
        (995.0, IDLE, Step.ABORT),
        (2000.0, BUSY, Step.ABORT),
    ],
)
def test_by_time(now: float, counts: dict[str, Any], step: Step) -> None:
    assert run_state().step(now, **counts) is step


@pytest.mark.parametrize(
    ("seconds", "interrupts", "aborts"),
    [(30.0, 110.0, 120.0), (12.0, 108.0, 110.0), (2.0, 100.5, 101.25)],
)
def test_a_batch_system_that_kills(
    seconds: float, interrupts: float, aborts: float
) -> None:
    asked = run_state()
    asked.ask(100.0)
    asked.bound_grace(seconds)
    assert asked.step(interrupts - 0.1, **BUSY) is Step.DRAIN
    assert asked.step(interrupts, **BUSY) is Step.INTERRUPT
    assert asked.step(aborts - 0.1, **BUSY) is Step.INTERRUPT
    assert asked.step(aborts, **BUSY) is Step.ABORT


def test_an_end_that_moves() -> None:
    moved = run_state()
    moved.move_end(2000.0, 30.0)
    assert (moved.drains_at, moved.interrupts_at) == (1970.0, 1990.0)
    assert moved.step(995.0, **BUSY) is Step.GO


@pytest.mark.parametrize(
    ("now", "counts", "step"),
    [
        (100.0, IDLE, Step.INTERRUPT),  # nothing to wait for
        (100.0, BUSY, Step.DRAIN),
        (109.9, BUSY, Step.DRAIN),
        (110.0, BUSY, Step.INTERRUPT),
        (100.0, STRANDED, Step.HALT),  # the script has the grace as well
        (110.0, STRANDED, Step.INTERRUPT),
        (100.0, UNRESPONSIVE, Step.INTERRUPT),
        (119.9, IDLE, Step.INTERRUPT),
        (120.0, IDLE, Step.ABORT),
    ],
)
def test_by_signal(now: float, counts: dict[str, Any], step: Step) -> None:
    asked = run_state()
    asked.ask(100.0)
    assert asked.step(now, **counts) is step


def test_a_signal_close_to_the_end_gives_no_more_time() -> None:
    asked = run_state()
    asked.ask(985.0)
    assert asked.step(985.0, **BUSY) is Step.DRAIN
    assert asked.step(990.0, **BUSY) is Step.INTERRUPT
    assert asked.step(995.0, **BUSY) is Step.ABORT


def test_the_first_signal_counts() -> None:
    asked = run_state()
    asked.ask(100.0)
    asked.ask(109.0)
    assert asked.asked == asked.drains_at == 100.0


def test_without_an_end_only_signals_matter() -> None:
    endless = RunState(math.inf, 0.0, 10.0)
    assert endless.step(1e12, **BUSY) is Step.GO
    assert endless.drains_at == math.inf
    endless.ask(5.0)
    assert endless.step(15.0, **BUSY) is Step.INTERRUPT
    assert endless.step(25.0, **BUSY) is Step.ABORT


def test_without_a_margin_it_ends_at_the_end() -> None:
    sudden = RunState(1000.0, 0.0, 10.0)
    assert sudden.step(999.9, **BUSY) is Step.GO
    assert sudden.step(1000.0, **BUSY) is Step.ABORT


@pytest.mark.parametrize(
    ("seconds", "margin"), [(86400.0, 60.0), (600.0, 30.0), (20.0, 1.0), (-5.0, 0.0)]
)
def test_the_margin_suits_the_time(seconds: float, margin: float) -> None:
    assert choose_margin(seconds) == margin


def test_steps_only_go_forward() -> None:
    by_time = run_state()
    for counts in (IDLE, BUSY, STRANDED, UNRESPONSIVE):
        steps = [by_time.step(now / 2, **counts) for now in range(2100)]
        assert steps == sorted(steps)
