"""Times and sizes on the command line, and what a process knows of the job's end."""

from __future__ import annotations

import math

import pytest

from mpitasks import walltime
from mpitasks.errors import ConfigurationError
from mpitasks.launch.duration import parse_duration
from mpitasks.values import parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("5:30", 330.0),
        ("2:00:00", 7200.0),
        ("1-12", 129600.0),
        ("1-12:30", 131400.0),
        ("1-00:00:01", 86401.0),
        ("90.0", 90.0),  # as -n passes it on
    ],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "1h", "1:2:3:4", "UNLIMITED", "1-", ":5"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no length of time: give seconds"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("1000", 1000), ("500M", 500 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30)],
)
def test_amounts_of_memory(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "0", "-5", "2X", "G", "0.1"])
def test_other_words_are_no_memory(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no amount of memory: give bytes"):
        parse_size(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to set: the only item is the time."""
    now = [1000.0]
    monkeypatch.setattr(walltime.time, "monotonic", lambda: now[0])
    for name, value in {"_end": math.inf, "_margin": 0.0, "_stopping": False}.items():
        monkeypatch.setattr(walltime, name, value)
    return now


def test_without_an_end(clock: list[float]) -> None:
    assert walltime.time_left() == math.inf
    assert not walltime.stopping()
    walltime.note_stop()
    assert walltime.stopping()


def test_towards_the_end(clock: list[float]) -> None:
    walltime.foresee(100.0, 10.0)
    assert (walltime.time_left(), walltime.stopping()) == (100.0, False)
    clock[0] += 90.0
    assert (walltime.time_left(), walltime.stopping()) == (10.0, True)
    clock[0] += 90.0
    assert (walltime.time_left(), walltime.stopping()) == (0.0, True)
