"""How what belongs to the script is pickled: by name where it has one, else by value.

The script is ``__main__`` on rank 0; a worker has a module of that name which follows
it (`mpitasks.runner.mirror`). So whatever can be found by name in the script travels as
that name, in both directions. `ScriptPickler` writes such frames, and notes which names
it met, since the receiver must have them. What has no name there (lambdas, closures,
local classes) travels by value, and so does the one global that a frame is to define,
its root. `mpitasks.wire.rebuild` puts it together again.

Formats differ from cloudpickle's, on which this is built, in what that loses: the file
of a function, cells that two closures share, the identity of classes, hooks that must
not run again, and several kinds of objects that it does not know.
"""

from __future__ import annotations

import abc
import enum
import functools
import io
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as library

from mpitasks.wire import rebuild
from mpitasks.wire.immutables import IMMUTABLE, settled
from mpitasks.wire.kinds import KINDS
from mpitasks.wire.rebuild import implied
from mpitasks.wire.script_names import MAIN, alias, found_as, global_names, main_name

__all__ = ["AliasingPickler", "Head", "ScriptPickler", "shared_globals"]

_PLAIN_BASES: dict[type, Callable[[Any], Any]] = {
    int: lambda value: int.__add__(value, 0),
    float: lambda value: float.__add__(value, 0.0),
    complex: lambda value: complex.__add__(value, 0),
    str: str.__str__,
    bytes: lambda value: bytes.__add__(value, b""),
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
}
"""Take off an enumeration's member what it is beside one."""

_LAZY = sys.version_info >= (3, 14)
"""Whether annotations are made when they are asked for, by a function (PEP 649)."""

_ANNOTATE = "__annotate__"
"""The name of that function, and of the attribute that holds it."""

_WORD = re.compile(r"[^\W\d]\w*")


class ScriptPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles what belongs to the script.

    Args:
        sink: Where the frame goes.
        protocol: Of pickle; 5.
        buffer_callback: As in `pickle.Pickler`.
        root: The global that the frame defines, if it is to define one: that goes by
            value, whatever its name.
        value: What it is.

    Attributes:
        root: As given.
        names: The globals of the script that the receiver must have.
        refers: Those of them that are objects which the frame's own objects hold.
        functions: The functions that went by value.
        classes: The classes that went by value.
        parts: What may be changed in place: contents of cells, defaults, attributes.
        head: If the root is a class: what makes it without its attributes.
        watched: Whether `names`, `functions`, `classes` and `parts` tell all that the
            frame depends on, beside the value itself.
    """

    def __init__(
        self,
        sink: io.BytesIO,
        *,
        protocol: int = 5,
        buffer_callback: Callable[[Any], Any] | None = None,
        root: str | None = None,
        value: Any = None,
    ) -> None:
        super().__init__(sink, protocol=protocol, buffer_callback=buffer_callback)
        self._main = rebuild.side().module().__dict__
        self.root = root
        self._value = value
        self._cells: dict[int, _Cell] = {}
        self._by_value: set[type] = set()
        self._begun_classes: list[type] = []  # which exist when their parts are loaded
        self.names: dict[str, None] = {}
        self.refers: dict[str, None] = {}
        self.functions: list[types.FunctionType] = []
        self.classes: list[type] = []
        self.parts: list[Any] = []
        self.watched = True
        self.head: Head | None = None

    def reducer_override(self, value: Any) -> Any:
        """Return how a value is pickled, or NotImplemented for the usual way."""
        kind = type(value)
        if kind is types.FunctionType:
            if id(value) in _OURS:
                return NotImplemented
            return self._reduce_function(value)
        if issubclass(kind, type):
            return self._reduce_class(value)
        reduce = _REDUCERS.get(kind)
        if reduce is not None:
            return reduce(self, value)
        if kind in self.dispatch_table:
            return NotImplemented
        if kind in self._by_value and isinstance(value, enum.Enum):
            return self._reduce_member(value)
        return self._reduce_instance(value)

    def _named(self, value: Any, path: Any = None) -> bool:
        """Whether a value of the script goes by its name, which is noted then."""
        main = self._main
        name = main_name(value, main) if path is None else found_as(value, path, main)
        if name is None or name == self.root:
            return False
        self.names[name] = self.refers[name] = None
        return True

    def _by_name(self, value: Any) -> Any:
        """Return how a function or class of the script is pickled by name, or None."""
        if not self._named(value):
            return None
        if found_as(value, value.__qualname__, self._main):
            return NotImplemented  # as pickle does it
        return rebuild.find_global, (MAIN, alias(value, self._main))

    def _own_root(self, value: Any) -> str | None:
        return self.root if value is self._value else None

    def _reduce_function(self, function: types.FunctionType) -> Any:
        # What makes annotations (PEP 649) has a name, but only as a function's part.
        named = None if function.__name__ == _ANNOTATE else self._by_name(function)
        if named is not None:
            return named
        if library._should_pickle_by_reference(function):
            return NotImplemented
        if getattr(function, "_clear_cache", None) and hasattr(function, "registry"):
            return self._reduce_dispatcher(function)
        home = self._home(function)
        if home is None:
            self.watched = False  # it has globals that go along by value
            return self._dynamic_function_reduce(function)
        self.functions.append(function)
        if home == MAIN:
            self._note_names(function)
        cells = function.__closure__
        contents: list[tuple[Any, Any]] = []
        args = None
        if cells is not None:
            args = tuple([self._cell(cell) for cell in cells])
            names = function.__code__.co_freevars
            held = _contents(cells)
            for name, cell, content in zip(names, args, held, strict=True):
                if name == "__classdict__" and content is not _EMPTY:
                    contents.append((cell, self._namespace(content)))
                elif content is not _EMPTY:
                    contents.append((cell, content))
                    self.parts.append(content)
        slots = {
            "__name__": function.__name__,
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
            "__doc__": function.__doc__,
        }
        annotate = getattr(function, _ANNOTATE, None) if _LAZY else None
        if annotate is None:
            slots["__annotations__"] = function.__annotations__
        else:  # which may fail, or take long: what it names need not be there
            slots[_ANNOTATE] = annotate
        self.parts += function.__defaults__ or ()
        self.parts += (function.__kwdefaults__ or {}).values()
        self.parts += function.__dict__.values()
        state = function.__dict__, slots, contents, self._submodules(function)
        made = function.__code__, home, self._own_root(function), args
        return rebuild.make_function, made, state, None, None, rebuild.set_function

    def _home(self, function: types.FunctionType) -> str | None:
        """Return the module whose globals a function has, if workers have it too."""
        if function.__globals__ is self._main:
            return MAIN
        name = function.__globals__.get("__name__")
        module = sys.modules.get(name) if type(name) is str else None
        if module is None or module.__dict__ is not function.__globals__:
            return None
        return name if library._should_pickle_by_reference(module) else None

    def _submodules(self, function: types.FunctionType) -> list[types.ModuleType]:
        """Return modules inside packages that a function uses by the package's name."""
        home = function.__globals__
        values = [home.get(name) for name in global_names(function.__code__)]
        values += _contents(function.__closure__ or ())
        return library._find_imported_submodules(  # type: ignore[no-any-return]
            function.__code__, values
        )

    def _namespace(self, content: Any) -> Any:
        """Return what stands for the namespace of a class: its annotations use it."""
        for kind in self._begun_classes:
            own = vars(kind)
            if len(own) == len(content) and all(
                own.get(name) is value for name, value in content.items()
            ):
                return _Namespace(kind)
        return {}

    def _note_names(self, function: types.FunctionType) -> None:
        code = function.__code__
        self.names.update(dict.fromkeys(global_names(code)))
        if _LAZY and function.__name__ == _ANNOTATE:
            self._note_annotations(dict(enumerate(code.co_consts)))
        elif not _LAZY or getattr(function, _ANNOTATE, None) is None:
            self._note_annotations(function.__annotations__)

    def _note_annotations(self, annotations: Any) -> None:
        """Note the names in annotations that are text; they are looked up there."""
        if not isinstance(annotations, dict):
            return
        for text in annotations.values():
            if type(text) is not str:
                continue
            for name in _WORD.findall(text):
                if name in self._main and _is_definition(self._main[name]):
                    self.names[name] = None

    def _cell(self, cell: types.CellType) -> _Cell:
        return self._cells.setdefault(id(cell), _Cell(cell))

    def _reduce_dispatcher(self, function: Any) -> Any:
        """What `functools.singledispatch` has made."""
        self.functions.append(function)
        registry = dict(function.registry)
        base = registry.pop(object)
        own = {"register", "dispatch", "registry", "_clear_cache", "__wrapped__"}
        attributes = {k: v for k, v in vars(function).items() if k not in own}
        self.parts.append(registry)
        return rebuild.make_dispatcher, (base, [*registry.items()], attributes)

    def _reduce_cached(self, cached: Any) -> Any:
        """What `functools.lru_cache` has made."""
        named = self._by_name(cached)
        if named is not None:
            return cached.__qualname__ if named is NotImplemented else named
        if library._lookup_module_and_qualname(cached):
            return cached.__qualname__
        attributes = {k: v for k, v in vars(cached).items() if k != "__wrapped__"}
        attributes.pop("cache_parameters", None)
        made = cached.__wrapped__, cached.cache_parameters(), attributes
        return rebuild.make_cached, made

    def _reduce_class(self, kind: type) -> Any:
        if kind in _SINGLETON_TYPES or kind in library._BUILTIN_TYPE_NAMES:
            return library._class_reduce(kind)
        named = self._by_name(kind)
        if named is not None:
            return named
        if library._should_pickle_by_reference(kind):
            return NotImplemented
        self._by_value.add(kind)
        self.classes.append(kind)
        attributes = dict(vars(kind))
        self._note_annotations(attributes.get("__annotations__"))
        self.parts += attributes.values()
        slots = [
            name
            for name, value in attributes.items()
            if isinstance(value, types.MemberDescriptorType)
            and value.__objclass__ is kind
        ]
        namespace: dict[str, Any] = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
        }
        if "__slots__" in attributes:
            made_by_slots = [n for n in ("__dict__", "__weakref__") if n in attributes]
            namespace["__slots__"] = (*slots, *made_by_slots)
        told = attributes.get("__annotations_cache__")
        attributes = {k: v for k, v in attributes.items() if not implied(kind, k)}
        if told is not None and attributes.get("__annotate_func__") is None:
            attributes["__annotations__"] = told  # somebody has set them
        if "__firstlineno__" in attributes:  # setting another one takes it away
            attributes["__firstlineno__"] = attributes.pop("__firstlineno__")
        key = rebuild.side().key_of(kind)
        bases: Any = kind.__bases__
        made = type(kind), kind.__name__, bases, namespace, key
        root = self._own_root(kind)
        if any(base.__module__ == "_ctypes" for base in type.mro(type(kind))):
            namespace.update(
                (name, value)
                for name, value in attributes.items()
                if type(value).__name__ != "CField" and name != "__annotate_func__"
            )
            return rebuild.make_foreign_class, (*made[1:], root)
        self._begun_classes.append(kind)
        registered: list[Any] = []
        if isinstance(kind, abc.ABCMeta):
            registry, *_ = abc._get_dump(kind)  # type: ignore[attr-defined]
            registered = [found for found in (ref() for ref in registry) if found]
        state = attributes, registered
        if root is not None:
            self.head = Head((*made, root))
        return rebuild.make_class, (*made, root), state, None, None, rebuild.set_class

    def _reduce_member(self, member: enum.Enum) -> Any:
        """A member of an enumeration that goes by value itself."""
        base: Any = getattr(type(member), "_member_type_", object)
        plain = _PLAIN_BASES.get(base)
        value = None if plain is None else plain(member)
        made = type(member), value, member._name_
        setter = rebuild.set_member
        return rebuild.make_member, made, dict(vars(member)), None, None, setter

    def _reduce_instance(self, value: Any) -> Any:
        """Whatever else there is: it may say that it goes by a name."""
        reduced = value.__reduce_ex__(5)
        if type(reduced) is not str:
            return self._begun(value, reduced)
        module = getattr(value, "__module__", None)
        if module == MAIN or (module is None and self._main.get(reduced) is value):
            if self._named(value, reduced):
                return reduced
            if value is self._value:
                state = getattr(value, "__dict__", None)
                reduced = rebuild.make_object, (type(value),), state or None
                return self._begun(value, reduced)
        return reduced

    def _begun(self, value: Any, reduced: tuple[Any, ...]) -> Any:
        """Let others refer to the global that the frame makes, while it is made."""
        root = self._own_root(value)
        if root is None:
            return reduced
        make, args, *rest = reduced
        return rebuild.begin, (root, make, *args), *rest


