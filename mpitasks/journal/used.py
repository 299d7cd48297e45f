"""Globals and modules, as far as code uses them.

Of a module of the user that is the attributes that are taken of it. Where it is used in
another way, it is the whole module: its file, or all that it holds if it has none.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from typing import Any

from mpitasks.journal import modules
from mpitasks.journal.bytecode import DOC
from mpitasks.journal.reached import is_named
from mpitasks.journal.sources import scan
from mpitasks.journal.walk import Unkeyable, Walker

__all__ = [
    "is_users_scope",
    "module_of",
    "walk_global",
    "walk_module",
    "walk_unloaded",
    "walk_whole",
]

_Chain = tuple[str, ...]


def walk_module(
    walker: Walker, module: types.ModuleType, chains: Iterable[_Chain]
) -> None:
    """Write a module as far as it is used.

    Args:
        walker: Writes.
        module: The module.
        chains: The attributes that are taken of it, one after another; none at a place
            where it is used in another way.
    """
    name = module.__name__
    walker.tag("module")
    walker.walk(name)
    scope = vars(module)
    users = is_users_scope(scope)
    if not users:
        walker.context.package(walker, name)
    whole = False
    for chain in sorted(chains):
        if not chain or chain[0] not in scope:
            whole = True
            continue
        value = scope[chain[0]]
        if isinstance(value, types.ModuleType):
            walker.tag(chain[0])
            walk_module(walker, value, [chain[1:]])
        elif users or (isinstance(value, types.FunctionType) and not is_named(value)):
            walker.tag(chain[0])
            walk_global(walker, scope, chain[0], value, ())
    if whole and users:
        walk_whole(walker, scope)


def walk_whole(walker: Walker, scope: dict[str, Any]) -> None:
    """Write what stands for all that a module of the user has."""
    file = module_of(scope)
    if file is not None:
        walker.context.cover(walker, file)
    elif not walker.again(scope):
        for name in sorted(scope):
            if not (name.startswith("__") and name.endswith("__")):
                walker.tag(name)
                walker.walk(scope[name])


def walk_global(
    walker: Walker,
    scope: dict[str, Any],
    name: str,
    value: Any,
    chains: Iterable[_Chain],
) -> None:
    """Write what a name stands for in a module.

    Args:
        walker: Writes.
        scope: The module.
        name: The name.
        value: What it stands for.
        chains: The attributes that are taken of it.
    """
    walker.walk(value)
    if any(chain[:1] == (DOC,) for chain in chains):
        walker.walk(getattr(value, DOC, None))
    file = module_of(scope)
    if file is not None and not _is_as_written(file, name, value):
        walker.context.cover(walker, file)


def _is_as_written(module: str, name: str, value: Any) -> bool:
    """Whether a global is what the file of its module says, as far as it says it.

    A worker that imports the module has what is in the file. The script it does not
    import.
    """
    path = modules.home_of(module).path
    if path is None or module in ("__main__", "__mp_main__"):
        return True
    written = scan(path).literals
    if name not in written:
        return True
    digests = []
    for each in (value, written[name]):
        walker = Walker(_Nothing())
        try:
            walker.walk(each)
        except Unkeyable:
            return False
        digests.append(walker.digest())
    return digests[0] == digests[1]


class _Nothing:
    """Knows no functions, classes and modules: they are in no literal."""

    def refer(self, walker: Walker, value: Any) -> None:
        raise Unkeyable(f"{value!r} is no literal")

    def package(self, walker: Walker, module: str) -> None:
        raise Unkeyable(f"{module} is no literal")

    cover = package
    opaque = future = refer


def _registered(scope: dict[str, Any]) -> bool:
    module = sys.modules.get(scope.get("__name__", ""))
    return getattr(module, "__dict__", None) is scope


def is_users_scope(scope: dict[str, Any]) -> bool:
    """Whether a namespace is that of a module of the user."""
    return not _registered(scope) or modules.is_users(scope["__name__"])


def module_of(scope: dict[str, Any]) -> str | None:
    """Return the module that has a file, or the file of one that is not registered."""
    if _registered(scope):
        name: str = scope["__name__"]
        return None if modules.home_of(name).path is None else name
    return modules.file_of(scope)


def walk_unloaded(walker: Walker, name: str) -> None:
    """Write what stands for a module that may be loaded or not."""
    module = sys.modules.get(name)
    home = modules.home_of(name)
    if isinstance(module, types.ModuleType) and home.path is None and not home.search:
        walk_module(walker, module, [()])
    else:
        walker.context.cover(walker, name)
