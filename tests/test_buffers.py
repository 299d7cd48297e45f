"""The pool of receive buffers: reuse, and never too early."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from mpitasks.wire.arrays import rebuild
from mpitasks.wire.buffers import SMALLEST, BufferPool

SIZE = 1 << 20


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_used_again_when_the_array_is_gone() -> None:
    pool = BufferPool()
    first = pool.take(SIZE)
    where = address(first)
    del first
    assert address(pool.take(SIZE)) == where


def test_two_arrays_at_a_time_never_share_memory() -> None:
    pool = BufferPool()
    assert not np.shares_memory(pool.take(SIZE), pool.take(SIZE))
    first = pool.take(SIZE)
    second = pool.take(SIZE)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    "derive",
    [
        lambda buffer: rebuild(buffer, "<f8", (SIZE // 8,), "C"),
        lambda buffer: rebuild(buffer, "<f8", (2, SIZE // 16), "F")[1, ::2],
        lambda buffer: buffer[10:20],
        lambda buffer: buffer.view("<i4").reshape(2, -1).T[3],
        lambda buffer: memoryview(buffer)[5:],
        lambda buffer: rebuild(buffer, "<f8", (SIZE // 8,), "C").view(
            np.ma.MaskedArray
        ),
    ],
)
def test_anything_derived_keeps_the_memory(derive) -> None:  # noqa: ANN001
    pool = BufferPool()
    derived = derive(pool.take(SIZE))
    gc.collect()
    other = pool.take(SIZE)
    assert not np.shares_memory(np.asarray(derived), other)


def test_buffers_have_the_size_asked_for_and_are_writable() -> None:
    pool = BufferPool()
    for nbytes in (0, 1, SMALLEST - 1, SMALLEST, SMALLEST + 1, 3 * SIZE + 7):
        array = pool.take(nbytes)
        assert array.nbytes == nbytes
        assert array.flags.writeable
        array[:] = 7


def test_what_nobody_uses_is_bounded() -> None:
    pool = BufferPool(keep_bytes=4 * SIZE)
    arrays = [pool.take(SIZE) for _ in range(16)]
    arrays += [pool.take(2 * SIZE) for _ in range(16)]
    assert pool._unused_bytes == 0
    while arrays:
        arrays.pop()
        assert pool._unused_bytes <= 4 * SIZE
    held = sum(block.nbytes for blocks in pool._unused.values() for block in blocks)
    assert held == pool._unused_bytes <= 4 * SIZE


def test_blocks_above_the_bound_are_not_kept() -> None:
    pool = BufferPool(keep_bytes=SIZE)
    large = pool.take(2 * SIZE)
    del large
    assert pool._unused_bytes == 0
