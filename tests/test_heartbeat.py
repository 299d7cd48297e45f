"""Who counts as lost for being silent, in simulated time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpitasks.scheduler.heartbeat import (
    AWAY_SECONDS,
    PERIOD_SECONDS,
    SILENT_SECONDS,
    Findings,
    SilenceMonitor,
)


def looks(
    silence: SilenceMonitor,
    count: int,
    able: set[int],
    heard: set[int],
    start: float = 0.0,
) -> list[Findings]:
    """Look so many times, a period apart, at the same picture."""
    times = [start + n * PERIOD_SECONDS for n in range(count)]
    return [silence.look(now, able, heard) for now in times]


def test_who_answers_is_not_asked() -> None:
    found = looks(SilenceMonitor(), 20, {1, 2}, {1, 2})
    assert found == [Findings([], [])] * 20


def test_who_is_silent_is_asked_and_then_lost() -> None:
    found = looks(SilenceMonitor(), 6, {1, 2}, {2})
    patient = int(SILENT_SECONDS / PERIOD_SECONDS)
    assert found[:patient] == [Findings([1], [])] * patient
    assert found[patient] == Findings([], [1])


def test_who_answers_late_is_forgiven() -> None:
    silence = SilenceMonitor()
    assert looks(silence, 5, {1}, set())[-1] == Findings([1], [])
    assert silence.look(5 * PERIOD_SECONDS, {1}, {1}) == Findings([], [])
    again = looks(silence, 5, {1}, set(), start=6 * PERIOD_SECONDS)
    assert again == [Findings([1], [])] * 5


def test_who_cannot_answer_is_left_alone() -> None:
    silence = SilenceMonitor()
    looks(silence, 4, {1}, set())
    assert looks(silence, 100, set(), set(), start=4 * PERIOD_SECONDS)[-1].lost == []
    # And when it can again, its time begins anew.
    found = looks(silence, 5, {1}, set(), start=104 * PERIOD_SECONDS)
    assert found == [Findings([1], [])] * 5


def test_our_own_absence_is_nobodys_silence() -> None:
    silence = SilenceMonitor()
    looks(silence, 3, {1}, set())
    later = 2 * PERIOD_SECONDS + AWAY_SECONDS + 100.0
    assert silence.look(later, {1}, set()) == Findings([1], [])


PICTURES = st.lists(
    st.tuples(
        st.floats(0.1, 3 * AWAY_SECONDS),
        st.sets(st.integers(1, 4)),
        st.sets(st.integers(1, 4)),
    ),
    max_size=60,
)


@given(PICTURES)
def test_only_long_silence_is_loss(
    pictures: list[tuple[float, set[int], set[int]]],
) -> None:
    """Whoever is lost was able and silent at every look of the last seconds."""
    silence = SilenceMonitor()
    now = 0.0
    history: list[tuple[float, set[int], set[int]]] = []
    for step, able, heard in pictures:
        now += step
        history.append((now, able, heard))
        ask, lost = silence.look(now, able, heard)
        assert set(ask) | set(lost) == able - heard
        assert not set(ask) & set(lost)
        for rank in lost:
            silent = [t for t, a, h in history if rank in a and rank not in h]
            others = [t for t, a, h in history if rank not in a or rank in h]
            since = min(t for t in silent if t > max(others, default=-1.0))
            assert now - since >= SILENT_SECONDS
