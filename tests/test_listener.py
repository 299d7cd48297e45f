"""The listener: has an unresponsive worker give back, and sleeps without work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from mpitasks.wire.local_transport import local_pair
from mpitasks.wire.messages import Heartbeat, Outcomes, Ping, Returned
from mpitasks.worker import listener as listeners
from mpitasks.worker.listener import Listener
from mpitasks.worker.loop import Worker
from working import (
    PATIENCE,
    Gate,
    Running,
    chunk,
    double,
    double_or_hold,
    framed,
    hold,
    plain,
)

NEVER = 1e9


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "LOOK_SECONDS_LAST", "UNRESPONSIVE_SECONDS"):
        monkeypatch.setattr(listeners, name, 1e-3)
    monkeypatch.setattr(listeners, "SLEEP_AFTER_SECONDS", NEVER)


@pytest.fixture
def gate() -> Gate:
    return Gate()


class Watched(Worker):
    """A worker that tells when the listener looks, and when it has it give back."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.looks = threading.Semaphore(0)
        self.given_back = 0

    def progress(self) -> tuple[int, int]:
        self.looks.release()
        return super().progress()

    def give_back(self) -> None:
        self.given_back += 1
        super().give_back()


class Restless(Watched):
    """A worker that has always done something since the last look."""

    steps = 0

    def progress(self) -> tuple[int, int]:
        super().progress()
        self.steps += 1
        return self.steps, 0


def look(master: Running, times: int = 3) -> None:
    """Wait until the listener has looked so often from now on."""
    looks = master.worker.looks  # type: ignore[attr-defined]
    while looks.acquire(blocking=False):
        pass
    for _ in range(times):
        assert looks.acquire(timeout=PATIENCE)


