"""The message about what cannot be pickled names the part that is to blame."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mpitasks.wire import codec
from mpitasks.wire.diagnose import why_not_picklable

LOCK = threading.Lock()  # a global variable that cannot be pickled
REASON = TypeError("the first error")
PICKLE = functools.partial(codec._dump, codec._script_pickler())


def why(value: Any) -> str:
    """Return the message about the value, which is called `it`."""
    return why_not_picklable(value, "it", REASON, PICKLE)


class Holder:
    """Something with attributes."""

    def __init__(self, part: Any) -> None:
        self.fine = 1
        self.part = part

    def method(self) -> None:
        """Can be bound."""


@dataclasses.dataclass(slots=True)
class Slotted:
    """Something with slots."""

    fine: int
    part: Any


class Derived(Slotted):
    """Something with the slots of another, and a dict."""


def _closure() -> Callable[[], Any]:
    lock = threading.Lock()
    return lambda: lock


def _nested_closure() -> Callable[[], Any]:
    inner = _closure()
    return lambda: inner


def _default(lock: Any = LOCK) -> Any:
    return lock


def _local(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function travel by value: no module has it under its name."""
    function.__qualname__ = "somewhere.<locals>.it"
    return function


def _keyword_default(*, lock: Any = LOCK) -> Any:
    return lock


def _with_attribute() -> Callable[[], Any]:
    def function() -> None:
        """Carries something along."""

    function.lock = LOCK  # type: ignore[attr-defined]
    return function


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"key": LOCK}, "it['key']"),
        ({1: {2: [3, LOCK]}}, "it[1][2][1]"),
        ((0, LOCK), "it[1]"),
        ({LOCK}, "it[0]"),
        ({LOCK: 1}, "it (key "),
        (Holder(LOCK), "it.part"),
        (Holder({"a": Holder(LOCK)}), "it.part['a'].part"),
        (Slotted(1, LOCK), "it.part"),
        (Derived(1, LOCK), "it.part"),
        (Holder(LOCK).method, "it.__self__.part"),
        (functools.partial(print, LOCK), "it.args[0]"),
        (functools.partial(print, end=LOCK), "it.keywords['end']"),
        (functools.partial(_closure()), "it.func (closure variable 'lock')"),
        (_closure(), "it (closure variable 'lock')"),
        (
            _nested_closure(),
            "it (closure variable 'inner') (closure variable 'lock')",
        ),
        (_local(lambda: LOCK), "it (global variable 'LOCK')"),
        (_local(_default), "it (default 0)"),
        (_local(_keyword_default), "it (default of 'lock')"),
        (_with_attribute(), "it.lock"),
    ],
)
def test_the_part_is_named(value: Any, path: str) -> None:
    message = why(value)
    assert message.startswith(path)
    assert "is a _thread.lock (TypeError: cannot pickle '_thread.lock'" in message


def test_the_whole_is_named_where_it_has_no_parts() -> None:
    assert why(LOCK) == "it is a _thread.lock (TypeError: the first error)"


def test_a_global_of_a_nested_function_is_named() -> None:
    def outer() -> Any:
        return [LOCK for _ in range(3)], (lambda: LOCK)

    assert "global variable 'LOCK'" in why(outer)


def test_an_object_that_refuses_is_named_with_its_reason() -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise OSError("not me")

    message = why([1, Refuses()])
    assert message.startswith("it[1] is a ")
    assert message.endswith("Refuses (OSError: not me)")


def test_without_a_culprit_the_whole_is_named_with_the_first_error() -> None:
    expected = "it is a builtins.list (TypeError: the first error)"
    assert why([1, 2]) == expected


def test_it_ends_on_cycles() -> None:
    loop: list[Any] = [LOCK]
    loop.insert(0, loop)
    assert "it" in why(loop)
    holder = Holder(None)
    holder.part = [holder, LOCK]
    assert "it.part" in why(holder)


def test_it_ends_on_endless_chains() -> None:
    deep: Any = LOCK
    for _ in range(50):
        deep = [deep]
    assert why(deep).startswith("it[0][0]")


class Mute(Exception):
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise OSError("no words")


class Hostile:
    """Raises whatever is asked of it."""

    def __reduce__(self) -> Any:
        raise Mute

    def __getattribute__(self, name: str) -> Any:
        if name in ("__reduce__", "__reduce_ex__", "__class__"):
            return object.__getattribute__(self, name)
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no name")

    def __hash__(self) -> int:
        return 1


class HostileItems(dict[Any, Any]):
    """A dict that cannot be walked through."""

    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    "value",
    [
        Hostile(),
        [Hostile()],
        {Hostile(): LOCK},
        {"a": Hostile()},
        HostileItems(a=LOCK),
        Holder(Hostile()),
    ],
    ids=["itself", "list", "key", "value", "items", "attribute"],
)
def test_it_never_raises(value: Any) -> None:
    assert why(value).startswith("it")


def test_an_error_without_words_does_no_harm() -> None:
    assert why_not_picklable([1], "it", Mute(), PICKLE).startswith(
        "it is a builtins.list"
    )


def test_an_empty_cell_does_no_harm() -> None:
    def outer() -> Callable[[], Any]:
        def inner() -> Any:
            return later, LOCK  # noqa: F821  # that is the point

        later = 1
        del later
        return inner

    assert "global variable 'LOCK'" in why(outer())
