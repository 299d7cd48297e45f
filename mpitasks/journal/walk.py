"""Canonical bytes of values: the same bytes in every process, for what a call can tell.

Pickles do not serve: they tell which strings are interned and in which order a set was
built. Here count types, contents, the order of dicts, the layout of arrays, and which
of two mutable things is which: one list twice is not two equal lists. What nobody can
tell apart does not count: the order of sets, and the identity of what is told by its
value alone (numbers, text, tuples, objects that hash by their value). An object is what
it reduces to for a pickle, walked in turn.

Functions, classes and modules are in `mpitasks.journal.code`, arrays in
`arrays`, other objects in `objects`. What has no content that could be compared (a
lock, an open file, a generator) raises `Unkeyable`, or counts by its type where the
walker is lenient.

Every token has a tag, and a length or an end, so no two structures share their bytes.
Nothing here knows tasks, journals or files.
"""

from __future__ import annotations

import contextvars
import hashlib
import marshal
import struct
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, Protocol

__all__ = ["ATOMS", "DIGEST_BYTES", "Context", "Unkeyable", "Walker", "digest", "flat"]

DIGEST_BYTES = 16

LARGE_BYTES = 64 << 10
"""Data of at least this many bytes stands as its digest, so that it is not copied."""

SET_DEPTH = 2
"""Elements of sets are sorted by what is in them, down to this many sets deep."""

ATOMS = frozenset({int, float, complex, bool, type(None), str, bytes})
"""What `flat` writes, at the speed of C."""


class Unkeyable(Exception):
    """A value has no content by which another process could know it again."""


class Context(Protocol):
    """Knows what is not told by its content alone."""

    def refer(self, walker: Walker, value: Any) -> None:
        """Write what stands for a function or a class."""

    def cover(self, walker: Walker, module: str) -> None:
        """Write what stands for a module that is used in a way that cannot be seen."""

    def package(self, walker: Walker, module: str) -> None:
        """Note that something of an installed module is used."""

    def future(self, walker: Walker, value: Any) -> None:
        """Write what stands for the result that a future comes to."""

    def opaque(self, walker: Walker, value: Any) -> None:
        """Write what stands for a value without content, in a lenient walk."""


