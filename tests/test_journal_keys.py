"""Keys of the journal: equal for equal calls in any process, else different."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import os
import pickle
import random
import subprocess
import sys
import threading
import types
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keying import key, task
from mpitasks.journal.keys import Keys
from mpitasks.journal.walk import Unkeyable

# Arguments.

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.sampled_from([range(3), range(0, 6, 2), Ellipsis])
)
hashables = st.recursive(scalars, lambda inner: st.tuples(inner, inner), max_leaves=4)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(hashables, inner)
        | st.sets(st.integers() | st.text())
        | st.frozensets(st.binary() | st.text())
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are of the same types and contents throughout."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(
            any(same(a, b) for b in other) for a in one
        )
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return repr(one) == repr(other)  # 0.0 is not -0.0
    if isinstance(one, complex):
        return repr((one.real, one.imag)) == repr((other.real, other.imag))
    return bool(one == other)


def shuffled(value: Any) -> Any:
    """Return an equal value whose sets were built in another order."""
    if isinstance(value, dict):
        return {shuffled(k): shuffled(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(shuffled, value))
    if isinstance(value, (set, frozenset)):
        return type(value)(reversed(list(value)))
    return pickle.loads(pickle.dumps(value))  # strings that are not interned


@given(values)
def test_equal_arguments_have_equal_keys(value: Any) -> None:
    assert key(task, value) == key(task, shuffled(value))


@given(values, values)
def test_other_arguments_have_other_keys(one: Any, other: Any) -> None:
    assert (key(task, one) == key(task, other)) == same(one, other)


@given(st.lists(scalars, max_size=4), st.lists(scalars, max_size=4))
def test_arguments_do_not_run_together(one: list[Any], other: list[Any]) -> None:
    assert (key(task, *one) == key(task, *other)) == same(one, other)


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    tags: frozenset[str] = frozenset()


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: int


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Bag(set[Any]):
    pass


DIFFERENT: list[Callable[[], Any]] = [
    lambda: 0,
    lambda: False,
    lambda: 0.0,
    lambda: -0.0,
    lambda: float("nan"),
    lambda: 0j,
    lambda: "",
    lambda: b"",
    lambda: bytearray(),
    lambda: (),
    lambda: [],
    lambda: {},
    lambda: set(),
    lambda: frozenset(),
    lambda: None,
    lambda: [[]],
    lambda: [[], []],
    lambda: ["ab", "c"],
    lambda: ["a", "bc"],
    lambda: 10**5000,
    lambda: list(range(100)),
    lambda: [float(x) for x in range(100)],
    lambda: tuple(range(100)),
    lambda: range(100),
    lambda: "x" * 100_000,
    lambda: b"x" * 100_000,
    lambda: Point(1.0),
    lambda: Point(1.0, frozenset({"b", "a"})),
    lambda: Slotted(1),
    lambda: Slotted(2),
    lambda: Colour.RED,
    lambda: Colour.BLUE,
    lambda: Plain(a=1, b={1: {"x", "y"}}),
    lambda: Plain(a=1, b={1: {"x", "z"}}),
    lambda: Bag("abc"),
    lambda: set("abc"),
    lambda: Counter("abc"),
    lambda: defaultdict(list, a=[1]),
    lambda: defaultdict(set, a=[1]),
    lambda: OrderedDict(a=1, b=2),
    lambda: OrderedDict(b=2, a=1),
    lambda: {"a": 1, "b": 2},
    lambda: Path("a/b"),
    lambda: ValueError("a"),
    lambda: np.arange(6),
    lambda: np.arange(6).reshape(2, 3),
    lambda: np.arange(6).reshape(3, 2).T,
    lambda: np.arange(6, dtype="i4"),
    lambda: np.arange(6, dtype=">i8"),
    lambda: np.arange(6, dtype=float),
    lambda: np.arange(100_000),
    lambda: np.arange(100_001)[1:],
    lambda: np.array([1, "a", None], dtype=object),
    lambda: np.array(["a", "b"]),
    lambda: np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    lambda: np.zeros(2, dtype=[("a", "i4"), ("c", "f8")]),
    lambda: np.array(["2026-11-23"], dtype="M8[D]"),
    lambda: np.ma.MaskedArray([1, 2], mask=[0, 1]),
    lambda: np.ma.MaskedArray([1, 2], mask=[1, 0]),
    lambda: np.float32(1),
    lambda: np.float64(1),
    lambda: slice(1, None),
    lambda: slice(1, 2),
    lambda: np.zeros(0),
    lambda: np.zeros((0, 2)),
    lambda: np.random.default_rng(1),
    lambda: np.random.default_rng(2),
    lambda: random.Random(1),
    lambda: len,
    lambda: "abc".upper,
    lambda: "abd".upper,
    lambda: np.sin,
    lambda: np.cos,
    lambda: int,
    lambda: Point,
    lambda: functools.partial(task, 1),
    lambda: functools.partial(task, 2),
    lambda: functools.partial(task, x=1),
    lambda: Point(1.0).__repr__,
    lambda: lambda x: x + 1,
    lambda: lambda x: x + 2,
]


def test_each_kind_of_value_has_a_key_of_its_own() -> None:
    made = [key(task, make()) for make in DIFFERENT]
    assert [key(task, make()) for make in DIFFERENT] == made
    assert len(set(made)) == len(made)


def test_layout_counts_as_far_as_it_arrives() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert key(task, array) != key(task, np.asfortranarray(array))
    assert key(task, array) != key(task, array.reshape(4, 3).T.copy("C"))
    assert key(task, array[:, ::2]) == key(task, array[:, ::2].copy())
    read_only = array.copy()
    read_only.flags.writeable = False
    assert key(task, array) == key(task, read_only)


def test_data_frames_have_keys() -> None:
    pandas = pytest.importorskip("pandas")
    frames = [{"a": [1, 2], "b": ["x", "y"]}, {"a": [1, 3], "b": ["x", "y"]}]
    one, other = [key(task, pandas.DataFrame(frame)) for frame in frames]
    assert one == key(task, pandas.DataFrame(frames[0]))
    assert one != other


def test_keywords_have_an_order_and_are_no_positions() -> None:
    assert key(task, a=1, b=2) != key(task, b=2, a=1)
    assert len({key(task, 1), key(task, a=1), key(task, {"a": 1})}) == 3


def test_shared_and_cyclic_values_come_to_an_end() -> None:
    part = [1]
    assert key(task, [part, part]) == key(task, [part, part])
    assert key(task, [part, part]) != key(task, [[1], [1]])
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [1]
    other.append(other)
    assert key(task, ring) == key(task, other)
    assert key(task, ring) != key(task, [1, [1, [1]]])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (threading.Lock, "argument 1 cannot be told apart: a _thread.lock"),
        (lambda: {"deep": [(x for x in "ab")]}, "a generator"),
        (lambda: sys.__stdout__, "a _io.TextIOWrapper"),
    ],
)
def test_what_has_no_content_has_no_key(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(Unkeyable, match=why):
        key(task, 1, make())


def test_too_deep_a_value_has_no_key() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Unkeyable, match="argument 'x' is nested too deeply"):
        key(task, x=deep)
    while deep:  # CPython would recurse
        deep = deep.pop()


def test_a_pickling_hook_that_raises_gives_no_key() -> None:
    class Sour:
        def __reduce__(self) -> Any:
            raise OSError("not today")

    with pytest.raises(Unkeyable, match="not today"):
        key(task, Sour())


def test_the_user_s_keys_take_the_place_of_arguments() -> None:
    keys = Keys()
    own = keys.identify(task)
    assert keys.user_key(own, ("a", 1)) == Keys().user_key(own, ("a", 1))
    assert keys.user_key(own, "a") != keys.key(own, ("a",))
    assert keys.user_key(own, "a") != keys.user_key(keys.identify(key), "a")


def test_each_occurrence_has_a_key_of_its_own() -> None:
    one, other = Keys(), Keys()
    first = [one.number(k) for k in [b"a", b"a", b"b", b"a"]]
    assert first == [other.number(k) for k in [b"a", b"a", b"b", b"a"]]
    assert len(set(first)) == 4


PROGRAM = """
import functools, os, sys
sys.path.insert(0, {tests!r})
sys.path.insert(0, {here!r})
import test_journal_keys as corpus
from keying import identity, key, task
from mpitasks.journal.keys import Keys

