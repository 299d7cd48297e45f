"""Notices that what was sent to the workers is not what the script has any more.

A `Watch` remembers the identity of everything that a frame was made of: the globals
that it reads, the parts of its functions, the attributes of its classes; and the
contents of small containers and plain objects among them. A look costs a submit some
tenths of a microsecond. What is large, or made by a library, is compared by the frame
itself, at each `map` and when an Executor is new (`mpitasks.master.script_state`).

No object of the user's is compared with ``==`` here: that is the user's code, and equal
is not the same.
"""

from __future__ import annotations

import contextlib
import copyreg
import gc
import marshal
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mpitasks.wire.immutables import settled
from mpitasks.wire.rebuild import implied

__all__ = ["ABSENT", "Watch", "sees_all"]

ABSENT: Any = object()
"""In the place of a global that does not exist."""

SMALL_ITEMS, SMALL_BYTES, SMALL_DEPTH = 64, 1024, 3
"""A container of at most this many items is compared by its contents at each submit, if
it holds plain values, text of at most this many bytes, and the like down to this depth;
else by the identity of its items."""


class Watch:
    """Whether a number of things are still what they were.

    All that is to be compared is written as one expression, and compiled when it is
    needed first: a loop over it would cost a submit several times as much.

    Args:
        main: The globals of the script.
        names: Those that are looked at.
        functions: Functions that went by value.
        classes: Classes that went by value.
        parts: What may be changed in place.
        seen: What the names were when they were pickled, if that is known: other
            threads may have given them something else since.
        root: The function whose watch it is, if any: that is not kept alive by it.

    Attributes:
        same: Returns whether nothing has changed, as far as that is seen quickly.
        settled: Whether `same` sees every change.
    """

    __slots__ = ("__weakref__", "_constants", "_task_spec", "same", "settled")

    def __init__(
        self,
        main: dict[str, Any],
        names: Iterable[str],
        functions: Iterable[types.FunctionType],
        classes: Iterable[type],
        parts: Iterable[Any],
        seen: Mapping[str, Any] | None = None,
        root: types.FunctionType | None = None,
    ) -> None:
        self._task_spec: list[str] = []
        # An identity means something only as long as its object lives: here.
        self._constants: list[Any] = [main, id, map, ABSENT]
        own = weakref.ref(self)  # for the same reason
        self.same: Callable[[], bool] = lambda: own()._compile_and_compare()  # type: ignore[union-attr]
        for name in names:
            self._watch_name(main if seen is None else seen, name)
        for function in functions:
            self._watch_function(function, root)
        for kind in classes:
            self._watch_class(kind)
        unsettled = {id(part): part for part in parts if not settled(part)}
        for part in unsettled.values():
            with contextlib.suppress(Exception):  # an object with a mind of its own
                self._watch_part(part)
        self.settled = not unsettled

    def _compile_and_compare(self) -> bool:
        self.same = self._compile()
        return self.same()

    def _compile(self) -> Callable[[], bool]:
        if not self._task_spec:
            return _always
        names = [f"k{at}" for at in range(len(self._constants))]
        given = ", ".join(f"{name}={name}" for name in names)
        source = (
            f"def same({given}):\n"
            f"    try:\n"
            f"        return {' and '.join(self._task_spec)}\n"
            f"    except Exception:\n"
            f"        return False\n"
        )
        namespace = dict(zip(names, self._constants, strict=True))
        exec(source, namespace)
        # Taken out: in a circle with its globals it would outlive the watch, and with
        # it what the user has let go of.
        return namespace.pop("same")  # type: ignore[no-any-return]

    def _constant(self, value: Any) -> str:
        self._constants.append(value)
        return f"k{len(self._constants) - 1}"

    def _watch_name(self, main: Mapping[str, Any], name: str) -> None:
        if name in main:
            self._task_spec.append(f"k0[{name!r}] is {self._constant(main[name])}")
        else:
            self._task_spec.append(f"{name!r} not in k0")

    def _watch_function(
        self, function: types.FunctionType, root: types.FunctionType | None
    ) -> None:
        if function is root:
            own = "own"
            self._task_spec.append(
                f"(own := {self._constant(weakref.ref(function))}()) is not None"
            )
        else:
            own = self._constant(function)
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            value = self._constant(getattr(function, name))
            self._task_spec.append(f"{own}.{name} is {value}")
        if function.__kwdefaults__:
            self._watch_items(function.__kwdefaults__, f"{own}.__kwdefaults__")
        for at, cell in enumerate(function.__closure__ or ()):
            with contextlib.suppress(ValueError):  # it is empty
                inside = cell.cell_contents
                recursive = inside is function and function is root
                content = "own" if recursive else self._constant(inside)
                self._task_spec.append(
                    f"{own}.__closure__[{at}].cell_contents is {content}"
                )
        if function.__dict__:
            self._watch_items(function.__dict__, f"{own}.__dict__")
        else:
            self._task_spec.append(f"not {own}.__dict__")

    def _watch_class(self, kind: type) -> None:
        # The dictionary itself: what `vars` returns costs twice as much to look into.
        [attributes] = gc.get_referents(vars(kind))
        own = self._constant(attributes)
        self._task_spec.append(f"len({own}) == {len(attributes)}")
        for name, value in attributes.items():
            if not implied(kind, name) and isinstance(name, str):
                self._task_spec.append(f"{own}[{name!r}] is {self._constant(value)}")

    def _watch_items(self, items: dict[Any, Any], own: str) -> None:
        """Compare keys and values of a dictionary by identity."""
        kept = [*items, *items.values()]
        self._constant(kept)
        ids = self._constant([*map(id, kept)])
        self._task_spec.append(f"[*k2(k1, {own}), *k2(k1, {own}.values())] == {ids}")

    def _watch_part(self, part: Any) -> None:
        kind = type(part)
        if kind is dict and len(part) <= SMALL_ITEMS:
            self._watch_items(part, self._constant(part))
        elif kind in (list, tuple) and len(part) <= SMALL_ITEMS:
            self._constant([*part])
            ids = self._constant([*map(id, part)])
            self._task_spec.append(f"[*k2(k1, {self._constant(part)})] == {ids}")
        if kind in _CONTAINERS and (kind in _LOOKED_INTO or _is_nested(part)):
            if _is_small(part, SMALL_DEPTH):
                self._watch_by(_marshalled, part)
        elif "numpy" in sys.modules and kind is sys.modules["numpy"].ndarray:
            if part.nbytes <= SMALL_BYTES and not part.dtype.hasobject:
                self._watch_by(_array_told, part)
        elif kind.__flags__ & _HEAP_TYPE and kind not in _CONTAINERS:
            attributes = _attributes_of(part, kind)
            if len(attributes) <= SMALL_ITEMS:
                self._watch_by(_attributes_told, part)
                self._constant([*attributes.values()])
                for value in attributes.values():
                    if type(value) in _CONTAINERS and _is_small(value, SMALL_DEPTH):
                        self._watch_by(_marshalled, value)

    def _watch_by(self, tell: Callable[[Any], Any], part: Any) -> None:
        """Compare what a function tells of an object."""
        told = self._constant(tell(part))
        by = self._constant(tell)
        self._task_spec.append(f"{by}({self._constant(part)}) == {told}")


