"""singledispatch, singledispatchmethod, ABC.register, lru_cache, total_ordering,
Protocol, generics: registrations made between calls are seen, those of the script
stay as they are.
"""

import abc
import functools
import typing

import mpitasks as mt
from checking import check, finish


@functools.singledispatch
def show(x):
    return "any"


@show.register
def _(x: int):
    return "int"


@show.register(list)
def show_list(x):
    return "list"


class Kind:
    pass


class Shower:
    @functools.singledispatchmethod
    def go(self, x):
        return "any"

    @go.register
    def _(self, x: int):
        return "int"


@functools.lru_cache(maxsize=8)
def cached(x):
    return x + ADD


@functools.total_ordering
class Version:
    def __init__(self, n):
        self.n = n

    def __eq__(self, o):
        return self.n == o.n

    def __lt__(self, o):
        return self.n < o.n

    __hash__ = None


@typing.runtime_checkable
class HasGo(typing.Protocol):
    def go(self, x): ...


T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    def __init__(self, v: T):
        self.v = v


class Base(abc.ABC):
    pass


ADD = 1


def work(x):
    return (
        show(x),
        show([]),
        show(Kind()),
        Shower().go(x),
        Shower().go("s"),
        Version(1) <= Version(2),
        isinstance(Shower(), HasGo),
        isinstance(Kind(), Base),
        Box[int](x).v,
    )


def twice(x):
    return cached(x), cached(x), cached.cache_info().hits >= 1


def box(x):
    return Box[int](x), Box[int], Version(x), HasGo


if __name__ == "__main__":
    with mt.Executor() as ex:
        check("first", ex.submit(work, 1).result(), work(1))
        show.register(Kind, lambda x: "kind")
        Base.register(Kind)
        check("registered", list(ex.map(work, [1])), [work(1)])
        check("lru", ex.submit(twice, 1).result(), (2, 2, True))
        ADD = 10
        check("lru, rebound", ex.submit(twice, 2).result(), (12, 12, True))
        check("own cache", cached.cache_info().currsize, 0)
        b, alias, v, p = ex.submit(box, 4).result()
        check(
            "generic",
            (
                type(b) is Box,
                b.v,
                alias == Box[int],
                v > Version(3),
                type(v) is Version,
                p is HasGo,
            ),
            (True, 4, True, True, True, True),
        )
        check("lru itself", ex.submit(cached, 5).result(), 15)
        check("dispatch itself", ex.submit(show, 5).result(), "int")
        check("dispatch kind", ex.submit(show, Kind()).result(), "kind")
        check("registry", len(show.registry), 4)
    finish()
