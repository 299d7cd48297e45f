"""Objects: what a pickle would be made of, and what cannot be pickled at all."""

from __future__ import annotations

import concurrent.futures
import copyreg
import sys
from typing import Any

from mpitasks.journal.modules import holder_of, is_users
from mpitasks.journal.walk import Unkeyable, Walker
from mpitasks.wire.diagnose import describe

__all__ = ["walk_object"]

_HARMLESS = frozenset(
    {
        *("_asyncio", "_io", "_queue", "_socket", "_thread", "asyncio", "concurrent"),
        *("io", "logging", "mpi4py", "mpitasks", "multiprocessing", "queue"),
        *("selectors", "socket", "threading"),
    }
)
"""Modules of the things without content with which nobody computes: locks, files."""


def walk_object(walker: Walker, value: Any) -> None:
    """Write what a pickle would be made of."""
    kind = type(value)
    if issubclass(kind, concurrent.futures.Future):
        walker.context.future(walker, value)
        return
    try:
        reduce = copyreg.dispatch_table.get(kind)
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        if not isinstance(reduced, str):
            maker, args, *rest = reduced
            if maker is _ctypes_maker():
                args = _without_padding(value, args)
    except RecursionError:
        raise
    except Exception as error:
        if walker.lenient:
            _walk_leaf(walker, value)
            return
        raise Unkeyable(
            f"a {_name(kind)} has no content to know it by ({describe(error)})"
        ) from error
    walker.tag("object")
    walker.walk(kind)
    if isinstance(reduced, str):
        _walk_named(walker, value, reduced)
        return
    state, items, pairs, setter = (*rest, None, None, None, None)[:4]
    base: Any = set if isinstance(value, set) else frozenset
    if isinstance(value, base) and kind.__reduce__ is base.__reduce__:
        walker.elements(b"x", base.__iter__(value))
    else:
        walker.walk(maker)
        walker.walk(tuple(args))
    _walk_state(walker, value, state)
    if items is not None:
        walker.items(b"+", list(items))
    if pairs is not None:
        walker.pairs(b"=", list(pairs))
    walker.walk(setter)


def _ctypes_maker() -> Any:
    """Return what makes values of ctypes from a pickle, if there may be any."""
    return getattr(sys.modules.get("_ctypes"), "_unpickle", _ctypes_maker)


def _without_padding(value: Any, args: Any) -> Any:
    """Return the arguments for that with nothing in them that no task could tell."""
    from mpitasks.journal.structures import significant

    kind, (attributes, _) = args
    return kind, (attributes, significant(value))


def _walk_state(walker: Walker, value: Any, state: Any) -> None:
    """Write the state of an object: its attributes, mostly, which are its own."""
    own = getattr(type(value), "__getstate__", None)
    if own is not getattr(object, "__getstate__", None):
        walker.walk(state)
        return
    # Those in the instance's dict, or these and those in slots.
    for part in state if type(state) is tuple else (state,):
        if type(part) is dict:
            walker.pairs(b"=", list(part.items()))
        else:
            walker.walk(part)


def _walk_named(walker: Walker, value: Any, name: str) -> None:
    """Write what a pickle tells by its name alone."""
    module = holder_of(value, name)
    walker.walk((module, name))
    if module is None or is_users(module):
        walker.walk(getattr(value, "__dict__", None))
        if module is None:
            walker.context.opaque(walker, value)
        elif type(value).__module__ != "typing":
            walker.context.cover(walker, module)
    else:
        walker.context.package(walker, module)


def _walk_leaf(walker: Walker, value: Any) -> None:
    """Write what has no content: its type, and the attributes that can be seen."""
    kind = type(value)
    walker.tag("leaf")
    walker.walk(kind)
    if kind.__module__.partition(".")[0] in _HARMLESS:
        return
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        walker.pairs(b"=", list(attributes.items()))
    walker.context.opaque(walker, value)


def _name(kind: type) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"
