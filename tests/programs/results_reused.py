"""Results whose object, container, view or buffer the task uses again are what they
were when the task returned.
"""

import array
import collections

import numpy as np

import mpitasks as mt
from checking import check, finish

SMALL, BIG, BORDER = np.zeros(4), np.zeros(100_000), np.zeros(8192)
STATE, LIST, NEST = {"n": 0}, [], {"a": [np.zeros(9000), {"b": None}]}
BYTES, BIGBYTES = bytearray(8), bytearray(200_000)
REC = np.zeros(9000, dtype=[("x", "f8"), ("y", "i4")])
ARR = array.array("d", [0.0] * 20_000)
BASE = np.zeros((300, 300))
STACK = np.zeros((2, 70_000))
OBJ = np.empty(2, dtype=object)
DQ = collections.deque(maxlen=2)
MASK = np.ma.zeros(20_000)


def small(i):
    SMALL[:] = i
    return SMALL


def big(i):
    BIG[:] = i
    return BIG


def border(i):
    BORDER[:] = i
    return BORDER


def state(i):
    STATE["n"] = i
    return STATE


def listed(i):
    LIST[:] = [i]
    return LIST


def nest(i):
    NEST["a"][0][:] = i
    NEST["a"][1]["b"] = i
    return NEST


def raw(i):
    BYTES[0] = i % 256
    return BYTES


def bigraw(i):
    BIGBYTES[0] = i % 256
    return BIGBYTES


def view(i):
    BASE[:] = i
    return BASE[:, 100:250]


def transposed(i):
    BASE[:] = i
    return BASE.T


def row(i):
    STACK[i % 2] = i
    return STACK[i % 2]


def rec(i):
    REC["x"] = i
    return REC


def typed(i):
    ARR[0] = i
    return ARR


def pair(i):
    BIG[:] = i
    return BIG, BIG[:50_000], SMALL


def obj(i):
    OBJ[0] = [i]
    OBJ[1] = BIG
    BIG[:] = i
    return OBJ


def queue(i):
    DQ.append(i)
    return DQ


def masked(i):
    MASK[:] = i
    return MASK


class Holder:
    def __init__(self):
        self.data = np.zeros(30_000)
        self.tags = []


H = Holder()


def held(i):
    H.data[:] = i
    H.tags[:] = [i]
    return H


def argument(a, i):
    a[:] = i
    return a


CASES = {
    small: lambda a: a[0],
    big: lambda a: a.max(),
    border: lambda a: a.max(),
    state: lambda d: d["n"],
    listed: lambda l: l[0],
    nest: lambda d: (d["a"][0].max() + d["a"][1]["b"]) / 2,
    raw: lambda b: b[0],
    bigraw: lambda b: b[0],
    view: lambda a: a.max(),
    transposed: lambda a: a.max(),
    row: lambda a: a.max(),
    rec: lambda a: a["x"].max(),
    typed: lambda a: a[0],
    pair: lambda p: (p[0].max() + p[1].min()) / 2,
    obj: lambda o: (o[0][0] + o[1].max()) / 2,
    queue: lambda q: q[-1],
    masked: lambda m: m.max(),
    held: lambda h: (h.data.max() + h.tags[0]) / 2,
}


def wrong(values, get):
    return [i for i, v in enumerate(values) if get(v) != i][:5]


if __name__ == "__main__":
    with mt.Executor() as ex:
        for f, get in CASES.items():
            n = 60
            check(f"{f.__name__} map", wrong(list(ex.map(f, range(n))), get), [])
            check(
                f"{f.__name__} submit",
                wrong([x.result() for x in [ex.submit(f, i) for i in range(n)]], get),
                [],
            )
            check(
                f"{f.__name__} chunks",
                wrong(list(ex.map(f, range(n), chunksize=7)), get),
                [],
            )
            check(
                f"{f.__name__} unordered",
                [i for i, v in ex.map_unordered(f, range(n)) if get(v) != i],
                [],
            )
        a = np.zeros(50_000)
        check(
            "argument",
            wrong(list(ex.map(argument, [a] * 30, range(30))), lambda v: v.max()),
            [],
        )
        check("own argument", a.max().item(), 0.0)
        b = np.zeros(10)
        check(
            "small argument",
            wrong(list(ex.map(argument, [b] * 30, range(30))), lambda v: v.max()),
            [],
        )
    finish()
