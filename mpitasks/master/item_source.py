"""Items of a map on their way from the user's iterable, each as it is when it is taken.

An item that can change is pickled before the next one is asked for, since the iterable
may use it again (`yield buffer`). Items of a few types that cannot change go through C.
All of it is called by the thread that consumes a job's results, under no lock, since
the iterable and the items run code of the user.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice, takewhile
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.master.argument_memory import nbytes_of
from mpitasks.wire import codec
from mpitasks.wire.codec import Unsendable
from mpitasks.wire.inputs import Collector, collecting

if TYPE_CHECKING:
    from mpitasks.master.argument_memory import ArgumentMemory
    from mpitasks.master.functions import Function
    from mpitasks.master.script_state import Definition
    from mpitasks.wire.codec import Buffer

__all__ = [
    "END",
    "ItemSource",
    "Packed",
    "is_steady",
    "pack",
    "take_steady",
    "unsendable",
]

END: Any = object()
"""What `ItemSource.next_item` returns when there are no more."""

PACKED_AT_ONCE = 256
"""Pickling takes time: after this many items, the workers get what there is."""

_STEADY = frozenset(map(id, (int, float, complex, bool, type(None), str, bytes)))
"""Types whose values cannot change, by their ids: a class of the user may have an
equality or a hash of its own, by its metaclass."""


class Packed:
    """An item that was pickled when it was taken.

    Attributes:
        frame: Its pickle frame.
        buffers: What travels beside it.
        names: Globals of the script that it refers to.
        nbytes: What it weighs in a message.
        found: The futures that were met in it; None if there are none.
        needs: The shared objects that it needs.
    """

    __slots__ = ("buffers", "found", "frame", "names", "nbytes", "needs")

    def __init__(
        self, frame: bytes, buffers: list[Buffer], names: Iterable[str] = ()
    ) -> None:
        self.frame: Any = frame
        self.found: Collector | None = None
        self.needs: Sequence[Definition] = ()
        self.names = names
        self.buffers = buffers
        self.nbytes = len(frame)
        if buffers:
            self.nbytes += sum(memoryview(one).nbytes for one in buffers)


def pack(item: Any, name: str, event_loop: object = None) -> Packed:
    """Pickle an item; its buffers are still the user's memory.

    Args:
        item: The item. One that cannot be pickled becomes its error.
        name: What to call it then.
        event_loop: The run's, whose futures may be in the item.

    Raises:
        BaseException: The script is interrupted by a signal.
    """
    found = Collector(event_loop)
    before = collecting(found)
    try:
        frame, buffers, notes = codec.encode_noting(item, name)
        packed = Packed(frame, buffers, () if notes is None else notes.names)
        if not found.is_empty:
            packed.found = found
        return packed
    except SerializationError as error:
        return unsendable(error)
    finally:
        collecting(before)


def unsendable(error: SerializationError) -> Packed:
    """Return what goes in the place of an item that cannot be sent, and fails it."""
    return Packed(*codec.encode(Unsendable(error), "the error"))


def is_steady(item: Any, star: bool) -> bool:
    """Whether an item cannot change, and needs no pickling to be kept."""
    if not star:
        return id(type(item)) in _STEADY
    return type(item) is tuple and all(id(type(part)) in _STEADY for part in item)


def take_steady(source: Iterator[Any], items: list[Any], star: bool) -> bool:
    """Append items that cannot change, at the speed of C, up to the first that can.

    Args:
        source: Where they come from; each a tuple of arguments if `star`.
        items: Where they go. The one that can change is appended as well.
        star: Whether the arguments in a tuple are looked at, instead of the item.

    Returns:
        Whether there is one that can change.
    """
    if not star:
        for kind, run in groupby(source, type):
            if id(kind) not in _STEADY:
                items.append(next(run))
                return True
            items.extend(run)
        return False
    for width, run in groupby(source, len):
        look: Any = iter(items)
        look.__setstate__(len(items))
        parts = map(id, map(type, chain.from_iterable(look)))
        steady = takewhile(_STEADY.__contains__, parts)
        before = len(items)
        # Of each tuple that is appended, as many types are looked at as it is long.
        deque(zip(map(items.append, run), *[steady] * width, strict=False), maxlen=0)
        if len(items) > before and not is_steady(items[-1], star):
            return True
    return False


class ItemSource:
    """The items of a bulk job that were not taken from the user's iterable yet.

    At most one item is in between: taken and pickled, but without room for its large
    arrays.

    Args:
        iterable: The user's.
        target: The function that the items are for.
        star: Whether each item is a tuple of arguments.
        argument_memory: Keeps their large arrays as they are.

    Attributes:
        is_exhausted: Whether the iterable has no more items, or nobody wants them.
        has_packed: Whether items among those that were taken are pickled.
        has_found: Whether futures were met in one of them.
        target: The function, with what the classes of the items need.
    """

    __slots__ = (
        "_argument_memory",
        "_held",
        "_iterable",
        "has_found",
        "has_packed",
        "is_exhausted",
        "star",
        "target",
    )

    def __init__(
        self,
        iterable: Iterable[Any],
        target: Function,
        *,
        star: bool,
        argument_memory: ArgumentMemory,
    ) -> None:
        self._iterable: Iterable[Any] = iterable
        self.target = target
        self.star = star
        self._argument_memory = argument_memory
        self.is_exhausted = False
        self.has_packed = self.has_found = False
        self._held: tuple[list[Any], Packed] | None = None

    @property
    def is_holding(self) -> bool:
        """Whether an item is in between."""
        return self._held is not None

    def close(self) -> None:
        """Let go of everything: no more items are wanted."""
        self.is_exhausted = True
        self._iterable = ()
        self._held = None

    def take_range(self) -> range | None:
        """Take all items at once, if they are a range of which none was taken."""
        iterable = self._iterable
        if type(iterable) is not range:
            return None
        self.close()
        return iterable

    def take(
        self, limit: int | None, position: int, given_up: Callable[[], bool]
    ) -> list[Any]:
        """Take up to `limit` items, None for all; return them ready to be sent.

        It takes fewer if items must be pickled and the workers should first have what
        was taken: call it again until it is exhausted.

        Args:
            limit: How many at most.
            position: Which of the user's items the next one is, for messages.
            given_up: Tells whether the items are no longer wanted.
        """
        iterator = self._iterable = iter(self._iterable)
        fresh: list[Any] = []
        for _ in range(PACKED_AT_ONCE):
            if self._held is None and fresh and type(fresh[-1]) is Packed:
                # The next may be such a one, too.
                if len(fresh) == limit:
                    break
                item = self.next_item()
                if item is END:
                    break
                if is_steady(item, self.star):
                    fresh.append(item)
                    continue
                self.hold(item, position + len(fresh))
                del item  # nobody else may have it, and then it is not copied
            if self._held is None:
                rest = None if limit is None else limit - len(fresh)
                if not take_steady(islice(iterator, rest), fresh, self.star):
                    if limit is None or len(fresh) < limit:
                        self.close()
                    break
                self.hold(fresh.pop(), position + len(fresh))
            ready = self.release(given_up, wait=not fresh)
            if ready is None:
                break
            fresh.append(ready)
        return fresh

    def next_item(self) -> Any:
        """Take the next item as the iterable yields it; return `END` if there is none.

        One that can change must be held before anything else of the user's runs.
        """
        iterator = self._iterable = iter(self._iterable)
        item = next(iterator, END)
        if item is END:
            self.close()
        return item

    def hold(self, item: Any, position: int) -> None:
        """Pickle an item that was taken.

        Args:
            item: The item.
            position: Which of the user's items it is, for messages.
        """
        self.has_packed = True
        packed = pack(item, f"item {position}", self._argument_memory.event_loop)
        if packed.names:
            try:
                # All that items of this kind need is looked into once, as by a map.
                first = not self.target.names.issuperset(packed.names)
                self.target = self.target.including(packed.names, whole=first)
            except SerializationError as error:  # of what its class needs
                packed = unsendable(error)
        if packed.found is not None:
            self.has_found = True
        self._held = [item], packed

    def release(self, given_up: Callable[[], bool], *, wait: bool) -> Packed | None:
        """Return the item that is held, with memory of its own.

        Args:
            given_up: Tells whether the items are no longer wanted.
            wait: Whether to wait until there is room for it; else None is returned, so
                that the workers get first what was taken before.
        """
        assert self._held is not None
        box, packed = self._held
        if packed.buffers:
            memory = self._argument_memory
            nbytes = nbytes_of(packed.buffers)
            if not memory.has_room(nbytes):
                if not wait:
                    return None
                memory.make_room(nbytes, given_up)
            try:
                packed.buffers = memory.keep_of(box, packed.buffers)
            except MemoryError as error:
                packed = Packed(*codec.encode(Unsendable(error), "the error"))
        self._held = None
        return packed
