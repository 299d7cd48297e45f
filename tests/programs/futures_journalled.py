"""Futures as arguments with a journal: what is there is not computed again.

The key of a call with futures derives from the keys of their calls. What an input drew
at random, or how its function reads now, counts as well.
"""

import os
import tempfile

import numpy as np

import mpitasks as mt
from checking import check, finish

FOLDER = tempfile.TemporaryDirectory()
LOG = os.path.join(FOLDER.name, "log")
FACTOR = 2


def ran(name):
    with open(LOG, "a") as log:
        log.write(name + "\n")


def count():
    """Return how many tasks ran since the last look."""
    if not os.path.exists(LOG):
        return 0
    with open(LOG) as log:
        lines = log.readlines()
    os.remove(LOG)
    return len(lines)


def load(n):
    ran("load")
    return np.arange(n * 10_000.0)


def scale(a):
    ran("scale")
    return a * FACTOR


def total(*parts):
    ran("total")
    return float(sum(np.sum(part) for part in parts))


def draw(x):
    ran("draw")
    return float(mt.rng().random()) + x


def add(x, y):
    ran("add")
    return x + y


def graph(path, n=3):
    with mt.Executor(journal=path) as ex:
        loaded = [ex.submit(load, k) for k in range(1, n + 1)]
        scaled = [ex.submit(scale, a) for a in loaded]
        whole = ex.submit(total, *scaled)
        mapped = list(ex.map(total, [(a, b) for a, b in zip(loaded, scaled)]))
        return whole.result(), mapped, ex.submit(add, whole, loaded[0]).result()[-1]


def random_graph(path, seed):
    with mt.Executor(journal=path, seed=seed) as ex:
        first = [ex.submit(draw, n) for n in range(3)]
        mixed = list(ex.map(add, first, [1, 2, 3]))
        return [f.result() for f in first], ex.submit(add, *first[:2]).result(), mixed


if __name__ == "__main__":
    path = os.path.join(FOLDER.name, "graph.db")
    first = graph(path)
    check("the first run", count(), 3 + 3 + 1 + 3 + 1)
    check("again", (graph(path), count()), (first, 0))
    more = graph(path, 4)
    check("with one more", count(), 1 + 1 + 1 + 1 + 1)
    check("of the same", more[1][:3], first[1])
    FACTOR = 3
    changed = graph(path)
    check("another global", count(), 3 + 1 + 3 + 1)
    check("its value", changed[0], first[0] * 3 / 2)
    check("and again", (graph(path), count()), (changed, 0))

    path = os.path.join(FOLDER.name, "random.db")
    drawn = random_graph(path, 1)
    check("drawn", count(), 3 + 3 + 1)
    check("what was drawn", drawn[1], drawn[0][0] + drawn[0][1])
    check("drawn again", (random_graph(path, 1), count()), (drawn, 0))
    other = random_graph(path, 2)
    check("with another seed", count(), 3 + 3 + 1)
    check("other numbers", other[1] != drawn[1], True)
    check("in the map", other[2][0], other[0][0] + 1)

    # Inputs without a journal: what they come to is what counts.
    path = os.path.join(FOLDER.name, "mixed.db")
    for value in (1, 2, 1):
        with mt.Executor() as plain:
            given = plain.submit(add, value, 0)
            given.result()
        with mt.Executor(journal=path) as ex:
            check("a value", ex.submit(add, given, 10).result(), value + 10)
    check("each value once", count(), 3 + 2)
    with mt.Executor() as plain, mt.Executor(journal=path) as ex:
        given = plain.submit(add, 5, 0)
        check("not done, perhaps", ex.submit(add, given, 10).result(), 15)
    count()

    # A result that the script has changed is an argument like any other.
    path = os.path.join(FOLDER.name, "changed.db")
    for change in (0.0, 1.0, 1.0):
        with mt.Executor(journal=path) as ex:
            loaded = ex.submit(load, 2)
            own = loaded.result()
            own += change
            want = float(own.sum())
            check("changed", ex.submit(total, loaded).result(), want)
            check("in a map", list(ex.map(total, [(loaded,)])), [want])
            fresh = ex.submit(load, 3)
            check("unchanged", ex.submit(total, fresh).result(), 449_985_000.0)
    check("what is new", count(), 2 + 2 + 1 + 2)

    # The same call twice is two calls; a failed input is no result.
    path = os.path.join(FOLDER.name, "twice.db")
    for _ in range(2):
        with mt.Executor(journal=path) as ex:
            same = [ex.submit(add, 1, 1), ex.submit(add, 1, 1)]
            sums = [ex.submit(add, same[0], same[1]), ex.submit(add, same[1], same[0])]
            check("two of them", [f.result() for f in sums], [4, 4])
            bad = ex.submit(add, 1, "x")
            check("failed", type(ex.submit(add, bad, 1).exception()), TypeError)
    check("once each", count(), 4 + 2)  # and the failed one again

    FOLDER.cleanup()
    finish()