def reach(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    arrived = threading.Event()
    while not done():
        assert time.monotonic() < end, "it never was so"
        arrived.wait(0.001)


def listener_of(master: Running) -> Listener:
    """Return the worker's listener."""
    listener = master.worker._listener
    assert listener is not None
    return listener


@pytest.fixture
def master() -> Iterator[Running]:
    master = Running(listens=True, kind=Watched)
    yield master
    if master.thread.is_alive():
        master.finish()
    listener = listener_of(master)
    if listener.ident is not None:
        listener.join(PATIENCE)
    assert not listener.is_alive()


def test_calls_behind_a_long_one_are_given_back(master: Running, gate: Gate) -> None:
    master.send(plain(0, double, 4), plain(1, hold, gate.number), plain(2, double, 5))
    assert master.receive(Outcomes).ids == [0]
    assert master.receive(Returned) == Returned(1, [2], None)
    gate.open()
    assert master.finish() == {0: 8, 1: None}


def test_items_behind_a_long_one_are_given_back(master: Running, gate: Gate) -> None:
    task = partial(double_or_hold, gate.number, 2)
    master.send(chunk(3, task, list(range(9))))
    assert master.receive(Returned) == Returned(1, [], (3, 1))
    gate.open()
    assert master.finish() == {3: [0, 2, 4]}


def test_a_batch_sent_behind_a_long_call_is_given_back(
    master: Running, gate: Gate
) -> None:
    master.send(plain(0, hold, gate.number))
    gate.await_task()
    look(master)
    master.send(plain(1, double, 1))
    assert master.receive(Returned) == Returned(1, [1], None)
    gate.open()


def test_a_worker_that_makes_progress_gives_nothing_back(gate: Gate) -> None:
    master = Running(listens=True, kind=Restless)
    master.send(plain(0, hold, gate.number), plain(1, double, 1))
    gate.await_task()
    look(master, 10)
    gate.open()
    assert master.finish() == {0: None, 1: 2}
    assert master.returned == []


def test_it_starts_with_the_first_batch(master: Running, gate: Gate) -> None:
    listener = listener_of(master)
    assert listener.ident is None
    master.send(plain(0, hold, gate.number))
    gate.await_task()
    assert listener.is_alive()
    assert listener.daemon
    gate.open()


def test_a_worker_that_does_not_listen_has_none() -> None:
    master = Running()
    assert master.worker._listener is None
    master.finish()


# Sleep.


def test_it_sleeps_when_there_is_nothing_to_do_and_is_woken(
    monkeypatch: pytest.MonkeyPatch, master: Running, gate: Gate
) -> None:
    monkeypatch.setattr(listeners, "SLEEP_AFTER_SECONDS", -1.0)
    listener = listener_of(master)
    master.send(plain(0, double, 1))
    master.receive(Outcomes)
    for task_id in (10, 20):
        reach(lambda: listener.asleep)
        door = Gate()
        master.send(plain(task_id, hold, door.number), plain(task_id + 1, double, 1))
        assert master.receive(Returned).ids == [task_id + 1]
        assert not listener.asleep
        door.open()


class Slow:
    """An argument that takes long to unpickle."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return hold, (self.number,)


def test_it_stays_awake_while_a_call_takes_long_to_unpickle(
    monkeypatch: pytest.MonkeyPatch, master: Running, gate: Gate
) -> None:
    monkeypatch.setattr(listeners, "SLEEP_AFTER_SECONDS", -1.0)
    arguments = Gate()
    task = partial(_hold_with, gate.number)
    master.send(framed(0, task, Slow(arguments.number)), plain(1, double, 1))
    arguments.await_task()
    look(master, 5)
    arguments.open()
    gate.await_task()
    assert master.receive(Returned).ids == [1]
    gate.open()


class LoadsSlowly:
    """A function that takes long to load."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _load, (self.number,)

    def __call__(self, x: int) -> int:
        """Never called: another is loaded in its place."""
        return x


def _load(number: int) -> Callable[[int], int]:
    hold(number)
    return double


def test_messages_that_come_while_a_function_loads_wait_for_the_loop(
    master: Running, gate: Gate
) -> None:
    master.send(plain(5, double, 4))
    master.receive(Outcomes)  # the listener is awake
    master.send(plain(0, LoadsSlowly(gate.number), 3))
    gate.await_task()
    master.send(plain(1, double, 1))
    assert master.receive(Returned) == Returned(1, [1], None)
    master.end.send(1, Ping())
    master.receive(Heartbeat)
    master.drop(Heartbeat)
    gate.open()
    master.send(plain(2, double, 2))
    assert master.finish() == {5: 8, 0: 6, 2: 4}


def _hold_with(number: int, argument: object) -> None:
    hold(number)


def test_work_that_comes_while_it_goes_to_sleep_keeps_it_awake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The listener first says that it sleeps, and then looks whether it may."""
    monkeypatch.setattr(listeners, "SLEEP_AFTER_SECONDS", -1.0)

    class Starting(Watched):
        """Has work as soon as the listener says that it sleeps."""

        busy = property(lambda self: self.ask(), lambda self, _: None)  # type: ignore[assignment]

        def ask(self) -> bool:
            assert self._listener is not None
            return self._listener.asleep

    master = Running(listens=True, kind=Starting)  # and holds the worker's lock
    listener = listener_of(master)
    listener.wake()
    look(master, 5)
    assert not listener.asleep
    master.finish()
    listener.join(PATIENCE)
    assert not listener.is_alive()


# Stop.


@pytest.mark.parametrize("asleep", [False, True])
def test_it_ends_with_the_worker(
    monkeypatch: pytest.MonkeyPatch, master: Running, *, asleep: bool
) -> None:
    listener = listener_of(master)
    master.send(plain(0, double, 1))
    master.receive(Outcomes)
    if asleep:
        monkeypatch.setattr(listeners, "SLEEP_AFTER_SECONDS", -1.0)
        reach(lambda: listener.asleep)
    master.finish()
    listener.join(PATIENCE)
    assert not listener.is_alive()
    assert master.end.poll() is None


def test_it_ends_with_a_worker_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    master = Running(listens=True, kind=Watched)
    listener = listener_of(master)
    master.send(plain(0, double, 1))
    master.receive(Outcomes)
    master.end.send(1, Returned(0, [], None))  # which no worker is ever sent
    master.thread.join(PATIENCE)
    listener.join(PATIENCE)
    assert not listener.is_alive()
    assert master.worker.given_back == 0  # type: ignore[attr-defined]


def test_it_does_nothing_after_the_stop() -> None:
    """The worker stops between the listener's look and its taking the lock."""

    class Lock:
        """Is free as soon as the worker has stopped."""

        def acquire(self, *, timeout: float) -> bool:
            assert timeout < 0.1
            listener.stop()
            return True

        def release(self) -> None:
            stopped.set()

    stopped = threading.Event()
    worker = Watched(local_pair()[1], "here", listens=True)
    listener = Listener(worker)
    worker.lock = Lock()  # type: ignore[assignment]
    listener.wake()
    assert stopped.wait(PATIENCE)
    listener.join(PATIENCE)
    assert not listener.is_alive()
    assert worker.given_back == 0
