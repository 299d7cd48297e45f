"""Transport over MPI point-to-point. All of the engine's MPI is here.

Frames travel with one tag, buffers with another, all on a private duplicate of the
world. A frame says how many buffers follow and how long they are, and since MPI keeps
the order of a pair of ranks, posting their receives in the order of the frames matches
them. A message is handed out when its last buffer is there; meanwhile messages of
other ranks go on. Buffers are cut into segments, because counts of MPI before 4.0 end
at 2 GiB, and to keep a rank responsive.

Importing this module initialises MPI, unless the user did.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mpitasks.errors import LaunchError, TransportError
from mpitasks.wire import messages
from mpitasks.wire.codec import THRESHOLD, Buffer
from mpitasks.wire.messages import Announcement, Hello, Message, Welcome
from mpitasks.wire.patience import SLEEP_LAST, Patience

if TYPE_CHECKING:
    from mpitasks.wire.buffers import BufferPool
    from mpitasks.wire.doorbell import Doorbell

__all__ = [
    "MpiTransport",
    "abort",
    "finalize",
    "gather_hellos",
    "library_version",
    "private",
    "say_hello",
    "threads_allowed",
    "threads_may_overlap",
    "welcome",
    "world",
]

SEGMENT_BYTES = 256 << 20
FRAME_BYTES = 2048
"""The room for a frame. Longer ones travel as a buffer, behind a frame that announces
them: every MPI sends this much eagerly, while a longer one would arrive only with the
help of its sender, who may be in user code by then."""

FRAMES_UNREAPED = 32
"""So many sent frames are kept before MPI is asked which are gone: asking costs as
much for one as for all."""

TAG_FRAME = 1
TAG_BUFFER = 2
TAG_HELLO = 30201  # on the user's own world, hence an unlikely number


def world() -> MPI.Intracomm:
    """Return the communicator of all ranks that were started."""
    return MPI.COMM_WORLD


def library_version() -> str:
    """Return the MPI library's name and version in one line."""
    return MPI.Get_library_version().splitlines()[0].strip("\0 ,")


def threads_allowed() -> bool:
    """Whether this MPI lets any thread call it, one at a time.

    mpi4py asks for MPI_THREAD_MULTIPLE; SERIALIZED is enough for mpitasks.
    """
    level: int = MPI.Query_thread()
    return level >= MPI.THREAD_SERIALIZED


def threads_may_overlap() -> bool:
    """Whether this MPI lets several threads call it at the same time."""
    level: int = MPI.Query_thread()
    return level >= MPI.THREAD_MULTIPLE


class _Incoming:
    """A message whose buffers are still arriving."""

    __slots__ = ("buffers", "message", "requests")

    def __init__(
        self,
        message: Message,
        buffers: list[Buffer],
        requests: list[MPI.Request],
    ) -> None:
        self.message = message
        self.buffers = buffers
        self.requests = requests


_Sends = list[tuple[MPI.Request, Buffer]]
"""Sends in flight, and the memory that they send from."""


class _Posted:
    """Takes frames of one source by a persistent receive, posted at each look.

    Looking whether it is done costs half of an `Iprobe`, and no `Recv` follows.
    """

    def __init__(self, comm: MPI.Intracomm, source: int) -> None:
        self._source = source
        self._room = bytearray(FRAME_BYTES)
        self._request = comm.Recv_init([self._room, MPI.BYTE], source, TAG_FRAME)
        self._posted = False

    def take(self) -> tuple[int, tuple[Message, Sequence[int]]] | None:
        """Return the source and what is in the frame, if one is there."""
        if not self._posted:  # not right after a frame: what is in it goes first
            self._request.Start()
            self._posted = True
        if not self._request.Test():
            return None
        self._posted = False
        return self._source, messages.unpack(self._room)

    def close(self) -> None:
        """Let go of the receive."""
        if self._posted:
            self._request.Cancel()
            self._request.Wait()
        self._request.Free()


