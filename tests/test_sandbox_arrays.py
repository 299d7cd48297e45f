"""Arrays on their way into the sandbox and back: whole and writable."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import misbehaving
from misbehaving import identity
from mpitasks.errors import TaskCrashed
from mpitasks.sandbox import children
from mpitasks.sandbox.blocks import Inbox, Outbox
from mpitasks.wire import node_memory
from mpitasks.wire.codec import THRESHOLD
from sandboxes import Sandboxed, nothing_left

KIB = 1 << 10


@pytest.fixture(scope="module")
def shared_box() -> Iterator[Sandboxed]:
    """One sandbox for all that leave it in peace."""
    with nothing_left(), Sandboxed() as box:
        yield box


@pytest.fixture
def box() -> Iterator[Sandboxed]:
    """A sandbox of its own."""
    with nothing_left(), Sandboxed() as box:
        yield box


ARRAYS = {
    "nothing": np.empty(0),
    "no dimension": np.array(3.5),
    "small": np.arange(10),
    "just large": np.arange(THRESHOLD, dtype=np.uint8),
    "odd size": np.arange(THRESHOLD + 13, dtype=np.uint8),
    "empty but large": np.empty((100_000, 0, 3)),
    "structured": np.zeros(20_000, [("a", "i4"), ("b", "f8", 3), ("c", "S5")]),
    "dates": np.arange(20_000).astype("M8[s]"),
    "objects": np.array([{"a": 1}, None, "text"], dtype=object),
    "masked": np.ma.masked_greater(np.arange(20_000), 500),
    "columns": np.asfortranarray(np.random.default_rng(1).random((300, 200))),
    "strided": np.arange(200_000)[::3],
    "read-only": np.broadcast_to(np.arange(300), (300, 300)),
    "16 MiB": np.random.default_rng(2).random(2 << 20),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_as_it_went(shared_box: Sandboxed, name: str) -> None:
    array = ARRAYS[name]
    back = shared_box.call(identity, array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert type(back) is type(array)
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_many_arrays_and_other_buffers_at_once(shared_box: Sandboxed) -> None:
    sent = {
        "arrays": [np.full(THRESHOLD + x, x % 251, np.uint8) for x in range(300)],
        "bytes": b"\1" * 100_000,
        "bytearray": bytearray(b"\2" * 100_000),
        "text": "x" * 100_000,
    }
    back = shared_box.call(identity, sent)
    assert all((a == b).all() for a, b in zip(back["arrays"], sent["arrays"]))  # noqa: B905
    assert {k: v for k, v in back.items() if k != "arrays"} == {
        k: v for k, v in sent.items() if k != "arrays"
    }


def test_arrays_in_a_chunk(shared_box: Sandboxed) -> None:
    items = [np.full((x + 1) * 20 * KIB, x % 251, np.uint8) for x in range(40)]
    back = shared_box.map(identity, items)
    assert len(back) == len(items)
    assert all((a == b).all() for a, b in zip(back, items, strict=True))


def crash_at_seven(array: Any) -> Any:
    """Crash with one of the arrays, and double the others."""
    if array[0] == 7:
        misbehaving.segfault()
    return array * 2


def test_arrays_behind_a_crash(box: Sandboxed) -> None:
    items = [np.full(100 * KIB, x, np.uint8) for x in range(12)]
    back = box.map(crash_at_seven, items)
    assert isinstance(back[7].error, TaskCrashed)
    for x, value in enumerate(back):
        assert x == 7 or (value == 2 * x).all()


def keep(array: Any) -> float:
    """Keep an argument beyond the call."""
    misbehaving.kept.append(array)
    return float(array[0])


def kept_sums() -> list[tuple[float, float]]:
    """Look at what was kept."""
    return [(float(a.min()), float(a.max())) for a in misbehaving.kept]


def test_memory_is_used_again_only_when_nobody_needs_it(box: Sandboxed) -> None:
    for x in range(6):
        assert box.call(keep, np.full(50_000, float(x))) == x
        assert box.call(identity, np.full(50_000, -1.0))[5] == -1
    assert box.call(kept_sums) == [(x, x) for x in range(6)]


def test_results_that_the_rank_keeps_stay_as_they_are(box: Sandboxed) -> None:
    results = [box.call(identity, np.full(50_000, float(x))) for x in range(6)]
    views = [box.call(identity, np.full(50_000, 9.0 + x))[100:200] for x in range(3)]
    box.error(misbehaving.leave, 1)
    gc.collect()
    box.call(identity, np.full(50_000, 77.0))
    for x, result in enumerate(results):
        assert (result == x).all()
    for x, view in enumerate(views):
        assert (view == 9 + x).all()


def test_the_same_memory_serves_one_call_after_the_other(box: Sandboxed) -> None:
    for _ in range(20):
        back = box.call(identity, np.ones(1 << 20))
        del back
    child = box.sandbox._child
    assert child is not None
    assert len(child.channel.outbox._blocks) <= 2
    assert len(child.channel.inbox._blocks) <= 2


@pytest.mark.timeout(300)
def test_more_than_a_gib(box: Sandboxed) -> None:
    array = np.zeros((1 << 27) + 1000)
    array[[0, 10**6, -1]] = 1, 2, 3
    assert box.call(np.flatnonzero, array).tolist() == [0, 10**6, array.size - 1]
    child = box.sandbox._child
    assert child is not None
    assert not child.channel.outbox._blocks  # so much is not kept


def test_shared_memory_without_memfd(
    box: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.memfd_create")
    before = set(Path("/dev/shm").glob("*mpitasks*"))
    array = np.arange(100_000)
    assert (box.call(identity, array) == array).all()
    assert set(Path("/dev/shm").glob("*mpitasks*")) == before


def test_children_without_pidfd(
    box: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.pidfd_open")
    assert children.os is not None
    assert box.call(identity, 3) == 3
    assert box.error(misbehaving.leave, 4).exit_code == 4
    assert box.call(identity, 3) == 3


def test_no_memory_to_share_fails_the_task(
    box: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert box.call(identity, 3) == 3

    def refuse(name: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node_memory, "anonymous_file", refuse)
    error = box.error(identity, np.ones(100_000))
    assert isinstance(error, OSError)
    assert "No space left" in str(error)
    assert box.call(identity, 3) == 3


def test_a_block_is_free_when_its_last_array_dies() -> None:
    with nothing_left():
        outbox, inbox = Outbox(), Inbox()
        told, fds = outbox.pack([np.ones(1000), b"", np.zeros(10)])
        ones, nothing, zeros = inbox.unpack(told, fds)
        (block,) = outbox._blocks.values()
        assert (ones.nbytes, nothing.nbytes, zeros.nbytes) == (8000, 0, 80)
        part = ones[10:20]
        del ones, nothing
        assert block.used
        del zeros
        assert block.used
        again, fds = outbox.pack([b"x"])
        assert again[0] != told[0]
        assert fds
        del part
        assert not block.used
        assert outbox.pack([b"x"])[0][0] == told[0]
        del block
        outbox.close()
        inbox.clear()
