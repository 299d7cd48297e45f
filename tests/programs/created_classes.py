"""Classes and functions that are made by calls, and live under another name than their
own, or under none.
"""

import collections
import dataclasses
import enum
import types

import mpitasks as mt
from checking import check, finish

P = collections.namedtuple("Other", "x y")
Made = type("Made", (), {"v": 1, "get": lambda self: self.v})
Renamed = type("Nowhere", (), {"v": 2})
Data = dataclasses.make_dataclass(
    "Data", [("a", int), ("b", list, dataclasses.field(default_factory=list))]
)
New = types.new_class("New", (Made,), {}, lambda ns: ns.update(w=3))
exec("def by_exec(x):\n    return x + OFFSET\n\nclass ByExec:\n    k = 7\n")
OFFSET = 5
square = lambda x: x * x + OFFSET
KINDS = {"hidden": type("Hidden", (), {})}


def factory(k):
    class Local:
        """Local."""

        n = k

        def get(self):
            return self.n

        class In:
            pass

    return Local


L1, L2 = factory(1), factory(2)


def make():
    return (
        P(1, 2),
        Made(),
        Renamed(),
        Data(1),
        New(),
        ByExec(),
        L1(),
        L2(),
        KINDS["hidden"](),
        L1.In(),
        L1,
        L2,
    )


def values():
    return (
        P(1, 2).x,
        Made().get(),
        Renamed.v,
        Data(1).b,
        New().w + New().v,
        ByExec.k,
        L1().get(),
        L2().get(),
        by_exec(1),
        square(2),
        L1.__doc__,
    )


if __name__ == "__main__":
    kinds = [P, Made, Renamed, Data, New, ByExec, L1, L2, KINDS["hidden"], L1.In]
    with mt.Executor() as ex:
        check("values", ex.submit(values).result(), values())
        for turn in range(2):
            got = ex.submit(make).result()
            check("types", [type(g) is k for g, k in zip(got, kinds)], [True] * 10)
            check("classes", (got[-2] is L1, got[-1] is L2), (True, True))
            check("equal", (got[0] == P(1, 2), got[3] == Data(1)), (True, True))
        check("exec", ex.submit(by_exec, 1).result(), 6)
        OFFSET = 50
        check("lambda", ex.submit(square, 2).result(), 54)
        check(
            "instance there",
            ex.submit(lambda a: type(a) is L1 and a.get() == 1, L1()).result(),
            True,
        )
    finish()