class _Probed:
    """Takes frames of any source.

    By `Iprobe` and `Recv`: matched probes are broken on some fabrics, and MPICH 5
    over UCX loses messages for a posted receive of any source when some of the
    sources are on other hosts.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._probe = comm.Iprobe
        self._receive = comm.Recv
        self._room = bytearray(FRAME_BYTES)
        self._status = MPI.Status()

    def take(self) -> tuple[int, tuple[Message, Sequence[int]]] | None:
        """Return the source and what is in the frame, if one is there."""
        if not self._probe(MPI.ANY_SOURCE, TAG_FRAME, self._status):
            return None
        source = self._status.source
        self._receive((self._room, MPI.BYTE), source, TAG_FRAME)
        return source, messages.unpack(self._room)

    def close(self) -> None:
        """Nothing to let go of."""


class MpiTransport:
    """One rank's end; see `mpitasks.wire.transport.Transport` for what the methods do.

    Args:
        comm: A communicator that nobody else uses.
        peers: The ranks that messages come from.
        spare_cores: Whether every rank of this node has a core of its own.
        bell: What wakes this rank and others, if the system has it.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        peers: Sequence[int],
        spare_cores: bool,
        bell: Doorbell | None = None,
    ) -> None:
        self.rank: int = comm.Get_rank()
        self._comm = comm
        self._patience = Patience(spare_cores, self._await_bell)
        self.wait = self._patience.pause
        self._bell = bell
        # A ring costs some 60 us, so only whom it may wake: a rank of this host, which
        # waits as this one does, and was sent nothing for half as long as it takes.
        self._ring_after = self._patience.doze_after / 2
        self._last_sent: dict[int, float] = {}  # when, to whom; for the bell
        if bell is not None:
            for peer in peers:
                bell.ring(peer)  # so that it knows that it can be rung
        self._inbox = _Posted(comm, peers[0]) if len(peers) == 1 else _Probed(comm)
        self._pool: BufferPool | None = None
        # Per source, messages not yet complete, or behind such a one.
        self._incoming: dict[int, deque[_Incoming]] = {}
        # Per source, sizes out of an announcement of several frames.
        self._announced: dict[int, list[int]] = {}
        self._frames: _Sends = []
        self._buffers: _Sends = []

    def send(self, rank: int, message: Message) -> None:
        began = time.perf_counter()
        frame, buffers = messages.pack(message)
        if len(frame) > FRAME_BYTES:
            buffers = [frame, *buffers]
            *rest, frame = messages.announce(buffers)
            for part in rest:
                self._send(rank, part, TAG_FRAME, self._frames)
        self._send(rank, frame, TAG_FRAME, self._frames)
        if len(self._frames) > FRAMES_UNREAPED:
            _reap(self._frames)
        for buffer in buffers:
            for segment in _segments(buffer):
                self._send(rank, segment, TAG_BUFFER, self._buffers)
        if self._bell is not None:
            # From before that message to after this one: then this one was there
            # before the rank could go to sleep, however long we were interrupted.
            silence = time.perf_counter() - self._last_sent.get(rank, 0.0)
            if silence > self._ring_after:
                self._bell.ring(rank)
            self._last_sent[rank] = began

    def poll(self) -> tuple[int, Message] | None:
        if self._buffers:
            _reap(self._buffers)
        if self._incoming:
            complete = self._next_complete()
            if complete is not None:
                self._patience.idle_since = 0.0
                return complete
        while (arrived := self._inbox.take()) is not None:
            self._patience.idle_since = 0.0
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
        if self._frames and self._patience.idle_since:
            _reap(self._frames)  # so that nothing is on its way when it sleeps
        return None

    def doze(self, limit: float) -> None:
        if not self._await_bell(limit):
            time.sleep(min(limit, SLEEP_LAST))

    def wake(self) -> None:
        if self._bell is not None:
            self._bell.ring(self.rank)

    def _await_bell(self, limit: float) -> bool:
        """Sleep until the bell rings, unless what is on its way needs this rank."""
        busy = self._incoming or self._buffers or self._frames
        if busy or self._bell is None or not self._bell.trusted:
            return False
        if self._bell.wait(limit):
            # One look may not be enough to find what came: MPI makes its progress in
            # small steps.
            self._patience.idle_since = 0.0
        return True

    def sending(self) -> bool:
        if self._frames:
            _reap(self._frames)
        if self._buffers:
            _reap(self._buffers)
        return bool(self._frames or self._buffers)

    def close(self) -> None:
        """Wait for what is being sent, for a bounded time; receive nothing more.

        The communicator is freed by `MPI_Finalize`; freeing it here would be one
        more collective call for a dead rank to hang.
        """
        end = time.monotonic() + 5.0
        while self.sending() and time.monotonic() < end:
            time.sleep(0)
        self._inbox.close()
        if self._bell is not None:
            self._bell.close()

    def _send(self, rank: int, buffer: Buffer, tag: int, sends: _Sends) -> None:
        try:
            sends.append((self._comm.Isend((buffer, MPI.BYTE), rank, tag), buffer))
        except MPI.Exception as error:
            raise TransportError(f"sending to rank {rank} failed: {error}") from error

    def _expect(self, source: int, message: Message, sizes: Sequence[int]) -> None:
        """Post the receives for a message's buffers and put it in its line."""
        buffers: list[Buffer] = [self._take_buffer(size) for size in sizes]
        requests = [
            self._comm.Irecv([segment, MPI.BYTE], source, TAG_BUFFER)
            for buffer in buffers
            for segment in _segments(buffer)
        ]
        line = self._incoming.setdefault(source, deque())
        line.append(_Incoming(message, buffers, requests))

    def _take_buffer(self, nbytes: int) -> Buffer:
        if nbytes < THRESHOLD:
            return bytearray(nbytes)
        if self._pool is None:  # NumPy is loaded when the first array arrives
            from mpitasks.wire.buffers import BufferPool

            self._pool = BufferPool()
        return self._pool.take(nbytes)

    def _next_complete(self) -> tuple[int, Message] | None:
        """Return a message that is first in its line and has all its buffers."""
        for source, line in self._incoming.items():
            first = line[0]
            if first.requests and not MPI.Request.Testall(first.requests):
                continue
            line.popleft()
            if not line:
                del self._incoming[source]
            message, buffers = first.message, first.buffers
            if type(message) is Announcement:
                message, _ = messages.unpack(buffers[0])
                buffers = buffers[1:]
            if buffers:
                message.buffers = buffers  # type: ignore[union-attr]
            return source, message
        return None


