"""A global rebound to an equal value of another type, sign or identity is another
value: == is not enough.
"""

import numpy as np

import mpitasks as mt
from checking import check, finish

G = 1
L = [1]
A = np.zeros(2)


def kind(_=0):
    return type(G).__name__, repr(G)


def inside(_=0):
    return repr(L), repr(A)


if __name__ == "__main__":
    with mt.Executor() as ex:
        for G in (
            1,
            True,
            1.0,
            1 + 0j,
            np.float64(1),
            np.int64(1),
            0,
            0.0,
            -0.0,
            False,
            "",
            b"",
            (),
            frozenset(),
            float("nan"),
            "nan",
        ):
            check(f"submit {G!r}", ex.submit(kind).result(), kind())
            check(f"map {G!r}", list(ex.map(kind, [0])), [kind()])
        for new in (
            [1.0],
            [True],
            [-0.0],
            [0.0],
            [np.float32(0)],
            [0],
            [(1,)],
            [[1]],
            [False],
        ):
            L[:] = new
            check(f"in place {new!r}", list(ex.map(inside, [0])), [inside()])
        for new in (-0.0, 1.0, np.nan, 0.0):
            A[1] = new
            check(f"array {new!r}", list(ex.map(inside, [0])), [inside()])
        A = A.astype(int)
        check("dtype", list(ex.map(inside, [0])), [inside()])
        A = A.reshape(2, 1)
        check("shape", list(ex.map(inside, [0])), [inside()])
    finish()
