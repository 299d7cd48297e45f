"""The pump: whom it wakes, and that every wait ends when the engine is broken."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING

import pytest

from hands import Hands
from mpitasks.errors import InternalError, TransportError
from mpitasks.master import pump as pumps
from mpitasks.master.calls import Call
from mpitasks.master.executor import Executor
from mpitasks.master.future import Future
from mpitasks.master.pump import Pump
from mpitasks.options import DEFAULTS
from mpitasks.wire.local import LocalTransport, local_pair
from mpitasks.wire.messages import Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def end() -> LocalTransport:
    return local_pair()[0]


@pytest.fixture
def pump(end: LocalTransport) -> Iterator[Pump]:
    pump = Pump(end, [1], threads=False)
    yield pump
    pump.close(0.0)


def submit(pump: Pump) -> Future:
    call = Call(next(pump.ids), pump.functions.register(abs), (1,), {}, DEFAULTS)
    call.future = Future(call, pump)
    pump.submit(call)
    return call.future


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(TransportError("torn"), TransportError), (OSError("gone"), InternalError)],
)
def test_a_broken_transport_ends_every_wait(
    monkeypatch: pytest.MonkeyPatch,
    end: LocalTransport,
    pump: Pump,
    raised: Exception,
    seen: type[Exception],
) -> None:
    def poll() -> None:
        raise raised

    sent, queued = submit(pump), submit(pump)
    monkeypatch.setattr(end, "poll", poll)
    for future in (sent, queued, submit(pump)):
        with pytest.raises(seen):
            future.result(timeout=30)
    assert pump.finish(timeout=30)
    assert pump.close(30.0) == [1]  # nobody told the worker to stop


def test_what_a_broken_engine_lost_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, end: LocalTransport, pump: Pump
) -> None:
    """As after Ctrl-C in the middle of a turn: the call is in no collection."""

    def poll() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(end, "poll", poll)
    with pytest.raises(KeyboardInterrupt):
        pump.nudge()
    monkeypatch.undo()
    lost = Future(None, pump)
    with pytest.raises(InternalError):
        lost.result(timeout=30)
    with pytest.raises((InternalError, concurrent.futures.TimeoutError)):
        lost.result(timeout=0)


def test_a_call_that_waits_for_company_wakes_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pumps, "MOST_SECONDS", 3600.0)  # the driver sleeps till woken
    hands = Hands(2)
    executor = Executor()
    executor.submit(abs, -1)
    quick = {rank: call for rank in hands.ends for call in hands.calls(rank)}
    for rank, call in quick.items():
        hands.reply(rank, call, 1)
    long = executor.submit(len, "")
    ((busy, call),) = [(rank, c) for rank in hands.ends for c in hands.calls(rank)]
    driver = threading.Thread(target=long.result, daemon=True)
    driver.start()
    pause = threading.Event()
    while not hands.pump.driven:
        pause.wait(0.001)
    (idle,) = (rank for rank in hands.ends if rank != busy)
    executor.submit(abs, -2)
    hands.ends[idle].wait(20.0)
    assert [sent[3] for sent in hands.calls(idle)] == [(-2,)]
    hands.ends[busy].send(0, Outcomes(busy, 1, [call[0]], [], [], [0], {}))
    driver.join(20.0)
    assert not driver.is_alive()
    hands.close()
