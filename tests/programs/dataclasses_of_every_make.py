"""Dataclasses of every make.

Slots, frozen, kw_only, order, InitVar, ClassVar, default_factory, inheritance,
__post_init__, replace, match, hash, weakref, generic.
"""

import copy
import dataclasses as dc
import typing

import mpitasks as mt
from checking import check, finish

T = typing.TypeVar("T")


@dc.dataclass(slots=True)
class Slot:
    a: int
    b: list = dc.field(default_factory=list, compare=False)

    def twice(self):
        return self.a * 2 + K


@dc.dataclass(frozen=True, slots=True, order=True)
class Frozen(typing.Generic[T]):
    a: T
    b: tuple = ()


@dc.dataclass(kw_only=True)
class Kw:
    a: int
    b: "Kw | None" = None
    c: typing.ClassVar[dict] = {}
    d: dc.InitVar[int] = 0

    def __post_init__(self, d):
        self.e = d
        Kw.c[d] = d


@dc.dataclass
class Child(Kw):
    f: int = dc.field(default=1, repr=False)

    def __post_init__(self, d):
        super().__post_init__(d)
        self.g = self.f + d


@dc.dataclass(unsafe_hash=True)
class Hashed:
    a: int
    _: dc.KW_ONLY
    b: int = 2


@dc.dataclass(eq=False)
class Identity:
    a: int


K = 1


def make(_=0):
    return (
        Slot(1, [2]),
        Frozen("x", (1,)),
        Kw(a=1, d=5),
        Child(a=2, b=Kw(a=3), d=7),
        Hashed(1, b=3),
        Identity(4),
        [Frozen(i) for i in range(3)],
        {Frozen(1): Slot},
        Slot(3).twice(),
    )


def use(things):
    s, f, k, c, h, i, many, d, n = things
    match s:
        case Slot(a, b):
            m = a, b
    return (
        m,
        s == Slot(1),
        s.twice(),
        f == Frozen("x", (1,)),
        f < Frozen("y"),
        hash(f) == hash(Frozen("x", (1,))),
        k == Kw(a=1),
        k.e,
        c.g,
        c.b.a,
        isinstance(c, Kw),
        hash(h) == hash(Hashed(1, b=3)),
        i.a,
        max(many) == Frozen(2),
        d[Frozen(1)] is Slot,
        n,
        dc.replace(s, a=9).a,
        dc.asdict(c)["b"]["a"],
        copy.deepcopy(f) == f,
        hasattr(s, "__dict__"),
    )


if __name__ == "__main__":
    want = use(make())
    Kw.c.clear()
    with mt.Executor() as ex:
        for got in (ex.submit(make).result(), *ex.map(make, [0, 0])):
            check("back", use(got), want)
        check("there", ex.submit(use, make()).result(), want)
        Kw.c.clear()
        ex.submit(make).result()
        check("class variable", Kw.c, {})
        K = 10
        check("method's global", ex.submit(use, make()).result(), use(make()))
    finish()
