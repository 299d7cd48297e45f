"""Functions on their way to the workers: pickled once, sent once per worker.

A plain function is captured when it is first submitted: its frame is remembered as
long as the function lives. A bound method, a partial or another callable object is
pickled at each submit, since its state may have changed; equal frames still are one
function, by digest, and are sent once as long as they are remembered.
"""

from __future__ import annotations

import itertools
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpitasks.wire import codec

if TYPE_CHECKING:
    from mpitasks.core.events import FunctionId
    from mpitasks.wire.codec import Buffer

__all__ = ["Function", "Functions"]


RECENT, RECENT_BYTES = 256, 256 << 10
"""So many functions, of up to so many bytes, are remembered while no call refers to
them. None with buffers: these are the user's memory, and may change."""


class Function:
    """A function as it is sent.

    Attributes:
        id: What tasks call it by; unique in the run.
        frame: Its pickle frame.
        buffers: What travels beside the frame.
        name: What messages call it.
    """

    __slots__ = ("__weakref__", "buffers", "frame", "id", "name")

    def __init__(
        self, id: FunctionId, frame: bytes, buffers: list[Buffer], name: str
    ) -> None:
        self.id = id
        self.name = name
        self.frame = frame
        self.buffers = buffers


class Functions:
    """The functions of a run. Safe to call from several threads."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._by_object: weakref.WeakKeyDictionary[Any, Function] = (
            weakref.WeakKeyDictionary()
        )
        self._by_digest: weakref.WeakValueDictionary[bytes, Function] = (
            weakref.WeakValueDictionary()
        )
        self._recent: deque[Function] = deque(maxlen=RECENT)
        self._last: tuple[Any, Any] = (None, None)

    def register(self, function: Callable[..., Any]) -> Function:
        """Return the function as it is sent.

        Raises:
            SerializationError: It cannot be pickled.
        """
        key, entry = self._last
        if key is function and entry is not None:
            return entry  # type: ignore[no-any-return]
        if type(function) is not types.FunctionType:
            return self._encode(function)
        entry = self._by_object.get(function)
        if entry is None:
            entry = self._encode(function)
            self._by_object[function] = entry
        self._last = (function, entry)
        return entry

    def _encode(self, function: Callable[..., Any]) -> Function:
        import hashlib  # loads OpenSSL; a run that submits nothing does without

        frame, buffers = codec.encode(function, "the function")
        digest = hashlib.blake2b(frame, digest_size=16)
        for buffer in buffers:
            digest.update(buffer)
        key = digest.digest()
        entry = self._by_digest.get(key)
        if entry is None:
            name = getattr(function, "__qualname__", None) or repr(type(function))
            entry = Function(next(self._ids), frame, buffers, name)
            entry = self._by_digest.setdefault(key, entry)
            if not buffers and len(frame) <= RECENT_BYTES:
                self._recent.append(entry)
        return entry
