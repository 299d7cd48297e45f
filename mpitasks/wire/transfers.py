"""Large transfers in flight: which of them are done, at a cost that grows with them.

To ask MPI about n transfers takes a time that grows with n. To ask again after each one
that ends takes n times as long: minutes for a message of 10,000 arrays. Transfers with
one rank end in the order in which they began, or nearly so. So they stand in a line for
each rank, and MPI is asked about the first one alone. `mpitasks.wire.mpi_transport`
starts the transfers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

    from mpitasks.wire.codec import Buffer

__all__ = ["Sends", "take_done"]

AT_ONCE = 256
"""So many transfers of one rank may end in one look; then others have their turn."""


def take_done(requests: deque[MPI.Request], looks: int = 1) -> bool:
    """Take out the requests that are done, up to the first that is not.

    Args:
        requests: Of transfers with one rank, in their order.
        looks: How often it may find that one is not done; then it gives up.

    Returns:
        Whether any was done.
    """
    before = len(requests)
    left = max(before - AT_ONCE, 0)
    while looks and len(requests) > left:
        if requests[0].Test():
            requests.popleft()
        else:
            looks -= 1
    return len(requests) < before


class _Line:
    """What is on its way to one rank."""

    __slots__ = ("memory", "requests")

    def __init__(self) -> None:
        self.requests: deque[MPI.Request] = deque()
        self.memory: deque[object] = deque()  # what each of them sends from

    def trim(self) -> list[object]:
        """Return the memory of requests that were taken out."""
        done = len(self.memory) - len(self.requests)
        return [self.memory.popleft() for _ in range(done)]


class Sends:
    """Sends in flight, with the memory that they send from, by receiver."""

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}
        self._flying: dict[int, int] = {}  # by the id of memory, its sends

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, rank: int, request: MPI.Request, memory: object) -> None:
        """Put a send at the end of its rank's line."""
        line = self._lines.get(rank)
        if line is None:
            line = self._lines[rank] = _Line()
        self._flying[id(memory)] = self._flying.get(id(memory), 0) + 1
        line.memory.append(memory)
        line.requests.append(request)

    def reap(self) -> bool:
        """Let go of what is sent; return whether anything is.

        Raises:
            MPI.Exception: A receiver is dead.
        """
        some = False
        for rank, line in [*self._lines.items()]:
            if take_done(line.requests):
                some = True
                self._land(line.trim())
            if not line.requests:
                del self._lines[rank]
        return some

    def sift(self, over: Callable[[MPI.Request], bool]) -> None:
        """Let go of each send of which `over` says so, wherever it stands in line."""
        for rank, line in [*self._lines.items()]:
            self._land(line.trim())  # an error came before that
            for _ in range(len(line.requests)):
                request, memory = line.requests.popleft(), line.memory.popleft()
                if over(request):
                    self._land([memory])
                else:
                    line.requests.append(request)
                    line.memory.append(memory)
            if not line.requests:
                del self._lines[rank]

    def any_of(self, buffers: Iterable[Buffer]) -> bool:
        """Whether any of these buffers is on its way. From any thread."""
        flying = self._flying
        return any(id(buffer) in flying for buffer in buffers)

    def take(self, rank: int) -> list[tuple[MPI.Request, object]]:
        """Take out what is on its way to a rank."""
        line = self._lines.pop(rank, None)
        if line is None:
            return []
        self._land(line.trim())
        self._land(line.memory)
        return [*zip(line.requests, line.memory, strict=True)]

    def _land(self, memory: Iterable[object]) -> None:
        for each in memory:
            left = self._flying[id(each)] - 1
            if left:
                self._flying[id(each)] = left
            else:
                del self._flying[id(each)]
