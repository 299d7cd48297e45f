"""Enums.

Auto, _missing_, _generate_next_value_, Flag boundary, members with attributes and
methods, aliases, str and int mixins, functional API, nested, as dict keys,
composites; pickled in tasks.
"""

import enum
import pickle

import mpitasks as mt
from checking import BAD, check, finish


class Auto(enum.Enum):
    def _generate_next_value_(name, start, count, last):
        return name.lower()

    A = enum.auto()
    B = enum.auto()

    @classmethod
    def _missing_(cls, value):
        return cls.A


class Planet(enum.Enum):
    EARTH = (5.9, 6.3)
    MARS = (0.6, 3.3)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @property
    def g(self):
        return self.mass * G


class Text(str, enum.Enum):
    X = "x"


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()
    C = A | B
    D = enum.auto()


class IFlags(enum.IntFlag):
    A = 1
    B = 2


class Holder:
    class In(enum.Enum):
        V = 1

    members = {Flags.A: "a", Auto.B: "b"}


G = 2
Fun = enum.IntEnum("Fun", ["X", "Y"])
GLOBAL = Flags.A | Flags.D


def make(_=0):
    again = pickle.loads(
        pickle.dumps([Auto.B, Flags.A | Flags.D, Planet.MARS, Fun.Y, Holder.In.V])
    )
    return [
        Auto.B,
        Auto("nothing"),
        Planet.EARTH,
        Planet.MARS.g,
        Text.X,
        Flags.C,
        Flags.A | Flags.D,
        ~Flags.A,
        Flags(0),
        IFlags.A | IFlags.B,
        IFlags(8),
        Holder.In.V,
        Fun.Y,
        GLOBAL,
        *again,
        Flags.A in GLOBAL,
        Holder.members[Auto.B],
        list(Flags),
        Planet((5.9, 6.3)),
        Auto["B"],
    ]


def there(a, b, c):
    return a is Auto.B, b is (Flags.A | Flags.D), c is Fun.Y, b is GLOBAL


if __name__ == "__main__":
    want = make()
    with mt.Executor() as ex:
        for got in (ex.submit(make).result(), *ex.map(make, [0, 0])):
            for a, b in zip(got, want, strict=True):
                if not (a is b if isinstance(b, enum.Enum) else a == b):
                    BAD.append(f"{a!r} is not {b!r}")
        check(
            "there",
            ex.submit(there, Auto.B, Flags.A | Flags.D, Fun.Y).result(),
            (True,) * 4,
        )
        G = 3
        check("g", ex.submit(make).result()[3], Planet.MARS.g)
        check(
            "members",
            (len(Flags.__members__), len(Auto), sorted(Holder.members.values())),
            (4, 2, ["a", "b"]),
        )
    finish()
