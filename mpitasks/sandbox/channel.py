"""Messages between a rank and its child: one Unix socket, and blocks for what is large.

A message is a tuple that pickles, and buffers. The tuple is one packet of the socket,
so it arrives whole or not at all, however its sender dies; a long one goes into the
block with the buffers. Both ends are the same code. The tasks of the child can reach
the socket, too, so anything may arrive.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from pickle import dumps, loads  # by themselves: a task may patch the module
from typing import TYPE_CHECKING, Any

from mpitasks.runner.damage import Damaged
from mpitasks.sandbox.blocks import Inbox, Outbox

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["LOG", "Channel", "receive_packet", "send_packet"]

PACKET_BYTES = 64 << 10
"""The longest packet; a socket's buffer holds three of them."""

FRAME_BYTES = PACKET_BYTES // 2
"""Longer frames go into a block. The rest of the packet describes the block."""

LOG = "log"
"""The first field of a message from a child that has a log record."""

FDS = 4  # a message has two at most, and the start of a child three


class Channel:
    """One end.

    Args:
        end: A connected SOCK_SEQPACKET socket, which becomes the channel's.
        wary: Whether tasks run at the other end.
    """

    def __init__(self, end: socket.socket, *, wary: bool = False) -> None:
        self._socket = end
        self._own = _identity(end)
        self._room = bytearray(PACKET_BYTES)
        self.outbox = Outbox()
        self.inbox = Inbox(wary)

    def fileno(self) -> int:
        """Return what to poll."""
        return self._socket.fileno()

    def send(self, fields: tuple[Any, ...], buffers: Sequence[Buffer] = ()) -> None:
        """Send a message. The buffers are copied.

        Raises:
            OSError: The other end is gone, or there is no memory.
        """
        if not buffers:
            frame = dumps((fields, None), 5)
            if len(frame) <= FRAME_BYTES:
                send_packet(self._socket, frame)
                return
        try:
            told, fds = self.outbox.pack(buffers) if buffers else (None, [])
            frame = dumps((fields, told), 5)
            if len(frame) > FRAME_BYTES:
                outer, more = self.outbox.pack([frame])
                frame = dumps((None, outer, len(fds)), 5)
                fds += more
            send_packet(self._socket, frame, fds)
        finally:
            self.outbox.sent()

    def receive(self) -> tuple[tuple[Any, ...], list[Buffer]] | None:
        """Return the next message; None if the other end is gone.

        Raises:
            BlockingIOError: Nothing is there yet, if the socket does not block.
            Damaged: What came is no message.
        """
        packet = receive_packet(self._socket, self._room)
        if packet is None:
            return None
        size, fds = packet
        try:
            return self._unpack(memoryview(self._room)[:size], fds)
        except Damaged:
            raise
        except Exception as error:
            raise Damaged(f"what is no message ({error!r})") from error
        finally:
            for fd in fds:
                os.close(fd)

    def _unpack(
        self, packet: memoryview, fds: list[int]
    ) -> tuple[tuple[Any, ...], list[Buffer]]:
        fields, told, *rest = loads(packet)
        if rest:
            first = rest[0]
            (frame,) = self.inbox.unpack(told, fds[first:])
            fds = fds[:first]
            fields, told = loads(frame)
        if type(fields) is not tuple:
            raise Damaged("what is no message")
        if told is None:
            return fields, []
        return fields, self.inbox.unpack(told, fds)

    def refuse_replaced(self) -> None:
        """See to it that messages leave by the socket that they always left by.

        Raises:
            Damaged: A task has put something else in its place.
        """
        if _identity(self._socket) != self._own:
            raise Damaged("a task has replaced files that are not its own")

    def close(self) -> None:
        """Let go of the socket and of all blocks."""
        self._socket.close()
        self.outbox.close()
        self.inbox.clear()


def _identity(end: socket.socket) -> tuple[int, int]:
    found = os.fstat(end.fileno())
    return found.st_dev, found.st_ino


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
