"""What a worker was sent of a function, or of a global of the script.

It is unpickled when it is first needed, and perhaps again. Its large buffers are the
message's, or blocks of rank 0 that are attached when they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.runner.pristine import Lender
from mpitasks.wire.node_memory import Block

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.node_memory import Mapping, Reference

__all__ = ["PLAIN", "Sent"]

PLAIN = -1
"""In the place of an initializer's id: there is none."""


class Sent:
    """A definition as it was sent: see `mpitasks.wire.messages.Batch`.

    Attributes:
        space: The id of the initializer that its tasks need; `PLAIN` if none.
    """

    __slots__ = (
        "_blocks",
        "_lender",
        "_mappings",
        "_places",
        "buffers",
        "frame",
        "head",
        "id",
        "name",
        "needs",
        "refers",
        "space",
    )

    def __init__(
        self,
        id: int,
        name: str | None,
        frame: Any,
        head: bytes | None,
        buffers: list[Buffer],
        needs: tuple[int, ...],
        refers: tuple[str, ...],
        places: Sequence[Reference | None] = (),
    ) -> None:
        self.id = id
        self.name = name
        self.frame = frame
        self.head = head
        self.buffers = buffers
        self.needs = needs
        self.refers = refers
        self.space = PLAIN
        self._lender: Lender | None = None
        self._places = places or [None] * len(buffers)
        self._blocks: dict[int, Block] = {}  # those that were attached
        self._mappings: dict[int, Mapping] = {}  # and those that are mapped

    def lend(self) -> list[Buffer]:
        """Return the buffers in memory of their own, which nobody else changes.

        Raises:
            OSError: A block of rank 0 cannot be attached.
        """
        own = iter(self._lender_of_own().lend() if self.buffers else ())
        return [
            next(own) if place is None else self._block(at, place).private()
            for at, place in enumerate(self._places)
        ]

    def shared(self) -> list[Buffer]:
        """Return the buffers as all see them, read-only.

        Raises:
            OSError: A block of rank 0 cannot be attached.
        """
        own = iter(self._lender_of_own().shared() if self.buffers else ())
        return [
            memoryview(next(own) if place is None else self._mapped(at, place))
            for at, place in enumerate(self._places)
        ]

    def _lender_of_own(self) -> Lender:
        if self._lender is None:
            self._lender = Lender(self.buffers)
            self.buffers = self._lender.shared()
        return self._lender

    def _block(self, at: int, place: Reference) -> Block:
        block = self._blocks.get(at)
        if block is None:
            block = self._blocks[at] = Block.attached(place)
        return block

    def _mapped(self, at: int, place: Reference) -> Mapping:
        mapped = self._mappings.get(at)
        if mapped is None:
            mapped = self._mappings[at] = self._block(at, place).shared()
        return mapped

    def told(self) -> tuple[Any, ...]:
        """Return it as it stands in a message, without its buffers."""
        frames = self.frame, self.head
        places = tuple(self._places)
        return self.id, self.name, *frames, places, self.needs, self.refers
