"""Kept results: where they are, and how another rank gets them.

A kept result stays in the memory of the worker that made it. Rank 0 has a `Kept` of it,
which tells the frame if that is small, and where the rest is. Whoever needs the result
reads it from that process if both are on one machine (`mpitasks.wire.peer_memory`), and
else asks for it (`Fetch`) and is sent it (`Fetched`). Each gets memory of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mpitasks.wire import peer_memory
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.ownership import copied

if TYPE_CHECKING:
    from mpitasks.wire.buffers import BufferPool
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.peer_memory import Origin, Span

__all__ = ["KEEP_BYTES", "Kept", "Parts", "copy_of", "names_in", "read"]

KEEP_BYTES = THRESHOLD
"""A smaller result is sent to rank 0 all the same: that costs less than to get it."""

Parts = tuple["Buffer", "list[Buffer]"]
"""A frame and its buffers."""


class Kept(NamedTuple):
    """A result that its worker keeps.

    Attributes:
        id: The task that made it.
        rank: The worker.
        frame: The frame, if it is small; else None, and the first of the spans has it.
        spans: Where its buffers are.
        origin: The process, and what tells that it still has it.
        names: The globals of the script that the frame refers to.
        is_last: Whether the task at hand is the last one that needs it.
    """

    id: int
    rank: int
    frame: bytes | None
    spans: tuple[Span, ...]
    origin: Origin
    names: tuple[str, ...]
    is_last: bool = False

    @property
    def nbytes(self) -> int:
        """What it weighs."""
        return len(self.frame or b"") + sum([size for _, size in self.spans])


def read(kept: Kept) -> Parts | None:
    """Return a copy of a kept result of this machine; None if it cannot be read.

    Raises:
        MemoryError: There is no room for it.
    """
    pool = _pool()
    buffers = [pool.take(nbytes) for _, nbytes in kept.spans]
    if not peer_memory.read(kept.origin, kept.spans, buffers):
        return None
    if kept.frame is not None:
        return kept.frame, buffers
    return buffers[0], buffers[1:]


def copy_of(parts: Parts, *, is_last: bool = False) -> Parts:
    """Return a result of this process with buffers of its own.

    Args:
        parts: The result.
        is_last: Whether nobody else needs it: then its memory is given away.

    Raises:
        MemoryError: There is no room for it.
    """
    from mpitasks.wire.buffers import lent

    frame, buffers = parts
    return frame, [
        lent(memoryview(buffer))
        if is_last and not memoryview(buffer).readonly
        else copied(buffer)
        for buffer in buffers
    ]


def names_in(frame: bytes) -> tuple[str, ...]:
    """Return the globals of the script that a frame refers to; runs nothing of it.

    A reference has the module's name, and then the name in that module.
    """
    if b"__main__" not in frame:
        return ()
    import pickletools

    names: dict[str, None] = {}
    memo: list[object] = []
    before: object = None  # what was pushed last but one, and last, if that is text
    last: object = None
    argument: Any
    for opcode, argument, _ in pickletools.genops(frame):
        kind = opcode.name
        if kind == "MEMOIZE":
            memo.append(last)
        elif "UNICODE" in kind:
            before, last = last, argument
        elif kind in ("BINGET", "LONG_BINGET"):
            before, last = last, memo[argument]
        elif kind != "FRAME":
            # By itself, or as the arguments of `mpitasks.wire.rebuild.find_global`.
            refers = kind in ("STACK_GLOBAL", "TUPLE2") and before == "__main__"
            if refers and isinstance(last, str):
                names[last.partition(".")[0]] = None
            before = last = None
    return tuple(names)


_own_pool: BufferPool | None = None


def _pool() -> BufferPool:
    global _own_pool
    if _own_pool is None:
        from mpitasks.wire.buffers import BufferPool

        _own_pool = BufferPool()
    return _own_pool
