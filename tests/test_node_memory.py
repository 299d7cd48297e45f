"""Node memory: filled once, attached by others, changed by nobody, gone at the end."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mpitasks.wire import node_memory
from mpitasks.wire.node_memory import (
    LARGE_BYTES,
    Block,
    Mapping,
    in_block,
    is_attachable,
    reference_of,
)

LARGE = np.arange(LARGE_BYTES, dtype=np.uint8)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    gc.collect()
    before = _counts()
    yield
    gc.collect()
    assert _counts() == before


def _counts() -> tuple[int, int]:
    """Return how many descriptors and blocks this process has."""
    return len([*Path("/proc/self/fd").iterdir()]), len(node_memory._owned)


def test_a_block_has_the_bytes_of_a_buffer() -> None:
    data = LARGE.copy()
    block = Block.filled(data)
    data[:] = 0
    shared = block.shared()
    assert type(shared) is Mapping
    assert bytes(shared) == LARGE.tobytes()
    assert block.reference[0] == os.getpid()
    assert block.reference[3] == LARGE.nbytes


def test_nobody_can_change_it() -> None:
    block = Block.filled(LARGE)
    with pytest.raises(TypeError):
        block.shared()[0] = 7
    pid, fd, _, _ = block.reference
    path = f"/proc/{pid}/fd/{fd}"
    writable = os.open(path, os.O_RDWR)
    with pytest.raises(PermissionError):
        os.pwrite(writable, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(writable, 0)
    with pytest.raises(PermissionError):
        mmap.mmap(writable, 10)
    os.close(writable)


def test_private_memory_is_everybodys_own() -> None:
    block = Block.filled(LARGE)
    one, other = block.private(), block.private()
    one[:4] = b"mine"
    assert bytes(other) == bytes(block.shared()) == LARGE.tobytes()
    assert bytes(one[:4]) == b"mine"


def test_another_process_attaches_it() -> None:
    block = Block.filled(LARGE)
    code = (
        "import sys\n"
        "from mpitasks.wire.node_memory import Block\n"
        f"block = Block.attached({block.reference!r})\n"
        "print(sum(memoryview(block.shared())), block.private()[5])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(LARGE.sum()), "5"], done.stderr


def test_it_lives_as_long_as_somebody_has_it_attached() -> None:
    block = Block.filled(LARGE)
    attached = Block.attached(block.reference)
    mapped = attached.shared()
    del block, attached
    gc.collect()
    assert bytes(mapped) == LARGE.tobytes()


@pytest.mark.parametrize("wrong", ["gone", "name", "size", "number", "pid"])
def test_what_is_not_that_block_is_not_attached(wrong: str) -> None:
    block = Block.filled(LARGE)
    pid, fd, name, nbytes = block.reference
    if wrong == "gone":
        del block
        gc.collect()
    reference = (
        2**22 - 1 if wrong == "pid" else pid,
        0 if wrong == "number" else fd,
        "mpitasks-0" if wrong == "name" else name,
        nbytes - 1 if wrong == "size" else nbytes,
    )
    with pytest.raises(OSError, match="/proc/"):
        Block.attached(reference)


def test_small_buffers_get_none() -> None:
    assert in_block(LARGE[:-1]) is None


def test_a_view_tells_where_its_block_is() -> None:
    view = in_block(LARGE)
    assert view is not None
    assert view.readonly
    reference = reference_of(view)
    assert reference is not None
    assert bytes(Block.attached(reference).shared()) == LARGE.tobytes()
    assert reference_of(memoryview(LARGE)) is None
    assert reference_of(memoryview(bytearray(3))) is None
    del view


def test_without_room_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert in_block(LARGE) is None


def test_there_are_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_memory, "MOST_BLOCKS", len(node_memory._owned) + 2)
    views = [in_block(LARGE) for _ in range(3)]
    assert [view is None for view in views] == [False, False, True]
    del views[0]
    gc.collect()
    assert in_block(LARGE) is not None


def test_whose_memory_can_be_attached() -> None:
    assert is_attachable(os.getpid())
    assert not is_attachable(2**22 - 1)
