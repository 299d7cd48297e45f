"""A bulk job: what stands behind `map` and its relatives.

One object holds the items, those not yet sent and those not yet yielded, and the
results in order. There is no future, event or lock for an item: chunks are carved
off as workers want them, and come back as lists. Items that can change are pickled when
they are pulled, by the thread that pulls them and outside of all locks, since that runs
user code. The scheduler's side of it is `mpitasks.core.events.Bulk`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from mpitasks.core.events import Bulk, Task, TaskId
from mpitasks.core.policy import BATCH_BYTES
from mpitasks.errors import SerializationError, TooManyFailures
from mpitasks.master.calls import Chunk
from mpitasks.master.keeping import Keeper, nbytes_of
from mpitasks.master.pulling import Packed, is_steady, pack, take_steady
from mpitasks.wire import codec
from mpitasks.wire.codec import Unsendable
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import MAP, MAP_PLAIN, STARMAP, STARMAP_PLAIN
from mpitasks.wire.outcomes import Failure

if TYPE_CHECKING:
    from mpitasks.master.functions import Function
    from mpitasks.options import TaskOptions
    from mpitasks.terms import Place
    from mpitasks.wire.codec import Buffer

__all__ = ["Job"]

_END: Any = object()

PACKED_AT_ONCE = 256
"""Pickling takes time: after so many items, the workers get them."""


class Job(Bulk):
    """A function and its many items.

    Methods are called under the pump's lock, but for `pull` and `take`, which belong
    to the thread that consumes the results.

    Attributes:
        target: The function as it is sent.
        options: What was asked for its items.
        keeper: Keeps their large arguments as they are.
        packs: Whether items among them are pickled already.
        closed: Nobody wants its results.
        halted: What ends it before its results do: too many of them are failures.
        place: Where in the program it stands; None if that is not known.
    """

    __slots__ = (
        "_arrived",
        "_base",
        "_carved",
        "_delivered",
        "_dropped",
        "_failures",
        "_items",
        "_left_over",
        "_news",
        "_ordered",
        "_source",
        "_star",
        "_taken",
        "closed",
        "halted",
        "keeper",
        "options",
        "packs",
        "place",
        "pulled",
        "target",
    )

    def __init__(
        self,
        target: Function,
        source: Iterable[Any],
        *,
        star: bool,
        ordered: bool,
        options: TaskOptions,
        place: Place | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(
            target.id,
            chunksize=options.chunksize,
            priority=options.priority,
            terms=options.terms,
        )
        self.options = options
        self.place = place
        self.keeper = keeper or Keeper()
        self.target = target
        self.closed = False
        self.pulled = 0  # items taken from the source so far
        self._star = star
        self._ordered = ordered
        self._source: Iterable[Any] | None = source
        # Pulled, not yet carved off, from _base on. A range stays one: its chunks are
        # ranges too, and take no room in a message.
        self._items: list[Any] | range = []
        self._base = 0
        self.packs = False
        # An item that was pulled and pickled, and is not among the others yet.
        self._left_over: tuple[list[Any], Packed] | None = None
        self._carved = 0  # index of the next item to carve off
        self._delivered = 0  # items whose results came
        self._dropped = 0  # items carved off that came back and were cancelled
        self._taken = 0  # items whose results were handed out
        # Results not yet handed out, by start; and whether a `Failure` may be in them.
        self._arrived: dict[int, tuple[list[Any], bool]] = {}
        self._failures = 0
        self.halted: BaseException | None = None
        self._news = threading.Event()

    # The consuming thread's side.

    def pull(self, limit: int | None) -> int:
        """Take up to `limit` items from the source, None for all; return how many.

        Fewer if items must be pickled, and the workers should have those first that are
        there: call it again until it is `sourceless`. This runs user code, so it is not
        for under the lock.
        """
        source = self._source
        if source is None:
            return 0
        if type(source) is range and limit is None:
            self._source = None
            self._items = source
            self.pulled = len(source)
            return len(source)
        iterator = self._source = iter(source)
        fresh: list[Any] = []
        if self._pull_into(fresh, iterator, limit):
            self._source = None
        assert isinstance(self._items, list)  # a range is pulled as a whole
        self._items.extend(fresh)
        self.pulled += len(fresh)
        return len(fresh)

    def _pull_into(
        self, fresh: list[Any], iterator: Iterator[Any], limit: int | None
    ) -> bool:
        """Append items, ready to be sent, to a list; return whether that was all."""
        for _ in range(PACKED_AT_ONCE):
            if self._left_over is None and fresh and type(fresh[-1]) is Packed:
                # The next may be such a one, too.
                if len(fresh) == limit:
                    break
                item = next(iterator, _END)
                if item is _END:
                    return True
                if is_steady(item, self._star):
                    fresh.append(item)
                    continue
                self._set_left_over(item, self.pulled + len(fresh))
                del item  # nobody else may have it, and then it is not copied
            if self._left_over is None:
                rest = None if limit is None else limit - len(fresh)
                if not take_steady(islice(iterator, rest), fresh, self._star):
                    return limit is None or len(fresh) < limit
                self._set_left_over(fresh.pop(), self.pulled + len(fresh))
            ready = self._make_ready(wait=not fresh)
            if ready is None:
                break
            fresh.append(ready)
        return False

    def _set_left_over(self, item: Any, index: int) -> None:
        """Pickle an item that was pulled, before anything else of the user's runs."""
        self.packs = True
        packed = pack(item, f"item {index}")
        if packed.names:
            try:
                # All that items of this kind need is looked into once, as by a map.
                first = not self.target.names.issuperset(packed.names)
                self.target = self.target.including(packed.names, whole=first)
                self.function = self.target.id
            except SerializationError as error:  # of what its class needs
                packed = Packed(*codec.encode(Unsendable(error), "the error"))
        self._left_over = [item], packed

    def _make_ready(self, *, wait: bool) -> Packed | None:
        """Return the item that was pulled last, with memory of its own.

        Args:
            wait: Whether to wait until there is room for it; else None is returned, so
                that the workers get first what was pulled before.
        """
        assert self._left_over is not None
        box, packed = self._left_over
        if packed.buffers:
            nbytes = nbytes_of(packed.buffers)
            if not self.keeper.has_room(nbytes):
                if not wait:
                    return None
                self.keeper.make_room(nbytes, lambda: not self.wanted)
            try:
                packed.buffers = self.keeper.keep_of(box, packed.buffers)
            except MemoryError as error:
                packed = Packed(*codec.encode(Unsendable(error), "the error"))
        self._left_over = None
        return packed

    @property
    def unyielded(self) -> int:
        """Items pulled whose results were not handed out yet."""
        return self.pulled - self._taken

    @property
    def sourceless(self) -> bool:
        """Whether every item was pulled."""
        return self._source is None

    @property
    def exhausted(self) -> bool:
        """Whether every item was pulled and every result handed out."""
        return self._source is None and self._taken == self.pulled

    @property
    def abandoned(self) -> bool:
        """Whether it was cancelled, and nothing more will arrive."""
        given_up = self.cancelled or self._dropped > 0
        return given_up and self._delivered + self._dropped == self._carved

    @property
    def wanted(self) -> bool:
        """Whether what it still lacks is worth another attempt."""
        return not (self.closed or self.cancelled or self.halted is not None)

    def has_news(self) -> bool:
        """Whether `take` would return results."""
        if self._ordered:
            return self._taken in self._arrived
        return bool(self._arrived)

    def settled(self) -> bool:
        """Whether there is no point in waiting."""
        return self.has_news() or self.abandoned or self.halted is not None

    def close(self) -> None:
        """Let go of everything: nobody wants the results any more."""
        self.closed = True
        self._source = None
        self._left_over = None
        self._arrived.clear()

    def let_go(self) -> None:
        """Let go of the items: it was cancelled, and none of them will be sent."""
        self._items = []

    def take(self) -> tuple[int, list[Any], bool]:
        """Hand out a chunk's results: index of the first, results, any `Failure`?

        Call it only if `has_news`.
        """
        start = self._taken if self._ordered else next(iter(self._arrived))
        values, mixed = self._arrived.pop(start)
        self._taken += len(values)
        return start, values, mixed

    def block(self, seconds: float) -> None:
        """Sleep until something arrives, at most so long; another thread drives."""
        self._news.wait(seconds)
        self._news.clear()

    # The pump's side.

    def carve(self, task_id: TaskId, limit: int) -> Task:
        offset = self._carved - self._base
        count = min(limit, self.ready)
        if count > 1:
            count = _fitting(self._items, offset, count)
        items = self._items[offset : offset + count]
        chunk = Chunk(task_id, self, self._carved, items)
        self._carved += count
        if type(self._items) is list and (
            self.packs or offset + count > len(self._items) // 2
        ):
            # Let go of what is carved off: at once, if it may be large.
            del self._items[: offset + count]
            self._base = self._carved
        return chunk

    def encode(self, chunk: Chunk) -> tuple[tuple[Any, ...], list[Buffer]]:
        """Return the chunk as it stands in a message, and its buffers."""
        items = chunk.items
        if self._plain(items):
            mode = STARMAP_PLAIN if self._star else MAP_PLAIN
            return (chunk.id, self.target.id, mode, codec.encode_plain(items), 0), []
        entries = []
        buffers: list[Buffer] = []
        for index, item in enumerate(items, chunk.start):
            if type(item) is not Packed:  # and so runs no code of the user
                item = pack(item, f"item {self.position(index)}")
            entries.append((item.frame, len(item.buffers)))
            buffers += item.buffers
        mode = STARMAP if self._star else MAP
        return (chunk.id, self.target.id, mode, entries, len(buffers)), buffers

    def position(self, index: int) -> int:
        """Return which of the user's items this is."""
        return index

    def places(self, chunk: Chunk) -> tuple[int, tuple[int, ...], Any]:
        """Return where the items of a chunk have their place, as in `Batch.places`."""
        assert self.place is not None
        return (*self.place, self._indices(chunk))

    def _indices(self, chunk: Chunk) -> int | list[int]:
        """Return which of the user's items these are; one number if in a row."""
        return chunk.start

    def _plain(self, items: list[Any] | range) -> bool:
        if type(items) is range:
            return True
        if self.packs and any(type(item) is Packed for item in items):
            return False
        return codec.all_plain(
            list(chain.from_iterable(items)) if self._star else items
        )

    def drop(self, chunk: Chunk) -> None:
        """A chunk will not be run."""
        self._dropped += chunk.count
        self._news.set()

    def deliver(self, start: int, values: list[Any], *, mixed: bool) -> None:
        """Take results in.

        Args:
            start: The index of the first.
            values: The results of that item and those after it.
            mixed: Whether a `Failure` may be among them.
        """
        self._delivered += len(values)
        if self.closed or not values:
            return
        if mixed:
            self._count_failures(values)
        self._arrived[start] = values, mixed
        self._news.set()

    def _count_failures(self, values: list[Any]) -> None:
        failures = [value for value in values if type(value) is Failure]
        self._failures += len(failures)
        if not failures or self.halted is not None:
            return
        options = self.options
        error = failures[-1].error
        if options.fail_fast:
            self.halted = failures[0].error
        elif options.max_failures is not None and self._failures > options.max_failures:
            self.halted = TooManyFailures(
                f"{self._failures} items failed, and max_failures="
                f"{options.max_failures} allows no more; the last was: "
                f"{describe(error)}"
            )
            self.halted.__cause__ = error


def _fitting(items: list[Any] | range, offset: int, limit: int) -> int:
    """Return how many items from `offset` on fit into a message; at least 1."""
    if type(items[offset]) in codec.SCALARS:
        return limit
    total = 0
    for count in range(limit):
        total += _nbytes(items[offset + count])
        if total > BATCH_BYTES:
            return max(count, 1)
    return limit


def _nbytes(item: Any) -> int:
    """Return the size of an item as it was pulled."""
    if type(item) is Packed:
        return item.nbytes
    if type(item) is tuple:
        return sum(map(_nbytes, item))
    return len(item) if type(item) in (bytes, str) else 0
