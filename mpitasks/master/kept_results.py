"""Kept results, as rank 0 knows them: where they are, and what becomes of them.

A `KeptResult` stands for a result in the memory of a worker. It is in the place of the
payload of an outcome, and in the messages of the tasks that need the result, which are
sent where that is (`mpitasks.wire.kept`). When nothing refers to it any more, the
worker is told to let go of the result. When the worker dies, the result is lost.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any

from mpitasks.errors import DataLost
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.kept import Kept, Parts, read
from mpitasks.wire.messages import CALL, KEPT, VALUE
from mpitasks.wire.outcomes import Encoded, Failure, Special, decode_outcome
from mpitasks.wire.ownership import held_by_one

if TYPE_CHECKING:
    from typing import Protocol

    from mpitasks.scheduler.events import Rank, Task
    from mpitasks.wire.messages import Fetched

    class Maker(Protocol):
        """What is asked of the call that makes a result again: it is a `Call`."""

        def wait(self, timeout: float | None) -> bool:
            """Drive the run until it is done."""

        def cancelled(self) -> bool:
            """Whether it was cancelled."""

        def outcome(self) -> Any:
            """Return what it came to."""


__all__ = ["FULL", "KeptResult", "KeptResults", "has_inputs", "mark_last_uses"]


FULL = (
    "mpitasks: workers keep as many results as --node-memory allows (half of what the "
    "job may use on a host, if it is not given): calls that would keep more wait until "
    "some are dropped"
)
"""What is said when that is so for the first time."""


class KeptResult(Special):
    """A result that a worker keeps, in the place of the payload of an outcome.

    Attributes:
        at: Where it is.
        label: What its task was called.
        owner: Those of the run.
        lost: How it was lost; None while it is there.
        losses: How often it was.
        was_released: Whether nobody needed it, until it was to make another one again.
        recipe: How it was made (`mpitasks.master.lineage`), if it can be made again.
        pending: The call that makes it again, from before it is lost until it is there.
        is_counted: Whether a worker has it, which is to be told to let go of it.
        is_last: Whether the task that is being sent is the last one that needs it.
        fetched: The answer to a `Fetch` of it, when that is there.
    """

    __slots__ = (
        "__weakref__",
        "at",
        "fetched",
        "is_counted",
        "is_last",
        "label",
        "losses",
        "lost",
        "owner",
        "pending",
        "recipe",
        "was_released",
    )

    def __init__(self, at: Kept, label: str | None, owner: KeptResults) -> None:
        self.at = at
        self.label = label
        self.owner = owner
        self.lost: str | None = None
        self.losses = 0
        self.was_released = False
        self.recipe: Any = None
        self.pending: Maker | None = None
        self.is_last = self.is_counted = False
        self.fetched: Fetched | None = None

    @property
    def nbytes(self) -> int:
        """What it weighs."""
        return self.at.nbytes

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that have it."""
        if self.lost is not None:
            return ()
        # In the mode with one process, the worker is a thread of rank 0.
        return (0 if self.at.origin.is_here else self.at.rank,)

    @property
    def is_gone(self) -> bool:
        """Whether no worker has it, though that may not have been said yet."""
        is_lost = self.lost is not None or self.was_released
        return is_lost or self.owner.is_gone(self.at.rank)

    @property
    def outcome(self) -> Encoded:
        """What its future comes to."""
        return Encoded(VALUE, self, [])

    def revive(self, at: Kept) -> None:
        """It was made again, and is there."""
        self.at = at
        self.lost = self.fetched = None
        self.was_released = self.is_last = False
        self.pending = None

    def error(self) -> DataLost:
        """Return what tells that it is lost."""
        name = "" if self.label is None else f" ({self.label!r})"
        return DataLost(
            f"the result that task {self.at.id}{name} left on rank {self.at.rank} is "
            f"lost: {self.lost}; run the call again, or let its result come to rank 0, "
            f"without keep=True"
        )

    def check(self) -> None:
        """Look whether it is there.

        Raises:
            DataLost: It is not.
        """
        if self.lost is not None:
            raise self.error()

    def fetch(self) -> Any:
        """Return a copy of the result, or a `Failure`."""
        while True:
            while (pending := self.pending) is not None:
                pending.wait(None)
                if self.pending is pending:  # it came to something else this time
                    if pending.cancelled():
                        return Failure(self.error())
                    outcome = pending.outcome()
                    return outcome.fetch() if isinstance(outcome, Encoded) else outcome
            try:
                frame, buffers = self.owner.obtain(self)
            except BaseException as error:
                if interrupts(error):
                    raise
                if self.pending is not None:  # it was lost just now
                    continue
                return Failure(error)
            return decode_outcome(VALUE, frame, buffers, self.label)

    def __reduce__(self) -> Any:
        """In a message to a worker, it is what the worker must know."""
        return Kept, (*self.at[:-1], self.is_last)

    # At the end of the interpreter the module's names are gone.
    def __del__(self) -> None:
        if self.is_counted:
            self.owner.released.append((self.at.rank, self.at.id, self.at.nbytes))


def has_inputs(wire: tuple[Any, ...]) -> bool:
    """Whether there are results of other tasks in a call, as it stands in a message."""
    return wire[2] == CALL and type(wire[3]) is tuple


def mark_last_uses(payload: Any, rank: Rank, *, may_need_again: bool) -> None:
    """Say which kept results nobody needs but a call that is about to be sent.

    Its worker then gives it their memory, if it is the worker that keeps them, instead
    of a copy. Where in doubt, it gets a copy.

    Args:
        payload: The arguments of the call, as in a message.
        rank: The worker that it is sent to.
        may_need_again: Whether the call may be sent again after it has begun.
    """
    for entry in payload[2]:
        if entry[0] == KEPT:
            entry[1].is_last = (
                not may_need_again and entry[1].at.rank == rank and held_by_one(entry)
            )


