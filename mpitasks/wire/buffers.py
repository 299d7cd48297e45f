"""Memory to receive into, used again once nothing refers to it.

Where the bytes land decides the rate of a large receive: fresh memory costs a page
fault for every 4 KiB (or 2 MiB), memory that was touched before costs nothing. So a
block comes back to the pool when the last array on top of it dies, and the next
message of about that size lands in it. Blocks that nobody uses are bounded in bytes.

What is handed out is a NumPy array over a *memoryview* of the block, never over the
block itself: NumPy lets a derived array refer to the deepest array below it, and only
a base of another type keeps that from being the block, which would seem free then.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any

import numpy as np

__all__ = ["BufferPool", "is_lent", "lent"]

Block = np.ndarray[Any, Any]

KEEP_BYTES = 64 << 20
"""Unused blocks are kept up to this many bytes; larger blocks are not kept at all."""

SMALLEST = 64 << 10

_lent: set[int] = set()
"""Ids of the arrays that pools have handed out and that are alive."""


class BufferPool:
    """Blocks of memory for received buffers.

    Blocks come back in whatever thread their last array dies in. All that is shared
    is changed by single operations, which the interpreter does not interrupt.

    Args:
        keep_bytes: How many bytes of unused blocks to keep.
    """

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self._keep_bytes = keep_bytes
        self._unused: OrderedDict[int, list[Block]] = OrderedDict()
        self._unused_bytes = 0

    def take(self, nbytes: int) -> Block:
        """Return a writable array of `nbytes` bytes, with whatever they contain."""
        if nbytes < SMALLEST or nbytes > self._keep_bytes:
            return np.empty(nbytes, np.uint8)
        size = _rounded(nbytes)
        try:
            block = self._unused[size].pop()
            self._unused_bytes -= size
        except (KeyError, IndexError):
            block = np.empty(size, np.uint8)
        array = np.frombuffer(block.data[:nbytes], np.uint8)
        number = id(array)
        _lent.add(number)
        weakref.finalize(array, self._give_back, block, number).atexit = False
        return array

    def _give_back(self, block: Block, number: int) -> None:
        _lent.discard(number)
        size = block.nbytes
        while self._unused_bytes + size > self._keep_bytes:
            if not self._drop_one():
                return
        self._unused.setdefault(size, []).append(block)
        self._unused_bytes += size

    def _drop_one(self) -> bool:
        """Let go of a block of the size that was first in use; return whether."""
        for size, blocks in list(self._unused.items()):
            try:
                blocks.pop()
            except IndexError:
                self._unused.pop(size, None)
                continue
            self._unused_bytes -= size
            return True
        return False


def is_lent(array: Block) -> bool:
    """Whether the array is one that a pool has handed out, memory and all."""
    return id(array) in _lent


def lent(view: memoryview) -> Block:
    """Return an array over memory that nothing else refers to: as a pool hands it out.

    Args:
        view: The memory, writable.
    """
    array = np.frombuffer(view, np.uint8)
    link: Any = view.obj
    while type(link) is np.ndarray:  # memory that goes from task to task is lent once
        if is_lent(link):
            if _span(link) == _span(array):
                return link
            break
        link = link.base
    number = id(array)
    _lent.add(number)
    weakref.finalize(array, _lent.discard, number).atexit = False
    return array


def _span(array: Block) -> tuple[int, int]:
    return array.ctypes.data, array.nbytes


def _rounded(nbytes: int) -> int:
    """Return the size of block for this many bytes: at most an eighth more."""
    step = max(SMALLEST, 1 << (nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
