"""Large arguments that wait: kept as they were when they were taken, in bounded memory.

The large buffers of a pickled argument are the user's own memory, which may change as
soon as `submit` returns, or the iterable goes on. If a worker has nothing to do, they
are sent before that. Else they are copied, into memory that was used before; once for
all calls that pass the same memory unchanged, which a comparison tells. The copies have
a bound: beyond it, the thread that brings more waits, and drives the run.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mpitasks.wire.ownership import copied, is_inert, unshared

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Task
    from mpitasks.wire.buffers import BufferPool
    from mpitasks.wire.codec import Buffer

__all__ = ["WAITING_BYTES", "ArgumentMemory", "nbytes_of"]

WAITING_BYTES = 1 << 30
"""Large arguments of calls and items that are not done take at most this many bytes,
unless a single one is larger."""

UNUSED_BYTES = 128 << 20
"""Bytes of memory of old copies that are kept for the next ones."""

COMPARED_BYTES = 1 << 20  # at a time, so that what differs is found out early

BLOCK_SECONDS = 0.001
"""A thread that waits while another one drives looks again after this time."""


class Sender(Protocol):
    """What it needs of the event loop."""

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do, and no task waits for one."""

    @property
    def survives(self) -> bool:
        """Whether the run goes on when a rank dies."""

    @property
    def error(self) -> BaseException | None:
        """Why the engine is broken, if it is."""

    def submit(self, task: Task) -> None:
        """Take a call in."""

    def send_at_once(self, task: Task) -> bool:
        """Send a call to a worker that has nothing to do; return whether that is so."""

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        """Whether none of these buffers is on its way any more."""

    def drive(self, done: Callable[[], bool], block: Callable[[float], object]) -> bool:
        """Poll until `done`."""


class ArgumentMemory:
    """Keeps what is to be sent as it is.

    Args:
        event_loop: What it drives while there is no room; None for room without end.

    Attributes:
        event_loop: As given.
        nbytes: What it keeps now, in bytes.
        waited: Seconds for which the script had to wait for room.
    """

    def __init__(self, event_loop: Sender | None = None) -> None:
        self.event_loop = event_loop
        self.waited = 0.0
        self._pool: BufferPool | None = None
        self._copies: weakref.WeakValueDictionary[tuple[int, int], Any] = (
            weakref.WeakValueDictionary()
        )
        self.nbytes = 0

    def submit(self, task: Task) -> None:
        """Submit a call with large arguments; it has its own when this returns.

        Raises:
            BaseException: The run was halted, or interrupted, while it waited.
        """
        event_loop = self.event_loop
        assert event_loop is not None
        call = task.payload
        buffers = call.buffers
        nbytes = nbytes_of(buffers)
        # Another attempt would be sent from memory that has changed since.
        once = nbytes > 0 and not (call.options.retries or event_loop.survives)

        def may_go() -> bool:
            return self.has_room(nbytes) or (once and event_loop.idle)

        while True:
            if once and event_loop.idle:
                if event_loop.send_at_once(task):
                    self._wait(lambda: event_loop.sent(buffers))
                    call.buffers = []
                    return
                once = False  # it has a time limit, or the job is about to end
            if self.has_room(nbytes) or event_loop.error is not None:
                break
            self._wait(may_go)
        call.buffers = self.keep(buffers)
        event_loop.submit(task)

    def has_room(self, nbytes: int) -> bool:
        """Whether this many bytes more may wait."""
        return not (self.nbytes and nbytes) or self.nbytes + nbytes <= WAITING_BYTES

    def make_room(self, nbytes: int, given_up: Callable[[], bool]) -> None:
        """Wait until this many bytes more may wait.

        Args:
            nbytes: How many.
            given_up: Tells whether they are no longer wanted.
        """
        if self.event_loop is not None and not self.has_room(nbytes):
            self._wait(lambda: self.has_room(nbytes) or given_up())

    def keep(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Return buffers with the same bytes that do not change.

        Raises:
            MemoryError: There is no memory for a copy.
        """
        return [self._kept(buffer) for buffer in buffers]

    def keep_of(self, box: list[Any], buffers: list[Buffer]) -> list[Buffer]:
        """As `keep`, for the buffers of an object that is let go of here.

        They are not copied if no other reference to the object is left.

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
        event_loop = self.event_loop
        assert event_loop is not None
        began = time.monotonic()
        try:
            event_loop.drive(
                lambda: done() or event_loop.error is not None,
                lambda seconds: time.sleep(min(seconds, BLOCK_SECONDS)),
            )
        finally:
            self.waited += time.monotonic() - began

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
    """Return the bytes of those buffers that can change: only these are copied."""
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
