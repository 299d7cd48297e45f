"""Objects that are no arrays: they arrive equal, and large buffers are not copied."""

from __future__ import annotations

import _thread
import copyreg
import dataclasses
import functools
import operator
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpitasks.errors import SerializationError
from mpitasks.wire import codec
from mpitasks.wire.codec import (
    THRESHOLD,
    all_plain,
    decode,
    encode,
    encode_noting,
    is_plain,
)
from sending import send
from staging import Stage


@dataclasses.dataclass
class Point:
    """Something with a module."""

    x: float
    y: float


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(10**100),
        1.5,
        2j,
        "text",
        "ü" * 2000,
        b"bytes",
        b"\x00" * 2000,
        bytearray(b"abc"),
        (),
        (1, (2, [3, {"four": {5, 6}}])),
        frozenset({1, 2}),
        range(5),
        slice(1, 2, 3),
        Ellipsis,
        Point(1.0, 2.0),
        {"points": [Point(0, 0), Point(1, 1)]},
        Path("a/b"),
        re.compile("a+"),
        operator.itemgetter(1),
        ValueError("x", 3),
    ],
    ids=repr,
)
def test_values_arrive_equal(value: Any) -> None:
    again = send(value)
    assert type(again) is type(value)
    if isinstance(value, (ValueError, operator.itemgetter)):
        assert repr(again) == repr(value)
    else:
        assert again == value


def test_functions_of_a_module_travel_by_name() -> None:
    frame, buffers = encode(operator.add, "it")
    assert decode(frame, buffers) is operator.add
    assert len(frame) < 60
    assert send(Point) is Point


def test_lambdas_and_closures_travel_by_value() -> None:
    base = 10

    def inner(x: int) -> int:
        return base + x

    assert send(lambda x: x * 2)(4) == 8
    assert send(inner)(5) == 15
    assert send(functools.partial(inner, 7))() == 17


def test_local_classes_travel_by_value() -> None:
    @dataclasses.dataclass
    class Local:
        value: int

    again = send(Local(3))
    assert again.value == 3
    assert type(again).__name__ == "Local"


def test_what_is_shared_stays_shared() -> None:
    part = [1]
    again = send((part, part))
    assert again[0] is again[1]


def test_a_cycle_arrives_as_a_cycle() -> None:
    loop: list[Any] = []
    loop.append(loop)
    again = send(loop)
    assert again[0] is again


SCRIPT = """
import dataclasses
@dataclasses.dataclass
class Thing:
    value: int
    def double(self): return helper(self.value)
def helper(x): return 2 * x
"""


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("Thing(21)", {"Thing"}),
        ("Thing", {"Thing"}),
        ("Thing(21).double", {"Thing"}),
        ("helper", {"helper"}),
        ("[{'deep': Thing(21), 'too': helper}]", {"Thing", "helper"}),
        ("abs, 5", None),
        ("lambda: helper(21)", {"helper"}),  # by value, and what it refers to by name
    ],
)
def test_what_is_of_the_script_goes_by_name(
    expression: str, names: set[str] | None, tmp_path: Path
) -> None:
    stage = Stage(SCRIPT, tmp_path)
    with stage.on_rank_0():
        value = eval(expression, stage.script.__dict__)
        frame, buffers, notes = encode_noting(value, "it")
        if names is None or not callable(value) or expression in names:
            assert decode(frame, buffers) == value
        assert not buffers
    assert (None if notes is None else set(notes.names)) == names
    assert b"double" not in frame.replace(b"double\x94", b"")  # nothing of the class


@pytest.mark.parametrize("expression", ["Thing(21)", "Thing", "helper"])
def test_what_is_of_the_script_means_nothing_where_the_script_is_not(
    expression: str, tmp_path: Path
) -> None:
    stage = Stage(SCRIPT, tmp_path)
    with stage.on_rank_0():
        frame, buffers = encode(eval(expression, stage.script.__dict__), "it")
    with stage.on_worker(), pytest.raises(AttributeError, match=r"Thing|helper"):
        decode(frame, buffers)


