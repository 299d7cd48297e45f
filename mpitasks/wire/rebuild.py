"""Puts functions and classes together again that travelled by value.

The names in this module stand in pickle frames (`mpitasks.wire.script_pickle` writes
them), so it is loaded wherever such a frame is. It imports neither cloudpickle nor
NumPy.

A process, or in a run of one process the thread that runs tasks, is a `Side`: it has a
``__main__`` and remembers which classes it got from elsewhere. A worker's side follows
rank 0: when a class comes again, the one that is there is brought up to date. Rank 0
follows nobody: a class that comes back to it never changes the one that it has.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import importlib
import itertools
import marshal
import os
import sys
import threading
import types
import weakref
from _abc import _abc_init  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = [
    "Side",
    "begin",
    "fill_set",
    "find_global",
    "make_cached",
    "make_cached_property",
    "make_cell",
    "make_class",
    "make_code",
    "make_context_variable",
    "make_dispatcher",
    "make_foreign_class",
    "make_function",
    "make_local",
    "make_lock",
    "make_member",
    "make_object",
    "make_partial_method",
    "make_rlock",
    "name_of_object",
    "reduce_object",
    "set_class",
    "set_function",
    "set_member",
    "set_side",
    "side",
    "side_provider",
]

Bind = Callable[[str, Any], None]


class Side:
    """What one end of the wire knows of the script and of classes sent by value.

    Args:
        module: Returns its ``__main__``.
        follows: Whether classes that come again are brought up to date.
        bind: Called with the name and the value of a global of the script as soon as
            there is an object for it, before that is complete: others may refer to it.
        former: Returns what a global was before, if it is being replaced.
        find: Returns a global that is on its way; raises AttributeError for others.
        shared: Returns a shared object by its id; None where there are none.
    """

    def __init__(
        self,
        module: Callable[[], types.ModuleType] = lambda: sys.modules["__main__"],
        *,
        follows: bool = False,
        bind: Bind = lambda name, value: None,
        former: Callable[[str], Any] = lambda name: None,
        find: Callable[[str], Any] | None = None,
        shared: Callable[[int], Any] | None = None,
    ) -> None:
        self.module = module
        self.follows = follows
        self.bind = bind
        self.former = former
        self.find = find
        self._shared = shared
        self._classes: weakref.WeakValueDictionary[Any, type] = (
            weakref.WeakValueDictionary()
        )
        self._keys: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()
        self._fresh: weakref.WeakSet[type] = weakref.WeakSet()
        self._numbers = itertools.count(1)

    def shared(self, id: int) -> Any:
        """Return a shared object."""
        if self._shared is None:
            raise LookupError("there are no shared objects here")
        return self._shared(id)

    def key_of(self, kind: type) -> Any:
        """Return what other processes know a class by."""
        # Under no lock: a class may have a hash of its own, by its metaclass.
        key = self._keys.get(kind)
        if key is None:
            fresh = f"{_origin()}-{id(self):x}-{next(self._numbers)}"
            key = self._keys.setdefault(kind, fresh)
            self._classes[key] = kind
        return key

    def known(self, key: Any) -> type | None:
        """Return the class of that key, if it is here."""
        return self._classes.get(key)

    def adopt(self, key: Any, kind: type, *, fresh: bool = True) -> None:
        """Remember a class that came from elsewhere."""
        self._keys[kind] = key
        self._classes[key] = kind
        if fresh:
            self._fresh.add(kind)

    def owns(self, kind: type) -> bool:
        """Whether a class came from nowhere else."""
        return kind not in self._keys

    def takes(self, kind: type) -> bool:
        """Whether a class is to take the state that came with it."""
        if kind in self._fresh:
            self._fresh.discard(kind)
            return True
        return self.follows


_rank0 = Side()
_side: Callable[[], Side] = lambda: _rank0  # noqa: E731


def side() -> Side:
    """Return the side that the calling thread is on."""
    return _side()


def set_side(current: Callable[[], Side] | None) -> None:
    """Say how to find the side of a thread; None for rank 0's, as at the start."""
    global _side
    _side = (lambda: _rank0) if current is None else current


def side_provider() -> Callable[[], Side]:
    """Return what finds the side of a thread."""
    return _side