def sees_all(part: Any, inert: Callable[[Any], bool] = settled) -> bool:
    """Whether a `Watch` of something sees each change in it, however deep.

    Args:
        part: The object.
        inert: Tells whether a value in it cannot change.
    """
    kind = type(part)
    if inert(part):
        return True
    try:
        if kind in (dict, list, tuple) and len(part) <= SMALL_ITEMS:
            values = [*part, *part.values()] if kind is dict else part
            if all(map(inert, values)):
                return True
        if kind in _CONTAINERS:
            return _is_small(part, SMALL_DEPTH)
        if "numpy" in sys.modules and kind is sys.modules["numpy"].ndarray:
            return part.nbytes <= SMALL_BYTES and not part.dtype.hasobject
        if not _is_plain_class(kind):
            return False
        attributes = _attributes_of(part, kind)
        return len(attributes) <= SMALL_ITEMS and all(
            inert(value)
            or (type(value) in _CONTAINERS and _is_small(value, SMALL_DEPTH))
            for value in attributes.values()
        )
    except Exception:  # an object with a mind of its own
        return False


def _is_plain_class(kind: type) -> bool:
    """Whether the instances of a class have no state but their attributes."""
    slots = len(copyreg._slotnames(kind) or ())  # type: ignore[attr-defined]
    room = object.__basicsize__ + (slots + 2) * _POINTER  # and __dict__, __weakref__
    return kind.__basicsize__ <= room and not kind.__itemsize__


_POINTER = tuple.__itemsize__


def _always() -> bool:
    return True


def _marshalled(container: Any) -> bytes | None:
    if not _is_small(container, SMALL_DEPTH):
        return None
    return marshal.dumps(container, 2)


def _array_told(array: Any) -> tuple[Any, ...]:
    return array.tobytes(), array.dtype.str, array.shape, array.strides


def _attributes_told(value: Any) -> list[Any]:
    attributes = _attributes_of(value, type(value))
    return [[*attributes], [*map(id, attributes.values())]]


def _is_nested(container: Any) -> bool:
    """Whether a container holds others, which its items' identities do not tell of."""
    values = container.values() if type(container) is dict else container
    return not {*map(type, values)} <= _SCALARS | _TEXTS


def _attributes_of(value: Any, kind: type) -> dict[str, Any]:
    attributes: dict[str, Any] = (
        object.__getattribute__(value, "__dict__") if (kind.__dictoffset__) else {}
    )
    slots = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    if slots:
        found = {name: getattr(value, name, ABSENT) for name in slots}
        return {**attributes, **found}
    return attributes


def _is_small(container: Any, depth: int) -> bool:
    """Whether a container holds little, and nothing but what `marshal` knows."""
    if len(container) > SMALL_ITEMS:
        return False
    values = container.values() if type(container) is dict else container
    kinds = {*map(type, values)}
    if type(container) is dict:
        kinds.update(map(type, container))
        values = [*container, *values]
    if kinds <= _SCALARS:
        return True
    for value in values:
        kind = type(value)
        if kind in _TEXTS:
            if len(value) > SMALL_BYTES:
                return False
        elif kind in _CONTAINERS:
            if not depth or not _is_small(value, depth - 1):
                return False
        elif kind not in _SCALARS:
            return False
    return True


_SCALARS = frozenset({int, float, complex, bool, type(None)})
_TEXTS = frozenset({str, bytes, bytearray})
_CONTAINERS = frozenset({list, dict, set, bytearray, tuple, frozenset})
_LOOKED_INTO = frozenset({set, bytearray, frozenset})
_HEAP_TYPE = 1 << 9
