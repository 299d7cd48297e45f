"""Results never change a class of the script.

Variables, methods, annotations, doc, caches, ABC registrations, slots.
"""

import abc
import dataclasses
import functools
import typing

import mpitasks as mt
from checking import check, finish

CALLS = []


class Shape(abc.ABC):
    count = 0

    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    """A square."""

    __slots__ = ("side",)
    default: int = 3
    cache = {}
    items = []

    def __init__(self, side=1):
        self.side = side
        Shape.count += 1
        Square.cache[side] = self.side

    def area(self):
        CALLS.append(self.side)
        return self.side**2 * FACTOR

    @property
    def double(self):
        return 2 * self.side * FACTOR

    @functools.cached_property
    def triple(self):
        return 3 * self.side * FACTOR

    @staticmethod
    def st():
        return FACTOR

    @classmethod
    def cl(cls):
        return cls, cls.default


class Foreign:
    pass


FACTOR = 1


def work(n):
    s = Square(n)
    s.triple
    Square.default = "spoilt by the task"
    Square.cache["w"] = 1
    return s


if __name__ == "__main__":
    own = dict(vars(Square))
    with mt.Executor() as ex:
        ex.submit(work, 2).result()
        Square.default, FACTOR = 5, 100
        Shape.register(Foreign)
        Square.new_method = lambda self: "new"
        Square.items.append(1)
        own["new_method"], own["default"] = Square.new_method, 5
        results = [ex.submit(work, 2).result(), *ex.map(work, [2, 2])]
        for s in results:
            check(
                "methods",
                (s.area(), s.double, s.st(), s.cl()[1], s.new_method(), s.side),
                (400, 400, 100, 5, "new", 2),
            )
            check("triple", s.triple, vars(s)["triple"])
            check(
                "type",
                s.cl()[0] is Square and isinstance(s, Shape) and type(s) is Square,
                True,
            )
    check(
        "class",
        {
            k: v
            for k, v in vars(Square).items()
            if own.get(k) is not v and k not in ("__annotations__",)
        },
        {},
    )
    check(
        "variables",
        (Shape.count, Square.cache, Square.items, issubclass(Foreign, Shape), CALLS),
        (0, {}, [1], True, [2, 2, 2]),
    )
    finish()
