"""Containers of the script changed in place.

Each map and each new Executor sees them, and submit from then on.
"""

import collections
import types

import numpy as np

import mpitasks as mt
from checking import check, finish

D, S, Q = {}, set(), collections.deque()
B, N = bytearray(2), types.SimpleNamespace(v=0)
DD = collections.defaultdict(list)
DEEP = {"a": {"b": {"c": [0]}}, "table": [0] * 5000}
NESTED = {"a": [{"b": (1, [2])}]}
A, BIG, OBJ = np.zeros(3), np.zeros(300_000), np.array([1, [2]], dtype=object)
REC = np.zeros(2, dtype=[("x", "i4"), ("y", "f8")])


def look(_=0):
    return (
        sorted(D.items()),
        sorted(S),
        list(Q),
        bytes(B),
        N.v,
        dict(DD),
        NESTED["a"][0]["b"][1][:],
        A.tolist(),
        float(BIG.sum()),
        OBJ.tolist(),
        REC.tolist(),
    )


def look_deep(_=0):
    return DEEP["a"]["b"]["c"][0]


def change(i):
    D[i % 3] = i
    S.add(i)
    Q.append(i)
    B[0] = i
    N.v = i
    DD["k"].append(i)
    NESTED["a"][0]["b"][1].append(i)
    A[1] = i
    BIG[i] = 1
    OBJ[1].append(i)
    REC["y"][1] = i


if __name__ == "__main__":
    for turn in range(3):
        with mt.Executor() as ex:
            change(3 * turn)
            check("new executor", ex.submit(look).result(), look())
            for i in (1, 2):
                change(3 * turn + i)
                check("map", list(ex.map(look, [0])), [look()])
                check(
                    "unordered", [v for _, v in ex.map_unordered(look, [0])], [look()]
                )
    with mt.Executor() as ex:
        for i in range(3):
            DEEP["a"]["b"]["c"][0] = i
            check("deep", list(ex.map(look_deep, [0])), [i])
            for _ in range(3):
                check("submit after the map", ex.submit(look_deep).result(), i)
    finish()
