"""multiprocessing.Pool in a task with functions and classes of the script.

Concurrent.futures pools too.
"""

import concurrent.futures
import multiprocessing

import mpitasks as mt
from checking import check, finish

SCALE = 3


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, o):
        return type(self) is type(o) and self.x == o.x


def f(p):
    return Point(p.x * SCALE)


def task(n):
    points = [Point(i) for i in range(n)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        a = pool.map(f, points)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        b = list(pool.map(f, points))
    with concurrent.futures.ProcessPoolExecutor(
        2, mp_context=multiprocessing.get_context("fork")
    ) as pool:
        c = list(pool.map(f, points))
    return a, a == b == c


if __name__ == "__main__":
    with mt.Executor() as ex:
        for SCALE in (3, 4):
            got, same = ex.submit(task, 3).result(timeout=120)
            check("same", same, True)
            check("values", [p.x for p in got], [0, SCALE, 2 * SCALE])
            check("type", type(got[0]) is Point, True)
    finish()
