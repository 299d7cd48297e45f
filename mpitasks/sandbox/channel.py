"""Messages between a rank and its child: one Unix socket, and blocks for what is large.

A message is a tuple that pickles, and buffers. The tuple is one packet of the socket,
so it arrives whole or not at all, however its sender dies; a long one goes into the
block with the buffers. Both ends are the same code; nobody else can reach them.
"""

from __future__ import annotations

import array
import pickle
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.worker.blocks import Inbox, Outbox

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["Channel", "receive_packet", "send_packet"]

PACKET_BYTES = 64 << 10
"""The longest packet; a socket's buffer holds three of them."""

FRAME_BYTES = PACKET_BYTES // 2
"""Longer frames go into a block. The rest is for what tells of the block."""

FDS = 4  # a message has two at most, and the start of a child three


class Channel:
    """One end.

    Args:
        end: A connected SOCK_SEQPACKET socket, which becomes the channel's.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._room = bytearray(PACKET_BYTES)
        self.outbox = Outbox()
        self.inbox = Inbox()

    def fileno(self) -> int:
        """Return what to poll."""
        return self._socket.fileno()

    def send(self, fields: tuple[Any, ...], buffers: Sequence[Buffer] = ()) -> None:
        """Send a message. The buffers are copied.

        Raises:
            OSError: The other end is gone, or there is no memory.
        """
        if not buffers:
            frame = pickle.dumps((fields, None), 5)
            if len(frame) <= FRAME_BYTES:
                send_packet(self._socket, frame)
                return
        try:
            told, fds = self.outbox.pack(buffers) if buffers else (None, [])
            frame = pickle.dumps((fields, told), 5)
            if len(frame) > FRAME_BYTES:
                outer, more = self.outbox.pack([frame])
                frame = pickle.dumps((None, outer, len(fds)), 5)
                fds += more
            send_packet(self._socket, frame, fds)
        finally:
            self.outbox.sent()

    def receive(self) -> tuple[tuple[Any, ...], list[Buffer]] | None:
        """Return the next message; None if the other end is gone.

        Raises:
            BlockingIOError: Nothing is there yet, if the socket does not block.
        """
        packet = receive_packet(self._socket, self._room)
        if packet is None:
            return None
        size, fds = packet
        fields, told, *rest = pickle.loads(memoryview(self._room)[:size])
        if rest:
            first = rest[0]
            (frame,) = self.inbox.unpack(told, fds[first:])
            fds = fds[:first]
            fields, told = pickle.loads(frame)
        if told is None:
            return fields, []
        return fields, self.inbox.unpack(told, fds)

    def close(self) -> None:
        """Let go of the socket and of all blocks."""
        self._socket.close()
        self.outbox.close()
        self.inbox.clear()


def send_packet(end: socket.socket, packet: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet, with descriptors."""
    if not fds:
        end.send(packet)
        return
    rights = array.array("i", fds)
    end.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def receive_packet(end: socket.socket, room: bytearray) -> tuple[int, list[int]] | None:
    """Receive one packet; return its size and its descriptors, None at the end."""
    try:
        size, ancillary, _, _ = end.recvmsg_into(
            [room], socket.CMSG_SPACE(4 * FDS), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None
    if not size:
        return None
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return size, list(fds)
