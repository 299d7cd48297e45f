"""The doorbell: sleeps until rung, trusts only bells that rang, loses nothing."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from mpitasks.wire import doorbell
from mpitasks.wire.doorbell import DOZE_SECONDS, Doorbell

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="abstract socket names are Linux's"
)


@pytest.fixture
def bells() -> Iterator[tuple[Doorbell, Doorbell]]:
    run = uuid.uuid4().hex
    pair = Doorbell(run, 0, [1]), Doorbell(run, 1, [0])
    yield pair
    for bell in pair:
        bell.close()


def test_it_is_trusted_when_every_peer_has_rung() -> None:
    run = uuid.uuid4().hex
    bells = [Doorbell(run, 0, [1, 2]), Doorbell(run, 1, [0]), Doorbell(run, 2, [0])]
    assert not bells[0].trusted
    bells[1].ring(0)
    assert not bells[0].trusted
    bells[2].ring(0)
    assert bells[0].trusted
    assert not bells[1].trusted
    for bell in bells:
        bell.close()


def test_others_and_noise_are_not_peers(bells: tuple[Doorbell, Doorbell]) -> None:
    run = bells[0]._name
    stranger = Doorbell(run, 7, [])
    stranger.ring(0)
    stranger._socket.sendto(b"1x", bells[0]._address(0))
    assert not bells[0].trusted
    stranger.close()


def test_a_ring_ends_a_sleep(bells: tuple[Doorbell, Doorbell]) -> None:
    woken = threading.Event()

    def sleep() -> None:
        while not bells[0].trusted:
            bells[0].wait(10.0)
        woken.set()

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    bells[1].ring(0)
    sleeper.join(20.0)
    assert woken.is_set()


def test_a_ring_before_the_sleep_ends_it_too(bells: tuple[Doorbell, Doorbell]) -> None:
    bells[1].ring(0)
    bells[0].wait(10.0)
    assert bells[0].trusted


def test_a_sleep_ends_without_a_ring(bells: tuple[Doorbell, Doorbell]) -> None:
    start = time.monotonic()
    assert not bells[0].wait(1000.0)
    assert time.monotonic() - start >= DOZE_SECONDS / 2


def test_a_sleep_tells_whether_it_was_rung(bells: tuple[Doorbell, Doorbell]) -> None:
    assert not bells[0].wait(0.0)
    for _ in range(3):
        bells[1].ring(0)
    assert bells[0].wait(10.0)
    assert not bells[0].wait(0.0)  # all rings end the same sleep


def test_a_rank_may_ring_itself(bells: tuple[Doorbell, Doorbell]) -> None:
    bells[0].ring(0)
    assert bells[0].wait(10.0)
    assert not bells[0].trusted  # that is not its peer


def test_only_one_thread_sleeps_on_the_bell(
    monkeypatch: pytest.MonkeyPatch, bells: tuple[Doorbell, Doorbell]
) -> None:
    monkeypatch.setattr(doorbell, "DOZE_SECONDS", 3600.0)
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
    sleeper.join(20.0)
    assert rung == [True]
    assert not bells[0]._bed.locked()


def test_who_takes_a_nap_takes_no_ring(bells: tuple[Doorbell, Doorbell]) -> None:
    bells[1].ring(0)
    with bells[0]._bed:  # as if another thread slept
        assert not bells[0].wait(10.0)
    assert bells[0].wait(10.0)


def test_ringing_never_blocks_and_never_fails(
    bells: tuple[Doorbell, Doorbell],
) -> None:
    for _ in range(5000):  # more than any queue of a socket holds
        bells[1].ring(0)
    bells[1].ring(99)  # nobody there
    assert bells[0].trusted


def test_several_threads_sleep_on_one_bell(bells: tuple[Doorbell, Doorbell]) -> None:
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
        thread.join(20.0)
    assert not errors


def test_a_name_is_taken_once(bells: tuple[Doorbell, Doorbell]) -> None:
    with pytest.raises(OSError, match="in use"):
        Doorbell(bells[0]._name, 0, [])
