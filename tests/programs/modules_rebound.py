"""Modules, module aliases, submodules and modules made by the script as globals.

Rebound, patched, extended.
"""

import cmath
import concurrent.futures
import importlib.util
import math as m
import operator
import os.path as osp
import types
import unittest.mock
import xml
import xml.etree.ElementTree

import mpitasks as mt
from checking import BAD, check, finish

made = types.ModuleType("made_by_script")
made.k = 1
exec("def go(x): return x * k", made.__dict__)


def helper(x):
    return x


def f(x):
    return m.sqrt(x)


def sub():
    return (
        xml.etree.ElementTree.fromstring("<a/>").tag,
        concurrent.futures.Future.__name__,
        osp.join("a", "b"),
    )


def of_made(x):
    return made.go(x), made.k


def patched(x):
    return helper(x), operator.neg(x)


if __name__ == "__main__":
    with mt.Executor() as ex:
        check("math", ex.submit(f, 4).result(), 2.0)
        m = cmath
        check("cmath", ex.submit(f, -4).result(), 2j)
        check("submodules", ex.submit(sub).result(), sub())
        e = ex.submit(of_made, 2).exception()
        if e is None:
            for k in (1, 2, 3):
                made.k = k
                check("made", list(ex.map(of_made, [2])), [of_made(2)])
        elif not isinstance(e, (mt.SerializationError, ImportError)):
            BAD.append(repr(e))
        check("before", ex.submit(patched, 1).result(), (1, -1))
        with unittest.mock.patch("__main__.helper", lambda x: "patched"):
            check("patch", ex.submit(patched, 1).result(), ("patched", -1))
        check("patch undone", ex.submit(patched, 1).result(), (1, -1))
    finish()
