"""Globals rebound between submits while earlier calls are still queued.

Each call has its own value.
"""

import time

import mpitasks as mt
from checking import check, finish

alpha = 0


def slow():
    time.sleep(0.3)


def f(x):
    return x * alpha


def inner(x):
    return [alpha * y for y in [x]][0] + (lambda: alpha)()


if __name__ == "__main__":
    with mt.Executor() as ex:
        wait = ex.submit(slow)
        futures, maps = [], []
        for alpha in range(50):
            futures.append((ex.submit(f, 10), ex.submit(inner, 10)))
            if alpha % 10 == 0:
                maps.append(ex.map(f, [1, 2, 3], chunksize=1))
        alpha = -1
        check("submit", [a.result() for a, _ in futures], [10 * i for i in range(50)])
        check(
            "nested code", [b.result() for _, b in futures], [11 * i for i in range(50)]
        )
        check(
            "maps",
            [list(m) for m in maps],
            [[i, 2 * i, 3 * i] for i in (0, 10, 20, 30, 40)],
        )
        check("after", ex.submit(f, 10).result(), -10)
    finish()
