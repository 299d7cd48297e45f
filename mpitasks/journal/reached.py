"""The functions, classes, packages and modules that a walk from a function reaches."""

from __future__ import annotations

import datetime
import enum
import functools
import sys
import types
from typing import Any

from mpitasks.journal import modules
from mpitasks.journal.bytecode import walk_bytecode
from mpitasks.journal.walk import ATOMS, Unkeyable, Walker

__all__ = ["MISSING", "Parts", "Reached", "is_named", "name_of"]

Parts = dict[str, bytes]
"""What a function consists of, and the digest of each."""

MISSING: Any = object()
"""In the place of the value of a name that stands for nothing."""

# Names in classes of what Python makes there, and nobody changes in place.
_OURS = frozenset(
    {
        *("__dataclass_fields__", "__dataclass_params__", "__match_args__"),
        *("__orig_bases__", "__parameters__", "__slots__"),
        *("_hashable_values_", "_member_map_", "_member_names_"),
        *("_unhashable_values_", "_unhashable_values_map_"),
    }
)

_LASTING = ATOMS | {
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    *(types.MemberDescriptorType, types.GetSetDescriptorType, range, slice),
    *(types.WrapperDescriptorType, types.MethodDescriptorType, type(Ellipsis)),
    *(types.ClassMethodDescriptorType, datetime.date, datetime.datetime),
    *(datetime.time, datetime.timedelta),
    *(enum.EnumMeta, types.DynamicClassAttribute, staticmethod, classmethod, property),
}

_HEAP_TYPE = 1 << 9  # made at run time, by Python code mostly


class Reached:
    """What was reached, in the order of meeting. A context of a `Walker`.

    Args:
        docstrings: Whether docstrings count.

    Attributes:
        docstrings: As given.
        looks_at_docstrings: Whether some of the code may look at docstrings.
        queue: The functions and classes that are the user's.
        packages: What tells each package from another version.
        covered: The modules that count by their files.
        scope: The globals of what is walked now.
        lasting: Whether nothing of it changes without a name for it changing.
        watch: What was read: a namespace, a name in it, its value or `MISSING`.
        sizes: What was read in full: a namespace, and how many names it has.
        cells: What was read of closures.
        functions: The functions, with the code and the defaults of each.
    """

    def __init__(self, *, docstrings: bool) -> None:
        self.docstrings = docstrings
        self.looks_at_docstrings = False
        self.queue: list[Any] = []
        self.packages: dict[str, bytes] = {}
        self.covered: set[str] = set()
        self.scope: dict[str, Any] | None = None
        self.lasting = True
        self.watch: list[tuple[Any, str, Any]] = []
        self.sizes: list[tuple[Any, int]] = []
        self.cells: list[tuple[types.CellType, Any]] = []
        self.functions: list[tuple[types.FunctionType, types.CodeType, Any]] = []
        self._numbers: dict[int, int] = {}

    def read(self, space: Any, name: str, value: Any) -> None:
        """Note what a name stands for."""
        self.watch.append((space, name, value))
        self.lasting &= name in _OURS or _lasts(value)

    def read_function(self, function: types.FunctionType) -> None:
        """Note what a function holds itself."""
        defaults, named = function.__defaults__, function.__kwdefaults__
        self.functions.append((function, function.__code__, defaults))
        self.lasting &= not (vars(function) or named) and _lasts(defaults)

    def read_cell(self, cell: types.CellType, value: Any) -> None:
        """Note what a closure holds."""
        self.cells.append((cell, value))
        self.lasting &= _lasts(value)

    def holds(self) -> bool:
        """Whether all that was read is surely what it was."""
        try:
            return (
                self.lasting
                and all(
                    each.__code__ is code and each.__defaults__ is defaults
                    for each, code, defaults in self.functions
                )
                and all(
                    space.get(name, MISSING) is value
                    for space, name, value in self.watch
                )
                and all(len(space) == size for space, size in self.sizes)
                and all(cell.cell_contents is value for cell, value in self.cells)
            )
        except ValueError:  # a cell was emptied
            return False

    def number(self, value: Any) -> int:
        """Return the number of a function or a class; queue it if it is new."""
        number = self._numbers.setdefault(id(value), len(self.queue))
        if number == len(self.queue):
            self.queue.append(value)
        return number

    def refer(self, walker: Walker, value: Any) -> None:
        """Write the name of what is known by it, else a number.

        An element of a set is met at random, so it has none yet.
        """
        if is_named(value):
            walker.tag("named")
            walker.walk((value.__module__, value.__qualname__))
            self.package(walker, value.__module__)
            return
        walker.touch()
        if not walker.unordered:
            walker.tag(f"code {self.number(value)}")
            return
        walker.tag(name_of(value))
        if isinstance(value, types.FunctionType):
            walk_bytecode(walker, value.__code__, docstrings=True)

    def cover(self, walker: Walker, module: str) -> None:
        """Have a module count by its file."""
        walker.tag(f"whole {module}")
        self.covered.add(module)

    def package(self, walker: Walker, module: str) -> None:
        """Have the package of a module count."""
        package = modules.home_of(module).package
        if package is not None:
            self.packages[package.name] = package.told

    def future(self, walker: Walker, value: Any) -> None:
        raise Unkeyable("a Future that a function refers to; pass it as an argument")

    def opaque(self, walker: Walker, value: Any) -> None:
        """Have the file count in which something without content is used."""
        if self.scope is None:
            raise Unkeyable(
                f"a {type(value).__qualname__} has no content to know it by"
            )
        name = self.scope.get("__name__")
        if isinstance(name, str) and modules.home_of(name).path is not None:
            self.cover(walker, name)


def _lasts(value: Any) -> bool:
    """Whether a value cannot change in place, apart from what is watched by itself."""
    if isinstance(value, tuple):
        return all(map(_lasts, value))
    return value is MISSING or type(value) in _LASTING or isinstance(value, enum.Enum)


def is_named(value: Any) -> bool:
    """Whether a function or a class is Python's or a package's, and has a name there.

    Not so what such code makes at run time: the function around one of the user, say.
    """
    if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
        return not modules.is_users(value.__module__)
    module = value.__module__
    if isinstance(value, types.FunctionType):
        module = value.__globals__.get("__name__")
    if modules.is_users(module):
        return False
    found: Any = sys.modules.get(module)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def name_of(function: Any) -> str:
    """Return the name that messages and the journal give a callable."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    name = f"{named.__module__}.{named.__qualname__}"
    return name.encode("utf-8", "backslashreplace").decode()
