"""Transport between two threads of one process: the size-1 mode, and tests.

Messages go through the same frames as over MPI, and buffers are copied, so that a
task sees in one process what it would see in another.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from mpitasks.wire import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import Message

__all__ = ["LocalTransport", "local_pair"]

_Parcel = tuple[int, bytes, list[bytearray]]


class _Mailbox:
    def __init__(self) -> None:
        self.parcels: deque[_Parcel] = deque()
        self.arrived = threading.Event()


class LocalTransport:
    """One end; see `mpitasks.wire.transport.Transport` for what the methods do."""

    survives = False

    def __init__(self, rank: int, mailboxes: dict[int, _Mailbox]) -> None:
        self.rank = rank
        self._mailboxes = mailboxes
        self._own = mailboxes[rank]
        self._gone: set[int] = set()

    def send(self, rank: int, message: Message) -> None:
        frame, buffers = messages.pack(message)
        copies = [bytearray(buffer) for buffer in buffers]
        mailbox = self._mailboxes[rank]
        mailbox.parcels.append((self.rank, frame, copies))
        mailbox.arrived.set()

    def poll(self) -> tuple[int, Message] | None:
        if not self._own.parcels:
            return None
        source, frame, buffers = self._own.parcels.popleft()
        if source in self._gone:
            return None
        message, _ = messages.unpack(frame)
        if buffers:
            message.buffers = buffers  # type: ignore[union-attr]
        return source, message

    def abandon(self, rank: int) -> None:
        self._gone.add(rank)

    def sending(self) -> bool:
        return False

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        return True

    def wait(self, limit: float) -> None:
        self._own.arrived.wait(limit)
        self._own.arrived.clear()

    def hear_peers(self) -> None:
        pass  # it does

    doze_after = 0.0

    def doze(self, limit: float) -> bool:
        self.wait(limit)
        return True

    def wake(self) -> None:
        self._own.arrived.set()

    def close(self) -> None:
        self._own.parcels.clear()


def local_pair() -> tuple[LocalTransport, LocalTransport]:
    """Return the two ends of a world of a master, rank 0, and one worker, rank 1."""
    mailboxes = {0: _Mailbox(), 1: _Mailbox()}
    return LocalTransport(0, mailboxes), LocalTransport(1, mailboxes)
