"""Large arguments that wait: what they were when they were taken, in bounded memory.

The large buffers of a pickled argument are the user's own memory, which may change as
soon as `submit` returns, or the iterable goes on. So either they are sent before, if a
worker has nothing to do. Or they are copied into memory that was used before; once for
all calls that pass the same memory unchanged, which a comparison tells. What the copies
take is bounded: beyond it, whoever brings more waits, driving the run.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.wire.owning import copied, is_inert, unshared

if TYPE_CHECKING:
    from mpitasks.master.calls import Call
    from mpitasks.master.pump import Pump
    from mpitasks.wire.buffers import BufferPool
    from mpitasks.wire.codec import Buffer

__all__ = ["WAITING_BYTES", "Keeper", "nbytes_of"]

WAITING_BYTES = 1 << 30
"""Large arguments of calls and items that are not done take so many bytes at most,
unless a single one is larger."""

UNUSED_BYTES = 128 << 20
"""So much memory of copies is kept for the next ones."""

COMPARED_BYTES = 1 << 20  # at a time, so that what differs is found out early

BLOCK_SECONDS = 0.001
"""Who waits while another thread drives looks again after so long."""


class Keeper:
    """Keeps what is to be sent as it is.

    Args:
        pump: What it drives while there is no room; None for room without end.

    Attributes:
        nbytes: What it keeps now, in bytes.
    """

    def __init__(self, pump: Pump | None = None) -> None:
        self._pump = pump
        self._pool: BufferPool | None = None
        self._copies: weakref.WeakValueDictionary[tuple[int, int], Any] = (
            weakref.WeakValueDictionary()
        )
        self.nbytes = 0

    def submit(self, call: Call) -> None:
        """Submit a call with large arguments; it has its own when this returns.

        Raises:
            BaseException: The run was halted, or interrupted, while it waited.
        """
        pump = self._pump
        assert pump is not None
        buffers = call.buffers
        nbytes = nbytes_of(buffers)
        # Another attempt would be sent from memory that has changed since.
        once = nbytes > 0 and not (call.options.retries or pump.survives)

        def may_go() -> bool:
            return self.has_room(nbytes) or (once and pump.idle)

        while True:
            if once and pump.idle:
                if pump.send_at_once(call):
                    self._wait(lambda: pump.sent(buffers))
                    call.buffers = []
                    return
                once = False  # it has a time limit, or the job is about to end
            if self.has_room(nbytes) or pump.engine.error is not None:
                break
            self._wait(may_go)
        call.buffers = self.keep(buffers)
        pump.submit(call)

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes more may wait."""
        return not (self.nbytes and nbytes) or self.nbytes + nbytes <= WAITING_BYTES

    def make_room(self, nbytes: int, given_up: Callable[[], bool]) -> None:
        """Wait until so many bytes more may wait.

        Args:
            nbytes: How many.
            given_up: Whether nobody wants them any more.
        """
        if self._pump is not None and not self.has_room(nbytes):
            self._wait(lambda: self.has_room(nbytes) or given_up())

    def keep(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Return buffers with the same bytes that nobody changes.

        Raises:
            MemoryError: There is no memory for a copy.
        """
        return [self._kept(buffer) for buffer in buffers]

    def keep_of(self, box: list[Any], buffers: list[Buffer]) -> list[Buffer]:
        """As `keep`, where an object is let go of that nobody else may refer to.

        Args:
            box: The object alone, which is taken out.
            buffers: Its buffers.
        """
        if not is_inert(box[0]):
            kept = self.keep(buffers)
            box.clear()
            return kept
        box.clear()
        own_ones = []
        for buffer in buffers:
            if unshared(buffer):
                self._count(buffer)
                own_ones.append(buffer)
            else:
                own_ones.append(self._kept(buffer))
        return own_ones

    def _wait(self, done: Callable[[], bool]) -> None:
        pump = self._pump
        assert pump is not None
        pump.drive(
            lambda: done() or pump.engine.error is not None,
            lambda seconds: time.sleep(min(seconds, BLOCK_SECONDS)),
        )

    def _kept(self, buffer: Buffer) -> Buffer:
        if type(getattr(buffer, "obj", None)) is bytes:
            return buffer
        import numpy as np

        source = np.frombuffer(buffer, np.uint8)
        key = source.ctypes.data, source.nbytes
        known = self._copies.get(key)
        if known is not None and _equal(known, source):
            return known
        if self._pool is None:
            from mpitasks.wire.buffers import BufferPool

            self._pool = BufferPool(UNUSED_BYTES)
        copy = self._copies[key] = copied(buffer, self._pool)
        self._count(copy)
        return copy

    def _count(self, buffer: Any) -> None:
        """Count a buffer as long as it is kept."""
        holder = buffer.obj if type(buffer) is memoryview else buffer
        nbytes = memoryview(buffer).nbytes
        try:
            weakref.finalize(holder, self._release, nbytes).atexit = False
        except TypeError:  # bytes, which nobody copies either
            return
        self.nbytes += nbytes

    def _release(self, nbytes: int) -> None:
        self.nbytes -= nbytes


def nbytes_of(buffers: Sequence[Buffer]) -> int:
    """Return what buffers take that can change; the others are nobody's copy."""
    return sum(
        memoryview(buffer).nbytes
        for buffer in buffers
        if type(getattr(buffer, "obj", None)) is not bytes
    )


def _equal(known: Any, source: Any) -> bool:
    """Whether two arrays of bytes are equal."""
    import numpy as np

    whole = known.nbytes - known.nbytes % 8
    words = known[:whole].view(np.uint64), source[:whole].view(np.uint64)
    step = COMPARED_BYTES // 8
    return np.array_equal(known[whole:], source[whole:]) and all(
        np.array_equal(words[0][at : at + step], words[1][at : at + step])
        for at in range(0, whole // 8, step)
    )
