"""What rank 0 remembers of functions that it sent, so that it need not send them again.

A function of the script is known by its object. A partial, a bound method or another
callable object may be a new one each time (``executor.submit(model.value, x)``), so it
is known by its frame, and by the memory of the large arrays in it: whose it is, where,
and of what size. That holds as long as the owner of the memory lives. What is in the
memory is compared with what was sent when the caller asks for it.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from mpitasks.master.script_state import copies_of, same_bytes

if TYPE_CHECKING:
    from mpitasks.master.script_state import Definition
    from mpitasks.wire.codec import Buffer

__all__ = ["Memory"]

RECENT, RECENT_BYTES = 256, 64 << 20
"""How many functions, with frames of how many bytes in all, are remembered though
neither a call nor the object that was submitted refers to them."""

Mark = tuple[int, int, int]
"""The id of the owner of some memory, its address, and its size in bytes."""


class Sent(Protocol):
    """A function as it was sent."""

    frame: bytes
    buffers: list[Buffer]
    epoch: int

    @property
    def needs(self) -> Sequence[Definition]:
        """The globals that it needs."""


F = TypeVar("F", bound=Sent)


class Memory(Generic[F]):
    """Functions by their frames."""

    def __init__(self) -> None:
        self._by_key: weakref.WeakValueDictionary[Hashable, F] = (
            weakref.WeakValueDictionary()
        )
        self._recent: OrderedDict[Hashable, tuple[F, list[Any]]] = OrderedDict()
        self._recent_bytes = 0
        self._copies: weakref.WeakValueDictionary[Mark, Any] = (
            weakref.WeakValueDictionary()
        )
        self._of_owner: dict[int, set[Hashable]] = {}
        self._watched: set[int] = set()  # ids of owners

    def find(
        self, key: Hashable, buffers: Sequence[Buffer], epoch: int, *, whole: bool
    ) -> F | None:
        """Return a function that was sent, if it is still the same.

        Args:
            key: Its frame, and what it needs.
            buffers: The memory of its large arrays.
            epoch: The present one.
            whole: Whether to look at what is in the memory in any case.
        """
        entry = self._by_key.get((key, *map(_mark_of, buffers)))
        if entry is None or not buffers:
            return entry
        if whole or entry.epoch != epoch:
            return entry if same_bytes(buffers, entry.buffers) else None
        return entry

    def copies(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Return copies of some memory; of what was copied before, the same."""
        return [self._copy(buffer) for buffer in buffers]

    def keep(self, key: Hashable, buffers: Sequence[Buffer], entry: F) -> None:
        """Remember a function."""
        full = (key, *map(_mark_of, buffers))
        self._drop(full)
        # Who cannot be watched is held, or another could be where it was.
        held = [owner for owner in map(_owner_of, buffers) if not self._watch(owner)]
        for owner in map(_owner_of, buffers):
            self._of_owner.setdefault(id(owner), set()).add(full)
        self._by_key[full] = entry
        self._recent[full] = entry, held
        self._recent_bytes += len(entry.frame)
        while len(self._recent) > RECENT or self._recent_bytes > RECENT_BYTES:
            try:
                self._drop(next(iter(self._recent)))
            except (StopIteration, RuntimeError):  # another thread was at it
                break

    def _watch(self, owner: Any) -> bool:
        """Learn of the end of an object; return whether that is possible."""
        if id(owner) in self._watched:
            return True
        try:
            weakref.finalize(owner, self._expire, id(owner)).atexit = False
        except TypeError:
            return False
        self._watched.add(id(owner))
        return True

    def forget_users(self, old: Definition) -> None:
        """Forget the functions that need a version of a global that is no more."""
        for full, (entry, _) in [*self._recent.items()]:
            if old in entry.needs:
                self._drop(full)

    def _copy(self, buffer: Buffer) -> Buffer:
        mark = _mark_of(buffer)
        copy = self._copies.get(mark)
        if copy is None or not same_bytes([buffer], [copy]):
            [copy] = copies_of([buffer])
            self._copies[mark] = copy
        return copy

    def _drop(self, full: Any) -> None:
        """Forget a function."""
        entry, _ = self._recent.pop(full, (None, None))
        if entry is None:
            return
        self._recent_bytes -= len(entry.frame)
        self._by_key.pop(full, None)
        for owner, _, _ in full[1:]:
            self._of_owner.get(owner, set()).discard(full)

    def _expire(self, owner: int) -> None:
        """The owner of some memory is gone; another may be where it was."""
        self._watched.discard(owner)
        for full in self._of_owner.pop(owner, ()):
            self._drop(full)


def _owner_of(buffer: Buffer) -> Any:
    """Return the object whose memory a buffer is."""
    owner = buffer.obj
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    return owner


def _mark_of(buffer: Buffer) -> Mark:
    import numpy as np

    address = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return id(_owner_of(buffer)), int(address), buffer.nbytes
