"""What a transport is: messages between ranks, and nothing blocks.

`mpitasks.wire.mpi_transport` and `mpitasks.wire.local_transport` implement it; one
contract test runs over both. A transport is used by one thread at a time; who that is,
is the business of the event loop or the worker loop that owns it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import Message

__all__ = ["Transport"]


class Transport(Protocol):
    """Carries messages with their buffers; per pair of ranks, in order."""

    rank: int
    survives: bool
    """Whether this goes on when another rank dies."""

    def send(self, rank: int, message: Message) -> None:
        """Start sending. The buffers must not change before they are sent.

        Raises:
            TransportError: The message cannot be handed to the rank.
        """

    def poll(self) -> tuple[int, Message] | None:
        """Return the next complete message and the rank it is from, if there is one.

        `Lost` in the place of a message says that nothing more will come from the rank.

        Raises:
            TransportError: A message arrived damaged.
        """

    def abandon(self, rank: int) -> None:
        """The rank is gone: drop what is on its way from and to it, now and later."""

    def sending(self) -> bool:
        """Make progress, and return whether anything sent is still on its way."""

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        """Whether none of these buffers is on its way any more, as far as is known.

        From any thread: it makes no progress.
        """

    def wait(self, limit: float) -> None:
        """Pause until something may have arrived, at most `limit` seconds.

        May return at any time before. How it pauses depends on how long nothing has
        come: see `mpitasks.wire.backoff`. May be called by several threads.
        """

    def hear_peers(self) -> None:
        """Receive from any rank from now on, and not only from the master.

        Messages of other workers that came before are received as well.
        """

    doze_after: float
    """Seconds without a message after which `doze` misses no wake-up."""

    def doze(self, limit: float) -> bool:
        """As `wait`, but go to sleep at once; return whether a wake-up rang.

        Then a message may need some looks to be found.
        """

    def wake(self) -> None:
        """End the pause of a thread of this rank, if one pauses. From any thread."""

    def close(self) -> None:
        """Let go of everything. Call it after the last message was sent."""
