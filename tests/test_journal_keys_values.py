"""What a call can tell makes another key, what it cannot tell does not."""

from __future__ import annotations

import contextvars
import ctypes
import dataclasses
import datetime
import decimal
import functools
import math
import operator
import pickle
import signal
import struct
import threading
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keying import key, task
from mpitasks.journal import code, keys
from mpitasks.journal.keys import SEEN, Keys
from mpitasks.journal.walk import LARGE_BYTES, Unkeyable

NAN, MINUS_NAN = float("nan"), struct.unpack("<d", b"\0\0\0\0\0\0\xf8\xff")[0]
assert math.copysign(1, NAN) != math.copysign(1, MINUS_NAN)


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any


class Text(str):
    pass


class Number(int):
    pass


class Items(list[Any]):
    pass


class Table(dict[Any, Any]):
    pass


class Rows(np.ndarray):  # type: ignore[type-arg]
    pass


class Set:
    """An object whose state a function sets."""

    def __init__(self, setter: Any) -> None:
        self.setter = setter

    def __reduce__(self) -> Any:
        return object, (), (1,), None, None, self.setter


class Thing:
    """An object that hashes by its identity."""

    def __init__(self, name: str, inner: Any = None) -> None:
        self.name = name
        self.inner = inner


def aliased(make: Callable[[], Any]) -> tuple[Any, Any]:
    """Return two of one thing, and two equal ones."""
    one = make()
    return [one, one], [make(), make()]


def fresh(*items: Any) -> tuple[Any, ...]:
    """Return a tuple that is no constant of the code."""
    return items


def padded(fill: int) -> Any:
    array = np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True))
    array.view("u1")[:] = fill
    array["a"], array["b"] = 1, 2
    return array


def long(fill: int) -> Any:
    array = np.zeros(3, np.longdouble)
    array.view("u1")[:] = fill
    array[:] = 1
    raw = array.view("u1").reshape(3, -1)
    if np.finfo(np.longdouble).nmant == 63:
        raw[:, 10:] = fill  # the padding
    return array


def masked(array: Any) -> Any:
    return np.ma.masked_array(array, [False, True, False])


class Part(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int8), ("b", ctypes.c_double))


class Whole(Part):
    _fields_ = (
        ("bits", ctypes.c_int, 3),
        ("long", ctypes.c_longdouble),
        ("part", Part),
        ("rest", Part * 2),
        ("many", ctypes.c_longdouble * 2),
    )


def c_long(fill: int, value: float = 1.0) -> Any:
    made = ctypes.c_longdouble(value)
    raw = (ctypes.c_uint8 * 16).from_buffer(made)
    if np.finfo(np.longdouble).nmant == 63:
        raw[10:] = [fill] * 6
    return made


def c_struct(fill: int, **values: Any) -> Any:
    made = Whole.from_buffer_copy(bytes([fill]) * ctypes.sizeof(Whole))
    for part in (made, made.part, *made.rest):
        part.a, part.b = 1, 2.0
    made.bits, made.long, made.many[:] = 1, 1.0, [1.0, 2.0]
    for name, value in values.items():
        setattr(made, name, value)
    return made


def mixed(item: Any) -> Any:
    array = np.empty(1, [("a", "i4"), ("b", "O")])
    array[0] = (1, item)
    return array[0]


