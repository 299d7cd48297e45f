"""The event loop: whom it wakes, and that every wait ends when the engine is broken."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import InternalError, TransportError
from mpitasks.master import event_loop as event_loops
from mpitasks.master.event_loop import EventLoop
from mpitasks.master.future import Future
from mpitasks.master.payloads import Call
from mpitasks.options import DEFAULTS
from mpitasks.wire.local_transport import LocalTransport, local_pair
from mpitasks.wire.messages import Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def end() -> LocalTransport:
    return local_pair()[0]


@pytest.fixture
def event_loop(end: LocalTransport) -> Iterator[EventLoop]:
    event_loop = EventLoop(end, [1], threads=False)
    yield event_loop
    event_loop.close(0.0)


def submit(event_loop: EventLoop) -> Future:
    target = event_loop.functions.register(abs)
    call = Call(next(event_loop.engine.ids), target, (1,), {}, DEFAULTS, event_loop)
    event_loop.submit(call.task)
    return call


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(TransportError("torn"), TransportError), (OSError("gone"), InternalError)],
)
def test_a_broken_transport_ends_every_wait(
    monkeypatch: pytest.MonkeyPatch,
    end: LocalTransport,
    event_loop: EventLoop,
    raised: Exception,
    seen: type[Exception],
) -> None:
    def poll() -> None:
        raise raised

    sent, queued = submit(event_loop), submit(event_loop)
    monkeypatch.setattr(end, "poll", poll)
    for future in (sent, queued, submit(event_loop)):
        with pytest.raises(seen):
            future.result(timeout=120)
    assert event_loop.finish(timeout=30)
    assert event_loop.close(30.0) == [1]  # nobody told the worker to stop


def test_what_a_broken_engine_lost_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, end: LocalTransport, event_loop: EventLoop
) -> None:
    """As after Ctrl-C in the middle of a turn: the call is in no collection."""

    def poll() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(end, "poll", poll)
    with pytest.raises(KeyboardInterrupt):
        event_loop.nudge()
    monkeypatch.undo()
    lost = Future(event_loop)
    with pytest.raises(InternalError):
        lost.result(timeout=120)
    with pytest.raises((InternalError, concurrent.futures.TimeoutError)):
        lost.result(timeout=0)


def test_a_call_that_waits_for_company_wakes_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        event_loops, "MOST_SECONDS", 3600.0
    )  # the driver sleeps till woken
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
    while not hands.event_loop.driven:
        pause.wait(0.001)
    (idle,) = (rank for rank in hands.ends if rank != busy)
    executor.submit(abs, -2)
    hands.ends[idle].wait(120.0)
    assert [sent[3] for sent in hands.calls(idle)] == [(-2,)]
    hands.ends[busy].send(0, Outcomes(busy, 1, [call[0]], [], [], [0], {}))
    driver.join(120.0)
    assert not driver.is_alive()
    hands.close()
