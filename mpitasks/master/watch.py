"""Notices that what was sent to the workers is not what the script has any more.

A `Watch` remembers the identity of everything that a frame was made of: the globals
that it reads, the parts of its functions, the attributes of its classes; and the
contents of small containers and plain objects among them. A look costs a submit some
tenths of a microsecond. What is large, or made by a library, is compared by the frame
itself, at each `map` and when an Executor is new (`mpitasks.master.script`).

No object of the user's is compared with ``==`` here: that is the user's code, and equal
is not the same.
"""

from __future__ import annotations

import copyreg
import itertools
import marshal
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from mpitasks.wire.settled import settled

__all__ = ["ABSENT", "Watch"]

ABSENT: Any = object()
"""In the place of a global that does not exist."""

SMALL_ITEMS, SMALL_BYTES, SMALL_DEPTH = 64, 1024, 3
"""A container of at most this many items is compared by its contents at each submit, if
it holds plain values, text of at most this many bytes, and the like down to this depth;
else by the identity of its items."""


class Watch:
    """Whether a number of things are still what they were.

    Args:
        main: The globals of the script.
        names: Those that are looked at.
        functions: Functions that went by value.
        classes: Classes that went by value.
        parts: What may be changed in place.

    Attributes:
        settled: Whether `same` sees every change.
    """

    __slots__ = (
        "_classes",
        "_functions",
        "_get",
        "_ids",
        "_kept",
        "_looks",
        "_names",
        "settled",
    )

    def __init__(
        self,
        main: dict[str, Any],
        names: Iterable[str],
        functions: Iterable[types.FunctionType],
        classes: Iterable[type],
        parts: Iterable[Any],
    ) -> None:
        self._get = main.get
        self._names = [*names]
        values = [main.get(name, ABSENT) for name in self._names]
        self._ids = [*map(id, values)]
        self._functions = [(each, _parts_of(each)) for each in functions]
        self._classes = [(each, _identities(vars(each).values())) for each in classes]
        unsettled = {id(part): part for part in parts if not settled(part)}
        looks = [(part, _look(part)) for part in unsettled.values()]
        self._looks = [(part, look) for part, look in looks if look is not None]
        self.settled = not unsettled
        # An identity means something only as long as its object lives.
        self._kept = values, [[*vars(each).values()] for each, _ in self._classes]

    def same(self) -> bool:
        """Return whether nothing has changed, as far as that is seen quickly."""
        get = self._get
        if [*map(id, map(get, self._names, itertools.repeat(ABSENT)))] != self._ids:
            return False
        for function, parts in self._functions:
            if (
                function.__code__ is not parts[0]
                or function.__defaults__ is not parts[1]
                or function.__kwdefaults__ is not parts[2]
                or len(function.__dict__) != parts[3]
            ):
                return False
            if parts[4] and not _alike(_insides(function), parts[4]):
                return False
        for kind, ids in self._classes:
            if _identities(vars(kind).values()) != ids:
                return False
        for part, look in self._looks:
            now = _look(part)
            if now is None or now[0] != look[0]:
                return False
        return True


def _parts_of(function: types.FunctionType) -> tuple[Any, ...]:
    return (
        function.__code__,
        function.__defaults__,
        function.__kwdefaults__,
        len(function.__dict__),
        [*_insides(function)],
    )


def _insides(function: types.FunctionType) -> Iterator[Any]:
    """Yield what is in a function's closure and attributes."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            yield ABSENT
    yield from function.__dict__.values()


def _alike(values: Iterable[Any], others: list[Any]) -> bool:
    found = [*values]
    return len(found) == len(others) and all(
        one is other for one, other in zip(found, others, strict=True)
    )


def _identities(values: Iterable[Any]) -> list[int]:
    return [*map(id, values)]


def _look(value: Any) -> tuple[Any, Any] | None:
    """Return what tells the contents of a small object, and what keeps that valid.

    None for what is not looked into at each submit: it is too large, or not plain.
    """
    kind = type(value)
    try:
        if kind in _CONTAINERS:
            return _look_into(value)
        if "numpy" in sys.modules and kind is sys.modules["numpy"].ndarray:
            if value.nbytes > SMALL_BYTES or value.dtype.hasobject:
                return None
            return (value.tobytes(), value.dtype.str, value.shape, value.strides), None
        if kind.__flags__ & _HEAP_TYPE:
            return _look_into(_attributes_of(value, kind))
    except Exception:  # an object with a mind of its own
        return None
    return None


def _attributes_of(value: Any, kind: type) -> dict[str, Any]:
    attributes: dict[str, Any] = (
        object.__getattribute__(value, "__dict__") if (kind.__dictoffset__) else {}
    )
    slots = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    if slots:
        found = {name: getattr(value, name, ABSENT) for name in slots}
        return {**attributes, **found}
    return attributes


def _look_into(container: Any) -> tuple[Any, Any] | None:
    if len(container) > SMALL_ITEMS:
        return None
    if _is_small(container, SMALL_DEPTH):
        return marshal.dumps(container, 2), None
    if isinstance(container, dict):
        kept = [*container, *container.values()]
    else:
        kept = [*container]
    return _identities(kept), kept


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
_HEAP_TYPE = 1 << 9
