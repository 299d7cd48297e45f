"""Checks of what the script's own ``__main__`` defines. Run it as the script."""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import support
from support import raises

import mpitasks as mt

OFFSET = 100


def shift(number: int) -> int:
    """Task: use a global of the script."""
    return number + OFFSET


def factorial(number: int) -> int:
    """Task: call itself."""
    return number * factorial(number - 1) if number else 1


def norm(values: list[float]) -> float:
    """Task: use a module that the script imported."""
    return float(np.linalg.norm(values))


def remember(function: Callable[[int], int]) -> Callable[[int], int]:
    """Decorate a task."""

    @functools.wraps(function)
    def wrapper(number: int) -> int:
        return function(number) + 1

    return wrapper


@remember
def decorated(number: int) -> int:
    """Task behind a decorator."""
    return 2 * number


class Point:
    """A class of the script, with methods as tasks."""

    made = 0

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return self.x

    def __call__(self, number: int) -> int:
        return self.x + number

    def moved(self, by: int) -> Point:
        return Point(self.x + by)

    @classmethod
    def at(cls, x: int) -> Point:
        return cls(x)

    @staticmethod
    def twice(x: int) -> int:
        return 2 * x


class Colour(enum.Enum):
    """An enum of the script."""

    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    """A named tuple of the script."""

    first: int
    second: Any


@dataclasses.dataclass(frozen=True)
class Setup:
    """A dataclass of the script."""

    name: str
    grid: Any


class Trouble(Exception):
    """An exception of the script."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def trouble(code: int) -> None:
    """Task: raise the script's exception."""
    raise Trouble(code)


def is_point(value: object) -> bool:
    """Task: know the script's class."""
    return isinstance(value, Point)


def check_functions(ex: mt.Executor) -> None:
    assert ex.submit(shift, 1).result(120) == 101
    assert list(ex.map(shift, range(50))) == list(range(100, 150))
    assert ex.submit(factorial, 5).result(120) == 120
    assert ex.submit(norm, [3.0, 4.0]).result(120) == 5.0
    assert ex.submit(decorated, 3).result(120) == 7
    assert ex.submit(lambda x: shift(x) + OFFSET, 1).result(120) == 201
    assert ex.submit(functools.partial(shift), 2).result(120) == 102


def check_methods(ex: mt.Executor) -> None:
    point = Point(3)
    assert ex.submit(point, 4).result(120) == 7
    point.x = 5
    assert ex.submit(point, 4).result(120) == 9
    assert ex.submit(point.moved, 1).result(120) == Point(6)
    assert ex.submit(Point.twice, 4).result(120) == 8


def check_instances_both_ways(ex: mt.Executor) -> None:
    back = ex.submit(Point(1).moved, 1).result(120)
    assert type(back) is Point
    assert type(ex.submit(Point.at, 2).result(120)) is Point
    assert type(ex.submit(Point, 2).result(120)) is Point
    assert ex.submit(is_point, Point(3)).result(120) is True
    assert list(ex.map(is_point, [Point(1), 2])) == [True, False]
    points = ex.map(Point, range(5))
    assert [type(point) for point in points] == [Point] * 5
    for value in (Colour.BLUE, Pair(1, Colour.RED), Setup("s", (1, 2)), {Point(1): 2}):
        back = ex.submit(support.echo, value).result(120)
        assert back == value
        assert type(back) is type(value)
    assert ex.submit(support.echo, Colour.RED).result(120) is Colour.RED
    array = np.arange(40_000)
    back = ex.submit(support.echo, Setup("big", array)).result(120)
    assert type(back) is Setup
    assert (back.grid == array).all()
    back.grid[0] = 1


def check_exceptions(ex: mt.Executor) -> None:
    error = raises(Trouble, ex.submit(trouble, 5).result)
    assert error.code == 5
    assert "in trouble" in str(error.__cause__)
    raises(Trouble, lambda: list(ex.map(trouble, [1])))


def check_redefined_function(ex: mt.Executor) -> None:
    module = sys.modules["__main__"]
    for number in range(5):
        code = compile(f"def again(x): return x * {number}", "<cell>", "exec")
        exec(code, module.__dict__)
        again = module.__dict__["again"]
        assert ex.submit(again, 10).result(120) == 10 * number
        assert list(ex.map(again, [1, 2])) == [number, 2 * number]


def check_main_of_the_worker_is_its_own(ex: mt.Executor) -> None:
    assert sys.modules["__main__"].__dict__["shift"] is shift
    assert isinstance(sys.modules["__main__"], types.ModuleType)
    assert ex.submit(shift, 0).result(120) == 100


if __name__ == "__main__":
    sys.exit(support.run_checks([sys.modules["__main__"]]))
