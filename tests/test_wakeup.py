"""The wake-up: sleeps until rung, trusts only bells that rang, loses nothing."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from mpitasks.wire import wakeup as wakeups
from mpitasks.wire.wakeup import DOZE_SECONDS, SECRET_BYTES, Wakeup

SECRET = bytes(range(SECRET_BYTES))

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="abstract socket names are Linux's"
)


@pytest.fixture
def bells() -> Iterator[tuple[Wakeup, Wakeup]]:
    run = uuid.uuid4().hex
    pair = Wakeup(run, SECRET, 0, [1]), Wakeup(run, SECRET, 1, [0])
    yield pair
    for end in pair:
        end.close()


def test_it_is_trusted_when_every_peer_has_rung() -> None:
    run = uuid.uuid4().hex
    bells = [Wakeup(run, SECRET, *who) for who in ((0, [1, 2]), (1, [0]), (2, [0]))]
    assert not bells[0].trusted
    bells[1].ring(0)
    assert not bells[0].trusted
    bells[2].ring(0)
    assert bells[0].trusted
    assert not bells[1].trusted
    for end in bells:
        end.close()


def test_others_and_noise_are_not_peers(bells: tuple[Wakeup, Wakeup]) -> None:
    run = bells[0]._name
    stranger = Wakeup(run, SECRET, 7, [])
    stranger.ring(0)
    stranger._socket.sendto(SECRET + b"1x", bells[0]._address(0))
    assert not bells[0].trusted
    stranger.close()


NOISE = {
    "rank": b"1",
    "nothing": b"",
    "zeros": bytes(SECRET_BYTES) + b"1",
    "half": SECRET[:8] + bytes(8) + b"1",
    "nearly": SECRET[:-1] + b"x1",
    "cut": SECRET[:-1],
    "long": b"1" * 4096,
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_a_stranger_wakes_nobody(bells: tuple[Wakeup, Wakeup], noise: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        for _ in range(5000):  # more than any queue of a socket holds
            stranger.sendto(noise, bells[0]._address(0))
    assert not select.select([bells[0]._socket], [], [], 0)[0]
    assert not bells[0].wait(0.0)
    assert not bells[0].trusted
    bells[1].ring(0)
    assert bells[0].wait(10.0)
    assert bells[0].trusted


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_a_stranger_is_no_ring_without_filters_in_the_kernel(
    monkeypatch: pytest.MonkeyPatch, noise: bytes
) -> None:
    monkeypatch.setattr(wakeups, "_SO_ATTACH_FILTER", 30_000)  # no such option
    wakeup = Wakeup(uuid.uuid4().hex, SECRET, 0, [1])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(noise, wakeup._address(0))
    assert not wakeup.wait(0.0)
    assert not wakeup.trusted
    wakeup.close()


def test_a_ring_ends_a_sleep(bells: tuple[Wakeup, Wakeup]) -> None:
    woken = threading.Event()

    def sleep() -> None:
        while not bells[0].trusted:
            bells[0].wait(120.0)
        woken.set()

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    bells[1].ring(0)
    sleeper.join(120.0)
    assert woken.is_set()


def test_a_ring_before_the_sleep_ends_it_too(bells: tuple[Wakeup, Wakeup]) -> None:
    bells[1].ring(0)
    bells[0].wait(120.0)
    assert bells[0].trusted


def test_a_sleep_ends_without_a_ring(bells: tuple[Wakeup, Wakeup]) -> None:
    start = time.monotonic()
    assert not bells[0].wait(1000.0)
    assert time.monotonic() - start >= DOZE_SECONDS / 2


def test_a_sleep_tells_whether_it_was_rung(bells: tuple[Wakeup, Wakeup]) -> None:
    assert not bells[0].wait(0.0)
    for _ in range(3):
        bells[1].ring(0)
    assert bells[0].wait(120.0)
    assert not bells[0].wait(0.0)  # all rings end the same sleep


def test_a_rank_may_ring_itself(bells: tuple[Wakeup, Wakeup]) -> None:
    bells[0].ring(0)
    assert bells[0].wait(120.0)
    assert not bells[0].trusted  # that is not its peer


def test_only_one_thread_sleeps_on_the_wakeup(
    monkeypatch: pytest.MonkeyPatch, bells: tuple[Wakeup, Wakeup]
) -> None:
    monkeypatch.setattr(wakeups, "DOZE_SECONDS", 3600.0)
    rung = []
    sleeper = threading.Thread(target=lambda: rung.append(bells[0].wait(3600.0)))
    sleeper.start()
    pause = threading.Event()
    while not bells[0]._bed.locked():
        pause.wait(0.001)
    for _ in range(3):
        assert not bells[0].wait(3600.0)  # the others take a nap, and no ring
    assert sleeper.is_alive()
    bells[1].ring(0)
    sleeper.join(120.0)
    assert rung == [True]
    assert not bells[0]._bed.locked()


def test_who_takes_a_nap_takes_no_ring(bells: tuple[Wakeup, Wakeup]) -> None:
    bells[1].ring(0)
    with bells[0]._bed:  # as if another thread slept
        assert not bells[0].wait(120.0)
    assert bells[0].wait(120.0)


def test_ringing_never_blocks_and_never_fails(
    bells: tuple[Wakeup, Wakeup],
) -> None:
    for _ in range(5000):  # more than any queue of a socket holds
        bells[1].ring(0)
    bells[1].ring(99)  # nobody there
    assert bells[0].trusted


def test_several_threads_sleep_on_one_wakeup(bells: tuple[Wakeup, Wakeup]) -> None:
    errors: list[BaseException] = []

    def sleep() -> None:
        try:
            for _ in range(3):
                bells[0].wait(1.0)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=sleep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
    assert not errors


def test_a_name_is_taken_once(bells: tuple[Wakeup, Wakeup]) -> None:
    with pytest.raises(OSError, match="in use"):
        Wakeup(bells[0]._name, SECRET, 0, [])
