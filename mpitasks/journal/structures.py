"""Values of ctypes without their padding, as a task would see them. Imports NumPy.

A pickle of a structure holds its bytes, and a longdouble fills 10 of its 16 on most
processors; what stands in the others changes from run to run. What a pickle is made of
besides, is in `mpitasks.journal.objects`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["LONG_BYTES", "significant"]

_EXTENDED = 63
"""Bits of the mantissa of a longdouble that has 10 bytes, whatever it fills."""

LONG_BYTES = (
    10
    if np.finfo(np.longdouble).nmant == _EXTENDED
    else ctypes.sizeof(ctypes.c_longdouble)
)
"""How many bytes of a longdouble mean something."""


def significant(value: Any) -> Any:
    """Return what is in a structure, an array or a number of ctypes, in its order."""
    if isinstance(value, ctypes.c_longdouble):
        return bytes(value)[:LONG_BYTES]
    if isinstance(value, ctypes.Structure):
        return tuple(_fields(value))
    if isinstance(value, ctypes.Array) and not _is_dense(value._type_):
        return tuple(map(significant, _elements(value)))
    return bytes(value)


def _is_dense(kind: Any) -> bool:
    """Whether values of a type have no padding."""
    return issubclass(kind, ctypes._SimpleCData) and kind is not ctypes.c_longdouble


def _elements(value: Any) -> Iterator[Any]:
    size = ctypes.sizeof(value._type_)
    raw = bytes(value)
    for at in range(0, len(raw), size):
        yield value._type_.from_buffer_copy(raw, at)


def _fields(value: Any) -> Iterator[Any]:
    """Yield the content of each field, those of base classes first."""
    raw = bytes(value)
    for base in reversed(type(value).__mro__):
        for name, kind, *bits in base.__dict__.get("_fields_", ()):
            if bits:
                yield getattr(value, name)
            else:
                place = base.__dict__[name].offset
                yield significant(kind.from_buffer_copy(raw, place))
