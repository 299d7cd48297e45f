"""Where a rank's short frames go out: by a persistent request for each receiver.

What else is sent, and what becomes of sends under way, is in `mpitasks.wire.mpi`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpi4py import MPI

from mpitasks.wire.inboxes import TAG_FRAME

if TYPE_CHECKING:
    from mpitasks.wire.failures import Send

__all__ = ["SHORT_BYTES", "Outbox"]

SHORT_BYTES = 128
"""Frames of up to so many bytes are short. That of a lone call has some 40."""


class Outbox:
    """Sends short frames to one rank, each with what is left of its predecessors.

    To start the same request again costs two thirds of an `Isend`: a tenth of what a
    lone call takes from submit to result. Whoever unpickles a frame ignores what is
    behind its end.

    Args:
        comm: The communicator.
        rank: The receiver.
        sends: The sends that are under way, where each is entered that did not leave
            at once; whoever finds that one has left takes it out.
    """

    __slots__ = ("_left", "_rank", "_request", "_room", "_sends")

    def __init__(self, comm: MPI.Intracomm, rank: int, sends: list[Send]) -> None:
        self._rank = rank
        self._sends = sends
        self._room = bytearray(SHORT_BYTES)
        self._request = comm.Send_init([self._room, MPI.BYTE], rank, TAG_FRAME)
        self._left = True

    def send(self, frame: bytes) -> bool:
        """Send a frame, unless the last is under way; return whether it was sent."""
        request = self._request
        if not self._left and any(send[0] is request for send in self._sends):
            return False
        self._room[: len(frame)] = frame
        request.Start()
        self._left = request.Test()
        if not self._left:
            self._sends.append((request, self._room, self._rank))
        return True

    def close(self) -> None:
        """Let go of the request, at the latest when the last frame has left."""
        self._request.Free()
