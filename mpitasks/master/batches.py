"""Tasks of one assignment, packed as the message that a worker gets.

Remembers which functions, and which globals of the script, each worker has, so that
each is sent once while it is needed. The scheduler has decided before what goes to
whom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.master.kept_results import has_inputs, mark_last_uses
from mpitasks.master.script_state import with_needs
from mpitasks.wire.messages import SHARED_OBJECT, Batch, Request
from mpitasks.wire.node_memory import reference_of

if TYPE_CHECKING:
    from mpitasks.master.script_state import Definition
    from mpitasks.scheduler.events import Rank, Task

__all__ = ["KEPT_BYTES", "KEPT_DEFINITIONS", "Batches"]

KEPT_DEFINITIONS, KEPT_BYTES = 4096, 256 << 20
"""How many functions and globals a worker keeps, and of how many bytes in all. The
oldest go first, unless the message at hand needs them, and are sent again if they are
needed later."""


class _Kept:
    """The definitions that one worker keeps.

    Attributes:
        known: By the id of each: its bytes, and the ids of those that it needs.
        nbytes: What they weigh.
        forget: What the worker is to be told to forget.
        is_near: Whether it can attach this process's memory.
        shared: Bytes of shared objects that it was sent.
    """

    __slots__ = ("_users", "forget", "is_near", "known", "nbytes", "shared")

    def __init__(self, is_near: bool = False) -> None:
        self.is_near = is_near
        self.known: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.nbytes = self.shared = 0
        self.forget: list[int] = []
        self._users: dict[int, dict[int, None]] = {}  # who needs it, by id

    def full(self) -> bool:
        """Whether they are too many, or too large."""
        return len(self.known) > KEPT_DEFINITIONS or self.nbytes > KEPT_BYTES

    def add(self, each: Definition) -> None:
        """Note that the worker gets a definition."""
        needs = tuple([need.id for need in each.needs])
        nbytes = each.nbytes
        if self.is_near:  # what it maps is not its own
            nbytes -= sum(b.nbytes for b in each.buffers if reference_of(b))
        if each.name == SHARED_OBJECT:
            self.shared += nbytes
        self.known[each.id] = nbytes, needs
        self.nbytes += nbytes
        for need in needs:
            self._users.setdefault(need, {})[each.id] = None

    def make_room(self, used: Iterable[int]) -> None:
        """Have the worker forget what it got first, except what is used now."""
        known = self.known
        needed = {*used}
        for _ in range(2):
            needed.update(*(known[each][1] for each in needed.copy()))
        while self.full():
            oldest = next((each for each in known if each not in needed), None)
            if oldest is None:
                break
            self.drop(oldest)
            self._drop_users(oldest)

    def drop(self, each: int) -> None:
        """Have the worker forget a definition."""
        nbytes, needs = self.known.pop(each)
        self.nbytes -= nbytes
        self.forget.append(each)
        for need in needs:
            users = self._users[need]
            del users[each]
            if not users:
                del self._users[need]

    def _drop_users(self, each: int) -> None:
        """Have the worker forget what needs something that it forgets."""
        for user in [*self._users.get(each, ())]:
            if user in self.known:  # it may have gone with another one
                self.drop(user)
                self._drop_users(user)


class Batches:
    """Makes the batches of a run.

    Args:
        ranks: The workers.
        near: Those that can attach this process's memory.
        dropped: Ids of definitions that nobody on rank 0 needs any more; emptied here.
    """

    def __init__(
        self, ranks: Iterable[Rank], near: Container[Rank], dropped: deque[int]
    ) -> None:
        self._kept = {rank: _Kept(rank in near) for rank in ranks}
        self._dropped = dropped

    def make(self, rank: Rank, tasks: Sequence[Task]) -> Request | Batch:
        """Return the tasks as a message to the worker, with the functions it lacks."""
        if self._dropped:
            self._take_dropped()
        kept = self._kept[rank]
        known = kept.known
        if len(tasks) == 1 and not kept.forget:
            (task,) = tasks
            payload = task.payload
            wire = payload.wire
            if wire and wire[0] == task.id and payload.is_simple and wire[1] in known:
                spec = task.task_spec
                return Request(wire, None if spec is None else tuple(spec))
        calls: list[Any] = []
        buffers: list[Any] = []
        functions: dict[int, Definition] = {}  # those that the worker lacks
        used: set[int] = set()  # shared objects
        task_spec: dict[int, Any] = {}
        places: dict[int, Any] = {}
        for task in tasks:
            payload = task.payload
            wire = payload.wire
            if not (wire and wire[0] == task.id and payload.is_simple):
                if task.data and payload.is_call and has_inputs(wire):
                    options = payload.options
                    mark_last_uses(
                        wire[3], rank, may_need_again=options.retries or options.isolate
                    )
                wire, place, own = payload.encode(task)
                if own:
                    buffers += own
                if place is not None:
                    places[task.id] = place
                for need in payload.needs_of(task):
                    used.add(need.id)
                    if need.id not in known:
                        functions[need.id] = need
            calls.append(wire)
            if task.task_spec is not None:
                task_spec[task.id] = tuple(task.task_spec)
            if wire[1] not in known:
                functions[wire[1]] = payload.target_of(task)
        batch = Batch(calls, (), (), task_spec or None, places or None, buffers)
        if functions:
            used.update([call[1] for call in calls])
            self._teach(kept, functions, batch, used)
        if kept.forget:
            batch.forget, kept.forget = kept.forget, []
        return batch

    def _teach(
        self,
        kept: _Kept,
        functions: dict[int, Definition],
        batch: Batch,
        used: Iterable[int],
    ) -> None:
        """Put functions into a batch, and have the worker forget the oldest it has.

        It does so before it runs the batch, which may use known ones as well: so the
        oldest are taken from those that the batch does not use.
        """
        lacking: dict[int, Definition] = {}
        for each in with_needs(functions.values()):
            if each.id not in kept.known:
                lacking[each.id] = each
        own: list[Any] = []
        batch.functions = [_told(each, own, kept.is_near) for each in lacking.values()]
        batch.buffers = [*own, *batch.buffers]
        for each in lacking.values():
            kept.add(each)
        if kept.full():
            kept.make_room(used)

    def shared_bytes(self) -> dict[Rank, int]:
        """Return the bytes of shared objects that each worker was sent."""
        return {rank: kept.shared for rank, kept in self._kept.items()}

    def _take_dropped(self) -> None:
        """Have the workers forget what nobody here needs any more."""
        for _ in range(len(self._dropped)):
            each = self._dropped.popleft()
            for kept in self._kept.values():
                if each in kept.known:
                    kept.drop(each)


def _told(definition: Definition, buffers: list[Any], is_near: bool) -> tuple[Any, ...]:
    """Return a definition as it stands in a message.

    Args:
        definition: The definition.
        buffers: Those of the message, to which its own are added.
        is_near: Whether the worker can attach those that are in blocks.
    """
    needs = tuple([need.id for need in definition.needs])
    places = []
    for buffer in definition.buffers:
        place = reference_of(buffer) if is_near else None
        places.append(place)
        if place is None:
            buffers.append(buffer)
    frames = definition.frame, definition.head
    named = definition.id, definition.name
    return *named, *frames, tuple(places), needs, definition.refers