class KeptResults:
    """The kept results of a run.

    Args:
        near: Workers whose memory may be readable here.

    Attributes:
        released: Workers, results of theirs that are needed no longer, and the bytes of
            these. Whoever lets go of a result appends to it, under any lock.
        recipe_of: Returns how a call is run again if its result is lost; None if the
            run ends with a rank.
        fetched: The bytes of those that came to rank 0 afterwards, by worker.
        ask: Asks a worker for a result, and returns when its answer is there, or the
            worker is gone. Called under no lock.
    """

    def __init__(self, near: Container[Rank]) -> None:
        self._near = near
        self._alive: dict[Rank, weakref.WeakValueDictionary[int, KeptResult]] = {}
        self._unreadable: set[Rank] = set()
        self._gone: dict[Rank, str] = {}
        self._has_ended = False
        self.released: deque[tuple[Rank, int, int]] = deque()
        self._rooms: Mapping[Rank, tuple[str, int | None]] = {}
        self._used: dict[str, int] = {}  # bytes by host
        self._most: dict[str, int] = {}  # the most that it was
        self.fetched: Counter[Rank] = Counter()
        self._counting = threading.Lock()  # any thread may fetch
        self._full: set[str] = set()  # hosts where as much is kept as may be
        self.ask: Callable[[KeptResult], object] = lambda kept: None
        self.recipe_of: Callable[[Task], Any] | None = None

    def add(self, at: Kept, task: Task) -> Encoded:
        """Return the outcome of a task that left its result with its worker."""
        call = task.payload
        kept: KeptResult | None = call.revives
        if kept is None:
            kept = KeptResult(at, call.options.label, self)
            if self.recipe_of is not None:
                kept.recipe = self.recipe_of(task)
        else:
            kept.revive(at)
            call.revives = None
        kept.is_counted = True
        self._count(at.rank, at.nbytes)
        self._alive.setdefault(at.rank, weakref.WeakValueDictionary())[at.id] = kept
        kept.lost = self._gone.get(at.rank)
        return kept.outcome

    @property
    def is_empty(self) -> bool:
        """Whether no worker keeps a result, nor is to be told that it need not."""
        # Another thread may add a worker meanwhile.
        return not self.released and not any(list(self._alive.values()))

    def take_released(self) -> dict[Rank, list[int]]:
        """Return what workers are to let go of, and forget it."""
        released: dict[Rank, list[int]] = {}
        while self.released:
            rank, id, nbytes = self.released.popleft()
            self._count(rank, -nbytes)
            if rank not in self._gone and not self._has_ended:
                released.setdefault(rank, []).append(id)
        return released

    def bound(self, rooms: Mapping[Rank, tuple[str, int | None]]) -> None:
        """Say on which host each rank is, and how many bytes are to be kept there."""
        self._rooms = rooms

    def bytes_by_host(self) -> dict[str, int]:
        """Return how many bytes the workers of each host keep."""
        return self._used.copy()

    def most_by_host(self) -> dict[str, int]:
        """Return how many bytes they have kept at most."""
        return self._most.copy()

    @property
    def is_full(self) -> bool:
        """Whether the workers of a host keep as much as they may."""
        return bool(self._full)

    def _count(self, rank: Rank, nbytes: int) -> None:
        host, limit = self._rooms.get(rank, ("", None))
        used = self._used[host] = self._used.get(host, 0) + nbytes
        if used > self._most.get(host, 0):
            self._most[host] = used
        if limit is not None and used >= limit:
            self._full.add(host)
        else:
            self._full.discard(host)

    def end(self) -> None:
        """The workers are told to stop: whatever they keep, they let go of."""
        self._has_ended = True
        for alive in self._alive.values():
            for kept in list(alive.values()):
                kept.lost = kept.lost or "the run is over"

    def take_lost(self, rank: Rank, how: str) -> list[KeptResult]:
        """A worker is gone: return what it kept, and forget about it.

        Args:
            rank: The worker.
            how: What became of it.
        """
        self._gone[rank] = how
        alive = self._alive.pop(rank, None)
        lost = [] if alive is None else list(alive.values())
        for kept in lost:
            kept.losses += 1
            kept.is_counted = False
            self._count(rank, -kept.nbytes)
        return sorted(lost, key=lambda kept: kept.at.id)

    def is_gone(self, rank: Rank) -> bool:
        """Whether a worker is gone."""
        return rank in self._gone

    def take(self, rank: Rank, message: Fetched) -> None:
        """Take in the answer of a worker."""
        alive = self._alive.get(rank)
        kept = None if alive is None else alive.get(message.id)
        if kept is not None:
            kept.fetched = message

    def obtain(self, kept: KeptResult) -> Parts:
        """Return a copy of a result.

        Raises:
            DataLost: It is gone.
            MemoryError: There is no room for it.
        """
        kept.check()
        rank = kept.at.rank
        if rank in self._near and rank not in self._unreadable:
            parts = read(kept.at)
            if parts is not None:
                self._note_fetched(kept)
                return parts
        self.ask(kept)
        kept.check()
        answer, kept.fetched = kept.fetched, None
        parts = None if answer is None else answer.parts
        if parts is None:
            kept.lost = "its worker does not have it any more"
            kept.check()
            raise AssertionError
        self._unreadable.add(rank)  # it is alive, and yet it was not read
        self._note_fetched(kept)
        return parts

    def _note_fetched(self, kept: KeptResult) -> None:
        with self._counting:
            self.fetched[kept.at.rank] += kept.nbytes
