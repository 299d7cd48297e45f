"""Items of a map on their way from the user's iterable, each as it is when it is taken.

An item that can change is pickled before the next one is asked for, since the iterable
may use it again (`yield buffer`). Items of a few types that cannot change go through C.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, takewhile
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.wire import codec
from mpitasks.wire.codec import Unsendable

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["Packed", "is_steady", "pack", "take_steady"]

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
    """

    __slots__ = ("buffers", "frame", "names", "nbytes")

    def __init__(
        self, frame: bytes, buffers: list[Buffer], names: Iterable[str] = ()
    ) -> None:
        self.frame = frame
        self.names = names
        self.buffers = buffers
        self.nbytes = len(frame)
        if buffers:
            self.nbytes += sum(memoryview(one).nbytes for one in buffers)


def pack(item: Any, name: str) -> Packed:
    """Pickle an item; its buffers are still the user's memory.

    Args:
        item: The item. One that cannot be pickled becomes its error.
        name: What to call it then.

    Raises:
        BaseException: The script is interrupted by a signal.
    """
    try:
        frame, buffers, notes = codec.encode_noting(item, name)
        return Packed(frame, buffers, () if notes is None else notes.names)
    except SerializationError as error:
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
