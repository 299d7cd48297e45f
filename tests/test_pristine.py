"""What a worker's functions hold is what was sent, for each call: `runner/pristine.py`.

`tests/programs/state_of_callables.py` has the same end to end, with each kind of state.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import SerializationError, TaskTimeout
from mpitasks.runner.pristine import (
    HEAVY_BYTES,
    LENT_BYTES,
    Lender,
    changes,
    is_inert,
    kept,
)


class Held:
    """An object with some state."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def get(self, name: str) -> Any:
        return getattr(self, name)

    def bind(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def append(self, value: Any) -> int:
        self.items: list[Any]
        self.items.append(value)
        return len(self.items)


def no_load() -> Callable[..., Any]:
    raise AssertionError("it is loaded again")


def closure(value: Any) -> Callable[[], Any]:
    return lambda: value


def counter() -> Callable[[], int]:
    count = 0

    def inner() -> int:
        nonlocal count
        count += 1
        return count

    return inner


@pytest.mark.parametrize(
    "function",
    [
        abs,
        len,
        os.path.join,
        Held,
        lambda x: x,
        lambda x=1, *, y=(2, "z"): (x, y),
        closure(5),
        closure((1, "a", None)),
        closure(os),
        closure(no_load),
        functools.partial(int, "5"),
        functools.partial(no_load, 1, key=2.0),
        "text".upper,
    ],
)
def test_what_holds_nothing_that_changes_is_called_as_it_is(function: Any) -> None:
    assert kept(function, no_load, 100) is function


@pytest.mark.parametrize(
    "function",
    [
        closure([1]),
        closure({}),
        closure(Held()),
        closure(closure([])),
        counter(),
        functools.partial(no_load, [1]),
        functools.partial(no_load, key=Held()),
        functools.partial(counter()),
        Held(count=1).get,
        [].append,
        deque().append,
        np.zeros(3).sum,
        np.random.default_rng(1).random,
        lambda held=[]: held,
        lambda *, held={}: held,
    ],
)
def test_what_may_change_is_looked_after(function: Any) -> None:
    assert kept(function, no_load, 100) is not function


def test_simple_state_is_compared_and_not_loaded() -> None:
    held = Held(count=1, items=[1, 2], name="x")
    function = kept(held.get, no_load, 100)
    for _ in range(3):
        assert function("count") == 1


def reloading(value: Any, nbytes: int = 100) -> tuple[Any, list[int]]:
    """Return a function as it is kept, and how often it was loaded again."""
    frame = pickle.dumps(value)
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return pickle.loads(frame)

    return kept(pickle.loads(frame), load, nbytes), loads


def test_changed_state_is_loaded_again() -> None:
    function, loads = reloading(Held(items=[]).append)
    assert [function(5) for _ in range(3)] == [1, 1, 1]
    assert len(loads) == 2  # not before the first call


def test_deep_state_is_loaded_for_each_call() -> None:
    function, loads = reloading(Held(deep=Held(items=[])).get)
    for _ in range(3):
        inner = function("deep")
        assert inner.append(1) == 1
    assert len(loads) == 2


def test_heavy_state_is_compared_as_far_as_that_goes() -> None:
    function, loads = reloading(Held(deep=Held(items=[])).get, HEAVY_BYTES)
    assert [function("deep").append(1) for _ in range(3)] == [1, 2, 3]
    assert loads == []
    function, loads = reloading(Held(count=1, deep=Held()).bind, HEAVY_BYTES)
    function("count", 2)
    function("count", 3)
    assert len(loads) == 1


def test_globals_that_a_call_has_changed_are_told() -> None:
    held = Held(items=[])
    function = kept(held.append, lambda: held.append, 100, ["model"])
    assert set(changes(function)) == set()
    function(1)
    assert set(changes(function)) == {"model"}
    assert set(changes(abs)) == set()


def test_a_function_that_cannot_be_loaded_again_says_so() -> None:
    def load() -> Any:
        raise SystemExit("no")

    function = kept(Held(items=[]).append, load, 100)
    assert function(1) == 1
    with pytest.raises(SerializationError, match=r"loaded again: SystemExit: no"):
        function(1)


@pytest.mark.parametrize("kind", [TaskTimeout, MemoryError])
def test_a_limit_that_comes_while_it_is_loaded_again(kind: type[Exception]) -> None:
    def load() -> Any:
        raise kind

    function = kept(Held(items=[]).append, load, 100)
    assert function(1) == 1
    with pytest.raises(kind):
        function(1)


def test_named_functions_are_inert_and_others_are_not() -> None:
    assert is_inert(no_load)
    assert is_inert(Held.get)
    assert is_inert((1, no_load))
    assert not is_inert(closure(1))
    assert not is_inert((1, closure(1)))
    assert not is_inert([])


@pytest.mark.parametrize("sizes", [[10], [70_000, 0, 5], [LENT_BYTES, 1, 4096]])
def test_lent_buffers_are_private_and_the_same_each_time(sizes: list[int]) -> None:
    rng = np.random.default_rng(2)
    data = [rng.integers(0, 255, size, np.uint8) for size in sizes if size]
    lender = Lender(data)
    for _ in range(2):
        lent = lender.lend()
        shared = lender.shared()
        assert [len(each) for each in lent] == [len(each) for each in data]
        for mine, kept_one, original in zip(lent, shared, data, strict=True):
            assert bytes(mine) == original.tobytes() == bytes(kept_one)
            mine[0] ^= 255  # writable, and nobody else's
            assert bytes(kept_one) == original.tobytes()


def test_a_lender_gives_its_file_back() -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = files()
    lender = Lender([np.zeros(LENT_BYTES, np.uint8)])
    lent = lender.lend()
    del lender, lent
    assert files() == before


def test_without_files_in_memory_it_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError("no room")

    monkeypatch.setattr(os, "memfd_create", refuse)
    lender = Lender([np.ones(LENT_BYTES, np.uint8)])
    [first] = lender.lend()
    first[0] = 7
    [second] = lender.lend()
    assert second[0] == 1
