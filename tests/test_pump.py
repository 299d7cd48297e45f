"""A broken engine: everything that waits for it comes to an end."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING

import pytest

from mpitasks.errors import InternalError, TransportError
from mpitasks.master.calls import Call
from mpitasks.master.future import Future
from mpitasks.master.pump import Pump
from mpitasks.options import DEFAULTS
from mpitasks.wire.local import LocalTransport, local_pair

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
