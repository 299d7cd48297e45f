"""A spawn pool and a spawn Process in a task with functions of the script (the child
imports the script as under multiprocessing).
"""

import multiprocessing

import mpitasks as mt
from checking import check, finish

SCALE = 3


def f(x):
    return x * SCALE


def task(n):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(f, range(n))


if __name__ == "__main__":
    with mt.Executor() as ex:
        check("spawn", ex.submit(task, 3).result(timeout=120), [0, 3, 6])
        check("after", ex.submit(f, 3).result(timeout=120), 9)
    finish()
