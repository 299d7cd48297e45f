"""The background thread: rests as the others allow, and is woken when it must turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from mpitasks.master.background import (
    ASLEEP,
    AWAKE,
    DEEP,
    IDLE,
    LIVELY_POLLS,
    LONGEST_NAP_SECONDS,
    LONGEST_PAUSE_SECONDS,
    NAP_SECONDS,
    NAPPING,
    PAUSE_SECONDS,
    Background,
    _Pauses,
)
from mpitasks.wire.backoff import SILENT_POLLS


class FakeEventLoop:
    """Stands for the event loop: what the thread looks at, and what it does."""

    def __init__(self) -> None:
        self.outstanding = 1
        self.polls = 0
        self.drives = 0
        self.driven = False
        self.doze_after = 1e-3
        self.rings = False
        self.has_inbox = False
        self.keeps_results = False
        self.nudged = threading.Semaphore(0)
        self.dozed = threading.Semaphore(0)

    def nudge(self) -> bool:
        self.polls += 1
        self.nudged.release()
        return False

    def doze(self) -> bool:
        self.dozed.release()
        return self.rings


@pytest.fixture
def event_loop() -> FakeEventLoop:
    return FakeEventLoop()


@pytest.fixture
def thread(event_loop: FakeEventLoop) -> Iterator[Background]:
    thread = Background(event_loop, enabled=True)  # type: ignore[arg-type]
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


def test_a_disabled_one_seems_awake(event_loop: FakeEventLoop) -> None:
    thread = Background(event_loop, enabled=False)  # type: ignore[arg-type]
    assert thread.rest == AWAKE
    thread.stop()


def test_it_turns_while_nobody_else_does_and_then_dozes(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    thread.wake()
    assert event_loop.nudged.acquire(timeout=120)
    assert event_loop.dozed.acquire(timeout=120)


def test_it_sleeps_when_nothing_is_outstanding(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    event_loop.outstanding = 0
    thread.wake()
    reach(lambda: thread.rest == ASLEEP)
    while event_loop.nudged.acquire(blocking=False):
        pass
    event_loop.outstanding = 1
    thread.wake()
    assert event_loop.nudged.acquire(timeout=120)


def test_it_turns_before_it_sleeps_so_that_what_is_sent_is_let_go(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    event_loop.outstanding = 0
    thread.wake()
    assert event_loop.nudged.acquire(timeout=120)
    reach(lambda: thread.rest == ASLEEP)


def test_it_turns_when_it_is_woken_for_work_that_is_done_already(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    event_loop.outstanding = 0
    thread.wake()
    reach(lambda: thread.rest == ASLEEP)
    while event_loop.nudged.acquire(blocking=False):
        pass
    thread.wake()
    assert event_loop.nudged.acquire(timeout=120)


def test_it_looks_now_and_then_while_workers_keep_results(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    event_loop.outstanding = 0
    event_loop.keeps_results = True
    thread.wake()
    reach(lambda: thread.rest == ASLEEP)
    while event_loop.nudged.acquire(blocking=False):
        pass
    for _ in range(2):  # nobody wakes it
        assert event_loop.nudged.acquire(timeout=120)


def test_it_does_not_turn_beside_a_drive_with_nothing_outstanding(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    event_loop.outstanding = 0
    event_loop.driven = True
    thread.wake()
    reach(lambda: thread.rest == ASLEEP)
    assert event_loop.polls == 0


def test_it_rests_deeply_beside_one_long_drive_and_turns_after_it(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    event_loop.driven = True
    event_loop.drives = 1
    thread.wake()
    reach(lambda: thread.rest == DEEP)
    assert not event_loop.nudged.acquire(blocking=False)
    event_loop.driven = False
    thread.wake()
    assert event_loop.nudged.acquire(timeout=120)


class Rests(Background):
    """Notes its rests instead of taking them, and stops after some."""

    def __init__(
        self, event_loop: FakeEventLoop, during: Callable[[], None], most: int
    ) -> None:
        super().__init__(event_loop, enabled=True)  # type: ignore[arg-type]
        self.taken: list[tuple[int, float]] = []
        self.during = during
        self.most = most

    def _rest(self, how: int, nap: float = NAP_SECONDS) -> bool:
        self.taken.append((how, nap))
        self.during()
        self._stopped = len(self.taken) == self.most
        return False


def test_beside_one_short_drive_after_the_other_its_naps_get_longer(
    event_loop: FakeEventLoop,
) -> None:
    event_loop.driven = True

    def drive() -> None:
        event_loop.drives += 7  # one ends, and others begin, while it rests

    drive()
    thread = Rests(event_loop, drive, 6)
    thread.run()
    naps = [NAP_SECONDS, 2 * NAP_SECONDS, 4 * NAP_SECONDS]
    naps += [LONGEST_NAP_SECONDS] * 3
    assert thread.taken == [(NAPPING, nap) for nap in naps]
    assert event_loop.polls == 0


def test_its_naps_are_short_again_when_it_met_no_driver() -> None:
    class Driven(FakeEventLoop):
        def nudge(self) -> bool:
            self.driven = True
            return super().nudge()

    event_loop = Driven()
    event_loop.driven = True
    driven = iter([True, False, True, True])

    def drive() -> None:
        event_loop.drives += 1
        event_loop.driven = next(driven)

    drive()
    thread = Rests(event_loop, drive, 3)
    thread.run()
    assert [nap for _, nap in thread.taken] == [
        NAP_SECONDS,
        NAP_SECONDS,
        2 * NAP_SECONDS,
    ]
    assert event_loop.polls == 1


def test_it_naps_beside_short_drives_and_can_be_called_out_of_a_nap(
    thread: Background, event_loop: FakeEventLoop
) -> None:
    class Busy(FakeEventLoop):
        polls = property(lambda self: next(self.counter), lambda self, _: None)  # type: ignore[assignment]
        counter = iter(range(10**9))

    busy = Busy()
    napping = Background(busy, enabled=True)  # type: ignore[arg-type]
    napping.wake()
    reach(lambda: napping.rest == NAPPING)
    assert not busy.nudged.acquire(blocking=False)
    napping.stop()
    assert not napping.is_alive()


def test_with_nothing_outstanding_a_submit_may_wake_it_unless_others_drive() -> None:
    event_loop = FakeEventLoop()
    event_loop.outstanding = 0
    event_loop.drives = 3

    def drive() -> None:
        if len(thread.taken) == 2:
            event_loop.drives += 1

    thread = Rests(event_loop, drive, 4)
    thread.run()
    assert [how for how, _ in thread.taken] == [NAPPING, IDLE, NAPPING, IDLE]


class Clock:
    """Stands for the module `time`: a sleep takes as long as the test says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.computed = 0.0
        self.slept: list[float] = []
        self.waits = 0.0  # how late a sleep ends
        self.computes = True  # whether the process computes meanwhile

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.computed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + self.waits + 15e-6
        self.computed += self.waits * self.computes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mpitasks.master.background.time", clock)
    return clock


