"""Futures among the arguments of a call: it gets what they come to, as the script would.

Wherever they stand, done or not, whatever their results are made of; what is changed
afterwards does not count. A call whose input fails or is cancelled shares its fate.
"""

import collections
import concurrent.futures
import dataclasses
import enum
import functools
import operator
import pickle
import time
import traceback

import numpy as np

import mpitasks as mt
from checking import check, finish

SCALE = 10


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: float
    colour: Colour = Colour.RED

    def scaled(self):
        return Point(self.x * SCALE, self.colour)


Pair = collections.namedtuple("Pair", "left right")


class Busy(Exception):
    def __init__(self, code, *, hint):
        super().__init__(f"busy {code}")
        self.code = code
        self.hint = hint


def add(x, y):
    return x + y


def late(value, seconds=0.05):
    time.sleep(seconds)
    return value


def point(x):
    return Point(x)


def scaled(p, *, more=()):
    return p.scaled(), [each.x for each in more], p.colour is Colour.RED


def pair(x):
    return Pair(x, [x])


def adder(n):
    return lambda x: x + n + SCALE


def call(f, x):
    return f(x)


class Keeper:
    def __init__(self, value):
        self.value, self.pickled = value, None

    def __getstate__(self):
        if self.pickled is None:
            self.pickled = pickle.dumps(self.value)
        return {"pickled": self.pickled}

    def __setstate__(self, state):
        self.pickled = state["pickled"]
        self.value = pickle.loads(self.pickled)


def value_of(keeper, other=None):
    return keeper.value


def fail(code):
    raise Busy(code, hint={"after": 3})


def walk(tree):
    if isinstance(tree, dict):
        return sum(walk(part) for part in tree.values())
    if isinstance(tree, (list, tuple, set)):
        return sum(map(walk, tree))
    return tree


def are_one(first, second, others):
    return first is second and others[0] is first


def change(array):
    array += 1
    return array


def total(*arrays, **named):
    return sum(a.sum() for a in (*arrays, *named.values()))


def numbers(*values):
    return values


def error_of(future):
    try:
        future.result(30)
    except Exception as error:
        return error
    return None


