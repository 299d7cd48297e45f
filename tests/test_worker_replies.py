"""When the worker replies, and what it says about costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpitasks.errors import (
    InternalError,
)
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.local_transport import LocalTransport
from mpitasks.wire.messages import (
    Goodbye,
    Message,
    Outcomes,
    Overhead,
    Shutdown,
    Welcome,
)
from mpitasks.worker import replies
from mpitasks.worker.loop import Worker
from working import (
    WHERE,
    Master,
    chunk,
    double,
    error_of,
    framed,
    framed_chunk,
    plain,
)


def test_costs_are_counted_by_runs_of_one_function() -> None:
    master = Master()
    array = np.zeros(THRESHOLD)
    master.send(
        plain(0, double, 1),
        plain(1, double, 2),
        chunk(2, abs, [1, 2, 3]),
        framed(3, double, array),
    )
    master.serve()
    costs = [list(cost) for cost in master.replies[0].costs]
    assert [cost[:2] for cost in costs] == [[0, 2], [1, 3], [0, 1]]
    assert all(cost[2] >= 0 for cost in costs)
    assert costs[0][3] == 0
    assert costs[2][3] >= array.nbytes


def test_loading_is_told_once_and_only_if_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[list[Message]] = []
    for limit in (0.0, math.inf):
        monkeypatch.setattr(replies, "TOLD_SECONDS", limit)
        master = Master()
        master.send(plain(0, double, 1))
        master.send(plain(1, double, 1))
        master.end.send(1, Shutdown())
        Worker(master.worker_end, WHERE).serve()
        said.append([])
        while (arrived := master.end.poll()) is not None:
            said[-1].append(arrived[1])
    told = [[type(message) for message in messages] for messages in said]
    assert told[0] == [Overhead, Outcomes, Outcomes, Goodbye]
    assert told[1] == [Outcomes, Outcomes, Goodbye]
    first = said[0][0]
    assert isinstance(first, Overhead)
    assert first.loading > 0
    assert (first.copying, first.copied) == (0.0, {})


class _Full(LocalTransport):
    """Has no room for a message with large results."""

    def send(self, rank: int, message: Message) -> None:
        if isinstance(message, Outcomes) and message.buffers:
            raise MemoryError("no room")
        super().send(rank, message)


def test_results_that_do_not_fit_into_a_message_fail_alone() -> None:
    master = Master()
    master.worker_end.__class__ = _Full
    array = np.zeros(THRESHOLD)
    master.send(plain(0, double, 1), framed(1, double, array))
    master.send(framed_chunk(2, double, [array, 1]), plain(3, double, 3))
    outcomes = master.serve()
    assert (outcomes[0], outcomes[3]) == (2, 6)
    assert type(error_of(outcomes[1])) is MemoryError
    assert type(error_of(outcomes[2])) is MemoryError
    assert [id for reply in master.replies for id in reply.failed] == [1, 2]


def _batches(master: Master) -> list[int]:
    master.serve()
    return [reply.batches for reply in master.replies]


def test_results_wait_for_each_other_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "FLUSH_SECONDS", -1.0)
    master = Master()
    master.send(*[plain(at, double, at) for at in range(3)])
    assert _batches(master) == [0, 0, 1]
    assert [reply.ids for reply in master.replies] == [[0], [1], [2]]


def test_small_results_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "FLUSH_SECONDS", math.inf)
    master = Master()
    master.send(*[framed(at, double, [at]) for at in range(3)])
    assert _batches(master) == [1]


def test_large_results_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "FLUSH_SECONDS", math.inf)
    monkeypatch.setattr(replies, "REPLY_BYTES", 8 * THRESHOLD)
    master = Master()
    array = np.zeros(THRESHOLD)
    master.send(*[framed(at, np.copy, array) for at in range(3)])
    assert _batches(master) == [0, 0, 1]


class _Slow(LocalTransport):
    """A transport whose messages take a few looks to leave."""

    looks = 0

    def sending(self) -> bool:
        self.looks += 1
        return self.looks % 4 != 0


@pytest.mark.parametrize("size", [THRESHOLD, 8])
def test_results_are_let_leave_before_the_next_call(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(replies, "FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(replies, "SETTLE_SECONDS", 60.0)
    master = Master()
    slow = _Slow(1, master.worker_end._mailboxes)
    master.worker_end = slow
    master.send(framed(0, np.zeros, size), framed(1, np.zeros, 1))
    master.serve()
    assert slow.looks == 12  # until all have left: before the batch and each call


def test_large_results_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(replies, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(_Slow, "sending", lambda self: True)
    master = Master()
    master.worker_end = _Slow(1, master.worker_end._mailboxes)
    master.send(framed(0, np.zeros, THRESHOLD), framed(1, np.zeros, 1))
    assert sorted(master.serve()) == [0, 1]


def test_the_worker_waits_when_nothing_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master = Master()
    waits = []

    def wait(limit: float) -> None:
        waits.append(limit)
        master.end.send(1, Shutdown())

    monkeypatch.setattr(master.worker_end, "wait", wait)
    Worker(master.worker_end, WHERE).serve()
    assert len(waits) == 1
    assert master.end.poll() == (1, Goodbye())


def test_an_unexpected_message_is_our_fault() -> None:
    master = Master()
    master.end.send(1, Welcome(2, True, "a"))
    with pytest.raises(InternalError, match="a worker was sent Welcome"):
        Worker(master.worker_end, WHERE).serve()
