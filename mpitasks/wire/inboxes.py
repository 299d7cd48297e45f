"""Where a rank's frames come in: three ways to take them from MPI.

`mpitasks.wire.mpi_transport` chooses one for a rank and takes the frames. `take` looks
once, and then again and again for the seconds that it is given.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mpi4py import MPI

from mpitasks.wire import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpitasks.wire.messages import Message

__all__ = ["FRAME_BYTES", "TAG_FRAME", "TAG_PEER", "Deaf", "Posted", "Probed"]

TAG_FRAME = 1
TAG_PEER = 3
"""For frames from worker to worker, which a `Posted` inbox does not hear."""

FRAME_BYTES = 2048
"""The room for a frame. Longer ones travel as a buffer, behind a frame that announces
them: every MPI sends this much eagerly, while a longer one would arrive only with the
help of its sender, who may be in user code by then."""


class Posted:
    """Takes frames of one source by a persistent receive, posted at each look.

    Looking whether it is done costs half of an `Iprobe`, and no `Recv` follows.
    """

    def __init__(self, comm: MPI.Intracomm, source: int) -> None:
        self._source = source
        self._room = bytearray(FRAME_BYTES)
        self._request = comm.Recv_init([self._room, MPI.BYTE], source, TAG_FRAME)
        self._posted = False

    def take(self, seconds: float) -> tuple[int, tuple[Message, Sequence[int]]] | None:
        """Return the source and what is in the frame, if one is there."""
        if not self._posted:  # not right after a frame: what is in it goes first
            self._request.Start()
            self._posted = True
        end = time.perf_counter() + seconds if seconds else 0.0
        while not self._request.Test():
            if not end or time.perf_counter() >= end:
                return None
        self._posted = False
        return self._source, messages.unpack(self._room)

    def close(self) -> None:
        """Let go of the receive."""
        if self._posted:
            self._request.Cancel()
            self._request.Wait()
        self._request.Free()


class Probed:
    """Takes frames of any source.

    By `Iprobe` and `Recv`: matched probes are broken on some fabrics, and MPICH 5
    over UCX loses messages for a posted receive of any source when some of the
    sources are on other hosts.
    """

    def __init__(self, comm: MPI.Intracomm, tag: int = TAG_FRAME) -> None:
        self._tag = tag
        self._probe = comm.Iprobe
        self._receive = comm.Recv
        self._room = bytearray(FRAME_BYTES)
        self._status = MPI.Status()

    def take(self, seconds: float) -> tuple[int, tuple[Message, Sequence[int]]] | None:
        """Return the source and what is in the frame, if one is there."""
        end = time.perf_counter() + seconds if seconds else 0.0
        while not self._probe(MPI.ANY_SOURCE, self._tag, self._status):
            if not end or time.perf_counter() >= end:
                return None
        source = self._status.source
        self._receive((self._room, MPI.BYTE), source, self._tag)
        return source, messages.unpack(self._room)

    def close(self) -> None:
        """Nothing to let go of."""


class Deaf:
    """Takes nothing: the only source is dead."""

    def take(self, seconds: float) -> None:
        """Return nothing."""

    def close(self) -> None:
        """Nothing to let go of."""
