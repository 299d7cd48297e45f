"""Transport over one socket: from a script that is no rank to rank 0, its relay.

What `mpitasks.start` puts between the process that drives the run and the MPI job that
it has started (`mpitasks.launch.outside`, `mpitasks.launch.relay`). The two ends are
alike. A message goes as a header, its frame and its buffers; the header has the worker
that it is for, or from. Small messages are read many at a time; a large buffer is read
into the memory where it stays, and written from where it lies. Nothing blocks, and
nothing here knows MPI, or how the socket came to be (`mpitasks.wire.rendezvous`).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from mpitasks.errors import TransportError
from mpitasks.wire import messages
from mpitasks.wire.backoff import Backoff
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.messages import MASTER, Message
from mpitasks.wire.missing_buffers import Missing

if TYPE_CHECKING:
    from mpitasks.wire.buffers import BufferPool
    from mpitasks.wire.codec import Buffer

__all__ = ["SocketTransport"]

_HEADER = struct.Struct("=iQ")
"""The worker's rank, and the bytes of the frame."""

ROOM_BYTES = 256 << 10
"""What is read at a time. A buffer of less than half of it is copied out of there."""

SOCKET_BYTES = 4 << 20
"""What the kernel is asked to hold for a socket; it may give less."""

PARTS = 64
"""Pieces of memory in one write: the kernel takes 1,024, and few are that small."""

_NOWHERE = bytearray(64 << 10)
"""What is received over and over where a buffer does not fit into memory."""


