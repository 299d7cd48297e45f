"""Which values cannot change in place, so that identity tells all about them.

Functions and classes count as such: what they hold is watched by itself.
"""

from __future__ import annotations

import enum
import functools
import re
import types
from typing import Any

__all__ = ["IMMUTABLE", "settled"]

IMMUTABLE = frozenset(
    {
        *(bool, int, float, complex, str, bytes, range, slice, type(None)),
        *(type(Ellipsis), type(NotImplemented), re.Pattern, object),
        *(
            types.ModuleType,
            types.CodeType,
            types.GetSetDescriptorType,
            types.MemberDescriptorType,
        ),
        *(types.WrapperDescriptorType, types.MethodDescriptorType),
        *(types.ClassMethodDescriptorType, types.MethodWrapperType),
        # What these hold is watched by itself: the pickler notes it.
        *(types.FunctionType, property, staticmethod, classmethod),
        *(functools._lru_cache_wrapper, functools.cached_property),
    }
)

_BY_NAME = frozenset(
    {
        *(("datetime", each) for each in ("date", "time", "datetime", "timedelta")),
        *(("datetime", "timezone"), ("decimal", "Decimal"), ("fractions", "Fraction")),
        *(("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("uuid", "UUID")),
        *(("pathlib._local", "PosixPath"), ("pathlib._local", "PurePosixPath")),
    }
)
"""The same, of modules that are slow to import."""


def settled(value: Any) -> bool:
    """Whether a value cannot change in place, or is watched by itself."""
    kind = type(value)
    if kind in IMMUTABLE:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(settled, value))
    if kind is types.BuiltinFunctionType:
        return isinstance(value.__self__, (types.ModuleType, type(None)))
    if isinstance(value, (type, enum.Enum)):
        return True
    if (kind.__module__, kind.__qualname__) in _BY_NAME:
        return True
    return kind.__module__ == "typing"
