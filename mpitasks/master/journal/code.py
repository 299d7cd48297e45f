"""What makes a function the function it is: the identity of code.

Of the user's own code (the script, modules that are not installed) it is the name, the
bytecode without line numbers and file names, constants, defaults, closure, attributes,
and the globals that it reads, down to the functions and classes that it calls, wherever
they are. So an edited helper, or another value of a global, makes another function; a
comment or a moved line does not. Of installed code and of the standard library it is
the name, and for what is submitted itself the bytecode and the version of its package;
not what is below it.

A global that cannot be told by its content (a lock, an open file) counts by its type:
whoever keeps one does not compute with it.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from mpitasks.master.journal.walk import Unkeyable, Walker, digest

__all__ = ["Parts", "is_users", "name_of", "parts_of", "version_of", "walk_code"]

Parts = dict[str, bytes]
"""What a function consists of, and the digest of each."""

HAS_DOCSTRING = 0x4000000  # a flag of code objects since Python 3.14

_GLOBAL_READS = ("LOAD_GLOBAL", "LOAD_NAME")

# What classes have that is no code, varies between runs, or follows from the rest.
_CLASS_NOISE = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__orig_bases__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)


def name_of(function: Any) -> str:
    """Return the name that messages and the journal give a callable."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def parts_of(value: Any) -> Parts:
    """Return what a function or a class consists of: all of it is its identity.

    Functions and classes that it leads to are parts too, each by itself, so the work
    grows with their number, whoever calls whom.

    Raises:
        Unkeyable: Its defaults or its closure have no content to go by.
    """
    reached = _Reached()
    walker = Walker(reached.refer)
    reached.number(value)
    parts = {}
    for at, found in enumerate(reached.queue):  # which grows meanwhile
        if at == 0:
            for name, write in _pieces(walker, found, top=True):
                parts[name] = walker.part(write)
        else:
            pieces = _pieces(walker, found, top=False)
            own = [walker.part(write) for _, write in pieces]
            parts[f"{at} {name_of(found)}"] = digest(b"".join(own))
    return parts


class _Reached:
    """The functions and classes that a function leads to, in the order of meeting."""

    def __init__(self) -> None:
        self.queue: list[Any] = []
        self._numbers: dict[int, int] = {}

    def number(self, value: Any) -> int:
        """Return the number of a function or a class; queue it if it is new."""
        number = self._numbers.setdefault(id(value), len(self.queue))
        if number == len(self.queue):
            self.queue.append(value)
        return number

    def refer(self, walker: Walker, value: Any) -> None:
        """Write the number. An element of a set is met at random, so it has none."""
        number = self.number(value)
        walker.tag(name_of(value) if walker.unordered else f"code {number}")


def walk_code(walker: Walker, value: Any) -> bool:
    """Write `value` if it is a kind of code; return whether it is.

    Raises:
        Unkeyable: What it holds has no content to go by.
    """
    if isinstance(value, (type, types.FunctionType)):
        walker.refer(walker, value)
    elif isinstance(value, types.CodeType):
        _walk_bytecode(walker, value)
    elif isinstance(value, types.ModuleType):
        walker.tag("module")
        walker.walk(value.__name__)
    elif isinstance(value, functools.partial):
        walker.tag("partial")
        walker.walk([value.func, value.args, value.keywords])
    elif isinstance(value, types.MethodType):
        walker.tag("method")
        walker.walk([value.__func__, value.__self__])
    elif isinstance(value, types.BuiltinFunctionType):
        _walk_builtin(walker, value)
    elif isinstance(value, (staticmethod, classmethod)):
        walker.tag(type(value).__name__)
        walker.walk(value.__func__)
    elif isinstance(value, property):
        walker.tag("property")
        walker.walk([value.fget, value.fset, value.fdel])
    elif (inner := _wrapped(value)) is not None:
        walker.tag("wrapper")
        walker.walk([type(value).__module__, type(value).__qualname__, inner])
    else:
        return False
    return True


def is_users(module: str | None) -> bool:
    """Whether a module is the user's own: not installed, and not Python's."""
    if module is None or module in ("__main__", "__mp_main__"):
        return True
    if module.partition(".")[0] == "mpitasks":
        return False
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None:
        # Built in, or made by hand: the user's if somebody took the trouble.
        return module not in sys.builtin_module_names and module not in sys.modules
    if "site-packages" in path or "dist-packages" in path:
        return False
    return not path.startswith(os.path.dirname(os.__file__) + os.sep)  # noqa: PTH120


def _wrapped(value: Any) -> Any:
    """Return the function inside of a callable that is not Python's own, or None.

    Such as those of `functools.lru_cache`, and of Numba, whose pickles have a number
    that is drawn anew in each process.
    """
    if type(value).__module__ not in ("functools", "numba.core.registry"):
        return None
    inner = getattr(value, "py_func", None) or getattr(value, "__wrapped__", None)
    return inner if isinstance(inner, types.FunctionType) else None