def _reap(sends: _Sends) -> None:
    """Let go of what is sent."""
    done = MPI.Request.Testsome([request for request, _ in sends])
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


# Start and end. Hellos go over the user's own world, point to point and as plain
# dicts: a collective call would wait for a missing rank for ever, and a rank of
# another version has other classes.


def gather_hellos(comm: MPI.Intracomm, own: Hello, seconds: float) -> list[Hello]:
    """On rank 0: hear every rank say who it is.

    Raises:
        LaunchError: Ranks did not say hello in time; the message names them.
    """
    size = comm.Get_size()
    hellos = {0: own}
    patience = Patience(spare_cores=False)
    end = time.monotonic() + seconds
    status = MPI.Status()
    names = [field.name for field in dataclasses.fields(Hello)]
    while len(hellos) < size:
        if comm.Iprobe(MPI.ANY_SOURCE, TAG_HELLO, status):
            source = status.Get_source()
            said = comm.recv(source=source, tag=TAG_HELLO)
            hellos[source] = Hello(**{name: said.get(name) for name in names})
            patience.idle_since = 0.0
        elif time.monotonic() > end:
            missing = [rank for rank in range(size) if rank not in hellos]
            raise LaunchError(
                f"{len(missing)} of {size} ranks did not start within {seconds:g} s: "
                f"rank {', '.join(map(str, missing))}"
            )
        else:
            patience.pause(end - time.monotonic())
    return [hellos[rank] for rank in range(size)]


def welcome(comm: MPI.Intracomm, welcomes: dict[int, Welcome]) -> None:
    """On rank 0: let the ranks in."""
    requests = [
        comm.isend(dataclasses.asdict(message), rank, TAG_HELLO)
        for rank, message in welcomes.items()
    ]
    MPI.Request.waitall(requests)


def say_hello(comm: MPI.Intracomm, own: Hello, seconds: float) -> Welcome:
    """On any other rank: say who is there, and wait to be let in.

    Raises:
        LaunchError: Rank 0 did not answer in time.
    """
    sent = comm.isend(dataclasses.asdict(own), 0, TAG_HELLO)
    patience = Patience(spare_cores=False)
    end = time.monotonic() + seconds
    while not comm.Iprobe(0, TAG_HELLO):
        if time.monotonic() > end:
            raise LaunchError(f"rank 0 did not answer rank {own.rank} in {seconds:g} s")
        patience.pause(end - time.monotonic())
    answer = comm.recv(source=0, tag=TAG_HELLO)
    sent.wait()
    return Welcome(**answer)


def private(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Return a duplicate of the communicator that nobody else uses. Collective."""
    return comm.Dup()


def finalize() -> None:
    """End MPI on this rank, once every rank is about to."""
    if MPI.Is_initialized() and not MPI.Is_finalized():
        MPI.Finalize()


def abort(code: int) -> None:
    """End the whole job at once, with this exit code."""
    world().Abort(code)