def helper(x):
    return x in {{"a", "b", "c"}} or x in {{"d": 1}}

def task(x, table={{"a", "b", "c"}}, **more):
    return [helper(y) for y in x]

class Both(dict):
    names = frozenset({{"p", "q", "r"}})
    def get(self, x):
        return task(x)

keys = Keys()
print(keys.identify(task).digest.hex())
print(keys.identify(Both(a=1, b=2).get).digest.hex())
print(keys.identify(functools.partial(task, Both)).digest.hex())
own = keys.identify(corpus.task)
for make in corpus.DIFFERENT:
    print(keys.key(own, (make(),)).hex())
print(keys.key(own, ({{frozenset({{"a", i}}): set("xyz") for i in range(5)}},)).hex())
"""


def test_keys_are_the_same_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    tests = str(Path(__file__).parent)
    script.write_text(PROGRAM.format(tests=tests, here=str(Path.cwd())))
    outputs = set()
    for seed in ("0", "12345", "random"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, str(script)]
        done = subprocess.run(
            command,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=500,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert len(set(outputs.pop().split())) == len(DIFFERENT) + 4


def test_copies_of_arguments_have_equal_keys() -> None:
    for make in DIFFERENT:
        value = make()
        if not isinstance(value, types.FunctionType):
            assert key(task, copy.deepcopy(value)) == key(task, value)