@pytest.fixture
def pauses(event_loop: FakeEventLoop, thread: Background) -> _Pauses:
    return _Pauses(thread, event_loop)  # type: ignore[arg-type]


def dozes(event_loop: FakeEventLoop) -> int:
    """Return how often it dozed since the last look."""
    count = 0
    while event_loop.dozed.acquire(blocking=False):
        count += 1
    return count


def test_pauses_are_short_until_it_is_silent(
    clock: Clock, pauses: _Pauses, event_loop: FakeEventLoop
) -> None:
    pauses.pause(moved=True)
    while not dozes(event_loop):
        pauses.pause(moved=False)
    assert set(clock.slept) == {0.0}
    assert event_loop.doze_after <= clock.now - 100.0 < event_loop.doze_after + 50e-6
    pauses.pause(moved=True)
    assert dozes(event_loop) == 0


@pytest.mark.parametrize("rings", [False, True])
def test_it_looks_again_and_again_before_it_dozes_and_after(
    pauses: _Pauses, event_loop: FakeEventLoop, *, rings: bool
) -> None:
    """What rings may not be there yet at the first look."""
    event_loop.doze_after, event_loop.rings = 0.0, rings
    pauses.pause(moved=True)
    later = LIVELY_POLLS if rings else SILENT_POLLS
    for polls in (LIVELY_POLLS, later, later):
        for _ in range(polls - 1):
            pauses.pause(moved=False)
        assert dozes(event_loop) == 0
        pauses.pause(moved=False)
        assert dozes(event_loop) == 1


