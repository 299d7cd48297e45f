"""Functions that use the Executor, a Future, themselves by another name, deep or
cyclic data, weak dictionaries: a value or a clear error, then all goes on.
"""

import re
import weakref

import numpy as np

import mpitasks as mt
from checking import BAD, check, finish

PATTERN = re.compile("a+")
RNG = np.random.default_rng(1)
CYCLE = [1]
CYCLE.append(CYCLE)
DEEP = []
for _ in range(20_000):
    DEEP = [DEEP]
WEAK = weakref.WeakValueDictionary()
UFUNC = np.frompyfunc(lambda x: x + 1, 1, 1)
ex = None
future = None


def uses_ex():
    return ex.submit(abs, -1).result()


def uses_future():
    return future.result()


def uses_cycle():
    return CYCLE[1][1][0]


def uses_deep():
    return len(DEEP)


def uses_weak():
    return len(WEAK)


def uses_pattern():
    return PATTERN.match("aab").group()


def uses_rng():
    return RNG.random()


def uses_ufunc():
    return int(UFUNC(1))


def sets_global():
    global FRESH
    FRESH = 7
    return FRESH


def lists_vars(a):
    b = 1
    return sorted(locals())


if __name__ == "__main__":
    with mt.Executor() as ex:
        future = ex.submit(abs, -1)
        for f in (uses_ex, uses_future, uses_deep, uses_weak, uses_ufunc):
            e = ex.submit(f).exception(timeout=120)
            known = (mt.MpiTasksError, AttributeError, RuntimeError)
            if e is not None and not isinstance(e, known):
                BAD.append(f"{f.__name__}: {e!r}"[:150])
            check("after", ex.submit(abs, -1).result(timeout=120), 1)
        check("cycle", ex.submit(uses_cycle).result(), 1)
        check("pattern", ex.submit(uses_pattern).result(), "aa")
        want = np.random.default_rng(1).random()
        check("rng", ex.submit(uses_rng).result(), want)
        check("sets", ex.submit(sets_global).result(), 7)
        check("locals", ex.submit(lists_vars, 1).result(), ["a", "b"])
        check("own", "FRESH" in globals(), False)
    finish()
