"""Defaults, keyword defaults, attributes and code of a function, changed between
calls.
"""

import mpitasks as mt
from checking import BAD, check, finish


def f(x, y=1, *, z=1):
    return x, y, z


def g(x, seen=[]):
    return len(seen)


def counter():
    return counter.n


def h():
    return "old"


def h2():
    return "new"


counter.n = 0

if __name__ == "__main__":
    with mt.Executor() as ex:
        futures, plain = [], []
        for i in range(10):
            f.__defaults__ = (i,)
            f.__kwdefaults__ = {"z": -i}
            counter.n = i
            futures.append((ex.submit(f, 0), ex.submit(counter)))
            plain.append((f(0), counter()))
        check("defaults", [(a.result(), b.result()) for a, b in futures], plain)
        for i in range(3):
            g.__defaults__[0].append(i)
            check("default list", list(ex.map(g, [0])), [g(0)])
        f.__kwdefaults__["z"] = "changed"
        check("kwdefaults in place", list(ex.map(f, [0])), [f(0)])
        check("h", ex.submit(h).result(), "old")
        h.__code__ = h2.__code__
        check("code", ex.submit(h).result(), "new")
        f.__defaults__ = None
        try:
            ex.submit(f, 0).result()
        except TypeError:
            pass
        else:
            BAD.append("a missing default was not missed")
    finish()