@functools.lru_cache(maxsize=1)
def _token(pid: int) -> str:
    return os.urandom(8).hex()


def _origin() -> str:
    return _token(os.getpid())  # another one in a forked child


# Functions.


def make_code(frame: bytes) -> types.CodeType:
    """Return a code object; all ranks run the same Python."""
    return marshal.loads(frame)  # type: ignore[no-any-return]


def make_cell() -> types.CellType:
    """Return an empty cell; the functions that have it say what is in it."""
    return types.CellType()


def make_function(
    code: types.CodeType,
    module: str,
    root: str | None,
    cells: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    """Return a function whose globals are those of a module here.

    Args:
        code: Its code.
        module: The module.
        root: The global of the script that it is, if it is one.
        cells: Its closure.
    """
    own = side()
    home = own.module() if module == "__main__" else importlib.import_module(module)
    function = types.FunctionType(code, home.__dict__, code.co_name, None, cells)
    if root is not None:
        own.bind(root, function)
    return function


def set_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    """Give a function all that it has beside its code."""
    attributes, slots, contents, _ = state  # the last were imported by unpickling
    function.__dict__.update(attributes)
    for name, value in slots.items():
        setattr(function, name, value)
    for cell, content in contents:
        cell.cell_contents = content


def make_cached(
    function: Any, parameters: dict[str, Any], attributes: dict[str, Any]
) -> Any:
    """Return what `functools.lru_cache` makes of a function, with nothing in it."""
    cached = functools.lru_cache(**parameters)(function)
    cached.__dict__.update(attributes)
    return cached


def make_cached_property(function: Any, name: str | None) -> Any:
    """Return a `functools.cached_property`; before Python 3.12 it holds a lock."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def make_partial_method(
    function: Any, args: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    """Return a `functools.partialmethod`; from Python 3.14 on pickle cannot."""
    return functools.partialmethod(function, *args, **keywords)


def make_dispatcher(
    function: Any,
    implementations: Sequence[tuple[type, Any]],
    attributes: dict[str, Any],
) -> Any:
    """Return what `functools.singledispatch` makes of a function."""
    made = functools.singledispatch(function)
    for kind, implementation in implementations:
        made.register(kind, implementation)
    made.__dict__.update(attributes)
    return made


def find_global(module: str, name: str) -> Any:
    """Return a global of the script that pickles by its identity alone."""
    return getattr(side().module(), name)


def name_of_object(value: object) -> str | None:
    """Return the global of the script that an ``object()`` is, if it is one."""
    main = side().module().__dict__
    return next((name for name, each in [*main.items()] if each is value), None)


def reduce_object(value: object) -> Any:
    """Return how an ``object()`` is pickled: by name, if the script has one for it.

    It is told by its identity alone, so a copy is of no use to anybody.
    """
    name = name_of_object(value)
    return (object, ()) if name is None else (find_global, ("__main__", name))


def make_lock() -> Any:
    """Return a lock that nobody holds, as a module that is imported makes one."""
    return threading.Lock()


def make_rlock() -> Any:
    """Return a reentrant lock that nobody holds."""
    return threading.RLock()


def make_local() -> Any:
    """Return an empty `threading.local`."""
    return threading.local()


def make_context_variable(name: str, *default: Any) -> Any:
    """Return a `contextvars.ContextVar` that nobody has set."""
    import contextvars

    if default:
        return contextvars.ContextVar(name, default=default[0])
    return contextvars.ContextVar(name)


def make_object(kind: type) -> Any:
    """Return an object without its state, for one that pickles as a name."""
    return object.__new__(kind)


def begin(root: str, make: Callable[..., Any], *args: Any) -> Any:
    """Make the value of a global; what it holds may refer to it already."""
    value = make(*args)
    side().bind(root, value)
    return value


def fill_set(value: set[Any], items: list[Any]) -> None:
    """Put the items into a set."""
    value.update(items)


# Classes.


def make_class(
    meta: type,
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    key: Any,
    root: str | None,
) -> type:
    """Return a class without its attributes, or the one of that key that is here.

    No hook of the user's runs (`__init_subclass__`, `__set_name__`, those of the
    metaclass): they ran when the script made the class, and what they did to it comes
    with its attributes.

    Args:
        meta: Its metaclass.
        name: Its name.
        bases: Its bases.
        namespace: What must be known when it is made: module, name and slots.
        key: What it is known by.
        root: The global of the script that it is, if it is one.
    """
    own = side()
    kind = own.known(key)
    if kind is None and own.follows and root is not None:
        kind = _same_class(own.former(root), meta, bases, namespace)
        if kind is not None and own.owns(kind):  # it has run the script itself
            own.adopt(key, kind, fresh=False)
        else:
            kind = None  # the script has another one of that name now
    if kind is None:
        with _no_hooks(bases):
            new: Any = type.__new__  # not that of the metaclass, which is the user's
            kind = new(meta, name, bases, namespace)
        own.adopt(key, kind)
        if isinstance(kind, abc.ABCMeta):
            _abc_init(kind)
    if root is not None:
        own.bind(root, kind)
    return kind


def set_class(kind: type, state: tuple[dict[str, Any], Sequence[type]]) -> None:
    """Give a class its attributes, and take away those that it has no longer."""
    if not side().takes(kind):
        return
    attributes, registered = state
    for name in [*vars(kind)]:
        if name not in attributes and not implied(kind, name):
            type.__delattr__(kind, name)
    for name, value in attributes.items():
        if name == "__annotate_func__":  # forget what the former one has made
            name = "__annotate__"
        type.__setattr__(kind, name, value)
    for subclass in registered:
        kind.register(subclass)  # type: ignore[attr-defined]  # an abstract base class


def make_foreign_class(
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    key: Any,
    root: str | None,
) -> type:
    """As `make_class`, where only the metaclass itself can make one (`ctypes`)."""
    own = side()
    kind = own.known(key)
    if kind is None:
        kind = type(bases[0])(name, bases, namespace)
        own.adopt(key, kind)
    if root is not None:
        own.bind(root, kind)
    return kind


def make_member(kind: Any, value: Any, name: str | None) -> Any:
    """Return a member of an enumeration that is being made, without its attributes."""
    found = vars(kind).get("_member_map_", {}).get(name)
    if found is not None:
        return found  # of an enumeration that was here
    base = kind._member_type_ if "_member_type_" in vars(kind) else type(value)
    if base is object or value is None:
        return object.__new__(kind)
    return base.__new__(kind, value)


def set_member(member: Any, attributes: dict[str, Any]) -> None:
    """Give a member of an enumeration its attributes, unless it is rank 0's own."""
    if side().follows or "_value_" not in vars(member):
        member.__dict__.update(attributes)


