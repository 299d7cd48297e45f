"""Aliasing within one call, Fortran order, zero size, 0-d, strides, byte order, dtype
objects: arguments and results arrive equal, writable, with structure kept.
"""

import numpy as np

import mpitasks as mt
from checking import check, finish


def echo(x):
    return x


def aliased(a, b):
    a[0] = 5
    return bool(b[0] == 5), a is b


def writable(x):
    x[...] = x
    return x.flags.f_contiguous, x.flags.c_contiguous, x.dtype.str, x.shape


if __name__ == "__main__":
    big = np.arange(100_000.0)
    arrays = [
        np.asfortranarray(np.ones((300, 400))),
        np.ones((300, 400))[::2, ::3],
        np.zeros((0, 5)),
        np.array(3.5),
        np.arange(20_000, dtype=">f8"),
        np.ones(20_000, dtype="c16"),
        np.array(["abc"] * 9000),
        np.zeros(9000, dtype="M8[s]"),
        np.zeros(9000, dtype=[("a", "i1"), ("b", "f8")]),
        np.arange(100_000.0)[::-1],
        np.broadcast_to(np.ones(3), (9000, 3)),
        np.float64(2),
        np.ones(3, bool),
    ]
    with mt.Executor() as ex:
        for a in arrays:
            got = ex.submit(echo, a).result()
            check(
                f"echo {a.dtype} {a.shape}",
                (got.dtype.str, got.shape, bool(np.all(got == a))),
                (a.dtype.str, a.shape, True),
            )
        for a in arrays[:4]:
            check(
                "writable", ex.submit(writable, a).result()[2:], (a.dtype.str, a.shape)
            )
        check("fortran", ex.submit(writable, arrays[0]).result()[:2], (True, False))
        check("alias", ex.submit(aliased, big, big).result(), (True, True))
        l = [1]
        check("list alias", ex.submit(aliased, l, l).result(), (True, True))
        got = ex.submit(echo, [big, big, big[:50_000]]).result()
        check("result alias", got[0] is got[1], True)
        got[0][0] = 7
        check("result written", (got[1][0].item(), big[0].item()), (7.0, 0.0))
        a, b = ex.submit(echo, big).result(), ex.submit(echo, big).result()
        a[:] = 1
        check("own memory", b[1].item(), 1.0)
        check("own memory", b[2].item(), 2.0)
    finish()