class Registered:
    """Pickles well by itself, but not as its owner wants it."""

    def __init__(self, where: str) -> None:
        self.where = where


def _registered(where: str) -> Registered:
    return Registered(where + ", by copyreg")


def test_reducers_registered_with_copyreg_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reduce(value: Registered) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _registered, (value.where,)

    monkeypatch.setitem(copyreg.dispatch_table, Registered, reduce)
    assert send(Registered("here")).where == "here, by copyreg"
    assert send([lambda: 0, Registered("here")])[1].where == "here, by copyreg"


def test_a_copyreg_type_needs_no_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_script_pickler", None)
    assert send(re.compile("x")) == re.compile("x")


# Bytes.


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("size", [0, 1, THRESHOLD - 1, THRESHOLD, 3 * THRESHOLD + 1])
def test_bytes_arrive_equal(kind: type, size: int) -> None:
    value = kind(bytes(range(256)) * (size // 256 + 1))[:size]
    again = send(value)
    assert type(again) is kind
    assert again == value


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_are_out_of_band_and_not_copied(kind: type) -> None:
    import numpy as np

    value = kind(bytes(THRESHOLD))
    frame, (buffer,) = encode(value, "it")
    assert len(frame) < 200
    source = np.frombuffer(value, np.uint8)
    assert np.shares_memory(np.frombuffer(buffer, np.uint8), source)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_small_bytes_are_in_the_frame(kind: type) -> None:
    frame, buffers = encode(kind(bytes(THRESHOLD - 1)), "it")
    assert buffers == []
    assert len(frame) > THRESHOLD - 1


def test_bytes_inside_something_arrive_equal() -> None:
    value = {"a": [bytes(2 * THRESHOLD), bytearray(b"x" * 2 * THRESHOLD)]}
    again = send(value)
    assert again == value
    assert type(again["a"][1]) is bytearray


def test_buffers_that_a_type_offers_itself_are_out_of_band() -> None:
    import pickle

    memory = bytearray(THRESHOLD)
    frame, (buffer,) = encode(pickle.PickleBuffer(memory), "it")
    memory[7] = 9
    assert memoryview(buffer)[7] == 9
    assert bytes(decode(frame, [buffer])) == memory


# Errors.


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(SerializationError) as caught:
        encode({"a": [1, threading.Lock()]}, "the call")
    assert str(caught.value).startswith("the call cannot be pickled: ")
    assert "the call['a'][1] is a _thread.lock" in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_error_of_the_object_itself_is_wrapped() -> None:
    class Rude:
        def __reduce__(self) -> Any:
            raise OSError("no, thank you")

    with pytest.raises(SerializationError, match="OSError: no, thank you"):
        encode(Rude(), "it")


def test_an_endless_structure_is_an_error_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="cannot be pickled"):
        encode(deep, "it")
    while deep:  # let go of it without recursion
        deep = deep[0]


# Plain values.


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        ([], True),
        ([1, 2.0, 3j, True, None], True),
        (["a", b"b"], True),
        (["a" * 1024], True),
        (["a" * 1025], False),
        ([b"a" * 1025], False),
        ([1, [2]], False),
        ([(1,)], False),
        ([bytearray(b"x")], False),
        ([Point(1, 2)], False),
        ([type("Int", (int,), {})(1)], False),
    ],
)
def test_plain_values(values: list[Any], *, plain: bool) -> None:
    assert is_plain(values) is plain
    assert all_plain(values) is plain


def test_a_class_without_a_hash_is_not_plain() -> None:
    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

    value = Meta("Odd", (), {})()
    assert not is_plain([1, value])


def test_ctrl_c_is_no_error_of_an_object() -> None:
    class Slow:
        def __reduce__(self) -> Any:
            _thread.interrupt_main()
            while True:
                time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        encode(Slow(), "it")
    with pytest.raises(KeyboardInterrupt):
        encode_noting(Slow(), "it")
