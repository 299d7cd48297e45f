"""Shared memory through which buffers pass between a rank and its child.

A block is anonymous memory behind a file descriptor, so it has no name that could be
left in /dev/shm: it is gone when the last process that maps it is. The sender copies
buffers into a block, once; the receiver builds arrays on it without a copy. The first
word of a block says whether the receiver still uses it; when its last array dies there,
the sender may fill the block again. That matters: fresh memory costs page faults, and
those five times as much as the copy.

A message tells what the block holds (`mpitasks.sandbox.channel`).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.runner.damage import Damaged
from mpitasks.wire.node_memory import SIZE_SEALS, anonymous_memory

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["Inbox", "Outbox"]

KEEP_BYTES = 80 << 20
"""The size of unused blocks that are kept in each direction. A block that is larger is
not kept at all. This is enough for arrays of 64 MiB."""

HEAD = mmap.PAGESIZE  # the word that says "in use", and room up to the next page
ALIGNMENT = 64
SMALLEST = 256 << 10
USED = slice(0, 1)


class _Block:
    """One piece of shared memory, mapped here.

    Attributes:
        number: What both sides call it.
        fd: Its descriptor, on the sender's side; else -1.
        memory: All of it.
    """

    def __init__(self, number: int, fd: int, nbytes: int) -> None:
        self.number = number
        self.fd = fd
        self.nbytes = nbytes
        self.memory = mmap.mmap(fd, nbytes)
        self.fresh = True

    @property
    def used(self) -> bool:
        return self.memory[USED] != b"\0"

    def close(self) -> None:
        os.close(self.fd)
        self.memory.close()


class Outbox:
    """The sender's blocks."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._known: set[int] = set()  # of these the receiver has the descriptor
        self._number = 0
        self._dropped: list[int] = []
        self._parting: list[_Block] = []  # too large to be kept

    def pack(self, buffers: Sequence[Buffer]) -> tuple[tuple[Any, ...], list[int]]:
        """Copy buffers into a block.

        Returns:
            What `Inbox.unpack` wants to know, and descriptors to send along.

        Raises:
            OSError: There is no memory for it.
        """
        views = [memoryview(buffer) for buffer in buffers]
        places = []
        at = HEAD
        for view in views:
            places.append((at, view.nbytes))
            at += -(-view.nbytes // ALIGNMENT) * ALIGNMENT
        block = self._take(at)
        for view, (start, nbytes) in zip(views, places, strict=True):
            if nbytes:
                _fill(block, start, view.cast("B"))
        block.fresh = False
        block.memory[USED] = b"\1"
        dropped, self._dropped = self._dropped, []
        told = (block.number, block.nbytes, places, dropped)
        if block.nbytes > KEEP_BYTES:
            dropped.append(block.number)
            self._parting.append(self._blocks.pop(block.number))
            return told, [block.fd]
        if block.number in self._known:
            return told, []
        self._known.add(block.number)
        return told, [block.fd]

    def sent(self) -> None:
        """What was packed has left: let go of what is not kept."""
        while self._parting:
            self._parting.pop().close()

    def forget_receiver(self) -> None:
        """The receiver is gone, and the next one knows nothing."""
        for block in self._blocks.values():
            block.memory[USED] = b"\0"
        self._known.clear()
        self._dropped.clear()
        self._trim(KEEP_BYTES)

    def close(self) -> None:
        """Let go of all blocks."""
        self.sent()
        self._trim(-1, used=True)

    def _take(self, nbytes: int) -> _Block:
        fitting = [
            block
            for block in self._blocks.values()
            if nbytes <= block.nbytes <= 2 * max(nbytes, SMALLEST) and not block.used
        ]
        if fitting:
            return min(fitting, key=lambda block: block.nbytes)
        size = max(_rounded(nbytes), SMALLEST)
        self._trim(KEEP_BYTES - size)
        fd = anonymous_memory("mpitasks", size)
        try:
            block = _Block(self._number, fd, size)
        except BaseException:
            os.close(fd)
            raise
        self._number += 1
        self._blocks[block.number] = block
        return block

    def _trim(self, keep_bytes: int, *, used: bool = False) -> None:
        """Close unused blocks, the oldest first, until the rest is small enough."""
        unused = [block for block in self._blocks.values() if used or not block.used]
        total = sum(block.nbytes for block in unused)
        for block in unused:
            if total <= keep_bytes:
                break
            total -= block.nbytes
            del self._blocks[block.number]
            if block.number in self._known:
                self._known.discard(block.number)
                self._dropped.append(block.number)
            block.close()


class Inbox:
    """The receiver's view of the blocks.

    Args:
        wary: Whether the sender may have anything sent.
    """

    def __init__(self, wary: bool = False) -> None:
        self._wary = wary
        self._blocks: dict[int, mmap.mmap] = {}

    def unpack(self, told: tuple[Any, ...], fds: Sequence[int]) -> list[Buffer]:
        """Return the buffers in a block, as arrays on top of it.

        Args:
            told: What `Outbox.pack` returned.
            fds: The descriptors that came along; they stay the caller's.

        Raises:
            Damaged: The block is none of an `Outbox`.
            OSError: The block cannot be mapped.
        """
        number, nbytes, places, dropped = told
        if fds:
            if self._wary:
                _refuse_unsealed(fds[0], nbytes)
            self._blocks[number] = mmap.mmap(fds[0], nbytes)
        memory = self._blocks[number]
        for start, size in places:
            if not HEAD <= start <= start + size <= memory.size():
                raise Damaged("a buffer outside of its block")
        arrays = _Loan(memory).buffers(places)
        for old in dropped:
            self._blocks.pop(old, None)
        return arrays

    def clear(self) -> None:
        """The sender is gone. What was built on its blocks stays."""
        self._blocks.clear()


def _refuse_unsealed(fd: int, nbytes: int) -> None:
    """See to it that the memory is there, and stays there.

    Raises:
        Damaged: It may not.
        OSError: It is no memory.
    """
    if os.fstat(fd).st_size < nbytes:
        raise Damaged("a block that is shorter than it says")
    if hasattr(os, "memfd_create"):
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if seals & SIZE_SEALS != SIZE_SEALS:
            raise Damaged("a block that could be cut off")


class _Loan:
    """A filled block; given back when the last array on top of it dies."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._left = 0

    def buffers(self, places: list[tuple[int, int]]) -> list[Buffer]:
        import numpy as np  # what sends large buffers has loaded it

        view = memoryview(self._memory)
        arrays = []
        self._left = len(places) + 1
        for start, nbytes in places:
            # Over a memoryview: see `mpitasks.wire.buffers`.
            array = np.frombuffer(view[start : start + nbytes], np.uint8)
            weakref.finalize(array, self._release).atexit = False
            arrays.append(array)
        self._release()
        return arrays

    def _release(self) -> None:
        self._left -= 1
        if not self._left:
            self._memory[USED] = b"\0"


def _fill(block: _Block, start: int, view: memoryview) -> None:
    """Copy bytes into a block; into fresh memory the kernel does it twice as fast."""
    if not block.fresh:
        block.memory[start : start + view.nbytes] = view
        return
    done = 0
    while done < view.nbytes:
        done += os.pwrite(block.fd, view[done:], start + done)


def _rounded(nbytes: int) -> int:
    """Return the size of a block for `nbytes`: at most an eighth more."""
    step = max(mmap.PAGESIZE, 1 << (nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
