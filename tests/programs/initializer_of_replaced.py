"""With isolate, a crashed child is replaced and initialized again before its next
task; the crash fails one task.
"""

import os

import mpitasks as mt
from checking import check, finish

READY = None


def set_up(v):
    global READY
    READY = v


def use(x):
    return READY + x


def crash(_):
    os.abort()


if __name__ == "__main__":
    with mt.Executor(initializer=set_up, initargs=(5,), isolate=True) as ex:
        check("first", ex.submit(use, 1).result(120), 6)
        check("crash", type(ex.submit(crash, 1).exception(120)).__name__, "TaskCrashed")
        check("again", ex.submit(use, 2).result(120), 7)
        check("map", list(ex.map(use, range(20))), [5 + i for i in range(20)])
    finish()
