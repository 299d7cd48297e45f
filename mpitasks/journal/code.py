"""What makes a function the function it is: the identity of code.

Of the user's own code (the script, modules that are not installed) it is the name, the
bytecode without line numbers and file names, constants, annotations, defaults, closure,
attributes, and the globals that it reads, down to the functions and classes that it
calls, wherever they are. So an edited helper, or another value of a global, makes
another function; a comment or a moved line does not. Docstrings count if any of that
code may look at them. Of an installed package it is the name, and what tells the
package from another version; of the standard library the name.

What cannot be seen through is covered by the file that it comes from
(`modules.cover`): a module that is passed around, imported inside a function or
searched by `eval`; a global without content, or one that is not what the file says.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpitasks.journal import modules
from mpitasks.journal.bytecode import uses_of, walk_bytecode
from mpitasks.journal.reached import MISSING, Parts, Reached, name_of
from mpitasks.journal.used import (
    is_users_scope,
    module_of,
    walk_global,
    walk_module,
    walk_unloaded,
    walk_whole,
)
from mpitasks.journal.walk import Walker, digest

__all__ = ["parts_of", "walk_code"]

_Pieces = Iterator[tuple[str, Callable[[], None]]]

# What classes have that is no code, varies between runs, or follows from the rest.
_CLASS_NOISE = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__classdictcell__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__slotnames__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
        "_value2member_map_",
    }
)


def parts_of(
    value: Any, cover: Callable[[str], bytes] = modules.cover
) -> tuple[Parts, Reached]:
    """Return what a callable consists of, all of which is its identity.

    Functions and classes that it leads to are parts too, each by itself, so the work
    grows with their number, whoever calls whom.

    Args:
        value: The callable.
        cover: Returns the digest of a module that counts by its file.

    Returns:
        The parts; and what was reached, which tells when they must be looked at anew.

    Raises:
        Unkeyable: It holds something that has no content to go by.
    """
    parts, reached = _parts(value, docstrings=False)
    if reached.looks_at_docstrings:
        parts, reached = _parts(value, docstrings=True)
    for name in sorted(reached.packages):
        parts[f"package {name}"] = reached.packages[name]
    for name in sorted(reached.covered):
        parts[f"module {name}"] = cover(name)
    return parts, reached


def _parts(value: Any, *, docstrings: bool) -> tuple[Parts, Reached]:
    reached = Reached(docstrings=docstrings)
    walker = Walker(reached, lenient=True)
    parts: Parts = {"Python version": digest(repr(sys.version_info[:2]).encode())}
    if isinstance(value, (type, types.FunctionType)):
        reached.number(value)
    else:
        walker.lenient = False  # it travels by value, with what it holds
        parts["state"] = walker.part(lambda: walker.walk(value))
        walker.lenient = True
    for at, found in enumerate(reached.queue):  # which grows meanwhile
        reached.scope = _scope_of(found)
        pieces = _pieces(walker, reached, found)
        if at == 0 and found is value:
            for name, write in pieces:
                parts[name] = walker.part(write)
        else:
            own = [walker.part(write) for _, write in pieces]
            parts[f"{at} {name_of(found)}"] = digest(b"".join(own))
    return parts, reached


def walk_code(walker: Walker, value: Any) -> bool:
    """Write `value` if it is a kind of code; return whether it is.

    Raises:
        Unkeyable: What it holds has no content to go by.
    """
    if isinstance(value, (type, types.FunctionType)):
        walker.context.refer(walker, value)
    elif isinstance(value, types.CodeType):
        walk_bytecode(walker, value, docstrings=True)
    elif isinstance(value, types.ModuleType):
        walk_module(walker, value, [()])
    elif isinstance(value, types.BuiltinFunctionType):
        _walk_builtin(walker, value)
    else:
        inner = _inner(value)
        if inner is None:
            return False
        walker.walk(type(value))
        for part in inner:
            walker.walk(part)
    return True


def _inner(value: Any) -> Iterable[Any] | None:
    """Return what a callable or descriptor consists of; None if it is another."""
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords, vars(value) or None
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if isinstance(value, functools.cached_property):
        return value.func, value.attrname
    # The pickles of Numba's functions have a number that is drawn anew each time.
    home = type(value).__module__
    inner = getattr(value, "py_func" if "numba" in home else "__wrapped__", None)
    if home not in ("functools", "numba.core.registry") or inner is None:
        return None
    own = vars(value) if home == "functools" else {}
    return inner, *(part for name in sorted(own) for part in (name, own[name]))


def _walk_builtin(walker: Walker, function: types.BuiltinFunctionType) -> None:
    owner = function.__self__
    walker.tag("builtin")
    if owner is None or isinstance(owner, types.ModuleType):
        module = function.__module__ or ""
        walker.walk((module, function.__qualname__))
        if owner is not None and modules.is_users(module):
            walker.walk(owner)
        else:
            walker.context.package(walker, module)
    else:
        walker.walk(owner)
        walker.walk(function.__name__)


def _pieces(walker: Walker, reached: Reached, value: Any) -> _Pieces:
    """Yield what a function or class consists of: a name for it, and what writes it."""
    yield "name", functools.partial(walker.walk, (value.__module__, value.__qualname__))
    if isinstance(value, type):
        yield from _class_pieces(walker, reached, value)
    else:
        yield from _function_pieces(walker, reached, value)


def _function_pieces(
    walker: Walker, reached: Reached, function: types.FunctionType
) -> _Pieces:
    walk = functools.partial
    code, scope = function.__code__, function.__globals__
    reached.looks_at_docstrings |= uses_of(code).docstrings
    docstrings = reached.docstrings
    reached.read_function(function)
    yield "code", walk(walk_bytecode, walker, code, docstrings=docstrings)
    if docstrings:
        yield "docstring", walk(walker.walk, function.__doc__)
    defaults = function.__defaults__, function.__kwdefaults__
    if defaults != (None, None):
        yield "defaults", walk(walker.items, b"(", defaults)
    yield "annotations", walk(_walk_annotations, walker, function)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield f"closure {name}", walk(_walk_cell, walker, reached, name, cell)
    for name in sorted(vars(function)):
        yield f"attribute {name}", walk(walker.walk, vars(function)[name])
    if not is_users_scope(scope):
        reached.package(walker, scope["__name__"])
        return
    yield from _global_pieces(walker, reached, function)
    yield "the rest", walk(_walk_unseen, walker, function)


def _global_pieces(
    walker: Walker, reached: Reached, function: types.FunctionType
) -> _Pieces:
    scope = function.__globals__
    for name, chains in sorted(uses_of(function.__code__).reads.items()):
        value = scope.get(name, MISSING)
        reached.read(scope, name, value)
        if value is MISSING:
            value = _builtin(function, name)
            if value is None:
                continue
        if isinstance(value, types.ModuleType):
            write = functools.partial(walk_module, walker, value, chains)
        else:
            write = functools.partial(walk_global, walker, scope, name, value, chains)
        yield f"global {name}", write


def _builtin(function: types.FunctionType, name: str) -> Any:
    """Return a function that somebody has put among the built-in ones."""
    value = getattr(function, "__builtins__", {}).get(name)
    return value if isinstance(value, types.FunctionType) else None


def _walk_unseen(walker: Walker, function: types.FunctionType) -> None:
    """Write what stands for what a function uses without naming it."""
    scope = function.__globals__
    uses = uses_of(function.__code__)
    package = modules.package_name(scope)
    for what in sorted(uses.imports):
        for name in modules.imported(what, package):
            walk_unloaded(walker, name)
    held = {
        name: scope[name].__name__
        for name in uses.reads
        if isinstance(scope.get(name), types.ModuleType)
    }
    file = module_of(scope)
    if uses.finds(held):
        walk_whole(walker, scope)
        folder = modules.folder_of(scope)
        for name in modules.named(sorted(uses.texts), package, folder):
            walk_unloaded(walker, name)
    elif file is not None and not modules.has_code(file, function.__code__):
        walker.context.cover(walker, file)


def _walk_cell(
    walker: Walker, reached: Reached, name: str, cell: types.CellType
) -> None:
    try:
        value = cell.cell_contents
    except ValueError:  # not bound yet
        walker.tag("empty")
        return
    reached.read_cell(cell, value)
    if name == "__classdict__":  # the namespace of a class, for annotations in it
        value = {key: each for key, each in value.items() if key not in _CLASS_NOISE}
    walker.walk(value)


def _walk_annotations(walker: Walker, function: types.FunctionType) -> None:
    # From Python 3.14 on they are made when they are asked for, by the user's code.
    make = getattr(function, "__annotate__", None)
    walker.walk(function.__annotations__ if make is None else make)


def _class_pieces(walker: Walker, reached: Reached, kind: type) -> _Pieces:
    walk = functools.partial
    if modules.is_compiled(kind.__module__):
        yield "file", walk(walker.context.cover, walker, kind.__module__)
    if type(kind) is not type:
        yield "metaclass", walk(walker.walk, type(kind))
    yield "bases", walk(walker.walk, kind.__bases__)
    members = vars(kind)
    names = [name for name in members if name not in _CLASS_NOISE]
    names += ["__doc__"] * (reached.docstrings and "__doc__" in members)
    reached.sizes.append((members, len(members)))
    yield "order", walk(walker.walk, tuple(names))
    for name in names:
        reached.read(members, name, members[name])
        yield name, walk(walker.walk, members[name])
    make = members.get("__annotate_func__")
    told = make
    if told is None:
        told = members.get("__annotations__", members.get("__annotations_cache__"))
    yield "annotations", walk(walker.walk, told)


def _scope_of(value: Any) -> dict[str, Any]:
    """Return the globals of a function, or of the module of a class."""
    if isinstance(value, types.FunctionType):
        return value.__globals__
    return getattr(sys.modules.get(value.__module__), "__dict__", {})