def _pieces(
    walker: Walker, value: Any, *, top: bool
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what a function or class consists of: a name for it, and what writes it.

    Args:
        walker: Writes.
        value: The function or the class.
        top: Whether it is what was asked for, not what it leads to.
    """
    if isinstance(value, type):
        return _class_pieces(walker, value)
    return _function_pieces(walker, value, top=top)


def _function_pieces(
    walker: Walker, function: types.FunctionType, *, top: bool
) -> Iterator[tuple[str, Callable[[], None]]]:
    module = function.__module__
    walk = functools.partial
    yield "name", walk(walker.walk, (module, function.__qualname__))
    users = is_users(module)
    if not (users or top):
        return
    code = function.__code__
    yield "code", walk(_walk_bytecode, walker, code)
    if not users:
        yield "version", walk(walker.walk, version_of(module))
    defaults = function.__defaults__, function.__kwdefaults__
    if defaults != (None, None):
        yield "defaults", walk(walker.walk, defaults)
    cells = function.__closure__ or ()
    for name, cell in zip(code.co_freevars, cells, strict=True):
        yield f"closure {name}", walk(_walk_cell, walker, cell)
    attributes = {k: v for k, v in vars(function).items() if k != "__wrapped__"}
    for name in sorted(attributes):
        yield f"attribute {name}", walk(_leniently, walker, attributes[name])
    if users:
        scope = function.__globals__
        names = _names(code)
        for name in sorted(_global_names(code)):
            if name in scope:
                write = walk(_walk_global, walker, scope[name], names)
                yield f"global {name}", write


def _walk_cell(walker: Walker, cell: types.CellType) -> None:
    try:
        value = cell.cell_contents
    except ValueError:  # not bound yet
        walker.tag("empty")
        return
    walker.walk(value)


def _walk_bytecode(walker: Walker, code: types.CodeType) -> None:
    walker.tag("code")
    flags = code.co_flags
    # A docstring is the first constant; nobody computes with it.
    constants = code.co_consts
    if flags & HAS_DOCSTRING or _has_docstring(code):
        constants = (None, *constants[1:])
    walker.walk(
        [
            (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
            flags & ~HAS_DOCSTRING,
            code.co_code,
            getattr(code, "co_exceptiontable", b""),
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
            constants,
        ]
    )


def _has_docstring(code: types.CodeType) -> bool:
    """Whether the first constant is a docstring, or serves nobody if it is not one.

    Before Python 3.14 nothing says so. A function without a docstring has None there,
    unless it is a lambda or a comprehension; a text that is used is loaded somewhere.
    """
    if not (code.co_consts and isinstance(code.co_consts[0], str)):
        return False
    return not any(
        step.opcode in dis.hasconst and step.arg == 0
        for step in dis.get_instructions(code)
    )


def _class_pieces(
    walker: Walker, kind: type
) -> Iterator[tuple[str, Callable[[], None]]]:
    walk = functools.partial
    yield "name", walk(walker.walk, (kind.__module__, kind.__qualname__))
    if not is_users(kind.__module__):
        return
    yield "bases", walk(walker.walk, kind.__bases__)
    members = vars(kind)
    for name in sorted(members):
        if name not in _CLASS_NOISE:
            yield name, walk(_leniently, walker, members[name])


def _walk_builtin(walker: Walker, function: types.BuiltinFunctionType) -> None:
    owner = function.__self__
    walker.tag("builtin")
    if owner is None or isinstance(owner, types.ModuleType):
        module = function.__module__ or ""
        walker.walk((module, function.__qualname__))
    else:
        walker.walk([owner, function.__name__])


def _walk_global(
    walker: Walker, value: Any, names: frozenset[str], above: tuple[Any, ...] = ()
) -> None:
    """Write what a name in a function's module stands for.

    Of a module of the user it is what the function may use of it: the attributes
    whose names occur in the function.
    """
    if not isinstance(value, types.ModuleType) or not is_users(value.__name__):
        _leniently(walker, value)
        return
    walker.walk(value)
    if value in above:
        return
    scope = vars(value)
    for name in sorted(names & scope.keys()):
        walker.tag(name)
        _walk_global(walker, scope[name], names, (*above, value))


def _leniently(walker: Walker, value: Any) -> None:
    """Write a value; its type if it has no content to go by."""
    try:
        part = walker.part(lambda: walker.walk(value))
    except Unkeyable:
        kind = type(value)
        part = digest(f"{kind.__module__}.{kind.__qualname__}".encode())
    walker.add(part)


@functools.lru_cache(maxsize=1024)
def _global_names(code: types.CodeType) -> frozenset[str]:
    """Return the names of globals that a piece of code reads, nested code included."""
    found = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in _GLOBAL_READS
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _global_names(constant)
    return frozenset(found)


def _names(code: types.CodeType) -> frozenset[str]:
    """Return the names that occur in a piece of code, of attributes too."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return frozenset(found)


def version_of(module: str) -> str:
    """Return the version of the package that a module is of, if it says so."""
    package = sys.modules.get(module.partition(".")[0])
    version = getattr(package, "__version__", "")
    return version if isinstance(version, str) else ""