# Pairs of arguments that a call tells apart.
APART: dict[str, tuple[Any, Any]] = {
    "-nan": (NAN, MINUS_NAN),
    "-nan in a list": ([NAN], [MINUS_NAN]),
    "-nan among others": ([NAN, Plain()], [MINUS_NAN, Plain()]),
    "-nan in a complex": (complex(0, NAN), complex(0, MINUS_NAN)),
    "-nan in a complex, mixed": (
        [complex(0, NAN), set()],
        [complex(0, MINUS_NAN), set()],
    ),
    "-nan in an array": (np.array([NAN]), np.array([MINUS_NAN])),
    "-nan, NumPy's": (np.float64(NAN), np.float64(MINUS_NAN)),
    "-0": (0.0, -0.0),
    "-0 in a dict": ({1: 0.0}, {1: -0.0}),
    "masks": (masked(long(0)), np.ma.masked_array(long(0), [False] * 3)),
    "masked": (masked(long(0)), masked(2 * long(0))),
    "fill values": (masked(long(0)), np.ma.masked_array(masked(long(0)), fill_value=7)),
    "masked or not": (np.ma.masked_array(long(0)), long(0)),
    "ctypes' longdouble": (c_long(0), c_long(0, 2.0)),
    "a ctypes field": (c_struct(0), c_struct(0, b=3.0)),
    "a ctypes bit field": (c_struct(0), c_struct(0, bits=2)),
    "a field of a ctypes field": (c_struct(0), c_struct(0, part=Part(1, 3.0))),
    "ctypes of another type": (Part(1, 2.0), (Part * 1)(Part(1, 2.0))),
    "types": (1, True),
    "types in a list": ([1], [True]),
    "types in a set": ({1}, {True}),
    "float and int in a tuple": ((1, "a"), (1.0, "a")),
    "types of 0-d": (np.float64(1), np.array(1.0)),
    "order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "order, not flat": ({"a": [], "b": ()}, {"b": (), "a": []}),
    "order of a subclass": (Table(a=1, b=2), Table(b=2, a=1)),
    "order of attributes": (Plain(a=1, b=2), Plain(b=2, a=1)),
    "order of a proxy": (
        types.MappingProxyType({"a": 1, "b": 2}),
        types.MappingProxyType({"b": 2, "a": 1}),
    ),
    "a proxy": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "a proxy's content": (
        types.MappingProxyType({"a": [1]}),
        types.MappingProxyType({"a": [2]}),
    ),
    "a str": (Text("a"), "a"),
    "an int": (Number(1), 1),
    "a list's class": (Items([1]), [1]),
    "a list's content": (Items([1]), Items([2])),
    "a dict's class": (Table(a=1), OrderedDict(a=1)),
    "a dict's content": (Table(a=1), Table(a=2)),
    "a factory": (defaultdict(list), defaultdict(set)),
    "64 texts": (["x"] * 64, ["x"] * 63 + ["y"]),
    "64 lists": ([[]] * 63 + [[1]], [[]] * 63 + [[2]]),
    "64 bools": ([True] * 64, [1] * 64),
    "length": ([1], [1, 1]),
    "a tuple and a list": ((1, []), [1, []]),
    "nested": ([[1], 2], [[1, 2]]),
    "where an ellipsis is": ([..., []], [[], ...]),
    "a setter": (Set(len), Set(print)),
    "ranges": (range(3), range(1, 3)),
    "the start of a range": (range(3), range(1, 4)),
    "the stop of a range": (range(0, 5, 2), range(0, 6, 2)),
    "the step of a range": (range(0, 2, 2), range(0, 2, 3)),
    "an empty range": (range(0), range(1)),
    "a range and a tuple": (range(3), (0, 1, 2)),
    "a slice": (slice(1), slice(None, 1, 1)),
    "a slice's start": (slice(1, 3), slice(2, 3)),
    "a bytearray": (bytearray(b"a"), b"a"),
    "a bytearray's content": (bytearray(b"a"), bytearray(b"b")),
    "large bytes": (bytearray(LARGE_BYTES), bytearray(LARGE_BYTES - 1) + b"a"),
    "large and small": (bytearray(LARGE_BYTES), bytearray(LARGE_BYTES - 1)),
    "a view": (memoryview(b"ab"), b"ab"),
    "a view's content": (memoryview(b"ab"), memoryview(b"ac")),
    "a view's format": (memoryview(b"ab"), memoryview(b"ab").cast("b")),
    "a view that can be written": (memoryview(b"ab"), memoryview(bytearray(b"ab"))),
    "a view's shape": (
        memoryview(b"abcd").cast("B", [2, 2]),
        memoryview(b"abcd").cast("B", [4]),
    ),
    "Fortran's order": (np.ones((2, 3)), np.ones((2, 3), order="F")),
    "Fortran's order, objects": (
        np.array([[1, 2], [1, 2]], object),
        np.array([[1, 2], [1, 2]], object, order="F"),
    ),
    "transposed": (np.arange(4).reshape(2, 2), np.arange(4).reshape(2, 2).T),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "shape of nothing": (np.zeros((0, 3)), np.zeros((3, 0))),
    "byte order": (np.zeros(2, ">f8"), np.zeros(2, "<f8")),
    "units": (np.zeros(2, "M8[s]"), np.zeros(2, "M8[ms]")),
    "an array's class": (np.zeros(2).view(Rows), np.zeros(2)),
    "an array's class's content": (np.zeros(2).view(Rows), np.ones(2).view(Rows)),
    "fields": (padded(0), padded(0)[["a"]]),
    "a field's content": (padded(0)[:1], np.array([(1, 3)], padded(0).dtype)),
    "a field's name": (
        np.zeros(1, [("a", "i4")]),
        np.zeros(1, [("b", "i4")]),
    ),
    "alignment": (
        np.zeros(1, np.dtype([("a", "i1"), ("b", "i4")])),
        np.zeros(1, np.dtype([("a", "i1"), ("b", "i4")], align=True)),
    ),
    "long doubles": (long(0), -long(0)),
    "raw": (np.zeros(1, "V4"), np.frombuffer(b"abcd", "V4")),
    "objects": (np.array([1, [2]], object), np.array([1, [3]], object)),
    "a record": (padded(0)[0], np.array([(1, 3)], padded(0).dtype)[0]),
    "a record of objects": (mixed([2]), mixed([3])),
    "a subarray's shape": (
        np.zeros(1, [("a", "i4", (4,))]),
        np.zeros(1, [("a", "i4", (2, 2))]),
    ),
    "a subarray's elements": (
        np.zeros(1, [("a", "i4", (2,))]),
        np.zeros(1, [("a", "u4", (2,))]),
    ),
    "a subarray's content": (
        np.zeros(1, [("a", "i4", (2,))]),
        np.ones(1, [("a", "i4", (2,))]),
    ),
    "a field's place": (
        np.zeros(1, np.dtype({"names": ["a"], "formats": ["i1"], "itemsize": 4})),
        np.zeros(
            1,
            np.dtype(
                {"names": ["a"], "formats": ["i1"], "offsets": [1], "itemsize": 4}
            ),
        ),
    ),
    "a field's title": (
        np.zeros(1, [(("t", "a"), "i4")]),
        np.zeros(1, [(("u", "a"), "i4")]),
    ),
    "a singleton": (NotImplemented, None),
    "a depth of sets": (
        {frozenset({frozenset({frozenset({Thing("x")})})})},
        {frozenset({frozenset({Thing("x")})})},
    ),
    "metadata": (np.dtype("i4", metadata={"a": 1}), np.dtype("i4")),
    "a dtype": (np.dtype("i4"), np.dtype("i8")),
    "one list twice": aliased(list),
    "one dict twice": aliased(dict),
    "one set twice": aliased(set),
    "one set of texts twice": aliased(lambda: {"a"}),
    "one bytearray twice": aliased(lambda: bytearray(b"a")),
    "one array twice": aliased(lambda: np.zeros(2)),
    "one object twice": aliased(lambda: Plain(a=1)),
    "one deque twice": aliased(lambda: deque([1])),
    "one list in a tuple twice": aliased(lambda: ([], 1)),
    "one list in a frozen object twice": aliased(lambda: Frozen([])),
    "one list in a dict": (lambda a, b: ({1: a, 2: a}, {1: a, 2: b}))([], []),
    "one of two": (lambda a, b: ([a, b, a], [a, b, b]))([], []),
    "one of two arrays": (lambda a, b: ([a, b, a], [a, b, b]))(np.ones(2), np.ones(2)),
    "one in a set": (lambda a, b: ([{a}, a], [{a}, b]))(Thing("x"), Thing("x")),
    "one before a set": (lambda a, b: ([a, {a}], [a, {b}]))(Thing("x"), Thing("x")),
    "one of a set of two": (lambda a, b, c: ([{a, c}, a], [{a, c}, b]))(
        Thing("x"), Thing("x"), Thing("y")
    ),
    "a set's objects": ({Thing("x")}, {Thing("y")}),
    "a set and a frozenset": ({1}, frozenset({1})),
    "sets of sets": ({frozenset({1}), frozenset({2})}, {frozenset({1, 2})}),
    "a variable's name": (contextvars.ContextVar("a"), contextvars.ContextVar("b")),
    "a variable's default": (
        contextvars.ContextVar("a", default=1),
        contextvars.ContextVar("a", default=2),
    ),
    "a variable without a default": (
        contextvars.ContextVar("a", default=None),
        contextvars.ContextVar("a"),
    ),
    "decimals": (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    "paths": (Path("a"), Path("b")),
    "a method's object": ([1].append, [2].append),
    "a method": ([1].append, [1].remove),
    "built-in functions of one name": (math.sqrt, __import__("cmath").sqrt),
    "ufuncs of one name": (np.exp2, pytest.importorskip("math").exp2)
    if hasattr(math, "exp2")
    else (np.exp2, np.exp),
    "getters": (operator.itemgetter(1), operator.itemgetter(2)),
    "a partial's arguments": (functools.partial(task, 1), functools.partial(task, 2)),
    "a partial's keywords": (
        functools.partial(task, a=1),
        functools.partial(task, a=2),
    ),
    "a partial's order": (
        functools.partial(task, a=1, b=2),
        functools.partial(task, b=2, a=1),
    ),
    "huge": (10**6000, 10**6000 + 1),
    "surrogates": ("\ud800", "\udfff"),
}


@pytest.mark.parametrize("name", APART)
def test_what_a_call_can_tell_makes_another_key(name: str) -> None:
    one, other = APART[name]
    assert key(task, one) != key(task, other)
    assert key(task, one) == key(task, one)
    assert key(task, [one]) != key(task, [other])
    assert key(task, a=one) != key(task, a=other)


ring_1: list[Any] = [1]
ring_1.append((ring_1, 2))
ring_2: list[Any] = [1]
ring_2.append((ring_2, 2))

# Pairs of arguments that are equal for a call.
ALIKE: dict[str, tuple[Any, Any]] = {
    "padding": (padded(0), padded(255)),
    "padding of one": (padded(0)[0], padded(255)[0]),
    "padding of a long double": (long(0), long(255)),
    "padding of a long complex": (
        long(0)[:2].view(np.clongdouble),
        long(255)[:2].view(np.clongdouble),
    ),
    "padding of one long double": (long(0)[0], long(255)[0]),
    "padding of records": (padded(0).view(np.recarray), padded(255).view(np.recarray)),
    "padding of a masked array": (masked(long(0)), masked(long(255))),
    "padding of a masked structure": (masked(padded(0)), masked(padded(255))),
    "padding of ctypes' longdouble": (c_long(0), c_long(255)),
    "padding of a ctypes structure": (c_struct(0), c_struct(255)),
    "padding of an array of them": (c_struct(0).rest, c_struct(255).rest),
    "strides": (np.arange(6)[::2], np.arange(6)[::2].copy()),
    "other strides": (
        np.arange(12).reshape(3, 4)[:, ::2],
        np.arange(12).reshape(3, 4)[:, ::2].copy(),
    ),
    "interning": ("".join(["ab", "cd"]), "abcd"),
    "interning in a list": (["".join(["ab", "cd"]), []], ["abcd", []]),
    "one text twice": aliased(lambda: "".join(["a", "b"])),
    "one text twice, mixed": (["ab", "ab", []], ["".join(["a", "b"]), "ab", []]),
    "one float twice": aliased(lambda: float("1.5")),
    "one tuple twice": aliased(lambda: fresh(1, 2)),
    "one tuple of tuples twice": aliased(lambda: fresh(fresh(1), frozenset([3]))),
    "one frozenset twice": aliased(lambda: frozenset([1, "a"])),
    "one date twice": aliased(lambda: datetime.date(2026, 11, 26)),
    "one decimal twice": aliased(lambda: decimal.Decimal("1.5")),
    "one path twice": aliased(lambda: Path("a")),
    "one NumPy scalar twice": aliased(lambda: np.float64(1.5)),
    "one frozen object twice": aliased(lambda: Frozen(1)),
    "one dtype twice": aliased(lambda: np.dtype([("a", "i4")])),
    "a list after one tuple twice": (
        (lambda t, a: [t, t, a, a])(fresh((1,)), []),
        (lambda a: [fresh((1,)), fresh((1,)), a, a])([]),
    ),
    "order of a set": (set("abcdef"), set("fedcba")),
    "order of a set of objects": (
        [{Thing("a"), Thing("b")}],
        [{Thing("b"), Thing("a")}],
    ),
    "rings": (ring_1, ring_2),
    "a variable": (
        contextvars.ContextVar("a", default=1),
        contextvars.ContextVar("a", default=1),
    ),
    "a view": (memoryview(b"abcd")[::2], memoryview(b"ac")),
    "proxies": (types.MappingProxyType({1: []}), types.MappingProxyType({1: []})),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_a_call_cannot_tell_makes_no_other_key(name: str) -> None:
    one, other = ALIKE[name]
    assert key(task, one) == key(task, other)
    assert key(task, [one, 1]) == key(task, [other, 1])


@pytest.mark.skipif(
    not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"),
    reason="texts of any length came with NumPy 2",
)
def test_texts_of_any_length_count() -> None:
    kind: Any = np.dtypes.StringDType
    one = np.array(["a", "b" * 50], kind())
    assert key(task, one) == key(task, one.copy())
    assert key(task, one) != key(task, np.array(["a", "c" * 50], kind()))
    assert key(task, one) != key(task, np.array(["a", "b" * 50], "U50"))
    assert key(task, kind()) != key(task, kind(na_object=None))


def test_a_name_that_no_module_has_is_no_content() -> None:
    class Nameless:
        def __init__(self) -> None:
            self.__module__ = None  # type: ignore[assignment]

        def __reduce__(self) -> str:
            return "no_module_has_this"

    with pytest.raises(Unkeyable, match="Nameless has no content to know it by"):
        key(task, Nameless())
    with pytest.raises(Unkeyable, match="Nameless has no content to know it by"):
        Keys().identify(functools.partial(task, Nameless()))


def test_an_argument_that_failed_once_is_told_by_what_it_said() -> None:
    class Once:
        left = 1

        def __reduce__(self) -> Any:
            Once.left -= 1
            if Once.left == 0:
                raise ValueError("not now")
            return Once, ()

    with pytest.raises(Unkeyable, match="not now"):
        key(task, Once())


def test_no_more_functions_are_remembered_than_fit() -> None:
    keys = Keys()
    own = keys.identify(task)
    functions = [eval(f"lambda: {number}") for number in range(SEEN + 100)]
    made = [keys.key(own, (function,)) for function in functions]
    assert len(set(made)) == len(made)
    assert 0 < len(keys._seen) <= SEEN
    assert [keys.key(own, (function,)) for function in functions] == made


def test_a_class_that_gets_an_attribute_is_looked_at_again() -> None:
    class Simple:
        k = 1

    keys = Keys()
    own = keys.identify(task)
    before = keys.key(own, (Simple(),))
    Simple.m = 2  # type: ignore[attr-defined]
    assert keys.key(own, (Simple(),)) != before
    del Simple.m  # type: ignore[attr-defined]
    assert keys.key(own, (Simple(),)) == before


def test_an_emptied_closure_is_looked_at_again() -> None:
    def make() -> Any:
        n = 1

        def inner() -> int:
            return n

        def empty() -> None:
            nonlocal n
            del n

        return inner, empty

    inner, empty = make()
    keys = Keys()
    own = keys.identify(task)
    before = keys.key(own, (inner,))
    assert keys.key(own, (inner,)) == before
    empty()
    assert keys.key(own, (inner,)) != before


def test_a_variable_counts_as_it_is() -> None:
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("a", default=1)
    before = key(task, variable)
    token = variable.set(2)
    assert key(task, variable) != before
    variable.reset(token)
    assert key(task, variable) == before


def test_keys_of_many_ways_to_one_thing_do_not_take_2_to_the_60() -> None:
    for base in (1, [1], Thing("x")):
        deep: Any = base
        for _ in range(30):
            deep = (deep, deep)
        key(task, deep)
        deep = base if base != [1] else 1
        for _ in range(30):
            deep = frozenset({(deep, 1), (deep, 2)})
        key(task, deep)
        deep = base
        for _ in range(30):
            deep = Frozen((deep, deep))
        key(task, deep)
        deep = Thing("x")
        for _ in range(20):
            deep = Thing("y", frozenset({deep}))
        key(task, {deep})


def test_frozen_rings_have_no_end_and_so_no_key_but_an_error() -> None:
    ring = Frozen([])
    ring.x.append(ring)
    other = Frozen([])
    other.x.append(other)
    assert key(task, ring) == key(task, other)
    assert key(task, ring) != key(task, Frozen([Frozen([])]))
    direct = Frozen(None)
    object.__setattr__(direct, "x", (direct,))
    assert key(task, direct) != key(task, Frozen((Frozen(None),)))


RAISED = [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError]


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize(
    "where", ["__reduce__", "__getstate__", "__module__", "__dict__"]
)
def test_a_hook_that_raises_anything_gives_no_key(
    kind: type[BaseException], where: str
) -> None:
    def hook(self: Any, *args: Any) -> Any:
        raise kind("no")

    body: dict[str, Any] = {
        where: property(hook) if "_d" in where or "_m" in where else hook
    }
    if where == "__module__":
        body["__reduce__"] = lambda self: "NAME"
    if where == "__dict__":
        body["__slots__"] = ()
        body["__reduce__"] = lambda self: "NAME"
        body["__module__"] = "no_such_module"
    sour = type("Sour", (), body)()
    with pytest.raises(Unkeyable, match=r"argument 1|key|nested"):
        key(task, 0, sour)
    keys = Keys()
    with pytest.raises(Unkeyable):
        keys.user_key(keys.identify(task), sour)
    with pytest.raises(Unkeyable):
        keys.identify(functools.partial(task, sour))


def test_ctrl_c_is_none_of_the_hook_s() -> None:
    class Interrupted:
        def __reduce__(self) -> Any:
            signal.raise_signal(signal.SIGINT)
            return Interrupted, ()

    with pytest.raises(KeyboardInterrupt):
        key(task, Interrupted())


@pytest.mark.parametrize("reduced", [None, 1, (), (list,), ("a", 1), (list, 5)])
def test_a_wrong_pickle_gives_no_key(reduced: Any) -> None:
    class Wrong:
        def __reduce_ex__(self, protocol: Any) -> Any:
            return reduced

    with pytest.raises(Unkeyable, match="argument 0 cannot be told apart"):
        key(task, Wrong())


def test_an_error_without_words_gives_no_key() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    class Sour:
        def __reduce__(self) -> Any:
            raise Mute

    with pytest.raises(Unkeyable):
        key(task, Sour())


def test_the_blamed_argument_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(Unkeyable, match="argument 1 cannot be told apart: a _thread"):
        key(task, 0, lock)
    with pytest.raises(Unkeyable, match="argument 'x' cannot"):
        key(task, 0, y=1, x=[lock])


TEXT = "lone \ud800 surrogate"


def test_any_text_and_any_number() -> None:
    scope: dict[str, Any] = {"__name__": TEXT}
    exec("def f(x): return x\nclass C: pass", scope)
    function = scope["f"]
    function.__qualname__ = scope["C"].__qualname__ = TEXT
    keys = Keys()
    identity = keys.identify(function)
    identity.name.encode()
    made = {
        keys.key(identity, (TEXT, 10**6000)),
        keys.key(identity, ([TEXT, 10**6000, []],)),
        keys.key(identity, (), {TEXT: -(10**6000)}),
        keys.key(identity, (scope["C"](),)),
        keys.user_key(identity, TEXT),
        keys.user_key(identity, 10**6000),
        keys.user_key(identity, (TEXT, 10**6000)),
    }
    assert len(made) == 7
    assert keys.identify(scope["C"]).digest != identity.digest


def test_keys_given_are_no_arguments() -> None:
    keys = Keys()
    own = keys.identify(task)
    assert keys.user_key(own, ((1,), {})) != keys.key(own, (1,))
    assert keys.user_key(own, (([],), {})) != keys.key(own, ([],))
    assert keys.user_key(own, "a") != keys.user_key(own, "b")


def test_too_deep_a_key_or_function_has_none() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    keys = Keys()
    own = keys.identify(task)
    try:
        with pytest.raises(Unkeyable, match="nested too deeply"):
            keys.key(own, (1, deep))
        with pytest.raises(Unkeyable, match="nested too deeply"):
            keys.user_key(own, deep)
        with pytest.raises(Unkeyable, match="nested too deeply"):
            keys.identify(functools.partial(task, deep))
    finally:
        while deep:  # CPython would recurse
            deep = deep.pop()


def test_what_came_by_pickle_has_the_same_key() -> None:
    for name, pair in APART.items():
        for value in pair:
            try:
                copy = pickle.loads(pickle.dumps(value))
            except Exception:
                continue
            if name not in ("byte order", "a setter"):  # which are not kept
                assert key(task, copy) == key(task, value), name


def test_restarted_occurrences_count_from_the_start() -> None:
    keys = Keys()
    first = [keys.number(b"a"), keys.number(b"a")]
    keys.restart()
    assert [keys.number(b"a"), keys.number(b"a")] == first
    assert first[0] == b"a"
    assert keys.number(b"a") not in first


@dataclasses.dataclass
class Row:
    x: int


@pytest.mark.parametrize(
    "items",
    [
        [np.full(3, at) for at in range(100)],
        [datetime.datetime(2026, 1, 1 + at % 28) for at in range(100)],
        [Row(at) for at in range(100)],
    ],
    ids=["arrays", "dates", "dataclasses"],
)
def test_the_class_of_many_objects_is_looked_at_once(
    items: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []

    def parts_of(value: Any, *args: Any) -> Any:
        looked_at.append(value)
        return code.parts_of(value, *args)

    monkeypatch.setattr(keys, "parts_of", parts_of)
    key(task, items)
    classes = [each for each in looked_at if isinstance(each, type)]
    assert len(classes) == len(set(classes))


@pytest.mark.parametrize("kind", [np.ndarray, datetime.datetime, decimal.Decimal])
def test_a_class_that_cannot_change_is_looked_at_once_in_a_run(kind: type) -> None:
    _, reached = code.parts_of(kind)
    assert reached.holds()