def shared_globals() -> dict[int, str]:
    """Return the names of the globals that may be changed in place, by their ids."""
    main = rebuild.side().module().__dict__
    return {
        id(value): name
        for name, value in [*main.items()][::-1]
        if type(value) not in IMMUTABLE
        and not settled(value)
        and not name.startswith("__")
    }


class AliasingPickler(ScriptPickler):
    """Pickles what a worker keeps: a global of the script, or what tasks call.

    What is a global of the script goes by its name, also where something else refers to
    it: for the script it is one object, and what a task does to it shows everywhere.
    That costs a call for each object that is pickled.

    Args:
        sink: Where the frame goes.
        shared: As `shared_globals` returned it.
        options: As for a `ScriptPickler`.
    """

    def __init__(
        self, sink: io.BytesIO, shared: dict[int, str], **options: Any
    ) -> None:
        super().__init__(sink, **options)
        self._shared = shared

    def persistent_id(self, value: Any) -> str | None:
        """Return the name of a global."""
        name = self._shared.get(id(value))
        if name is None:
            return None
        if value is self._value and name == self.root:
            return name if type(value) in _CONTAINERS else None
        self.names[name] = self.refers[name] = None
        return name

    def dump(self, value: Any) -> None:
        """Write the frame of a value."""
        root = self.root
        if root and type(value) in _CONTAINERS and self._shared.get(id(value)) == root:
            value = Container(root, value)
        super().dump(value)


