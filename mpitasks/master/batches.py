"""Tasks of one assignment, packed as the message that a worker gets.

Remembers which functions, and which globals of the script, each worker has, so that
each is sent once while it is needed. What goes to whom was decided before, by the
scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mpitasks.master.calls import Call, Chunk
from mpitasks.master.script import with_needs
from mpitasks.wire.messages import Batch, Request

if TYPE_CHECKING:
    from mpitasks.core.events import Rank, Task
    from mpitasks.master.functions import Function
    from mpitasks.master.script import Definition

__all__ = ["KEPT_BYTES", "KEPT_DEFINITIONS", "Batches"]

KEPT_DEFINITIONS, KEPT_BYTES = 4096, 256 << 20
"""How many functions and globals a worker keeps, and of how many bytes in all. The
oldest go first, unless the message at hand needs them, and are sent again if they are
needed later."""

Known = dict[int, tuple[int, tuple[int, ...]]]
"""By the id of a definition: its bytes, and the ids of those that it needs."""


class Batches:
    """Makes the batches of a run.

    Args:
        ranks: The workers.
        dropped: Ids of definitions that nobody on rank 0 needs any more; emptied here.
    """

    def __init__(self, ranks: Iterable[Rank], dropped: deque[int]) -> None:
        self._known: dict[Rank, Known] = {rank: {} for rank in ranks}
        self._bytes: dict[Rank, int] = dict.fromkeys(self._known, 0)
        self._forget: dict[Rank, list[int]] = {rank: [] for rank in self._known}
        self._dropped = dropped

    def single(self, rank: Rank, call: Call) -> Request | Batch:
        """Return one call as a message to the worker; as `make`, if it needs more."""
        if (
            call.buffers
            or call.history is not None
            or call.function not in self._known[rank]
            or self._dropped
            or self._forget[rank]
        ):
            return self.make(rank, [call])
        return Request(call.wire, None if call.terms is None else tuple(call.terms))

    def make(self, rank: Rank, tasks: Iterable[Task]) -> Batch:
        """Return the tasks as a message to the worker, with the functions it lacks."""
        if self._dropped:
            self._take_dropped()
        known = self._known[rank]
        calls: list[Any] = []
        buffers: list[Any] = []
        functions: dict[int, Function] = {}  # those that the worker lacks
        terms: dict[int, Any] = {}
        places: dict[int, Any] = {}
        for task in tasks:
            if type(task) is Call:
                calls.append(task.wire)
                if task.buffers:
                    buffers += task.buffers
                target = task.target
                if task.terms is not None:
                    terms[task.id] = tuple(task.terms)
                if task.history is not None:
                    places[task.id] = task.history.place
            else:
                assert type(task) is Chunk  # the master makes no other tasks
                if task.terms is not None:
                    terms[task.id] = tuple(task.terms)
                if task.job.place is not None:
                    places[task.id] = task.job.places(task)
                wire, own = task.job.encode(task)
                calls.append(wire)
                buffers += own
                target = task.job.target
            if target.id not in known:
                functions[target.id] = target
        batch = Batch(calls, (), (), terms or None, places or None, buffers)
        if functions:
            self._teach(rank, functions, batch)
        if self._forget[rank]:
            batch.forget, self._forget[rank] = self._forget[rank], []
        return batch

    def _teach(self, rank: Rank, functions: dict[int, Function], batch: Batch) -> None:
        """Put functions into a batch, and have the worker forget the oldest it has.

        It does so before it runs the batch, which may use known ones as well: so the
        oldest are taken from those that the batch does not use.
        """
        known = self._known[rank]
        lacking: dict[int, Definition] = {}
        for each in with_needs(functions.values()):
            if each.id not in known:
                lacking[each.id] = each
        batch.functions = [_told(definition) for definition in lacking.values()]
        own = [buffer for each in lacking.values() for buffer in each.buffers]
        batch.buffers = [*own, *batch.buffers]
        for each in lacking.values():
            known[each.id] = each.nbytes, tuple([need.id for need in each.needs])
            self._bytes[rank] += each.nbytes
        if len(known) > KEPT_DEFINITIONS or self._bytes[rank] > KEPT_BYTES:
            self._make_room(rank, {call[1] for call in batch.calls})

    def _make_room(self, rank: Rank, used: set[int]) -> None:
        """Have a worker forget what it got first, but for what is used now."""
        known = self._known[rank]
        needed = used.union(*(known[each][1] for each in used))
        needed.update(*(known[each][1] for each in needed.copy()))
        for each in [*known]:
            if len(known) <= KEPT_DEFINITIONS and self._bytes[rank] <= KEPT_BYTES:
                break
            if each in known and each not in needed:
                self._drop(rank, each)
                self._drop_users(rank, each)

    def _take_dropped(self) -> None:
        """Have the workers forget what nobody here needs any more."""
        for _ in range(len(self._dropped)):
            each = self._dropped.popleft()
            for rank, known in self._known.items():
                if each in known:
                    self._drop(rank, each)

    def _drop_users(self, rank: Rank, each: int) -> None:
        """Have a worker forget what needs something that it forgets."""
        known = self._known[rank]
        for other in [o for o, (_, needs) in known.items() if each in needs]:
            if other in known:  # it may have gone with another one
                self._drop(rank, other)
                self._drop_users(rank, other)

    def _drop(self, rank: Rank, each: int) -> None:
        self._bytes[rank] -= self._known[rank].pop(each)[0]
        self._forget[rank].append(each)


def _told(definition: Definition) -> tuple[Any, ...]:
    needs = tuple([need.id for need in definition.needs])
    buffers = len(definition.buffers)
    frames = definition.frame, definition.head
    return definition.id, definition.name, *frames, buffers, needs, definition.refers
