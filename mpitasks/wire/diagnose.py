"""Finds the part of an object that cannot be pickled, for an error message.

Runs only after pickling has failed, so it may be slow; it must never raise.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import cloudpickle

__all__ = ["why_not_picklable"]

_DEPTH = 8


def why_not_picklable(value: Any, name: str, error: Exception) -> str:
    """Return a sentence that names the innermost part that cannot be pickled.

    Args:
        value: What could not be pickled.
        name: What the caller calls it; the path in the sentence starts with it.
        error: What pickling it raised.
    """
    path, part, reason = _culprit(value, name, error, _DEPTH, set())
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    return f"{path} is a {kind} ({type(reason).__name__}: {reason})"


def _culprit(
    value: Any, path: str, error: Exception, depth: int, seen: set[int]
) -> tuple[str, Any, Exception]:
    if depth and id(value) not in seen:
        seen.add(id(value))
        for step, part in _parts(value):
            reason = _failure(part)
            if reason is not None:
                return _culprit(part, path + step, reason, depth - 1, seen)
    return path, value, error


def _failure(value: Any) -> Exception | None:
    try:
        cloudpickle.dumps(value)
    except Exception as error:
        return error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that pickling `value` pickles too, with how to reach them."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(list(value)):
            yield f"[{index}]", item
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif not isinstance(value, type) and not _refuses(value):
        for key, item in list(getattr(value, "__dict__", {}).items()):
            yield f".{key}", item
        for attribute in ("func", "args", "keywords"):  # functools.partial
            if hasattr(value, attribute) and attribute not in _own_names(value):
                yield f".{attribute}", getattr(value, attribute)


def _refuses(value: Any) -> bool:
    """Whether the object itself says that it cannot be pickled, and why."""
    try:
        value.__reduce_ex__(5)
    except Exception:
        return True
    return False


def _own_names(value: Any) -> Any:
    return getattr(value, "__dict__", {})


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f" (closure variable {name!r})", cell.cell_contents
        except ValueError:  # the cell is empty
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield f" (global variable {name!r})", function.__globals__[name]
    for index, default in enumerate(function.__defaults__ or ()):
        yield f" (default {index})", default