_CONTAINERS = frozenset({list, dict, set})


class Container:
    """Stands for a list, dictionary or set that is a global, which may hold itself."""

    def __init__(self, root: str, value: Any) -> None:
        self.root = root
        self.value = value

    def __reduce__(self) -> Any:
        value: Any = self.value
        made = self.root, type(value)
        if type(value) is list:
            return rebuild.begin, made, None, iter(value)
        if type(value) is dict:
            return rebuild.begin, made, None, None, iter([*value.items()])
        return rebuild.begin, made, [*value], None, None, rebuild.fill_set


class Head:
    """Travels ahead of a class: makes it without its attributes.

    A base may have its subclasses among its attributes, so all classes are made before
    any gets its attributes.
    """

    def __init__(self, made: tuple[Any, ...]) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return rebuild.make_class, self.made


class _Cell:
    """Stands for a cell; what is in it comes with the functions that have it."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell  # which must outlive the pickler's memo of it

    def __reduce__(self) -> Any:
        return rebuild.make_cell, ()


class _Namespace:
    """Stands for the namespace of a class, which is made before it is loaded."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return vars, (self.kind,)


_EMPTY = object()


def _contents(cells: tuple[types.CellType, ...]) -> Iterator[Any]:
    for cell in cells:
        try:
            yield cell.cell_contents
        except ValueError:
            yield _EMPTY


def _is_definition(value: Any) -> bool:
    """Whether a global is something that an annotation names."""
    kinds = (type, types.ModuleType, types.FunctionType)
    return isinstance(value, kinds) or type(value).__module__ in ("typing", "types")


_OURS = frozenset(
    id(each)
    for each in map(vars(rebuild).get, rebuild.__all__)
    if type(each) is types.FunctionType
)
"""What frames call to put things together: five functions for a closure alone. They
live as long as we do, so no function of the user can have one of these ids."""

_SINGLETON_TYPES = frozenset({type(None), type(Ellipsis), type(NotImplemented)})

_REDUCERS: dict[type, Callable[[Any, Any], Any]] = {
    **KINDS,
    functools._lru_cache_wrapper: ScriptPickler._reduce_cached,
}