with mt.Executor() as ex:
    one = ex.submit(late, 1)
    two = ex.submit(add, one, one)
    check("a chain", ex.submit(add, two, one).result(), 3)
    check("done", ex.submit(add, one, two).result(), 3)
    check("by name", ex.submit(late, value=one, seconds=0).result(), 1)
    tree = {"a": [one, (two, {"b": one})], "c": (1, one)}
    check("in containers", ex.submit(walk, tree).result(), 6)
    check("twice", ex.submit(are_one, one, one, [one]).result(), True)
    both = ex.submit(late, [1, 2]), ex.submit(late, [1, 2], 0)
    check("two", ex.submit(are_one, *both, [both[0]]).result(), False)
    check("one list", ex.submit(are_one, both[0], both[0], [both[0]]).result(), True)
    partial = functools.partial(operator.mul, 3)
    check("with a function", ex.submit(call, partial, two).result(), 6)
    check("in a partial", ex.submit(call, functools.partial(add, two), 1).result(), 3)
    check("in a closure", ex.submit(call, lambda n, m=one: n + m, one).result(), 2)

    # What the script defines, none of which the next worker has seen.
    p = ex.submit(point, 2.0)
    got, xs, same = ex.submit(scaled, p, more=[p, ex.submit(point, 3.0)]).result()
    check("classes", (got == Point(20.0), xs, same), (True, [2.0, 3.0], True))
    check("class of a result", type(got) is Point, True)
    named = ex.submit(late, ex.submit(pair, 4)).result()
    check("named tuple", (named, type(named) is Pair), (Pair(4, [4]), True))
    check("a lambda", ex.submit(call, ex.submit(adder, 5), one).result(), 16)
    kind = ex.submit(late, ex.submit(late, Point)).result()
    check("a result that is a class", kind is Point, True)
    SCALE = 100
    q = ex.submit(point, 2.0)
    check("new globals", ex.submit(scaled, q).result()[0].x, 200.0)

    # Arrays: the same memory is nobody else's.
    zeros = ex.submit(np.zeros, 300_000)
    changed = [ex.submit(change, zeros) for _ in range(4)]
    check("arrays", [f.result().sum() for f in changed], [np.float64(3e5)] * 4)
    check("not its own", zeros.result().sum(), np.float64(0))
    mine = zeros.result()
    slow = ex.submit(late, np.ones(3))
    mixed = ex.submit(total, zeros, slow, own=np.ones(200_000), more=changed[0])
    mine[:] = 7
    check("as it was", mixed.result(), np.float64(3 + 200_000 + 300_000))
    check("as it is", ex.submit(total, zeros).result(), np.float64(2_100_000))
    chain = ex.submit(np.ones, 100_000)
    for _ in range(10):
        chain = ex.submit(change, chain)
    check("a chain of arrays", chain.result()[0], np.float64(11))
    text = ex.submit(late, "é" * 50_000)
    check("large text", ex.submit(len, text).result(), 50_000)
    raw = ex.submit(late, b"x" * 200_000)
    check("large bytes", ex.submit(len, raw).result(), 200_000)

    # A diamond, and many inputs.
    root = ex.submit(late, 1)
    sides = [ex.submit(add, root, n) for n in range(100)]
    check("a diamond", ex.submit(sum, sides).result(), 5050)
    check("many", ex.submit(numbers, *sides).result(), tuple(range(1, 101)))

    # Failures.
    bad = ex.with_options(label="fit").submit(fail, 7)
    first = ex.submit(add, bad, 1)
    second = ex.with_options(label="end").submit(add, [first], 1)
    for future, name in ((first, "add"), (second, "'end': add")):
        error = error_of(future)
        check("type", (type(error) is Busy, getattr(error, "code", None)), (True, 7))
        check("attributes", getattr(error, "hint", None), {"after": 3})
        (note,) = error.__notes__
        check("note", "('fit': fail), which failed" in note and name in note, True)
        shown = "".join(traceback.format_exception(error))
        check("traceback", "in fail" in shown and "futures_as_arguments" in shown, True)
    check("errors of their own", error_of(first) is not error_of(second), True)
    check("no note", getattr(error_of(bad), "__notes__", None), None)
    check("already failed", type(error_of(ex.submit(add, bad, one))) is Busy, True)
    again = ex.with_options(retries=2).submit(add, one, "x")
    check("with retries", type(error_of(ex.submit(add, again, 1))), TypeError)

    holders = [ex.submit(late, 0, 0.3) for _ in range(2 * ex.num_workers + 20)]
    gone = ex.submit(add, holders[-1], 1)
    after = ex.submit(add, gone, 1)
    if holders[-1].cancel():
        check("cancelled", (gone.cancelled(), after.cancelled()), (True, True))
        try:
            ex.submit(add, gone, 1).result(30)
        except concurrent.futures.CancelledError:
            pass
        else:
            check("cancelled before", "a result", "CancelledError")
    for holder in holders:
        holder.cancel()

    lone = ex.submit(late, 5, 0.2)
    waiting = ex.submit(add, lone, 1)
    check("can be cancelled", waiting.cancel() or lone.done(), True)
    check("and that is all", lone.result(), 5)

    # A class that keeps what it was pickled to.
    kept = Keeper(ex.submit(late, "mine"))
    check("kept", ex.submit(value_of, kept).result(), "mine")
    error = error_of(ex.submit(value_of, kept, ex.submit(late, "other")))
    check("for another call", "pickled for another call" in str(error), True)

    # What cannot be.
    own = concurrent.futures.Future()
    check("not ours", type(error_of(ex.submit(late, own))), mt.SerializationError)
    pinned = ex.submit(lambda: one)
    text = str(error_of(pinned))
    check("in a closure of the function", "as an argument of submit" in text, True)

# Of an earlier Executor.
with mt.Executor() as ex:
    check("earlier", ex.submit(add, two, one).result(), 3)
    check("earlier, an array", ex.submit(total, changed[0]).result(), np.float64(3e5))
    check("earlier, failed", type(error_of(ex.submit(add, bad, 1))) is Busy, True)
    left = ex.submit(add, ex.submit(late, 1, 0.1), 1)
check("shutdown waits", left.done() and left.result(), 2)

finish()
