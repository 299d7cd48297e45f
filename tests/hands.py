"""Workers by hand, for the tests of the master: a session whose ranks a test plays."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from mpitasks.api import session
from mpitasks.api.session import Session
from mpitasks.master.event_loop import EventLoop
from mpitasks.wire import codec
from mpitasks.wire.local_transport import LocalTransport, _Mailbox
from mpitasks.wire.messages import (
    LIST,
    PLAIN,
    VALUE,
    Batch,
    Message,
    Opening,
    Outcomes,
    Request,
    Result,
)

__all__ = ["Hands"]


class Hands:
    """Rank 0 of a run in this process, and the other ends of its messages.

    Attributes:
        event loop: The event loop; nothing turns it unasked.
        ends: The transports of the workers, by rank.
        openings: What each was told last of the Executors, as far as was looked.
    """

    def __init__(self, workers: int, near: Container[int] = ()) -> None:
        mailboxes = {rank: _Mailbox() for rank in range(workers + 1)}
        self.ends = {
            rank: LocalTransport(rank, mailboxes) for rank in range(1, workers + 1)
        }
        self.openings: dict[int, Opening] = {}
        self.event_loop = EventLoop(
            LocalTransport(0, mailboxes), self.ends, near=near, threads=False
        )
        session.install(Session(self.event_loop))

    def close(self) -> None:
        """End the session."""
        session.uninstall()
        self.event_loop.close(0.0)

    def messages(self, rank: int) -> list[Message]:
        """Return what a worker was sent since the last look, but for openings."""
        messages = []
        while (arrived := self.ends[rank].poll()) is not None:
            if type(arrived[1]) is Opening:
                self.openings[rank] = arrived[1]
            else:
                messages.append(arrived[1])
        return messages

    def batches(self, rank: int) -> list[Batch]:
        """Return the same, a request as a batch of one."""
        batches: list[Batch] = []
        for message in self.messages(rank):
            if isinstance(message, Request):
                task_spec = None
                if message.task_spec is not None:
                    task_spec = {message.call[0]: message.task_spec}
                message = Batch([message.call], task_spec=task_spec)
            assert isinstance(message, Batch)
            batches.append(message)
        return batches

    def calls(self, rank: int) -> list[Any]:
        """Return the calls that a worker was sent since the last look."""
        return [call for batch in self.batches(rank) for call in batch.calls]

    def say(self, rank: int, message: Message) -> None:
        """Have a worker say something, and the event loop take it in."""
        self.ends[rank].send(0, message)
        assert self.event_loop.nudge()

    def answer(self, rank: int, call: Any, value: Any, *, form: int = PLAIN) -> None:
        """Have a worker answer a request, by a plain value, or by one that is pickled.

        Args:
            rank: The worker.
            call: The call that it was sent.
            value: What the call returned.
            form: VALUE to have it pickled.
        """
        if form == VALUE:
            value, buffers = codec.encode(value, "the result")
            assert not buffers
        nbytes = 0 if form == PLAIN else len(value)
        self.say(rank, Result(rank, call[0], call[1], 1e-5, nbytes, form, value))

    def reply(self, rank: int, call: Any, value: Any, *, batches: int = 1) -> None:
        """Have a worker reply to a call; a list is what the items of a chunk return."""
        costs = [(call[1], 1, 1e-5, 0)]
        forms = {}
        if isinstance(value, list):
            value, forms = codec.encode_plain(value), {0: (LIST, 0)}
        self.say(rank, Outcomes(rank, batches, [call[0]], [], costs, [value], forms))
