"""Shared objects: sent to the workers once, and mapped rather than copied.

A shared object is pickled when it is shared. Its large buffers are copied into node
memory, which the workers of this machine attach; others get the bytes, once. It stands
among the definitions that a worker keeps: whoever needs it has it sent along, and it is
forgotten when nobody on rank 0 refers to it any more.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.master.script_state import Definition, copies_of
from mpitasks.wire import codec, rebuild
from mpitasks.wire.diagnose import describe
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.messages import SHARED_OBJECT, VALUE
from mpitasks.wire.outcomes import Encoded, Failure, Special

if TYPE_CHECKING:
    from mpitasks.master.functions import Functions

__all__ = ["Shared", "share"]


class Shared(Special):
    """A shared object, in the place of the payload of a result.

    Attributes:
        definition: How it is sent.
        names: The globals of the script that it refers to, and what they are.
        key: What it is to a journal, once that is known.
    """

    __slots__ = ("definition", "key", "names")

    def __init__(self, definition: Definition, names: Iterable[str]) -> None:
        self.definition = definition
        main = rebuild.side().module().__dict__
        self.names = {name: main.get(name) for name in names}
        self.key: bytes | None = None

    @property
    def nbytes(self) -> int:
        """What it weighs."""
        nbytes: int = self.definition.nbytes
        return nbytes

    def check(self) -> None:
        """Look whether the script's globals that it refers to are the same.

        Raises:
            SerializationError: One is not: tasks would see another object.
        """
        main = rebuild.side().module().__dict__
        for name, value in self.names.items():
            if main.get(name) is not value:
                raise SerializationError(
                    f"the shared object refers to {name!r} of the script, which is "
                    f"another one now; share the object again"
                )

    @property
    def outcome(self) -> Encoded:
        """What its future comes to."""
        return Encoded(VALUE, self, [])

    def fetch(self) -> Any:
        """Return the object as tasks see it: its large arrays are read-only."""
        buffers = [memoryview(each).toreadonly() for each in self.definition.buffers]
        try:
            return codec.decode(self.definition.frame, buffers)
        except BaseException as error:
            if interrupts(error):
                raise
            failure = SerializationError(
                f"the shared object cannot be unpickled on rank 0: {describe(error)}"
            )
            failure.__cause__ = error
            return Failure(failure)


class _MappedFile:
    """A memory-mapped array on its way: the file goes by its path, not by its bytes."""

    def __init__(self, *where: Any) -> None:
        self._where = where

    @classmethod
    def of(cls, value: Any) -> _MappedFile | None:
        """Return it for an array that is all in a file; None for other objects."""
        np = sys.modules.get("numpy")
        if np is None or type(value) is not np.memmap:
            return None
        mapping, path = value._mmap, value.filename
        contiguous = value.flags.c_contiguous or value.flags.f_contiguous
        if mapping is None or path is None or value.mode == "c" or not contiguous:
            return None
        if not value.nbytes:
            return None
        # A slice has the offset of the whole; where it begins, its address tells.
        start = value.offset - value.offset % mmap.ALLOCATIONGRANULARITY
        first = np.frombuffer(mapping, np.uint8).ctypes.data
        offset = start + value.ctypes.data - first
        order = "C" if value.flags.c_contiguous else "F"
        return cls(os.fspath(path), value.dtype, "r", offset, value.shape, order)

    def __reduce__(self) -> Any:
        return sys.modules["numpy"].memmap, self._where


def share(functions: Functions, value: Any) -> Shared:
    """Return an object as it is shared.

    Raises:
        SerializationError: It cannot be pickled.
        MemoryError: There is no room for a copy.
    """
    mapped = _MappedFile.of(value)
    if mapped is not None:
        value = mapped
    frame, buffers, notes = codec.encode_noting(value, "the shared object")
    copies = copies_of(buffers)
    number = next(functions.ids)
    made = Definition(number, SHARED_OBJECT, frame, copies, functions.dropped)
    return Shared(made, () if notes is None else notes.names)