def digest(data: Any) -> bytes:
    """Return the SHA-256 of bytes, cut short: processors have instructions for it."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def flat(values: Any) -> bytes:
    """Return the bytes of a tuple, list or dict of nothing but `ATOMS`.

    Version 2 of the format knows no references and no interned strings, and has floats
    in binary: equal values have equal bytes, and -nan is not nan.

    Raises:
        ValueError: There is more in it than the format can hold.
    """
    return marshal.dumps(values, 2)


class Walker:
    """Writes the canonical bytes of values, one after another, and digests them.

    Args:
        context: Knows functions, classes and modules.
        lenient: Whether what has no content counts by its type.

    Attributes:
        context: As given.
        lenient: As given.
        unordered: How many sets deep that is which is written now, and so has no place
            of its own yet.
        inputs: What the context has found of calls whose futures are among the values;
            None if it is not to look for any.
        told: What the context knows of functions and classes for the length of a walk,
            by id, with the function or class itself.
    """

    def __init__(self, context: Context, *, lenient: bool = False) -> None:
        self.context = context
        self.lenient = lenient
        self.unordered = 0
        self.inputs: list[Any] | None = None
        self.told: dict[int, tuple[bytes, Any]] = {}
        self._out = bytearray()
        # What was met, by id: how it is told when it is met again; and itself, so that
        # the id stays its own. First what has an identity, then what is all value.
        self._met: dict[int, tuple[bytes, Any]] = {}
        self._values: dict[int, tuple[bytes, Any]] = {}
        self._count = 0  # of those that are told by a number
        self._depth = 0  # of those that are not finished
        self._touched = 0  # grows with each thing that is more than its value

    def digest(self) -> bytes:
        """Return the digest of all that was written."""
        return digest(self._out)

    def tag(self, text: str) -> None:
        """Write a word of our own."""
        self._out += b"<%s>" % text.encode("utf-8", "surrogatepass")

    def walk(self, value: Any) -> None:
        """Write a value.

        Raises:
            Unkeyable: It, or something in it, has no content to go by.
        """
        handler = _HANDLERS.get(type(value))
        if handler is not None:
            handler(self, value)
        else:
            self._other(value)

    def part(self, write: Callable[[], None]) -> bytes:
        """Return the digest of what `write` writes, which is not written here."""
        outer, self._out = self._out, bytearray()
        try:
            write()
            return digest(self._out)
        finally:
            self._out = outer

    def add(self, part: bytes) -> None:
        """Write the digest of a part."""
        self._out += b"#" + part

    def data(self, tag: bytes, data: Any) -> None:
        """Write bytes."""
        size = len(data)
        if size >= LARGE_BYTES:
            self._out += b"%s%d#" % (tag, size) + digest(data)
        else:
            self._out += b"%s%d:" % (tag, size)
            self._out += data

    def touch(self) -> None:
        """Note that what is written now is more than its value: it has an identity."""
        self._touched += 1

    def again(self, value: Any) -> bool:
        """Whether something mutable was met before, which is written then."""
        self.touch()
        met = self._met.get(id(value))
        if met is not None:
            self._out += met[0]
            return True
        self._meet(value)
        return False

    def _meet(self, value: Any) -> None:
        self._met[id(value)] = b"^%d;" % self._count, value
        self._count += 1

    def _by_value(self, value: Any, write: Callable[[], None]) -> None:
        """Write what has no identity but that of what is in it, once."""
        place = id(value)
        known = self._values.get(place)
        if known is not None:
            self._out += known[0]
            return
        met = self._met.get(place)
        if met is not None:
            self._out += met[0]
            self.touch()
            return
        before = self._touched
        self._met[place] = b"^^%d;" % self._depth, value
        self._depth += 1
        part = self.part(write)
        self._depth -= 1
        self.add(part)
        if self._touched == before:
            self._values[place] = b"#" + part, value
        else:  # to write it again would take as long as it is deep
            self._meet(value)

    # One method a kind of value.

    def _none(self, value: None) -> None:
        self._out += b"N"

    def _bool(self, value: bool) -> None:
        self._out += b"T" if value else b"F"

    def _int(self, value: int) -> None:
        self._out += b"i%x;" % value

    def _float(self, value: float) -> None:
        self._out += b"f" + struct.pack("<d", value)

    def _complex(self, value: complex) -> None:
        self._out += b"c" + struct.pack("<dd", value.real, value.imag)

    def _str(self, value: str) -> None:
        self.data(b"s", value.encode("utf-8", "surrogatepass"))

    def _bytes(self, value: bytes) -> None:
        self.data(b"b", value)

    def _bytearray(self, value: bytearray) -> None:
        if not self.again(value):
            self.data(b"B", value)

    def _memoryview(self, value: memoryview) -> None:
        self.tag(f"view {value.format} {value.shape} {value.readonly}")
        self.data(b"", value.tobytes())

    def _flat(self, value: Any, kinds: set[type]) -> bool:
        """Write a container of nothing but atoms; return whether it is one."""
        if not kinds <= ATOMS:
            return False
        try:
            data = flat(value)
        except ValueError:
            return False
        self.data(b"m", data)
        return True

    def _tuple(self, value: tuple[Any, ...]) -> None:
        if not self._flat(value, set(map(type, value))):
            self._by_value(value, lambda: self.items(b"(", value))

    def _list(self, value: list[Any]) -> None:
        if not self.again(value) and not self._flat(value, set(map(type, value))):
            self.items(b"[", value)

    def items(self, tag: bytes, items: list[Any] | tuple[Any, ...]) -> None:
        """Write values, one after another."""
        self._out += b"%s%d;" % (tag, len(items))
        for item in items:
            self.walk(item)

    def _dict(self, value: dict[Any, Any]) -> None:
        if self.again(value):
            return
        if not self._flat(value, {*map(type, value), *map(type, value.values())}):
            self.pairs(b"{", list(value.items()))

    def pairs(self, tag: bytes, pairs: list[tuple[Any, Any]]) -> None:
        """Write keys and values, in their order."""
        self._out += b"%s%d;" % (tag, len(pairs))
        for key, value in pairs:
            self.walk(key)
            self.walk(value)

    def _proxy(self, value: types.MappingProxyType[Any, Any]) -> None:
        if not self.again(value):
            self.pairs(b"P", list(value.items()))

    def _set(self, value: set[Any]) -> None:
        if not self.again(value):
            self.elements(b"S", value)

    def _frozenset(self, value: frozenset[Any]) -> None:
        self._by_value(value, lambda: self.elements(b"Z", value))

    def elements(self, tag: bytes, items: Iterable[Any]) -> None:
        """Write the elements of a set, whose order means nothing.

        They are sorted by what each is by itself. Those with an identity are written
        then, each at its place, for other things may refer to them.
        """
        own = list(items)
        self._out += b"%s%d;" % (tag, len(own))
        if set(map(type, own)) <= ATOMS:
            for data in sorted(flat((item,)) for item in own):
                self.data(b"m", data)
            return
        if self.unordered > SET_DEPTH:  # what is in it, is written at its place
            self.touch()
            return
        found = [(*self._element(item), item) for item in own]
        found.sort(key=lambda element: element[0])
        for part, by_value, item in found:
            self._out += part
            if not (by_value or self.unordered):
                self.walk(item)

    def _element(self, value: Any) -> tuple[bytes, bool]:
        """Return what an element is by itself, and whether it is no more than that."""
        met, count, depth = self._met, self._count, self._depth
        before = self._touched
        self._met, self._count, self._depth = {}, 0, 0
        self.unordered += 1
        part = self.part(lambda: self.walk(value))
        self.unordered -= 1
        self._met, self._count, self._depth = met, count, depth
        return part, self._touched == before

    def _range(self, value: range) -> None:
        self._out += b"r%d,%d,%d;" % (value.start, value.stop, value.step)

    def _slice(self, value: slice) -> None:
        self._out += b"l"
        for bound in (value.start, value.stop, value.step):
            self.walk(bound)

    def _ellipsis(self, value: object) -> None:
        self._out += b"."

    def _variable(self, value: contextvars.ContextVar[Any]) -> None:
        """Write a variable: its default, and what it is now."""
        if self.again(value):
            return
        self.tag("variable")
        self._str(value.name)
        get: Any = value.get
        for ask in (lambda: contextvars.Context().run(get), get):
            try:
                found = ask()
            except LookupError:
                self.tag("unset")
            else:
                self.walk(found)

    # Everything else.

    def _other(self, value: Any) -> None:
        from mpitasks.journal import code, objects

        if code.walk_code(self, value):
            return
        if "numpy" in sys.modules:
            from mpitasks.journal import arrays

            if arrays.walk_numpy(self, value):
                return
        hashed: Any = type(value).__hash__
        if hashed is not None and hashed is not object.__hash__:
            self._by_value(value, lambda: objects.walk_object(self, value))
        elif not self.again(value):
            objects.walk_object(self, value)


_HANDLERS: dict[type, Callable[[Walker, Any], None]] = {
    type(None): Walker._none,
    bool: Walker._bool,
    int: Walker._int,
    float: Walker._float,
    complex: Walker._complex,
    str: Walker._str,
    bytes: Walker._bytes,
    bytearray: Walker._bytearray,
    memoryview: Walker._memoryview,
    tuple: Walker._tuple,
    list: Walker._list,
    dict: Walker._dict,
    types.MappingProxyType: Walker._proxy,
    set: Walker._set,
    frozenset: Walker._frozenset,
    range: Walker._range,
    slice: Walker._slice,
    type(Ellipsis): Walker._ellipsis,
    contextvars.ContextVar: Walker._variable,
}
