"""Workers by hand, for the tests of the master: a session whose ranks a test plays."""

from __future__ import annotations

from typing import Any

from mpitasks.master import session
from mpitasks.master.pump import Pump
from mpitasks.master.session import Session
from mpitasks.wire import codec
from mpitasks.wire.local import LocalTransport, _Mailbox
from mpitasks.wire.messages import LIST, Batch, Message, Outcomes

__all__ = ["Hands"]


class Hands:
    """Rank 0 of a run in this process, and the other ends of its messages.

    Attributes:
        pump: The pump; nothing turns it unasked.
        ends: The transports of the workers, by rank.
    """

    def __init__(self, workers: int) -> None:
        mailboxes = {rank: _Mailbox() for rank in range(workers + 1)}
        self.ends = {
            rank: LocalTransport(rank, mailboxes) for rank in range(1, workers + 1)
        }
        self.pump = Pump(LocalTransport(0, mailboxes), self.ends, threads=False)
        session.install(Session(self.pump))

    def close(self) -> None:
        """End the session."""
        session.uninstall()
        self.pump.close(0.0)

    def batches(self, rank: int) -> list[Batch]:
        """Return what a worker was sent since the last look."""
        batches: list[Batch] = []
        while (arrived := self.ends[rank].poll()) is not None:
            assert isinstance(arrived[1], Batch)
            batches.append(arrived[1])
        return batches

    def calls(self, rank: int) -> list[Any]:
        """Return the calls that a worker was sent since the last look."""
        return [call for batch in self.batches(rank) for call in batch.calls]

    def say(self, rank: int, message: Message) -> None:
        """Have a worker say something, and the pump take it in."""
        self.ends[rank].send(0, message)
        assert self.pump.nudge()

    def reply(self, rank: int, call: Any, value: Any, *, batches: int = 1) -> None:
        """Have a worker reply to a call; a list is what the items of a chunk return."""
        costs = [(call[1], 1, 1e-5, 0)]
        forms = {}
        if isinstance(value, list):
            value, forms = codec.encode_plain(value), {0: (LIST, 0)}
        self.say(rank, Outcomes(rank, batches, [call[0]], [], costs, [value], forms))
