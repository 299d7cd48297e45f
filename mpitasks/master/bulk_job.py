"""A bulk job: what stands behind `map` and its relatives.

One object holds the items, those not yet sent and those at work, and the results not
yet yielded. There is no future, event or lock for an item: the scheduler cuts chunks
off as workers want them, and results come back as lists. Items that can change are
pickled when they are pulled, by the thread that pulls them and under no lock, since
that runs user code. `mpitasks.scheduler.events.Bulk` is the scheduler's side of a job.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError, TooManyFailures
from mpitasks.master.argument_memory import ArgumentMemory, nbytes_of
from mpitasks.master.item_source import Packed, is_steady, pack, take_steady
from mpitasks.master.payloads import History, named
from mpitasks.scheduler.events import Bulk
from mpitasks.wire import codec
from mpitasks.wire.codec import Unsendable
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import MAP, MAP_PLAIN, STARMAP, STARMAP_PLAIN
from mpitasks.wire.outcomes import error_of, has_failed

if TYPE_CHECKING:
    from mpitasks.master.functions import Function
    from mpitasks.options import TaskOptions
    from mpitasks.scheduler.events import Task
    from mpitasks.task_spec import Place
    from mpitasks.wire.codec import Buffer

__all__ = ["BulkJob"]

_END: Any = object()

PACKED_AT_ONCE = 256
"""Pickling takes time: after this many items, the workers get what there is."""


class BulkJob:
    """A function and its many items: the payload of its chunks.

    The thread that consumes the results calls `pull` and `take`; everything else is
    called under the event loop's lock.

    Attributes:
        bulk: What the scheduler knows of it.
        target: The function as it is sent.
        options: What was asked for its items.
        owner: Whose it is: an Executor's handle.
        argument_memory: Keeps their large arguments as they are.
        packs: Whether items among them are pickled already.
        closed: Whether its results are no longer wanted.
        halted: Makes the error that ends it early, if too many of its items failed. The
            consuming thread calls it: it may decode an outcome.
        place: Where in the program it stands; None if that is not known.
    """

    __slots__ = (
        "_arrived",
        "_base",
        "_cut",
        "_delivered",
        "_dropped",
        "_failures",
        "_histories",
        "_items",
        "_left_over",
        "_news",
        "_ordered",
        "_sent",
        "_source",
        "_star",
        "_taken",
        "argument_memory",
        "bulk",
        "closed",
        "halted",
        "options",
        "owner",
        "packs",
        "place",
        "pulled",
        "target",
    )

    is_call = is_simple = False
    wire = None

    def __init__(
        self,
        target: Function,
        source: Iterable[Any],
        *,
        star: bool,
        ordered: bool,
        options: TaskOptions,
        owner: object = None,
        place: Place | None = None,
        argument_memory: ArgumentMemory | None = None,
    ) -> None:
        self.bulk = Bulk(
            target.id,
            self,
            chunksize=options.chunksize,
            priority=options.priority,
            task_spec=options.task_spec,
        )
        self.options = options
        self.owner = owner
        self.place = place
        self.argument_memory = argument_memory or ArgumentMemory()
        self.target = target
        self.closed = False
        self.pulled = 0  # items taken from the source so far
        self._star = star
        self._ordered = ordered
        self._source: Iterable[Any] | None = source
        # Pulled, not yet cut off, from _base on. A range stays one: its chunks are
        # ranges too, and take no room in a message.
        self._items: list[Any] | range = []
        self._base = 0
        self.packs = False
        # An item that was pulled and pickled, and is not among the others yet.
        self._left_over: tuple[list[Any], Packed] | None = None
        self._cut = 0  # index of the next item to cut off
        # Cut off and not done, by the index of the first: each the items of a task, or
        # of several that were one before.
        self._sent: dict[int, list[Any] | range] = {}
        self._histories: dict[int, History] = {}  # of items that failed, by index
        self._delivered = 0  # items whose results came
        self._dropped = 0  # items cut off that came back and were cancelled
        self._taken = 0  # items whose results were handed out
        # Results not yet handed out, by start; and whether there may be others among
        # them than values.
        self._arrived: dict[int, tuple[list[Any], bool]] = {}
        self._failures = 0
        self.halted: Callable[[], BaseException] | None = None
        self._news = threading.Event()

    # The consuming thread's side.

    def pull(self, limit: int | None) -> int:
        """Take up to `limit` items from the source, None for all; return how many.

        It takes fewer if items must be pickled and the workers should first have what
        is there: call it again until it is `sourceless`. This runs user code, so no
        lock may be held.
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
            if not self.argument_memory.has_room(nbytes):
                if not wait:
                    return None
                self.argument_memory.make_room(nbytes, lambda: not self.wanted)
            try:
                packed.buffers = self.argument_memory.keep_of(box, packed.buffers)
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
        given_up = self.bulk.cancelled or self._dropped > 0
        return given_up and self._delivered + self._dropped == self._cut

    @property
    def wanted(self) -> bool:
        """Whether what it still lacks is worth another attempt."""
        return not (self.closed or self.bulk.cancelled or self.halted is not None)

    def has_news(self) -> bool:
        """Whether `take` would return results."""
        if self._ordered:
            return self._taken in self._arrived
        return bool(self._arrived)

    def settled(self) -> bool:
        """Whether there is no point in waiting."""
        return self.has_news() or self.abandoned or self.halted is not None

    def close(self) -> None:
        """Let go of everything: the results are no longer wanted."""
        self.closed = True
        self._source = None
        self._left_over = None
        self._arrived.clear()

    def let_go(self) -> None:
        """Let go of the items: it was cancelled, and none of them will be sent."""
        self._items = []

    def take(self) -> tuple[int, list[Any], bool]:
        """Hand out a chunk's results: index of the first, results, any but values?

        Call it only if `has_news`.
        """
        start = self._taken if self._ordered else next(iter(self._arrived))
        values, mixed = self._arrived.pop(start)
        self._taken += len(values)
        return start, values, mixed

    def block(self, seconds: float) -> None:
        """Sleep until results arrive, at most this long; another thread drives."""
        self._news.wait(seconds)
        self._news.clear()

    def sizes(self, count: int) -> list[int]:
        """Return what each of the last items weighs; nothing if all are small.

        Args:
            count: How many of those that were pulled last.
        """
        items = self._items
        if type(items) is range:
            return []
        items = items[-count:]  # at once: another thread may take others off the front
        if codec.SCALARS.issuperset(map(type, items)):
            return []
        return [_nbytes(item) for item in items]

    # The event loop's side.

    def items_of(self, task: Task) -> list[Any] | range:
        """Return the items of a task."""
        items = self._sent.get(task.start)
        if items is None:
            if task.start < self._cut:
                items = self._divide(task.start)
            else:
                items = self._cut_off(task.count)
            self._sent[task.start] = items
        return items if len(items) == task.count else items[: task.count]

    def _cut_off(self, count: int) -> list[Any] | range:
        """Take the next items off those that wait."""
        offset = self._cut - self._base
        items = self._items[offset : offset + count]
        self._cut += count
        if type(self._items) is list and (
            self.packs or offset + count > len(self._items) // 2
        ):
            # Let go of what is cut off: at once, if it may be large.
            del self._items[: offset + count]
            self._base = self._cut
        return items

    def _divide(self, start: int) -> list[Any] | range:
        """Take the end off the items of a task, which was split there."""
        for first, items in self._sent.items():
            if first < start < first + len(items):
                self._sent[first] = items[: start - first]
                return items[start - first :]
        raise AssertionError(f"nothing was sent of item {start}")

    def release(self, task: Task) -> list[Any] | range:
        """Let go of the items of a task, which is done; return them."""
        items = self.items_of(task)
        sent = self._sent.pop(task.start)
        if len(sent) > task.count:
            self._sent[task.start + task.count] = sent[task.count :]
        return items

    def keep(self, index: int, item: Any) -> None:
        """Keep an item of a task that is done: it may get another attempt."""
        self._sent[index] = [item]

    def encode(self, task: Task) -> tuple[tuple[Any, ...], Any, list[Buffer]]:
        """Return a chunk as it stands in a message, its place, and its buffers."""
        items = self.items_of(task)
        place = None if self.place is None else (*self.place, self._indices(task))
        if self._plain(items):
            mode = STARMAP_PLAIN if self._star else MAP_PLAIN
            frame = codec.encode_plain(items)
            return (task.id, self.target.id, mode, frame, 0), place, []
        entries = []
        buffers: list[Buffer] = []
        for index, item in enumerate(items, task.start):
            if type(item) is not Packed:  # and so runs no code of the user
                item = pack(item, f"item {self.position(index)}")
            entries.append((item.frame, len(item.buffers)))
            buffers += item.buffers
        mode = STARMAP if self._star else MAP
        wire = task.id, self.target.id, mode, entries, len(buffers)
        return wire, place, buffers

    def history(self, task: Task) -> History | None:
        """Return what became of earlier attempts at an item."""
        return self._histories.get(task.start)

    def try_again(self, task: Task, history: History) -> None:
        """Take note that this task is the next attempt at an item."""
        self._histories[task.start] = history

    def is_sendable(self) -> bool:
        """Whether another attempt can be sent."""
        return True

    def describe(self, task: Task) -> str:
        """Return what messages call a chunk."""
        end = task.start + task.count - 1
        return f"items {task.start} to {end} of a map ({named(self)})"

    def position(self, index: int) -> int:
        """Return which of the user's items this is."""
        return index

    def _indices(self, task: Task) -> int | list[int]:
        """Return which of the user's items these are; one number if in a row."""
        return task.start

    def _plain(self, items: list[Any] | range) -> bool:
        if type(items) is range:
            return True
        if self.packs and any(type(item) is Packed for item in items):
            return False
        return codec.all_plain(
            list(chain.from_iterable(items)) if self._star else items
        )

    def drop(self, task: Task) -> None:
        """A chunk will not be run."""
        self.release(task)
        self._dropped += task.count
        self._news.set()

    def give(self, task: Task, outcome: Any) -> None:
        """Give an item the failure that it ended with."""
        self.release(task)
        self._histories.pop(task.start, None)
        self.deliver(task.start, [outcome], mixed=True)

    def deliver(self, start: int, values: list[Any], *, mixed: bool) -> None:
        """Take results in.

        Args:
            start: The index of the first.
            values: The results of that item and those after it.
            mixed: Whether a `Failure`, or a `Deferred` result, may be among them.
        """
        self._delivered += len(values)
        if self.closed or not values:
            return
        if mixed:
            self._count_failures(values)
        self._arrived[start] = values, mixed
        self._news.set()

    def _count_failures(self, values: list[Any]) -> None:
        failures = [value for value in values if has_failed(value)]
        self._failures += len(failures)
        if not failures or self.halted is not None:
            return
        options = self.options
        if options.fail_fast:
            self.halted = functools.partial(error_of, failures[0])
        elif options.max_failures is not None and self._failures > options.max_failures:
            self.halted = functools.partial(
                _too_many, self._failures, options.max_failures, failures[-1]
            )


def _too_many(failures: int, allowed: int, last: Any) -> TooManyFailures:
    cause = error_of(last)
    error = TooManyFailures(
        f"{failures} items failed, and max_failures={allowed} allows no more; the last "
        f"was: {describe(cause)}"
    )
    error.__cause__ = cause
    return error


def _nbytes(item: Any) -> int:
    """Return the size of an item as it was pulled."""
    if type(item) is Packed:
        return item.nbytes
    if type(item) is tuple:
        return sum(map(_nbytes, item))
    return len(item) if type(item) in (bytes, str) else 0
