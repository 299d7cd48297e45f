"""Futures in the items of a map: such an item waits for its inputs, the others do not.

Its result stands in its place, whatever comes before it; it draws the random numbers of
its place; and what it needs may fail, or be cancelled, by itself.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import tempfile
import time

import numpy as np

import mpitasks as mt
from checking import check, finish


@dataclasses.dataclass
class Point:
    x: int


def add(x, y=1):
    return x + y


def late(value, seconds=0.05):
    time.sleep(seconds)
    return value


def wait_for(path, value):
    end = time.monotonic() + 30
    while not os.path.exists(path):
        if time.monotonic() > end:
            return None
        time.sleep(0.01)
    return value


def point(x):
    return Point(x)


def move(p, by):
    return Point(p.x + by.x)


def fail(x):
    raise ValueError(f"no {x}")


def drawn(x):
    return float(mt.rng().random()), x


def total(arrays):
    return float(sum(a.sum() for a in arrays))


with mt.Executor(seed=1) as ex:
    few = [ex.submit(add, n, 0) for n in range(10)]
    check("all", list(ex.map(add, few)), list(range(1, 11)))
    check("two iterables", list(ex.map(add, few, few)), [2 * n for n in range(10)])
    check(
        "starmap",
        list(ex.starmap(add, zip(few, range(10)))),
        [2 * n for n in range(10)],
    )
    slow = ex.submit(late, 100, 0.2)
    items = [0, slow, 2, few[3], 4, slow, 6]
    check("mixed", list(ex.map(add, items)), [1, 101, 3, 4, 5, 101, 7])
    slow = ex.submit(late, 100, 0.3)
    got = ex.map_unordered(add, [0, slow, 2])
    check("unordered", list(got), [(0, 1), (2, 3), (1, 101)])
    with tempfile.TemporaryDirectory() as folder:
        sign = os.path.join(folder, "sign")
        slow = ex.submit(wait_for, sign if ex.num_workers > 1 else folder, 100)
        ordered = ex.map(add, [0, slow, 2], chunksize=3)
        check("the first", next(ordered), 1)  # or the slow one waits in vain
        open(sign, "w").close()
        slow.result()
    check("the rest", list(ordered), [101, 3])
    lazy = ex.map(add, itertools.chain([few[1]], itertools.count()), buffersize=4)
    check("lazy", list(itertools.islice(lazy, 6)), [2, 1, 2, 3, 4, 5])
    lazy.close()
    points = [ex.submit(point, n) for n in range(20)]
    moved = ex.starmap(move, zip(points, reversed(points)))
    check("classes", list(moved), [Point(19)] * 20)
    arrays = [ex.submit(np.full, 50_000, float(n)) for n in range(6)]
    pairs = [arrays[n : n + 2] for n in range(0, 6, 2)]
    check("arrays", list(ex.map(total, pairs)), [50_000.0, 250_000.0, 450_000.0])

# Its place among the items is what counts for random numbers.
with mt.Executor(seed=1) as ex:
    few = [ex.submit(add, n, 0) for n in range(5)]
with mt.Executor(seed=1) as ex:
    first = list(ex.map(drawn, range(5)))
with mt.Executor(seed=1) as ex:
    mixed = list(ex.map(drawn, [0, few[1], 2, few[3], 4]))
check("random numbers", mixed, first)

with mt.Executor() as ex:
    # Failures.
    bad = ex.submit(fail, 1)
    got = list(ex.map(add, [1, bad, 3], return_exceptions=True))
    check("as a value", [type(v).__name__ for v in got], ["int", "ValueError", "int"])
    (note,) = got[1].__notes__
    check("note", note.startswith("item 1 of a map (add) was not run"), True)
    stream = ex.map(add, [1, ex.submit(fail, 2), 3])
    check("before it", next(stream), 2)
    try:
        next(stream)
    except ValueError as error:
        check("raised", str(error), "no 2")
    else:
        check("raised", "nothing", "ValueError")
    holders = [ex.submit(late, 0, 0.3) for _ in range(2 * ex.num_workers + 20)]
    stream = ex.map(add, [1, holders[-1], 3])
    if holders[-1].cancel():
        check("first", next(stream), 2)
        try:
            next(stream)
        except concurrent.futures.CancelledError:
            pass
        else:
            check("cancelled", "a result", "CancelledError")
    stream.close()
    for holder in holders:
        holder.cancel()
    slow = ex.submit(late, 1, 0.2)
    stream = ex.map(add, [slow] * 10)
    stream.close()  # nobody wants them
    check("not lost", slow.result(), 1)
    try:
        next(ex.map(add, [ex.submit(late, 1, 1.0)], timeout=0.1))
    except TimeoutError:
        pass
    except concurrent.futures.TimeoutError:
        pass
    else:
        check("timeout", "a result", "TimeoutError")
    ex.shutdown(wait=False, cancel_futures=True)

finish()