def test_it_looks_less_often_while_another_thread_computes(
    clock: Clock, pauses: _Pauses, event_loop: FakeEventLoop
) -> None:
    clock.waits = 5e-3
    pauses.pause(moved=True)
    while not dozes(event_loop):
        pauses.pause(moved=False)
    clock.slept.clear()
    while not dozes(event_loop):
        pauses.pause(moved=False)
    assert clock.slept == [LONGEST_PAUSE_SECONDS] * (SILENT_POLLS - 1)


def test_after_a_ring_it_looks_for_a_while(
    clock: Clock, pauses: _Pauses, event_loop: FakeEventLoop
) -> None:
    event_loop.rings = True
    for _ in range(SILENT_POLLS):
        pauses.pause(moved=False)
    assert dozes(event_loop) == 1
    clock.slept.clear()
    for _ in range(4 * SILENT_POLLS):
        pauses.pause(moved=False)
    assert dozes(event_loop) == 0
    assert clock.slept == [0.0] * (4 * SILENT_POLLS)


def test_pauses_grow_while_another_thread_computes(
    clock: Clock, pauses: _Pauses, event_loop: FakeEventLoop
) -> None:
    clock.waits = 5e-3
    pauses.pause(moved=True)
    while not dozes(event_loop):
        pauses.pause(moved=False)
    first, *longer = clock.slept
    assert first == 0.0
    assert longer[0] == PAUSE_SECONDS
    assert longer == sorted(longer)
    assert longer[-1] <= LONGEST_PAUSE_SECONDS <= 1.5 * longer[-1]
    clock.slept.clear()
    pauses.pause(moved=True)
    assert clock.slept == [PAUSE_SECONDS]
    clock.waits = 0.0
    pauses.pause(moved=True)
    pauses.pause(moved=True)
    assert clock.slept[2:] == [0.0]


def test_waiting_for_a_core_is_no_reason_for_longer_pauses(
    clock: Clock, pauses: _Pauses
) -> None:
    clock.waits, clock.computes = 5e-3, False
    for _ in range(3):
        pauses.pause(moved=True)
    assert clock.slept == [0.0] * 3


def test_it_does_not_doze_over_what_was_submitted_or_beside_a_driver(
    clock: Clock, pauses: _Pauses, event_loop: FakeEventLoop
) -> None:
    event_loop.has_inbox = True
    for _ in range(2 * SILENT_POLLS):
        pauses.pause(moved=False)
    event_loop.has_inbox = False
    event_loop.driven = True
    for _ in range(2 * SILENT_POLLS):
        pauses.pause(moved=False)
    assert dozes(event_loop) == 0


def test_it_can_be_stopped_from_any_rest(event_loop: FakeEventLoop) -> None:
    event_loop.outstanding = 0
    for depth in (NAPPING, ASLEEP):
        thread = Background(event_loop, enabled=True)  # type: ignore[arg-type]
        thread.wake()
        reach(lambda wanted=depth, own=thread: own.rest == wanted)  # type: ignore[misc]
        thread.stop()
        assert not thread.is_alive()
