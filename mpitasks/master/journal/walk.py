"""Canonical bytes of values: equal structure, equal bytes, in every process.

What pickles are not: they tell whether two parts are the same object, in which order
a set was built, which strings are interned. Here only type and content count. Sets and
dicts are free of order, arrays are dtype, shape and bytes in C order, an object is
what it reduces to for a pickle, walked in turn. Functions and classes are in
`mpitasks.master.journal.code`. What has no content that could be compared (a lock, an
open file, a generator) raises `Unkeyable`.

Every token has a tag, and a length or an end, so no two structures share their bytes.
Nothing here knows tasks, journals or files.
"""

from __future__ import annotations

import collections
import copyreg
import hashlib
import marshal
import struct
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["DIGEST_BYTES", "Unkeyable", "Walker", "digest"]

DIGEST_BYTES = 16

LARGE_BYTES = 64 << 10
"""Data of so many bytes stands as its digest, so that it is not copied."""

MANY_ITEMS = 64
"""Lists of so many plain numbers are written by C in one go."""

_NUMBERS = frozenset({int, float, bool, type(None)})


class Unkeyable(Exception):
    """A value has no content by which another process could know it again."""


def digest(data: Any) -> bytes:
    """Return the SHA-256 of bytes, cut short: processors have instructions for it."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


class Walker:
    """Writes the canonical bytes of values, one after another, and digests them.

    Args:
        refer: Called with the walker and a function or a class; writes what stands for
            it.

    Attributes:
        unordered: Whether what is written now has no place of its own: an element of a
            set.
    """

    def __init__(self, refer: Callable[[Walker, Any], None]) -> None:
        self.refer = refer
        self.unordered = False
        self._out = bytearray()
        self._path: dict[int, int] = {}  # what we are inside of, and how deep

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

    @contextmanager
    def inside(self, value: Any) -> Iterator[bool]:
        """Note that what is written now is inside of `value`; tell whether it was."""
        place = id(value)
        depth = self._path.get(place)
        if depth is not None:
            self._out += b"^%d;" % depth
            yield True
            return
        self._path[place] = len(self._path)
        try:
            yield False
        finally:
            del self._path[place]

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
        self._data(b"s", value.encode("utf-8", "surrogatepass"))

    def _bytes(self, value: bytes) -> None:
        self._data(b"b", value)

    def _bytearray(self, value: bytearray) -> None:
        self._data(b"B", value)

    def _data(self, tag: bytes, data: Any) -> None:
        size = len(data)
        if size >= LARGE_BYTES:
            self._out += b"%s%d#" % (tag, size) + digest(data)
        else:
            self._out += b"%s%d:" % (tag, size)
            self._out += data

    def _tuple(self, value: tuple[Any, ...]) -> None:
        self._sequence(b"(", value)

    def _list(self, value: list[Any]) -> None:
        self._sequence(b"[", value)

    def _sequence(self, tag: bytes, items: list[Any] | tuple[Any, ...]) -> None:
        if len(items) >= MANY_ITEMS and set(map(type, items)) <= _NUMBERS:
            # Version 2 knows no references, and numbers have one form in it.
            self._data(tag + b"m", marshal.dumps(items, 2))
            return
        self._out += b"%s%d;" % (tag, len(items))
        if not items:
            return
        with self.inside(items) as again:
            if not again:
                for item in items:
                    self.walk(item)

    def _dict(self, value: dict[Any, Any]) -> None:
        with self.inside(value) as again:
            if again:
                return
            if all(type(key) is str for key in value):
                self._out += b"{%d;" % len(value)
                for key in sorted(value):
                    self._str(key)
                    self.walk(value[key])
            else:
                self._entries(value)

    def _entries(self, value: dict[Any, Any]) -> None:
        """Write what a dict holds; its order means nothing."""
        ordered = sorted(
            ((self._element(key), key) for key in value), key=lambda pair: pair[0]
        )
        self._out += b"D%d;" % len(ordered)
        for part, key in ordered:
            self._out += part
            self.walk(value[key])

    def _set(self, value: set[Any] | frozenset[Any]) -> None:
        parts = sorted(map(self._element, value))
        tag = b"S" if isinstance(value, set) else b"Z"
        self._out += b"%s%d;" % (tag, len(parts)) + b"".join(parts)

    def _element(self, value: Any) -> bytes:
        before, self.unordered = self.unordered, True
        try:
            return self.part(lambda: self.walk(value))
        finally:
            self.unordered = before

    def _range(self, value: range) -> None:
        # Equal ranges may be written in several ways.
        self._out += b"r"
        last = value[-1] if len(value) else 0
        for number in (len(value), value[0] if len(value) else 0, last):
            self._int(number)

    def _slice(self, value: slice) -> None:
        self._out += b"l"
        for bound in (value.start, value.stop, value.step):
            self.walk(bound)

    def _ellipsis(self, value: object) -> None:
        self._out += b"."

    # Everything else.

    def _other(self, value: Any) -> None:
        from mpitasks.master.journal import code

        if code.walk_code(self, value):
            return
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if isinstance(value, numpy.ndarray) and _is_bare(value, numpy):
                self._array(value)
                return
            if isinstance(value, numpy.generic) and not value.dtype.hasobject:
                self._out += b"g"
                self.walk(value.dtype)
                self._data(b"", value.tobytes())
                return
        with self.inside(value) as again:
            if again:
                return
            if isinstance(value, (set, frozenset)):
                self._subclass(value, lambda: self._set(value))
            elif isinstance(value, dict):
                self._subclass(value, lambda: self._pairs(value))
            else:
                self._reduced(value)

    def _array(self, array: Any) -> None:
        """Write a NumPy array."""
        self._out += b"A"
        self.walk(array.dtype if array.dtype.kind == "V" else array.dtype.str)
        self._tuple(array.shape)
        if array.dtype.hasobject or array.dtype.kind not in "biufcmMSUV":
            self._list(array.ravel(order="C").tolist())
            return
        flat = array.reshape(-1, order="C")
        if not flat.flags.c_contiguous:
            flat = flat.copy()
        self._data(b"", flat.view("u1").data if flat.nbytes else b"")

    def _subclass(self, value: Any, write: Callable[[], None]) -> None:
        """Write an object of a class that derives from a set or a dict."""
        self._out += b"x"
        self.walk(type(value))
        self.walk(getattr(value, "__dict__", None))
        self.walk(getattr(value, "default_factory", None))
        write()

    def _pairs(self, value: dict[Any, Any]) -> None:
        if isinstance(value, collections.OrderedDict):
            self._list(list(value.items()))
        else:
            self._entries(value)

    def _reduced(self, value: Any) -> None:
        """Write what a pickle would be made of."""
        kind = type(value)
        try:
            reduce = copyreg.dispatch_table.get(kind)
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception as error:
            raise Unkeyable(
                f"a {_name(kind)} has no content to know it by ({error})"
            ) from error
        self._out += b"o"
        if isinstance(reduced, str):  # the name of something global
            self._str(getattr(value, "__module__", None) or "")
            self._str(reduced)
            return
        maker, args, *rest = reduced
        state, items, pairs, setter = (*rest, None, None, None, None)[:4]
        self.walk(maker)
        self.walk(args)
        self.walk(state)
        self.walk(None if items is None else list(items))
        self.walk(None if pairs is None else list(pairs))
        self.walk(setter)


def _is_bare(array: Any, numpy: types.ModuleType) -> bool:
    """Whether an array is all there is: subclasses may hold more."""
    return type(array) is numpy.ndarray or type(array) is numpy.memmap


def _name(kind: type) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


_HANDLERS: dict[type, Callable[[Walker, Any], None]] = {
    type(None): Walker._none,
    bool: Walker._bool,
    int: Walker._int,
    float: Walker._float,
    complex: Walker._complex,
    str: Walker._str,
    bytes: Walker._bytes,
    bytearray: Walker._bytearray,
    tuple: Walker._tuple,
    list: Walker._list,
    dict: Walker._dict,
    set: Walker._set,
    frozenset: Walker._set,
    range: Walker._range,
    slice: Walker._slice,
    type(Ellipsis): Walker._ellipsis,
}
