"""Transport over MPI point-to-point. The only module that imports mpi4py.

Frames travel with one tag, buffers with another, all on a private duplicate of the
world. Frames are received by `Iprobe` and `Recv` (matched probes are broken on
some fabrics); a frame says how many buffers follow and how long they are, and
since MPI keeps the order of a pair of ranks, posting their receives in the order
of the frames matches them. A message is handed out when its last buffer is there;
meanwhile messages of other ranks go on. Buffers are cut into segments, because
counts of MPI before 4.0 end at 2 GiB, and to keep a rank responsive.

Importing this module initialises MPI, unless the user did.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mpitasks.errors import LaunchError, TransportError
from mpitasks.wire import messages
from mpitasks.wire.codec import THRESHOLD, Buffer
from mpitasks.wire.messages import Hello, Message, Welcome
from mpitasks.wire.patience import Patience

if TYPE_CHECKING:
    from mpitasks.wire.buffers import BufferPool

__all__ = [
    "MpiTransport",
    "abort",
    "finalize",
    "gather_hellos",
    "library_version",
    "say_hello",
    "threads_allowed",
    "welcome",
    "world",
]

SEGMENT_BYTES = 256 << 20
FRAME_BYTES = 2048
"""Longer frames travel as a buffer, behind a frame that announces them. A frame is
received by a blocking `Recv`, so it must be one that every MPI sends eagerly: a longer
one arrives only with the help of its sender, who may be in user code by then."""

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


class _Incoming:
    """A message whose buffers are still arriving."""

    __slots__ = ("buffers", "long", "message", "requests")

    def __init__(
        self,
        message: Message | None,
        buffers: list[Buffer],
        requests: list[MPI.Request],
    ) -> None:
        self.message = message  # None: its frame is the first of the buffers
        self.buffers = buffers
        self.requests = requests


class MpiTransport:
    """One rank's end; see `mpitasks.wire.transport.Transport` for what the methods do.

    Args:
        comm: A communicator that nobody else uses.
        spare_cores: Whether every rank of this node has a core of its own.
    """

    def __init__(self, comm: MPI.Intracomm, spare_cores: bool) -> None:
        self.rank: int = comm.Get_rank()
        self._comm = comm
        self._patience = Patience(spare_cores)
        self.wait = self._patience.pause
        self._status = MPI.Status()
        self._room = bytearray(2 * FRAME_BYTES)
        self._view = memoryview(self._room)
        self._pool: BufferPool | None = None
        # Per source, messages not yet complete, or behind such a one.
        self._incoming: dict[int, deque[_Incoming]] = {}
        # Requests in flight, and what must stay alive until they are done.
        self._requests: list[MPI.Request] = []
        self._kept: list[Buffer] = []

    def send(self, rank: int, message: Message) -> None:
        frame, buffers = messages.pack(message)
        if len(frame) > FRAME_BYTES:
            buffers = [frame, *buffers]
            sizes = [memoryview(buffer).nbytes for buffer in buffers]
            frame = messages.announce(sizes)
        self._post(rank, frame, TAG_FRAME)
        for buffer in buffers:
            for segment in _segments(buffer):
                self._post(rank, segment, TAG_BUFFER)

    def poll(self) -> tuple[int, Message] | None:
        if self._requests:
            self._reap()
        if self._incoming:
            complete = self._next_complete()
            if complete is not None:
                self._patience.reset()
                return complete
        status = self._status
        while self._comm.Iprobe(MPI.ANY_SOURCE, TAG_FRAME, status):
            self._patience.reset()
            source = status.source
            message, sizes = self._receive_frame(source, status.count)
            if message is not None and not sizes and source not in self._incoming:
                return source, message
            self._expect(source, message, sizes)
            complete = self._next_complete()
            if complete is not None:
                return complete
        return None

    def sending(self) -> bool:
        if self._requests:
            self._reap()
        return bool(self._requests)

    def close(self) -> None:
        """Wait for what is being sent, for a bounded time, and free nothing.

        The communicator is freed by `MPI_Finalize`; freeing it here would be one
        more collective call for a dead rank to hang.
        """
        end = time.monotonic() + 5.0
        while self._requests and time.monotonic() < end:
            self._reap()
            time.sleep(0)

    def _post(self, rank: int, buffer: Buffer, tag: int) -> None:
        try:
            request = self._comm.Isend((buffer, MPI.BYTE), rank, tag)
        except MPI.Exception as error:
            raise TransportError(f"sending to rank {rank} failed: {error}") from error
        if not request.Test():  # short ones are gone at once
            self._requests.append(request)
            self._kept.append(buffer)

    def _reap(self) -> None:
        done = MPI.Request.Testsome(self._requests)
        if not done:
            return
        if len(done) == len(self._requests):
            self._requests.clear()
            self._kept.clear()
            return
        finished = set(done)
        self._requests = [r for i, r in enumerate(self._requests) if i not in finished]
        self._kept = [b for i, b in enumerate(self._kept) if i not in finished]

    def _receive_frame(
        self, source: int, nbytes: int
    ) -> tuple[Message | None, list[int]]:
        # Longer than the room is an announcement of hundreds of buffers.
        fits = nbytes <= len(self._room)
        view = self._view if fits else memoryview(bytearray(nbytes))
        frame = view[:nbytes]
        self._comm.Recv((frame, MPI.BYTE), source, TAG_FRAME)
        return messages.unpack(frame)

    def _expect(self, source: int, message: Message | None, sizes: list[int]) -> None:
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
            if message is None:
                message, _ = messages.unpack(buffers[0])
                assert message is not None  # nothing is announced twice
                buffers = buffers[1:]
            if buffers:
                message.buffers = buffers  # type: ignore[union-attr]
            return source, message
        return None


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
            patience.reset()
        elif time.monotonic() > end:
            missing = [rank for rank in range(size) if rank not in hellos]
            raise LaunchError(
                f"{len(missing)} of {size} ranks did not start within {seconds:g} s: "
                f"rank {', '.join(map(str, missing))}"
            )
        else:
            patience.pause(end - time.monotonic())
    return [hellos[rank] for rank in range(size)]


def welcome(comm: MPI.Intracomm, welcomes: dict[int, Welcome]) -> MPI.Intracomm:
    """On rank 0: let the ranks in; return a communicator that nobody else uses."""
    requests = [
        comm.isend(dataclasses.asdict(message), rank, TAG_HELLO)
        for rank, message in welcomes.items()
    ]
    MPI.Request.waitall(requests)
    return comm.Dup()


def say_hello(
    comm: MPI.Intracomm, own: Hello, seconds: float
) -> tuple[Welcome, MPI.Intracomm]:
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
    return Welcome(**answer), comm.Dup()


def finalize() -> None:
    """End MPI on this rank, once every rank is about to."""
    if MPI.Is_initialized() and not MPI.Is_finalized():
        MPI.Finalize()


def abort(code: int) -> None:
    """End the whole job at once, with this exit code."""
    world().Abort(code)
