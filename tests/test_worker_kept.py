"""What a worker keeps, gives out, and lets go of; and how it gets what others keep."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import DataLost
from mpitasks.wire import codec, peer_memory
from mpitasks.wire.kept import KEEP_BYTES, Kept
from mpitasks.wire.messages import (
    ERROR,
    KEPT,
    PLAIN,
    VALUE,
    Fetch,
    Fetched,
    HolderGone,
    Release,
    pack,
    unpack,
)
from mpitasks.wire.outcomes import encode_value
from mpitasks.worker.kept_results import KeptResults


class Transport:
    """Notes what is sent, and whether others are heard."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.messages: list[tuple[int, Any]] = []
        self.hears_peers = 0
        self.waits = 0
        self.is_sending = False

    def send(self, rank: int, message: Any) -> None:
        self.messages.append((rank, message))

    def hear_peers(self) -> None:
        self.hears_peers += 1

    def sent(self, buffers: Any) -> bool:
        return not self.is_sending

    def wait(self, limit: float) -> None:
        self.waits += 1
        assert self.waits < 100, "it waits for ever"


class Rank:
    """A worker, as far as it keeps results."""

    def __init__(self, rank: int) -> None:
        self.transport = Transport(rank)
        self.lock = threading.Lock()
        self.kept = KeptResults(self.transport, self.lock)  # type: ignore[arg-type]
        self.lock.acquire()

    def keep(self, value: Any, id: int = 5) -> Kept:
        form, told, buffers = self.kept.keep(id, encode_value(value, "here"))
        assert (form, buffers) == (KEPT, [])
        assert isinstance(told, Kept)
        return told

    def obtain(self, kept: Kept, take_in: Callable[[], object] | None = None) -> Any:
        parts = self.kept.obtain(kept, take_in or (lambda: False))
        assert self.lock.locked()
        return codec.decode(*parts)


@pytest.fixture
def holder() -> Rank:
    return Rank(1)


@pytest.fixture
def other() -> Rank:
    return Rank(2)


ARRAY = np.arange(KEEP_BYTES / 8)


@pytest.mark.parametrize("value", [3, "text", np.zeros(10), [1.0] * 100])
def test_what_is_small_is_sent(holder: Rank, value: Any) -> None:
    form = encode_value(value, "here")
    assert holder.kept.keep(5, form) is form
    assert not holder.transport.hears_peers


def test_an_error_is_sent(holder: Rank) -> None:
    form = (ERROR, b"x" * 100_000, [])
    assert holder.kept.keep(5, form) is form
    assert holder.kept.keep(5, (PLAIN, 3, [])) == (PLAIN, 3, [])


def test_a_large_frame_is_kept_by_itself(holder: Rank, other: Rank) -> None:
    words = [f"word {n}" for n in range(20_000)]
    kept = holder.keep(words)
    assert (kept.frame, len(kept.spans)) == (None, 1)
    assert other.obtain(kept) == words


def test_each_gets_a_copy(holder: Rank, other: Rank) -> None:
    kept = holder.keep(ARRAY.copy())
    for rank in (holder, other):
        got = rank.obtain(kept)
        assert np.array_equal(got, ARRAY)
        got[:] = -1
    assert np.array_equal(holder.obtain(kept), ARRAY)
    assert (holder.transport.messages, other.transport.messages) == ([], [])


def test_the_last_task_of_the_holder_gets_the_memory(holder: Rank) -> None:
    kept = holder.keep(ARRAY.copy())._replace(is_last=True)
    got = holder.obtain(kept)
    again = holder.obtain(kept)  # its first task did not begin after all
    assert np.may_share_memory(got, again)
    holder.transport.is_sending = True  # to who does not wait for it any more
    assert not np.may_share_memory(got, holder.obtain(kept))
    holder.kept.release(kept.id)
    with pytest.raises(DataLost, match="task 5 is lost: its worker"):
        holder.obtain(kept)


def test_what_is_released_is_gone(holder: Rank, other: Rank) -> None:
    kept = holder.keep(ARRAY.copy())
    holder.kept.receive(Release([5, 6]))
    with pytest.raises(DataLost):
        holder.obtain(kept)
    holder.kept.receive(Fetch(2, 5))
    assert holder.transport.messages == [(2, Fetched(5, is_there=False))]

    def answer() -> bool:
        ((rank, asked),) = other.transport.messages
        assert (rank, asked) == (1, Fetch(2, 5))
        other.kept.receive(Fetched(5, is_there=False))
        return True

    with pytest.raises(DataLost, match="rank 1 does not have it"):
        other.obtain(kept, answer)


def test_what_cannot_be_read_is_fetched(
    holder: Rank, other: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_memory, "_system_call", lambda: None)
    kept = holder.keep({"a": ARRAY, "b": "text"})
    looks = iter([False, True])

    def pass_on() -> bool:
        if not next(looks):
            return False
        for rank, message in other.transport.messages:
            assert rank == 1
            holder.kept.receive(message)
        ((rank, answer),) = holder.transport.messages
        assert rank == 2
        frame, buffers = pack(answer)
        arrived, sizes = unpack(frame)
        assert list(sizes) == [memoryview(buffer).nbytes for buffer in buffers]
        assert isinstance(arrived, Fetched)
        arrived.buffers = [bytearray(buffer) for buffer in buffers]
        other.kept.receive(arrived)
        return True

    got = other.obtain(kept, pass_on)
    assert np.array_equal(got["a"], ARRAY)
    assert other.transport.hears_peers == holder.transport.hears_peers == 1
    assert other.transport.waits == 1


@pytest.mark.parametrize("how", ["told", "seen", "before"])
def test_a_dead_holder_is_not_waited_for(
    other: Rank, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(peer_memory, "_system_call", lambda: None)
    kept = Rank(1).keep(ARRAY.copy())

    def learn() -> bool:
        if how == "seen":
            other.kept.lose(1)
        else:
            other.kept.receive(HolderGone(1, "rank 1 died"))
        return True

    if how == "before":
        learn()
    with pytest.raises(DataLost, match="task 5 is lost: rank 1 died"):
        other.obtain(kept, learn)
    assert bool(other.transport.messages) is (how != "before")


def test_a_result_that_does_not_fit_is_no_lost_one(
    other: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_memory, "_system_call", lambda: None)
    from mpitasks.wire.missing_buffers import Missing

    kept = Rank(1).keep(ARRAY.copy())

    def answer() -> bool:
        message = Fetched(5, True, [b"frame", Missing(1 << 40, 2)])
        other.kept.receive(message)
        return True

    with pytest.raises(MemoryError, match="does not fit"):
        other.obtain(kept, answer)


def test_names_of_the_script_are_told(
    holder: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = holder.keep([ARRAY, "__main__"])
    assert kept.names == ()
    form = (VALUE, b"__main__" + b"x" * (2 << 20), [])
    assert holder.kept.keep(6, form) is form  # too long to be looked through
