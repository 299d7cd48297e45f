"""Instances of the script's subclasses of dict, int, str, tuple, list, ndarray,
Exception, Path, with state, cycles, slots, weird pickling.
"""

import pathlib

import numpy as np

import mpitasks as mt
from checking import check, finish


class D(dict):
    extra = None


class I(int):
    def __new__(cls, v, unit="m"):
        made = super().__new__(cls, v)
        made.unit = unit
        return made

    def __getnewargs__(self):
        return int(self), self.unit


class S(str):
    pass


class T(tuple):
    pass


class L(list):
    def append(self, x):
        super().append(("appended", x))


class Arr(np.ndarray):
    def __new__(cls, data, info=None):
        made = np.asarray(data).view(cls)
        made.info = info
        return made

    def __array_finalize__(self, obj):
        self.info = getattr(obj, "info", None)

    def __reduce__(self):
        f, a, s = super().__reduce__()
        return f, a, (*s, self.info)

    def __setstate__(self, state):
        self.info = state[-1]
        super().__setstate__(state[:-1])


class Node:
    def __init__(self, v):
        self.v, self.next = v, self


class Slots:
    __slots__ = ("a", "_b")

    def __init__(self):
        self.a, self._b = 1, [2]


class Sub(Slots):
    __slots__ = ("c",)

    def __init__(self):
        super().__init__()
        self.c = {self.a: self}


class Getter:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return "attr " + name


class Mangled:
    def __init__(self):
        self.__x = 5

    def get(self):
        return self.__x


def work(_=0):
    d = D(a=1)
    d.extra = d
    return (
        d,
        I(3, "km"),
        S("s"),
        T((1,)),
        L([1]),
        Arr([1, 2], {"i": 1}),
        Arr(np.ones(100_000), "big"),
        Node(1),
        Sub(),
        Getter(),
        Mangled(),
        pathlib.Path("a"),
    )


def take(*things):
    return (
        [type(t) is type(w) for t, w in zip(things, work())],
        things[0].extra is things[0],
        things[1].unit,
        things[5].info,
        things[7].next is things[7],
        things[8].c[1] is things[8],
        things[9].foo,
        things[10].get(),
    )


if __name__ == "__main__":
    want = take(*work())
    with mt.Executor() as ex:
        for got in (ex.submit(work).result(), *ex.map(work, [0, 0])):
            check("back", take(*got), want)
            check("arrays", (got[5].sum().item(), float(got[6].sum())), (3, 100_000.0))
        check("there", ex.submit(take, *work()).result(), want)
        check("list", list(got[4]), [1])
    finish()
