"""Transport over MPI point-to-point: what is sent while tasks run.

Frames travel with one tag, buffers with another, all on a private duplicate of the
world. A frame says how many buffers follow and how long they are, and since MPI keeps
the order of a pair of ranks, posting their receives in the order of the frames matches
them. A message is handed out when its last buffer is there; meanwhile messages of
other ranks go on. Buffers are cut into segments, because counts of MPI before 4.0 end
at 2 GiB, and to keep a rank responsive.

Importing this module initialises MPI, unless the user did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, perf_counter, sleep  # a task may patch the module
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mpitasks.errors import TransportError
from mpitasks.wire import messages
from mpitasks.wire.backoff import SLEEP_FIRST, SLEEP_LAST, Backoff
from mpitasks.wire.codec import THRESHOLD, Buffer
from mpitasks.wire.inboxes import (
    FRAME_BYTES,
    TAG_FRAME,
    TAG_PEER,
    Deaf,
    Posted,
    Probed,
)
from mpitasks.wire.messages import Announcement, Lost, Message
from mpitasks.wire.missing_buffers import Missing
from mpitasks.wire.transfers import Sends, take_done
from mpitasks.wire.ulfm import Failures, Send, is_over, still_pending
from mpitasks.wire.world import (
    abort,
    degraded,
    finalize,
    gather_hellos,
    hold_finalize,
    led_by,
    let_finalize,
    library_version,
    must_abort,
    note_gone,
    private,
    say_hello,
    threads_allowed,
    threads_may_overlap,
    welcome,
    workers_of,
    world,
)

if TYPE_CHECKING:
    from mpitasks.wire.buffers import BufferPool
    from mpitasks.wire.wakeup import Wakeup

__all__ = [
    "MpiTransport",
    "abort",
    "degraded",
    "finalize",
    "gather_hellos",
    "hold_finalize",
    "led_by",
    "let_finalize",
    "library_version",
    "must_abort",
    "note_gone",
    "private",
    "say_hello",
    "threads_allowed",
    "threads_may_overlap",
    "welcome",
    "workers_of",
    "world",
]

SEGMENT_BYTES = 256 << 20

FRAMES_UNREAPED = 32
"""So many sent frames are kept before MPI is asked which are gone: asking costs as
much for one as for all."""

LOOKS_NOWHERE = 256
"""The same for what is received into nowhere, which moves in small pieces."""

LOOKS = 8
"""So often in all MPI is asked in a row whether buffers are there: over TCP it moves a
part of them at each look. With one look a turn 16 MiB take half as long again."""

TAG_BUFFER = 2

_NOWHERE = bytearray(64 << 10)
"""What is received over and over where a buffer does not fit into memory."""


class _Incoming:
    """A message whose buffers are still arriving."""

    __slots__ = ("buffers", "lost", "message", "requests")

    def __init__(
        self,
        message: Message,
        buffers: list[Buffer],
        requests: deque[MPI.Request],
    ) -> None:
        self.message = message
        self.buffers = buffers
        self.requests = requests
        self.lost = any(type(buffer) is Missing for buffer in buffers)


class MpiTransport:
    """One rank's end; see `mpitasks.wire.transport.Transport` for what the methods do.

    Args:
        comm: A communicator that nobody else uses.
        peers: The ranks that messages come from.
        spare_cores: Whether every rank of this node has a core of its own.
        bell: What wakes this rank and others, if the system has it.
        survives: Whether this MPI goes on when a rank dies, and says so.
        alone: Whether all ranks are on this host.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        peers: Sequence[int],
        spare_cores: bool,
        wakeup: Wakeup | None = None,
        *,
        survives: bool = False,
        alone: bool = True,
    ) -> None:
        self._alone = alone
        self._peers = frozenset(peers)
        self._others: Probed | None = None  # what hears ranks beside these
        self.rank: int = comm.Get_rank()
        self._comm = comm
        self._backoff = Backoff(spare_cores, self._await_wakeup)
        self.wait = self._backoff.pause
        self._wakeup = wakeup
        # A ring costs some 60 us, so only whom it may wake: a rank of this host, which
        # waits as this one does, and was sent nothing for half as long as it takes.
        self.doze_after = self._backoff.doze_after
        self._ring_after = self.doze_after / 2
        self._last_sent: dict[int, float] = {}  # when, to whom; for the bell
        if wakeup is not None:
            for peer in peers:
                wakeup.ring(peer)  # so that it knows that it can be rung
        self._inbox: Posted | Probed | Deaf
        self._inbox = Posted(comm, peers[0]) if len(peers) == 1 else Probed(comm)
        self._pool: BufferPool | None = None
        # Per source, messages not yet complete, or behind such a one.
        self._incoming: dict[int, deque[_Incoming]] = {}
        # Per source, sizes out of an announcement of several frames.
        self._announced: dict[int, list[int]] = {}
        self._frames: list[Send] = []
        self._buffers = Sends()
        # Of ranks that are gone.
        self.survives = survives
        self._failures = Failures(comm) if survives else None
        self._failed: deque[int] = deque()  # reported by MPI, not yet by us
        self._gone: set[int] = set()
        self._remains: list[Send] = []  # memory that MPI may still touch
        if survives:
            self.poll = self._poll_surviving
        else:
            self.poll = self._poll

    def send(self, rank: int, message: Message) -> None:
        began = perf_counter()
        frame, buffers = messages.pack(message)
        if len(frame) > FRAME_BYTES:
            buffers = [frame, *buffers]
            *rest, frame = messages.announce(buffers)
            for part in rest:
                self._send_frame(rank, part)
        self._send_frame(rank, frame)
        if len(self._frames) > FRAMES_UNREAPED:
            self.sending()
        for buffer in buffers:
            for segment in _segments(buffer):
                request = self._send(rank, segment, TAG_BUFFER)
                if request is not None:
                    self._buffers.add(rank, request, buffer)
        if self._wakeup is not None:
            # From before that message to after this one: then this one was there
            # before the rank could go to sleep, however long we were interrupted.
            silence = perf_counter() - self._last_sent.get(rank, 0.0)
            if silence > self._ring_after:
                self._wakeup.ring(rank)
            self._last_sent[rank] = began

    poll: Callable[[], tuple[int, Message] | None]

    def _poll(self) -> tuple[int, Message] | None:
        seconds = 0.0
        if self._backoff.idle_since and not self._incoming:
            seconds = self._backoff.look_seconds
        if self._buffers and self._buffers.reap():
            self._backoff.idle_since = 0.0
        if self._incoming:
            complete = self._next_complete()
            if complete is not None:
                self._backoff.idle_since = 0.0
                return complete
        while (arrived := self._take(seconds)) is not None:
            self._backoff.idle_since = seconds = 0.0
            source, (message, sizes) = arrived
            if not sizes and source not in self._incoming:
                return source, message
            if type(message) is Announcement:
                sizes = [*self._announced.pop(source, ()), *sizes]
                if message.more:
                    self._announced[source] = sizes
                    continue
            self._expect(source, message, sizes)
            complete = self._next_complete()
            if complete is not None:
                return complete
        if self._frames and self._backoff.idle_since:
            _reap(self._frames)  # so that nothing is on its way when it sleeps
        return None

    def _take(self, seconds: float) -> Any:
        """Return the source and what is in its frame, if one is there."""
        arrived = self._inbox.take(seconds)
        if arrived is None and self._others is not None:
            arrived = self._others.take(0.0)
        return arrived

    def _poll_surviving(self) -> tuple[int, Message] | None:
        """Poll; after the last message of a rank that MPI says is dead, say so."""
        arrived = None
        try:
            while (arrived := self._poll()) is not None:
                if arrived[0] not in self._gone:
                    return arrived
        except MPI.Exception as error:
            self._learn(error)
        if self._failed:
            return self._failed.popleft(), Lost()
        if self._remains:
            self._remains = still_pending(self._remains)
        return None

    def _learn(self, error: MPI.Exception) -> None:
        """Take note of who is dead after a call raised `error`."""
        if self._failures is None:
            raise error
        for rank in self._failures.learn(error):
            self._incoming.pop(rank, None)
            if isinstance(self._inbox, Posted) and rank in self._peers:
                self._inbox = Deaf()
            if rank in self._gone:
                note_gone(rank, reported=True)
            else:
                self._failed.append(rank)
        for sends in (self._frames, self._remains):
            sends[:] = still_pending(sends)
        self._buffers.sift(is_over)

    def hear_peers(self) -> None:
        if self._others is None and type(self._inbox) is not Probed:
            self._others = Probed(self._comm, TAG_PEER)
            if not self._alone and self._wakeup is not None:
                self._wakeup.distrust()  # a rank of another host cannot ring it

    def abandon(self, rank: int) -> None:
        self._gone.add(rank)
        known = self._failures is not None and rank in self._failures.known
        note_gone(rank, reported=known)
        self.poll = self._poll_surviving  # which looks who has sent what came
        self._announced.pop(rank, None)
        for incoming in self._incoming.pop(rank, ()):
            # MPI may still write there, if it does not know yet.
            self._remains += [(r, incoming.buffers, rank) for r in incoming.requests]
        self._remains += [(*send, rank) for send in self._buffers.take(rank)]
        self._remains += [send for send in self._frames if send[2] == rank]
        self._frames[:] = [send for send in self._frames if send[2] != rank]

    def doze(self, limit: float) -> bool:
        if self._wakeup is None or not self._wakeup.trusted:
            sleep(min(limit, SLEEP_LAST))
            return False
        if self._needs_help():
            sleep(min(limit, SLEEP_FIRST))
            return False
        return self._wakeup.wait(limit)

    def wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.ring(self.rank)

    def also_wakes(self, fd: int) -> None:
        """Have a pause end, too, when there is something to read from a file."""
        if self._wakeup is not None:
            self._wakeup.watch(fd)

    def _needs_help(self) -> bool:
        """Whether something is on its way that this rank must look after."""
        return bool(self._incoming or self._buffers or self._frames)

    def _await_wakeup(self, limit: float) -> bool:
        """Sleep until a wake-up rings; return whether that was possible."""
        wakeup = self._wakeup
        if wakeup is None or self._needs_help() or not wakeup.trusted:
            return False
        if wakeup.wait(limit):
            # One look may not be enough to find what came: MPI makes its progress in
            # small steps.
            self._backoff.idle_since = 0.0
        return True

    def sending(self) -> bool:
        try:
            if self._frames:
                _reap(self._frames)
            if self._buffers:
                self._buffers.reap()
        except MPI.Exception as error:
            self._learn(error)
        return bool(self._frames or self._buffers)

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        return not self._buffers.any_of(reversed(buffers))  # the last leaves last

    def close(self) -> None:
        """Wait for what is being sent, for a bounded time; receive nothing more.

        The communicator is freed by `MPI_Finalize`; freeing it here would be one
        more collective call for a dead rank to hang.
        """
        end = monotonic() + 5.0
        while self.sending() and monotonic() < end:
            sleep(0)
        if not self._gone:
            self._inbox.close()
        self.poll = lambda: None  # MPI may be gone before the threads of the script
        if self._wakeup is not None:
            self._wakeup.close()

    def _send_frame(self, rank: int, frame: bytes) -> None:
        tag = TAG_FRAME if rank in self._peers else TAG_PEER
        request = self._send(rank, frame, tag)
        if request is not None:
            self._frames.append((request, frame, rank))

    def _send(self, rank: int, part: Buffer, tag: int) -> MPI.Request | None:
        """Start sending; return None if the rank turns out to be dead."""
        try:
            return self._comm.Isend((part, MPI.BYTE), rank, tag)
        except MPI.Exception as error:
            if self._failures is None:
                reason = f"sending to rank {rank} failed: {error}"
                raise TransportError(reason) from error
            self._learn(error)
            return None

    def _expect(self, source: int, message: Message, sizes: Sequence[int]) -> None:
        """Post the receives for a message's buffers and put it in its line."""
        if source in self._gone:
            return
        buffers: list[Buffer] = []
        requests: deque[MPI.Request] = deque()
        for size in sizes:
            try:
                buffer = self._take_buffer(size)
            except MemoryError:
                buffers.append(Missing(size, self.rank))
                requests += self._receive_nowhere(source, size)
                continue
            buffers.append(buffer)
            for segment in _segments(buffer):
                request = self._comm.Irecv([segment, MPI.BYTE], source, TAG_BUFFER)
                requests.append(request)
        line = self._incoming.setdefault(source, deque())
        line.append(_Incoming(message, buffers, requests))

    def _take_buffer(self, nbytes: int) -> Buffer:
        if nbytes < THRESHOLD:
            return bytearray(nbytes)
        if self._pool is None:  # NumPy is loaded when the first array arrives
            try:
                from mpitasks.wire.buffers import BufferPool
            except ImportError as error:  # as the loader says it that has no memory
                raise MemoryError(f"NumPy cannot be loaded: {error}") from error

            self._pool = BufferPool()
        return self._pool.take(nbytes)

    def _receive_nowhere(self, source: int, nbytes: int) -> list[MPI.Request]:
        """Receive a buffer that there is no memory for, each piece over the last."""
        requests = []
        for start in range(0, nbytes, SEGMENT_BYTES):
            pieces = -(-min(SEGMENT_BYTES, nbytes - start) // len(_NOWHERE))
            layered = MPI.BYTE.Create_hvector(pieces, len(_NOWHERE), 0).Commit()
            where = [_NOWHERE, 1, layered]
            requests.append(self._comm.Irecv(where, source, TAG_BUFFER))
            layered.Free()  # MPI does so once the message is there
        return requests

    def _next_complete(self) -> tuple[int, Message] | None:
        """Return a message that is first in its line and has all its buffers."""
        fewer = max(LOOKS // max(len(self._incoming), 1), 1)
        for source, line in self._incoming.items():
            first = line[0]
            looks = LOOKS_NOWHERE if first.lost else fewer
            if first.requests:
                if take_done(first.requests, looks):
                    self._backoff.idle_since = 0.0
                if first.requests:
                    continue
            line.popleft()
            if not line:
                del self._incoming[source]
            message, buffers = first.message, first.buffers
            if type(message) is Announcement:
                if type(buffers[0]) is Missing:
                    raise TransportError(
                        f"a message of {len(buffers[0]) / 1e9:.3g} GB from rank "
                        f"{source} does not fit into the memory of rank {self.rank}"
                    )
                message, _ = messages.unpack(buffers[0])
                buffers = buffers[1:]
            if buffers:
                message.buffers = buffers  # type: ignore[union-attr]
            return source, message
        return None


def _reap(sends: list[Send]) -> None:
    """Let go of what is sent."""
    done = MPI.Request.Testsome([request for request, _, _ in sends])
    if done:
        finished = set(done)
        sends[:] = [send for at, send in enumerate(sends) if at not in finished]


def _segments(buffer: Buffer) -> Iterator[Any]:
    view = memoryview(buffer)
    if not view.nbytes:
        return  # nothing to send, and a view of nothing cannot be cast
    view = view.cast("B")
    for start in range(0, view.nbytes, SEGMENT_BYTES):
        yield view[start : start + SEGMENT_BYTES]
