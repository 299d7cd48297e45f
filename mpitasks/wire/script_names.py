"""Names in the script: where a value is found, and which ones code refers to."""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterator
from typing import Any

__all__ = ["MAIN", "alias", "found_as", "global_names", "main_name"]

MAIN = "__main__"

_names_of_code: weakref.WeakKeyDictionary[types.CodeType, tuple[str, ...]] = (
    weakref.WeakKeyDictionary()
)


def main_name(value: Any, main: dict[str, Any]) -> str | None:
    """Return the global of the script under which a function or a class is found.

    That of its own name, or another one that it is bound to.
    """
    if getattr(value, "__module__", None) != MAIN:
        return None
    path = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return found_as(value, path, main) or alias(value, main)


def alias(value: Any, main: dict[str, Any]) -> str | None:
    """Return a global that is bound to a value, whatever that calls itself."""
    return next((name for name, each in [*main.items()] if each is value), None)


def found_as(value: Any, path: Any, main: dict[str, Any]) -> str | None:
    """Return the global where a value is found by a path of names."""
    if type(path) is not str:
        return None
    first, *rest = path.split(".")
    found = main.get(first)
    for part in rest:
        found = getattr(found, part, None)
    return first if found is value else None


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """Return the globals that a function reads or sets, and those inside it."""
    names = _names_of_code.get(code)
    if names is None:
        names = tuple(dict.fromkeys(_walk(code)))
        _names_of_code[code] = names
    return names


_GLOBAL_OPERATIONS = frozenset(
    {
        "LOAD_GLOBAL",
        "STORE_GLOBAL",
        "DELETE_GLOBAL",
        "LOAD_NAME",
        "LOAD_FROM_DICT_OR_GLOBALS",
    }
)


def _walk(code: types.CodeType) -> Iterator[str]:
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_OPERATIONS:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _walk(constant)
