"""The background thread: rests as the others allow, and is woken when it must turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from mpitasks.master.background import (
    ASLEEP,
    AWAKE,
    DEEP,
    LONGEST_NAP_SECONDS,
    NAP_SECONDS,
    NAPPING,
    Background,
)


class FakePump:
    """Stands for the pump: what the thread looks at, and a count of what it does."""

    def __init__(self) -> None:
        self.outstanding = 1
        self.turns = 0
        self.drives = 0
        self.driven = False
        self.nudged = threading.Semaphore(0)
        self.dozed = threading.Semaphore(0)

    def nudge(self) -> bool:
        self.turns += 1
        self.nudged.release()
        return False

    def doze(self) -> None:
        self.dozed.release()


@pytest.fixture
def pump() -> FakePump:
    return FakePump()


@pytest.fixture
def thread(pump: FakePump) -> Iterator[Background]:
    thread = Background(pump, enabled=True)  # type: ignore[arg-type]
    yield thread
    thread.stop()
    assert not thread.is_alive()


def reach(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    arrived = threading.Event()
    for _ in range(20_000):
        if done():
            return
        arrived.wait(0.001)
    raise AssertionError("it never was so")


def test_it_starts_at_the_first_wake(thread: Background) -> None:
    assert thread.rest == ASLEEP
    assert not thread.is_alive()
    thread.wake()
    assert thread.is_alive()


def test_a_disabled_one_seems_awake(pump: FakePump) -> None:
    thread = Background(pump, enabled=False)  # type: ignore[arg-type]
    assert thread.rest == AWAKE
    thread.stop()


def test_it_turns_while_nobody_else_does_and_then_dozes(
    thread: Background, pump: FakePump
) -> None:
    thread.wake()
    assert pump.nudged.acquire(timeout=20)
    assert pump.dozed.acquire(timeout=20)


def test_it_sleeps_when_nothing_is_outstanding(
    thread: Background, pump: FakePump
) -> None:
    pump.outstanding = 0
    thread.wake()
    reach(lambda: thread.rest == ASLEEP)
    while pump.nudged.acquire(blocking=False):
        pass
    pump.outstanding = 1
    thread.wake()
    assert pump.nudged.acquire(timeout=20)


def test_it_turns_before_it_sleeps_so_that_what_is_sent_is_let_go(
    thread: Background, pump: FakePump
) -> None:
    pump.outstanding = 0
    thread.wake()
    assert pump.nudged.acquire(timeout=20)
    reach(lambda: thread.rest == ASLEEP)


def test_it_turns_when_it_is_woken_for_work_that_is_done_already(
    thread: Background, pump: FakePump
) -> None:
    pump.outstanding = 0
    thread.wake()
    reach(lambda: thread.rest == ASLEEP)
    while pump.nudged.acquire(blocking=False):
        pass
    thread.wake()
    assert pump.nudged.acquire(timeout=20)


def test_it_does_not_turn_beside_a_drive_with_nothing_outstanding(
    thread: Background, pump: FakePump
) -> None:
    pump.outstanding = 0
    pump.driven = True
    thread.wake()
    reach(lambda: thread.rest == ASLEEP)
    assert pump.turns == 0


def test_it_rests_deeply_beside_one_long_drive_and_turns_after_it(
    thread: Background, pump: FakePump
) -> None:
    pump.driven = True
    pump.drives = 1
    thread.wake()
    reach(lambda: thread.rest == DEEP)
    assert not pump.nudged.acquire(blocking=False)
    pump.driven = False
    thread.wake()
    assert pump.nudged.acquire(timeout=20)


class Rests(Background):
    """Notes its rests instead of taking them, and stops after some."""

    def __init__(self, pump: FakePump, during: Callable[[], None], most: int) -> None:
        super().__init__(pump, enabled=True)  # type: ignore[arg-type]
        self.taken: list[tuple[int, float]] = []
        self.during = during
        self.most = most

    def _rest(self, how: int, nap: float = NAP_SECONDS) -> bool:
        self.taken.append((how, nap))
        self.during()
        self._stopped = len(self.taken) == self.most
        return False


def test_beside_one_short_drive_after_the_other_its_naps_get_longer(
    pump: FakePump,
) -> None:
    pump.driven = True

    def drive() -> None:
        pump.drives += 7  # one ends, and others begin, while it rests

    drive()
    thread = Rests(pump, drive, 6)
    thread.run()
    naps = [NAP_SECONDS, 2 * NAP_SECONDS, 4 * NAP_SECONDS]
    naps += [LONGEST_NAP_SECONDS] * 3
    assert thread.taken == [(NAPPING, nap) for nap in naps]
    assert pump.turns == 0


def test_its_naps_are_short_again_when_it_met_no_driver() -> None:
    class Driven(FakePump):
        def nudge(self) -> bool:
            self.driven = True
            return super().nudge()

    pump = Driven()
    pump.driven = True
    driven = iter([True, False, True, True])

    def drive() -> None:
        pump.drives += 1
        pump.driven = next(driven)

    drive()
    thread = Rests(pump, drive, 3)
    thread.run()
    assert [nap for _, nap in thread.taken] == [
        NAP_SECONDS,
        NAP_SECONDS,
        2 * NAP_SECONDS,
    ]
    assert pump.turns == 1


def test_it_naps_beside_short_drives_and_can_be_called_out_of_a_nap(
    thread: Background, pump: FakePump
) -> None:
    class Busy(FakePump):
        turns = property(lambda self: next(self.counter), lambda self, _: None)  # type: ignore[assignment]
        counter = iter(range(10**9))

    busy = Busy()
    napping = Background(busy, enabled=True)  # type: ignore[arg-type]
    napping.wake()
    reach(lambda: napping.rest == NAPPING)
    assert not busy.nudged.acquire(blocking=False)
    napping.stop()
    assert not napping.is_alive()


def test_it_can_be_stopped_from_any_rest(pump: FakePump) -> None:
    pump.outstanding = 0
    for depth in (NAPPING, ASLEEP):
        thread = Background(pump, enabled=True)  # type: ignore[arg-type]
        thread.wake()
        reach(lambda wanted=depth, own=thread: own.rest == wanted)  # type: ignore[misc]
        thread.stop()
        assert not thread.is_alive()
