"""The results that a worker keeps, and how it gets those of others.

A task with ``keep=True`` leaves its result here if that is large. The task's outcome is
then a `Kept`, which says where it is. Tasks that have such a `Kept` among their
arguments get a copy of the result before they run. Rank 0 says when a result is needed
no longer.

The loop and the listener call this under the worker's lock. `obtain` lets go of it
while it copies.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from mpitasks.errors import DataLost
from mpitasks.wire.messages import KEPT, VALUE, Fetch, Fetched, HolderGone, Release

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpitasks.wire.kept import Kept, Parts
    from mpitasks.wire.outcomes import Form
    from mpitasks.wire.peer_memory import Guard
    from mpitasks.wire.transport import Transport

__all__ = ["DataMessage", "KeptResults"]

DataMessage = Fetch | Fetched | Release | HolderGone

LONGEST_SCAN_BYTES = 1 << 20
"""A longer frame that refers to the script is not looked through: its result is not
kept."""

WAIT_SECONDS = 0.05

TRIM_BYTES = 32 << 20
"""When so much was let go of, the C library is told to give free memory back to the
system. By itself it keeps what lies between other things."""


class KeptResults:
    """The kept results of one worker.

    Args:
        transport: How to reach the other ranks.
        lock: The worker's lock.
    """

    def __init__(self, transport: Transport, lock: threading.Lock) -> None:
        self._transport = transport
        self._lock = lock
        self._held: dict[int, tuple[Parts, Guard]] = {}
        self._fetched: dict[int, Fetched] = {}
        self._unreadable: set[int] = set()  # ranks whose memory cannot be read here
        self._gone: dict[int, str] = {}  # ranks that are dead, and how they died
        self._is_open = False
        self._freed = 0  # bytes, since memory was given back to the system

    def keep(self, task_id: int, form: Form) -> Form:
        """Keep what a task came to, if it is a large value.

        Returns:
            What is reported: the form as it is given, or where the value is.
        """
        kind, frame, buffers = form
        if kind != VALUE:
            return form
        from mpitasks.wire import kept, peer_memory

        parts = (frame, buffers)
        nbytes = len(frame) + sum([memoryview(b).nbytes for b in buffers])
        if nbytes < kept.KEEP_BYTES:
            return form
        names: tuple[str, ...] = ()
        if b"__main__" in frame:
            if len(frame) > LONGEST_SCAN_BYTES:
                return form
            names = kept.names_in(frame)
        if not self._is_open:
            peer_memory.allow_readers()
            self._open()
        is_small = len(frame) < kept.KEEP_BYTES
        spans = [peer_memory.span_of(buffer) for buffer in buffers]
        if not is_small:
            spans.insert(0, peer_memory.span_of(frame))
        guard = peer_memory.Guard()
        self._held[task_id] = parts, guard
        told = kept.Kept(
            task_id,
            self._transport.rank,
            frame if is_small else None,
            tuple(spans),
            guard.origin,
            names,
        )
        return KEPT, told, []

    def receive(self, message: DataMessage) -> None:
        """Take in a message of rank 0, or of another worker, about kept results."""
        if type(message) is Release:
            for id in message.ids:
                self.release(id)
        elif type(message) is Fetch:
            held = self._held.get(message.id)
            answer = Fetched(message.id, is_there=False)
            if held is not None:
                parts, _ = held
                answer = Fetched(message.id, True, [parts[0], *parts[1]])
            self._transport.send(message.rank, answer)
        elif type(message) is Fetched:
            self._fetched[message.id] = message
        elif type(message) is HolderGone:
            self._gone[message.rank] = message.how

    def release(self, id: int) -> None:
        """Let go of a result."""
        held = self._held.pop(id, None)
        if held is None:
            return
        (frame, buffers), guard = held
        guard.wipe()
        self._freed += len(frame) + sum([memoryview(b).nbytes for b in buffers])
        del held, frame, buffers
        if self._freed >= TRIM_BYTES:
            self._freed = 0
            _trim()

    def lose(self, rank: int) -> None:
        """Take note that a worker is dead, if rank 0 has not said so."""
        self._gone.setdefault(rank, f"rank {rank} died")

    def obtain(self, kept: Kept, take_in: Callable[[], object]) -> Parts:
        """Return a copy of a kept result.

        Or the result itself, if the task at hand is the last that needs it: `release`
        it then, before that runs.

        Args:
            kept: The result.
            take_in: Receives one message, if one is there.

        Raises:
            DataLost: It is nowhere any more.
            MemoryError: There is no room for it.
        """
        from mpitasks.wire.kept import copy_of, read

        held = None
        if kept.rank == self._transport.rank:
            held = self._held.get(kept.id)
            if held is None:
                raise _lost(kept, "its worker does not have it any more")
        elif kept.rank in self._gone:
            raise _lost(kept, self._gone[kept.rank])
        if held is not None or kept.rank not in self._unreadable:
            self._lock.release()
            try:
                if held is None:
                    parts = read(kept)
                else:
                    # Who asked for it may have given up while it was being sent.
                    is_still = self._transport.sent(held[0][1])
                    is_last = kept.is_last and is_still
                    parts = copy_of(held[0], is_last=is_last)
            finally:
                self._lock.acquire()
            if parts is not None:
                return parts
        parts = self._fetch(kept, take_in)
        self._unreadable.add(kept.rank)  # it is alive, and yet it was not read
        return parts

    def _fetch(self, kept: Kept, take_in: Callable[[], object]) -> Parts:
        self._open()
        self._transport.send(kept.rank, Fetch(self._transport.rank, kept.id))
        while kept.id not in self._fetched:
            if kept.rank in self._gone:
                raise _lost(kept, self._gone[kept.rank])
            if not take_in():
                self._transport.wait(WAIT_SECONDS)
        parts = self._fetched.pop(kept.id).parts
        if parts is None:
            raise _lost(kept, f"rank {kept.rank} does not have it any more")
        return parts

    def _open(self) -> None:
        """Hear other workers from now on."""
        if not self._is_open:
            self._is_open = True
            self._transport.hear_peers()


def _trim() -> None:
    """Give memory that is free in this process back to the system."""
    import ctypes

    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _lost(kept: Kept, how: str) -> DataLost:
    return DataLost(f"the kept result of task {kept.id} is lost: {how}")
