"""Who waits for which actor, and whether such a wait can end. Pure.

A call of an actor that waits for the answer of another call holds up its actor, and all
actors whose calls lie below it on the stack of the same worker. So each wait is an edge
from these actors to the one that is waited for. A wait that closes a circle never ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mpitasks.scheduler.events import ActorId, Rank

__all__ = ["ActorWaits"]


class _Wait(NamedTuple):
    target: ActorId
    stack: frozenset[ActorId]


class ActorWaits:
    """The waits of a run."""

    def __init__(self) -> None:
        self._waits: dict[tuple[Rank, int], _Wait] = {}

    def add(
        self, rank: Rank, number: int, target: ActorId, stack: Sequence[ActorId]
    ) -> list[ActorId] | None:
        """Take in a wait, unless it would never end.

        Args:
            rank: The worker of the task that waits.
            number: Which of the calls of that worker it waits for.
            target: The actor that was called.
            stack: The actors that are held up.

        Returns:
            None; or the circle that it closes: each of these actors waits for the next,
            and the last is the first. Then the wait is not taken in.
        """
        own = frozenset(stack)
        path: dict[ActorId, ActorId | None] = {target: None}
        found = [target]
        while found:
            actor = found.pop()
            if actor in own:
                return _circle(actor, path)
            for wait in self._waits.values():
                if actor in wait.stack and wait.target not in path:
                    path[wait.target] = actor
                    found.append(wait.target)
        self._waits[rank, number] = _Wait(target, own)
        return None

    def end(self, rank: Rank, number: int) -> None:
        """A call was answered: who waited for it goes on."""
        self._waits.pop((rank, number), None)

    def lose(self, rank: Rank) -> None:
        """A worker is gone, with all that waited there."""
        for key in [key for key in self._waits if key[0] == rank]:
            del self._waits[key]


def _circle(actor: ActorId, path: dict[ActorId, ActorId | None]) -> list[ActorId]:
    circle = [actor]
    before = path[actor]
    while before is not None:
        circle.append(before)
        before = path[before]
    return [actor, *circle[::-1]]