class SocketTransport:
    """One end; see `mpitasks.wire.transport.Transport` for what the methods do.

    `send` and `poll` have the worker's rank, on both ends.

    Args:
        connection: The socket, connected; this object's from now on.
        spare_cores: Whether whoever waits here may spin for a moment.

    Attributes:
        is_closed: Whether the other end is gone: nothing more comes from there, and
            what is sent goes nowhere.
    """

    rank = MASTER
    survives = False
    doze_after = 0.0

    def __init__(self, connection: socket.socket, *, spare_cores: bool = False) -> None:
        connection.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
        self._socket = connection
        self.is_closed = False
        self._outbox: deque[tuple[memoryview, Any]] = deque()  # what, and whose memory
        self._outbox_bytes = 0
        self._room = bytearray(ROOM_BYTES)
        self._view = memoryview(self._room)
        self._start = self._end = 0  # of what was read and not used
        self._pool: BufferPool | None = None
        self._messages = self._receive()
        self._gone: set[int] = set()
        self._backoff = Backoff(spare_cores, self._sleep)
        self.wait: Callable[[float], None] = self._backoff.pause
        self._wakers = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._dozing = select.poll()
        self._dozing.register(self._wakers[0], select.POLLIN)
        self._dozing.register(connection, select.POLLIN)
        self._pause_lock = threading.Lock()

    # Sending.

    def send(self, rank: int, message: Message) -> None:
        if self.is_closed:
            return
        frame, buffers = messages.pack(message)
        head = _HEADER.pack(rank, len(frame))
        parts: list[tuple[memoryview, Any]] = [(memoryview(head + frame), None)]
        if len(frame) >= THRESHOLD:
            parts = [(memoryview(head), None), (memoryview(frame), None)]
        for buffer in buffers:
            view = memoryview(buffer)
            if view.nbytes:  # a view of nothing cannot be cast
                parts.append((view.cast("B"), buffer))
        waited = bool(self._outbox)
        for view, owner in parts:
            self._outbox.append((view, owner))
            self._outbox_bytes += view.nbytes
        if not waited:
            self._write()

    @property
    def unsent_bytes(self) -> int:
        """How many bytes the kernel has not taken yet."""
        return self._outbox_bytes

    def sending(self) -> bool:
        if self._outbox:
            self._write()
        return bool(self._outbox)

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        if not self._outbox:
            return True
        for _ in range(8):  # another thread may be writing
            with contextlib.suppress(RuntimeError):
                waiting = {id(owner) for _, owner in self._outbox}
                return not any(id(buffer) in waiting for buffer in buffers)
        return False

    def _write(self) -> None:
        """Hand to the kernel what it takes now."""
        outbox = self._outbox
        while outbox:
            parts = [outbox[at][0] for at in range(min(len(outbox), PARTS))]
            try:
                taken = self._socket.sendmsg(parts)
            except BlockingIOError:
                return
            except OSError:  # the other end is gone; it is noticed by reading, too
                self._lose_connection()
                return
            self._outbox_bytes -= taken
            while taken:
                view, owner = outbox[0]
                if taken < view.nbytes:
                    outbox[0] = view[taken:], owner
                    break
                taken -= view.nbytes
                outbox.popleft()

    # Receiving.

    def poll(self) -> tuple[int, Message] | None:
        if self._outbox:
            self._write()
        arrived = next(self._messages, None)
        if arrived is not None:
            self._backoff.idle_since = 0.0
            if arrived[0] in self._gone:
                return None
        return arrived

    def _receive(self) -> Iterator[tuple[int, Message] | None]:
        """Yield each message as it becomes complete, and None when there is none."""
        while True:
            yield from self._until(_HEADER.size)
            rank, length = _HEADER.unpack(self._take(_HEADER.size))
            if length <= ROOM_BYTES:
                yield from self._until(length)
                frame: Any = self._take(length)
            else:
                frame = yield from self._fill(length)
                if type(frame) is Missing:
                    raise TransportError(
                        f"a message of {length / 1e9:.3g} GB about rank {rank} does "
                        f"not fit into the memory of process {os.getpid()}"
                    )
            message, sizes = messages.unpack(frame)
            if sizes:
                buffers: list[Buffer] = []
                for size in sizes:
                    buffer = yield from self._fill(size)
                    buffers.append(buffer)
                message.buffers = buffers  # type: ignore[union-attr]
            yield rank, message

    def _take(self, length: int) -> memoryview:
        """Return the next bytes of what was read, which is overwritten later."""
        start = self._start
        self._start += length
        return self._view[start : start + length]

    def _until(self, length: int) -> Generator[None, None, None]:
        """Yield until so many bytes were read; they fit into the room."""
        while self._end - self._start < length:
            if self._start + length > ROOM_BYTES or self._start == self._end:
                kept = bytes(self._view[self._start : self._end])
                self._view[: len(kept)] = kept
                self._start, self._end = 0, len(kept)
            read = self._read(self._view[self._end :])
            self._end += read
            if not read:
                yield None

    def _fill(self, length: int) -> Generator[None, None, Any]:
        """Yield until a buffer of that length was read; return it."""
        if length < THRESHOLD:
            yield from self._until(length)
            return bytearray(self._take(length))
        try:
            buffer = self._take_memory(length)
        except MemoryError:
            yield from self._skip(length)
            return Missing(length, self.rank)
        view = memoryview(buffer).cast("B")
        done = min(length, self._end - self._start)
        view[:done] = self._take(done)
        while done < length:
            read = self._read(view[done:])
            done += read
            if not read:
                yield None
        return buffer

    def _skip(self, length: int) -> Generator[None, None, None]:
        done = min(length, self._end - self._start)
        self._take(done)
        while done < length:
            read = self._read(memoryview(_NOWHERE)[: length - done])
            done += read
            if not read:
                yield None

    def _take_memory(self, nbytes: int) -> Any:
        if self._pool is None:  # NumPy is loaded when the first array arrives
            try:
                from mpitasks.wire.buffers import BufferPool
            except ImportError as error:  # as the loader says it that has no memory
                raise MemoryError(f"NumPy cannot be loaded: {error}") from error

            self._pool = BufferPool()
        return self._pool.take(nbytes)

    def _read(self, into: memoryview) -> int:
        """Read what is there; return how many bytes that were."""
        if self.is_closed:
            return 0
        try:
            read = self._socket.recv_into(into)
        except BlockingIOError:
            return 0
        except OSError:
            read = 0
        if not read:
            self._lose_connection()
        return read

    def _lose_connection(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._outbox.clear()
            self._outbox_bytes = 0
            with contextlib.suppress(KeyError):
                self._dozing.unregister(self._socket)

    # The rest.

    def abandon(self, rank: int) -> None:
        self._gone.add(rank)

    def hear_peers(self) -> None:
        pass  # what workers send each other does not come here

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def disown(self) -> None:
        """In a forked child: keep the other end from taking it for this process."""
        self._lose_connection()
        self._socket.close()

    def doze(self, limit: float) -> bool:
        return self._sleep(limit)

    def _sleep(self, limit: float) -> bool:
        """Sleep until something came or can be sent, or `wake` was called."""
        end = monotonic() + limit
        # One thread at a time: the first that wakes takes a wake-up in.
        if not self._pause_lock.acquire(timeout=max(limit, 0.0)):
            return True
        try:
            events = select.POLLIN | (select.POLLOUT if self._outbox else 0)
            if not self.is_closed:
                self._dozing.modify(self._socket, events)
            ready = self._dozing.poll(max(end - monotonic(), 0.0) * 1e3)
            for fd, _ in ready:
                if fd == self._wakers[0]:
                    with contextlib.suppress(OSError):
                        os.read(fd, 4096)
            if ready:
                self._backoff.idle_since = 0.0
        except (OSError, ValueError):  # it was closed meanwhile
            pass
        finally:
            self._pause_lock.release()
        return True

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full: then whoever sleeps wakes anyway
            os.write(self._wakers[1], b".")

    def close(self) -> None:
        """Wait for what is being sent, for a bounded time; receive nothing more."""
        end = monotonic() + 5.0
        while self.sending() and monotonic() < end:
            self._sleep(0.05)
        self._lose_connection()
        self._socket.close()
        wakers, self._wakers = self._wakers, (-1, -1)
        for fd in wakers:
            if fd >= 0:
                os.close(fd)