IMPLIED = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__qualname__",
        "_abc_impl",
        "__annotations_cache__",
        "__classdictcell__",
    }
)
"""Attributes of a class that no one sets."""


def implied(kind: type, name: str) -> bool:
    """Whether a class has an attribute because of how it was made."""
    if name in IMPLIED:
        return True
    value = vars(kind)[name]
    return isinstance(value, types.MemberDescriptorType) and value.__objclass__ is kind


def _same_class(
    found: Any, meta: type, bases: tuple[type, ...], namespace: dict[str, Any]
) -> type | None:
    """Return `found` if it is the class that is to be made."""
    if type(found) is not meta or not isinstance(found, type):
        return None
    alike = (
        found.__bases__ == bases
        and found.__qualname__ == namespace["__qualname__"]
        and vars(found).get("__slots__", ()) == namespace.get("__slots__", ())
    )
    return found if alike else None


@contextlib.contextmanager
def _no_hooks(bases: tuple[type, ...]) -> Iterator[None]:
    """Keep `__init_subclass__` from running, which may want keywords."""
    hooked: list[tuple[type, Any]] = []
    try:
        for kind in {kind for base in bases for kind in base.__mro__}:
            hook = vars(kind).get("__init_subclass__")
            if hook is None or kind is object:
                continue
            with contextlib.suppress(TypeError):  # one made in C, which takes none
                type.__setattr__(kind, "__init_subclass__", classmethod(_nothing))
                hooked.append((kind, hook))
        yield
    finally:
        for kind, hook in hooked:
            type.__setattr__(kind, "__init_subclass__", hook)


def _nothing(kind: type, /, **keywords: Any) -> None:
    """Take the place of `__init_subclass__`."""
