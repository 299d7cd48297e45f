"""What returns refers to the script's own classes, functions, enum members, sentinels."""

import abc
import collections
import dataclasses
import enum
import functools
import typing

import mpitasks as mt
from checking import BAD, check, finish


class Color(enum.Enum):
    RED = 1
    BLUE = {"a": 1}
    ALIAS = 1


class Num(enum.IntEnum):
    ONE = 1


class Perm(enum.Flag):
    R = 1
    W = 2
    X = 4


class IPerm(enum.IntFlag):
    R = 1
    W = 2


class WithMethod(enum.Enum):
    A = "a"

    def other(self):
        return WithMethod.B

    B = "b"


Func = enum.Enum("Func", "P Q")
Auto = enum.Enum("OtherName", "P Q")
Point = collections.namedtuple("Point", "x y")
Odd = collections.namedtuple("NotOdd", "x y")


class Typed(typing.NamedTuple):
    x: int
    y: str = "d"


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int
    c: Color = Color.RED


@dataclasses.dataclass
class Full:
    a: int
    init: dataclasses.InitVar[int] = 3
    items: list = dataclasses.field(default_factory=list)
    kind: typing.ClassVar[int] = 5

    def __post_init__(self, init):
        self.b = init


class Outer:
    class Inner:
        class Deep(enum.Enum):
            D = 1

        def __init__(self, v):
            self.v = v

    def method(self):
        return self

    @classmethod
    def make(cls):
        return cls


class Missing:
    """A sentinel by name."""

    def __reduce__(self):
        return "MISSING"


MISSING = Missing()


class Nil(type):
    pass


class NIL(metaclass=Nil):
    pass


def helper():
    return None


def give(what):
    return eval(what, globals())


def give_all():
    return {
        "Color": Color,
        "RED": Color.RED,
        "BLUE": Color.BLUE,
        "ALIAS": Color.ALIAS,
        "ONE": Num.ONE,
        "flags": Perm.R | Perm.X,
        "none": Perm(0),
        "all": ~Perm.R,
        "int flags": IPerm.R | IPerm.W,
        "other": WithMethod.A.other(),
        "Func": Func.Q,
        "Auto": Auto.Q,
        "Point": Point,
        "Odd": Odd,
        "Frozen": Frozen,
        "Deep": Outer.Inner.Deep.D,
        "Inner": Outer.Inner,
        "MISSING": MISSING,
        "NIL": NIL,
        "helper": helper,
        "make": Outer.make(),
        "type": type(Outer()),
        "type of enum": type(Color.RED),
        "nested": Frozen(1).c,
        "partial": functools.partial(helper).func,
    }


def equal():
    return [
        Point(1, 2),
        Odd(1, 2),
        Typed(1),
        Frozen(1),
        Full(1, 2, [3]),
        Outer.Inner(1),
        {Color.RED: Perm.W},
        {Frozen(2): Frozen},
    ]


def is_same(a):
    return a is MISSING, Color.RED is Color.ALIAS


if __name__ == "__main__":
    with mt.Executor() as ex:
        for way, got in {
            "submit": ex.submit(give_all).result(),
            "again": ex.submit(give_all).result(),
            "starmap": next(iter(ex.starmap(give_all, [()]))),
        }.items():
            for name, want in give_all().items():
                if got[name] is not want:
                    BAD.append(f"{way}: {name} is {got[name]!r}, another")
        for got in (ex.submit(equal).result(), *ex.starmap(equal, [()] * 3)):
            for a, b in zip(got, equal()):
                if (
                    type(a) is not type(b)
                    or not isinstance(a, type(b))
                    or (a != b and not isinstance(a, Outer.Inner))
                ):
                    BAD.append(f"{a!r} is not {b!r}")
        check(
            "sentinel as argument", ex.submit(is_same, MISSING).result(), (True, True)
        )
        check("bound", type(ex.submit(Outer().method).result()) is Outer, True)
        futures = [ex.submit(abs, -1), ex.submit(give_all)]
        check("last", futures[1].result()["RED"] is Color.RED, True)
        check(
            "class attributes",
            (
                Full.kind,
                Full.__dataclass_fields__["a"].type,
                list(Color.__members__),
                Outer.Inner.__qualname__,
            ),
            (5, int, ["RED", "BLUE", "ALIAS"], "Outer.Inner"),
        )
    finish()
