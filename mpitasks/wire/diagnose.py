"""Finds the part of an object that cannot be pickled, for an error message.

Runs only after pickling has failed, so it may be slow; it must never raise, whatever
the object does when it is looked at: it may raise what is no `Exception`, too.
"""

from __future__ import annotations

import functools
import reprlib
import types
from collections.abc import Callable, Iterator
from typing import Any

from mpitasks.wire.interrupts import interrupts

__all__ = ["describe", "why_not_picklable"]

_DEPTH = 8


Pickle = Callable[[Any], object]
"""Pickles a value, or raises."""


def why_not_picklable(
    value: Any, name: str, error: BaseException, pickle: Pickle
) -> str:
    """Return a sentence that names the innermost part that cannot be pickled.

    Args:
        value: What could not be pickled.
        name: What the caller calls it; the path in the sentence starts with it.
        error: What pickling it raised.
        pickle: Tells whether a part of it can be pickled.
    """
    path, part, reason = _culprit(value, name, error, pickle, _DEPTH, set())
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    return f"{path} is a {kind} ({describe(reason)})"


def describe(error: BaseException) -> str:
    """Return the type and text of an error, also of one that has no text."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException as wordless:
        if interrupts(wordless):
            raise
        return type(error).__name__


def _culprit(
    value: Any,
    path: str,
    error: BaseException,
    pickle: Pickle,
    depth: int,
    seen: set[int],
) -> tuple[str, Any, BaseException]:
    if depth and id(value) not in seen:
        seen.add(id(value))
        try:
            for step, part in _parts(value):
                reason = _failure(part, pickle)
                if reason is not None:
                    path += step
                    return _culprit(part, path, reason, pickle, depth - 1, seen)
        except BaseException as refusal:  # to be looked at: so far, then
            if interrupts(refusal):
                raise
    return path, value, error


def _failure(value: Any, pickle: Pickle) -> BaseException | None:
    try:
        pickle(value)
    except BaseException as error:
        if interrupts(error):
            raise
        return error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that pickling `value` pickles too, with how to reach them."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f" (key {reprlib.repr(key)})", key
            yield f"[{reprlib.repr(key)}]", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(list(value)):
            yield f"[{index}]", item
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, functools.partial):
        for attribute in ("func", "args", "keywords"):
            yield f".{attribute}", getattr(value, attribute)
    if isinstance(value, types.FunctionType) or not _refuses(value):
        yield from _attributes(value)


def _refuses(value: Any) -> bool:
    """Whether the object itself says that it is not to be pickled, and why."""
    if isinstance(value, type):
        return True
    try:
        value.__reduce_ex__(5)
    except BaseException as error:
        if interrupts(error):
            raise
        return True
    return False


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    for key, item in list(getattr(value, "__dict__", {}).items()):
        yield f".{key}", item
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f" (closure variable {name!r})", cell.cell_contents
        except ValueError:  # the cell is empty
            continue
    for name in _global_names(code):
        if name in function.__globals__:
            yield f" (global variable {name!r})", function.__globals__[name]
    for index, default in enumerate(function.__defaults__ or ()):
        yield f" (default {index})", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f" (default of {name!r})", default


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a function and those inside it look up, and some more."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)
