"""Records behave as the data classes that they are written as."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from mpitasks import records


def define(dataclass: Any, field: Any) -> tuple[Any, Any, Any, Any]:
    """Return the same classes, made by one kind of decorator or the other."""

    @dataclass(slots=True)
    class Point:
        x: int
        y: int = 2
        marks: list[str] = field(default_factory=list)

    @dataclass(slots=True)
    class Named(Point):
        name: str = "p"
        x: int  # again: it keeps its place

        def shout(self) -> str:
            return self.name.upper()

    @dataclass(frozen=True, slots=True)
    class Fixed:
        a: int
        b: tuple[int, ...] = ()

    @dataclass(slots=True)
    class Empty:
        """Nothing."""

    return Point, Named, Fixed, Empty


OURS = define(records.dataclass, records.field)
THEIRS = define(dataclasses.dataclass, dataclasses.field)
BOTH = pytest.mark.parametrize("classes", [OURS, THEIRS], ids=["ours", "theirs"])


@BOTH
def test_fields_are_set_by_position_name_and_default(classes: Any) -> None:
    point, named, fixed, empty = classes
    one = point(1, marks=["m"])
    assert (one.x, one.y, one.marks) == (1, 2, ["m"])
    assert point(1).marks is not point(1).marks
    other = named(1, 2, [], "q")
    assert (other.x, other.name, other.shout()) == (1, "q", "Q")
    assert named.__match_args__ == ("x", "y", "marks", "name")
    assert fixed(1).b == ()
    assert empty() == empty()
    for wrong in [lambda: point(), lambda: point(1, z=2), lambda: empty(1)]:
        with pytest.raises(TypeError, match="__init__"):
            wrong()


@BOTH
def test_records_are_equal_by_kind_and_values(classes: Any) -> None:
    point, named, fixed, _ = classes
    assert point(1) == point(1)
    assert point(1) != point(2)
    assert point(1) != named(1)
    assert {fixed(1): "found"}[fixed(1)] == "found"
    with pytest.raises(TypeError, match="unhashable"):
        hash(point(1))


@BOTH
def test_records_print_their_fields(classes: Any) -> None:
    point, _, fixed, empty = classes
    name = "define.<locals>."
    assert repr(point(1)) == f"{name}Point(x=1, y=2, marks=[])"
    assert repr(fixed(1, (2,))) == f"{name}Fixed(a=1, b=(2,))"
    assert repr(empty()) == f"{name}Empty()"


@BOTH
def test_slots_let_nothing_else_in_and_frozen_nothing_at_all(classes: Any) -> None:
    point, named, fixed, _ = classes
    one = named(1)
    one.x, one.name = 5, "r"
    assert (one.x, one.name) == (5, "r")
    for record in (point(1), one):
        with pytest.raises(AttributeError):
            record.other = 1
    with pytest.raises(AttributeError):
        fixed(1).a = 2
    with pytest.raises(AttributeError):
        del fixed(1).a


@records.dataclass(frozen=True, slots=True)
class Sent:
    """One that pickle finds."""

    a: int
    b: str = "b"


def test_frozen_records_are_copied_and_pickled() -> None:
    assert pickle.loads(pickle.dumps(Sent(1))) == Sent(1)
    assert copy.copy(Sent(1, "c")) == Sent(1, "c")
    assert records.replace(Sent(1, "c"), a=2) == Sent(2, "c")
    assert records.as_dict(Sent(1)) == {"a": 1, "b": "b"}
    assert records.names_of(Sent) == ("a", "b")
