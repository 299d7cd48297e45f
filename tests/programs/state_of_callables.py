"""What a partial, a bound method, a callable object or a closure holds is, for each
call and each item, what it was when `submit` or `map` was called: whatever earlier calls
have changed on that worker, however deep.
"""

import collections
import functools
import threading

import mpitasks as mt
import numpy as np
from checking import check, finish


class Deep:
    def __init__(self):
        self.values = [0]


class Model:
    """Changes itself in every way that there is."""

    __slots__ = ("__dict__", "slot")

    def __init__(self):
        self.count = 0
        self.slot = 0
        self.seen = []
        self.by_name = {}
        self.deep = Deep()
        self.nested = {"a": [[1], {"b": [2]}]}
        self.queue = collections.deque([1])
        self.small = np.zeros(4)
        self.medium = np.zeros(1000)
        self.large = np.zeros(20_000)
        self.huge = np.zeros(400_000)
        self.lock = None

    def bind(self, x):
        self.count += 1
        return self.count

    def bind_slot(self, x):
        self.slot += 1
        return self.slot

    def append(self, x):
        self.seen.append(x)
        return len(self.seen)

    def insert(self, x):
        self.by_name[len(self.by_name)] = x
        return len(self.by_name)

    def deepen(self, x):
        self.deep.values.append(x)
        return len(self.deep.values)

    def nest(self, x):
        self.nested["a"][1]["b"].append(x)
        return len(self.nested["a"][1]["b"])

    def enqueue(self, x):
        self.queue.append(x)
        return len(self.queue)

    def add_small(self, x):
        self.small += 1
        return float(self.small[0])

    def add_medium(self, x):
        self.medium[0] += 1
        return float(self.medium[0])

    def add_large(self, x):
        self.large[0] += 1
        return float(self.large[0])

    def add_huge(self, x):
        self.huge[-1] += 1
        return float(self.huge[-1])

    def new_attribute(self, x):
        return len(vars(self)) + (0 if setattr(self, f"a{x}", x) else 0)

    def make_lock(self, x):
        had = self.lock is not None
        self.lock = threading.Lock()
        return had

    def __call__(self, x):
        self.count += 1
        return self.count


class Numbers(list):
    def grow(self, x):
        self.append(x)
        return len(self)


class Total(dict):
    def grow(self, x):
        self[len(self)] = x
        return len(self)


METHODS = [name for name in vars(Model) if not name.startswith("_") and name != "slot"]


def counter():
    n = 0

    def count(x):
        nonlocal n
        n += 1
        return n

    return count


def nested_counter():
    n = 0

    def count(x):
        def inner():
            nonlocal n
            n += 1

        inner()
        return n

    return count


def collector():
    seen = []

    def collect(x):
        seen.append(x)
        return len(seen)

    return collect


def by_attribute():
    def function(x):
        function.calls += 1
        return function.calls

    function.calls = 0
    return function


def grow(held, x):
    held.append(x)
    return len(held)


def add(array, x):
    array[0] += 1
    return float(array[0])


def holding_a_closure():
    inner = counter()
    return lambda x: inner(x)


SHARED = Model()
GLOBAL = []


def callables():
    """Yield (name, callable, what each call of it returns)."""
    for name in METHODS:
        yield name, getattr(Model(), name), getattr(Model(), name)(7)
    for name in METHODS:
        yield f"global {name}", getattr(SHARED, name), getattr(Model(), name)(7)
    yield "object", Model(), 1
    yield "nonlocal", counter(), 1
    yield "nested nonlocal", nested_counter(), 1
    yield "list in a cell", collector(), 1
    yield "attribute", by_attribute(), 1
    yield "closure in a closure", holding_a_closure(), 1
    yield "default", eval("lambda x, held=[]: (held.append(x), len(held))[1]"), 1
    yield "keyword", eval("lambda x, *, held=[]: (held.append(x), len(held))[1]"), 1
    yield "partial", functools.partial(grow, []), 1
    yield "partial of a global", functools.partial(grow, GLOBAL), 1
    yield "partial of a partial", functools.partial(functools.partial(grow), []), 1
    yield "small array", functools.partial(add, np.zeros(3)), 1.0
    yield "array", functools.partial(add, np.zeros(3000)), 1.0
    yield "large array", functools.partial(add, np.zeros(30_000)), 1.0
    yield "huge array", functools.partial(add, np.zeros(300_000)), 1.0
    yield "list subclass", Numbers().grow, 1
    yield "dict subclass", Total().grow, 1
    yield "bound append", functools.partial(grow, collections.deque()), 1
    yield "partial of a method", functools.partial(Model().bind), 1


if __name__ == "__main__":
    with mt.Executor() as ex:
        for name, function, want in callables():
            got = [ex.submit(function, 7).result() for _ in range(4)]
            check(f"submit {name}", got, [want] * 4)
            many = [ex.submit(function, 7) for _ in range(20)]
            check(f"{name}", [each.result() for each in many], [want] * 20)
            check(f"map {name}", list(ex.map(function, [7] * 10)), [want] * 10)
            got = list(ex.map(function, [7] * 6, chunksize=3))
            check(f"chunks {name}", got, [want] * 6)
            got = list(ex.starmap(function, [(7,)] * 5))
            check(f"starmap {name}", got, [want] * 5)
        rng = np.random.default_rng(1)
        first = np.random.default_rng(1).random()
        got = [ex.submit(rng.random).result() for _ in range(3)]
        check("a generator", got, [first] * 3)
        model = Model()
        check("before", ex.submit(model.bind, 0).result(), 1)
        model.count = 10
        check("bound anew", [ex.submit(model.bind, 0).result() for _ in "ab"], [11] * 2)
        model.large[0] = 5
        check("in place", list(ex.map(model.add_large, [0, 0])), [6.0, 6.0])
        check("rank 0's own", (SHARED.count, SHARED.seen, GLOBAL), (0, [], []))
    finish()
