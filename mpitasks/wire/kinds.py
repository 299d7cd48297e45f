"""How values of particular kinds are pickled, which neither pickle nor cloudpickle can.

Locks, thread-local data and context variables are made anew on a worker, as a module
makes them that is imported there; but only where they are a part of what belongs to the
script. An argument that holds one is refused.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import importlib
import marshal
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, Protocol

from cloudpickle import cloudpickle as library

from mpitasks.wire import rebuild
from mpitasks.wire.script_names import MAIN


class Notes(Protocol):
    """What a pickler notes (`mpitasks.wire.script_pickle.ScriptPickler`)."""

    root: str | None
    names: dict[str, None]
    refers: dict[str, None]
    watched: bool


__all__ = ["KINDS"]

_SENTINELS = {
    type(dataclasses.MISSING): (dataclasses, "MISSING"),
    type(dataclasses.KW_ONLY): (dataclasses, "KW_ONLY"),
    type(dataclasses._HAS_DEFAULT_FACTORY): (  # type: ignore[attr-defined]
        dataclasses,
        "_HAS_DEFAULT_FACTORY",
    ),
}

_CODE_VERSION = 2
"""Of `marshal`: later ones tell equal code apart by who else refers to its parts."""


def _reduce_code(pickler: Notes, code: types.CodeType) -> Any:
    for version in (_CODE_VERSION, marshal.version):
        try:
            return rebuild.make_code, (marshal.dumps(code, version),)
        except ValueError:  # a constant that somebody has put there, or a new kind
            continue
    return library._code_reduce(code)


def _reduce_module(pickler: Notes, module: types.ModuleType) -> Any:
    if library._should_pickle_by_reference(module):
        return importlib.import_module, (module.__name__,)
    pickler.watched = False
    return library._module_reduce(module)


def _reduce_cached_property(pickler: Notes, value: Any) -> Any:
    return rebuild.make_cached_property, (value.func, value.attrname)


def _reduce_partial_method(pickler: Notes, value: Any) -> Any:
    made = value.func, value.args, value.keywords
    own = {k: v for k, v in vars(value).items() if k not in _PARTIAL_METHOD}
    return rebuild.make_partial_method, made, own or None


_PARTIAL_METHOD = frozenset(vars(functools.partialmethod(print)))
"""The attributes that it makes itself."""


def _reduce_object(pickler: Notes, value: object) -> Any:
    name = rebuild.name_of_object(value)
    if name is None or name == pickler.root:
        return object, ()
    pickler.names[name] = pickler.refers[name] = None
    return rebuild.find_global, (MAIN, name)


def _reduce_sentinel(pickler: Notes, value: Any) -> Any:
    return getattr, _SENTINELS[type(value)]


def _reduce_new(make: Callable[[], Any]) -> Callable[[Notes, Any], Any]:
    def reduce(pickler: Notes, value: Any) -> Any:
        if pickler.root is None:
            return NotImplemented  # an argument that holds one is refused
        return make, ()

    return reduce


def _reduce_context_variable(pickler: Notes, value: Any) -> Any:
    if pickler.root is None:
        return NotImplemented
    default: tuple[Any, ...]
    try:
        default = (contextvars.Context().run(value.get),)
    except LookupError:
        default = ()
    return rebuild.make_context_variable, (value.name, *default)


KINDS: dict[type, Callable[[Any, Any], Any]] = {
    object: _reduce_object,
    types.CodeType: _reduce_code,
    types.ModuleType: _reduce_module,
    type(threading.Lock()): _reduce_new(rebuild.make_lock),
    type(threading.RLock()): _reduce_new(rebuild.make_rlock),
    threading.local: _reduce_new(rebuild.make_local),
    contextvars.ContextVar: _reduce_context_variable,
    **dict.fromkeys(_SENTINELS, _reduce_sentinel),
}
if sys.version_info >= (3, 14):
    KINDS[functools.partialmethod] = _reduce_partial_method
if sys.version_info < (3, 12):
    KINDS[functools.cached_property] = _reduce_cached_property
