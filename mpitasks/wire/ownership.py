"""Memory of results: kept as it is if nobody else can reach it, copied if not.

The large buffers of a pickled object are the memory of the user's own arrays, and what
is still to be sent must not change. So each is looked at once its object is let go of:
an array that only we refer to stays where it is, everything else is copied, into memory
that was used before. In doubt it is copied: an object of an unknown class may do
anything when it dies.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpitasks.wire.buffers import BufferPool
    from mpitasks.wire.codec import Buffer

__all__ = ["copied", "held_by_one", "is_inert", "own", "unshared"]

_DEPTH = 3
_LENGTH = 256
"""A container of more parts, or deeper, is not looked through: its memory is copied."""

_INERT = frozenset(
    map(id, (int, float, complex, bool, type(None), str, bytes, bytearray))
)

_pool: BufferPool | None = None


def own(buffers: list[Buffer]) -> list[Buffer]:
    """Return the buffers of an inert object, or copies where somebody else has them.

    Args:
        buffers: As `mpitasks.wire.codec.encode` returned them. Nothing of ours may
            refer to the object itself any more.
    """
    return [buffer if unshared(buffer) else copied(buffer) for buffer in buffers]


def is_inert(value: Any, depth: int = _DEPTH) -> bool:
    """Whether letting go of an object runs no code of the user."""
    kind = type(value)
    if id(kind) in _INERT:
        return True
    if kind is tuple or kind is list:
        parts = value
    elif kind is dict:
        parts = [*value, *value.values()]
    else:
        np = sys.modules.get("numpy")
        return (
            np is not None
            and kind is np.ndarray
            and not value.dtype.hasobject
            and not weakref.getweakrefcount(value)
        )
    if not depth or len(parts) > _LENGTH:
        return False
    return all(is_inert(part, depth - 1) for part in parts)


def copied(buffer: Buffer, pool: BufferPool | None = None) -> Buffer:
    """Return a copy of a buffer, or the buffer itself if it cannot change.

    Args:
        buffer: A view of bytes.
        pool: Where its memory comes from, if not from that of the results.

    Raises:
        MemoryError: There is no room for it.
    """
    global _pool
    if type(getattr(buffer, "obj", None)) is bytes:
        return buffer
    if "numpy" not in sys.modules and pool is None:
        return bytearray(buffer)
    import numpy as np

    if pool is None:
        if _pool is None:
            from mpitasks.wire.buffers import BufferPool

            _pool = BufferPool()
        pool = _pool
    copy = pool.take(memoryview(buffer).nbytes)
    np.copyto(copy, np.frombuffer(buffer, np.uint8))
    return copy


def unshared(buffer: Buffer) -> bool:
    """Whether only we can reach the memory of a buffer: a chain of single references.

    Args:
        buffer: As the codec made it.
    """
    if type(buffer) is not memoryview:
        return False
    kind = type(buffer.obj)
    if kind is bytes:
        return True  # which nobody can change
    if not _counts_are_true() or _holders(buffer, _exporter) > _least(_exporter):
        return False
    return kind is bytearray or _owned(buffer.obj)


def held_by_one(entry: tuple[Any, ...]) -> bool:
    """Whether nothing but this tuple refers to its second part."""
    return _counts_are_true() and _holders(entry, _second) <= _least(_second)


def _owned(link: Any) -> bool:
    """Whether an array, to which there is one way, owns its memory, or by one way."""
    from mpitasks.wire.arrays import Writable
    from mpitasks.wire.buffers import is_lent

    np = sys.modules["numpy"]
    while True:
        step: Callable[[Any], Any]
        if type(link) is Writable:
            step = _wrapped
        elif type(link) is not np.ndarray:
            return type(link) is bytearray
        elif is_lent(link):
            return True
        elif weakref.getweakrefcount(link):
            return False
        elif link.flags.owndata:
            return True
        else:
            step = _base
        if _holders(link, step) > _least(step):
            return False
        link = step(link)


def _counts_are_true() -> bool:
    """Whether a count of references says how many there are."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def _exporter(view: Any) -> Any:
    return view.obj


def _base(array: Any) -> Any:
    return array.base


def _second(entry: tuple[Any, ...]) -> Any:
    return entry[1]


def _wrapped(writable: Any) -> Any:
    return writable.base


def _holders(holder: Any, step: Callable[[Any], Any]) -> int:
    """Return how many refer to what `step` leads to, in units of this interpreter."""
    link = step(holder)
    return sys.getrefcount(link)


_known: dict[Any, int] = {}


def _least(step: Callable[[Any], Any]) -> int:
    """Return what `_holders` says of something that has one holder."""
    least = _known.get(step)
    if least is None:
        if step is _exporter:
            sample: Any = memoryview(bytearray(1))
        elif step is _second:
            sample = 0, bytearray(1), 0
        else:
            import numpy as np

            from mpitasks.wire.arrays import Writable

            array = np.empty(8)
            sample = array.view(np.uint8) if step is _base else Writable(array)
            del array
        least = _known[step] = _holders(sample, step)
    return least
