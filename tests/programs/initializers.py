"""initializer and initargs.

Once in each worker process before its first task, with arrays and functions of the
script; failing ones fail the futures.
"""

import os
import sys
from concurrent.futures import BrokenExecutor

import numpy as np

import mpitasks as mt
from checking import BAD, check, finish

STATE = None


class State:
    def __init__(self, data, scale):
        self.data, self.scale = data, scale


def set_up(data, scale, *, _count=[]):
    global STATE
    _count.append(1)
    STATE = State(data, scale)
    STATE.count = len(_count)
    STATE.pid = os.getpid()


def use(i):
    return (
        float(STATE.data[i] * STATE.scale),
        STATE.count,
        STATE.pid == os.getpid(),
        type(STATE) is State,
    )


def broken():
    raise LookupError("set-up failed")


def leave():
    sys.exit(3)


if __name__ == "__main__":
    with mt.Executor(initializer=set_up, initargs=(np.arange(200_000.0), 2)) as ex:
        check("submit", ex.submit(use, 5).result(), (10.0, 1, True, True))
        check("map", set(ex.map(use, [7] * 40)), {(14.0, 1, True, True)})
    with mt.Executor(initializer=set_up, initargs=(np.arange(3.0), 3)) as ex:
        check("second", {v[0] for v in ex.map(use, [2] * 20)}, {6.0})
    for f in (broken, leave):
        with mt.Executor(initializer=f) as ex:
            futures = [ex.submit(use, i) for i in range(500)]
            kinds = {type(future.exception(timeout=120)) for future in futures}
            check(f"{f.__name__}, all", kinds, {mt.InitializerError})
            try:
                check("map", list(ex.map(use, range(10))), None)
            except mt.InitializerError as e:
                check("map", isinstance(e, BrokenExecutor), True)
        try:
            with mt.Executor(initializer=f) as ex:
                e = ex.submit(use, 1).exception(timeout=120)
                told = f"{e!r} {e.__cause__!r}"
                check(
                    f.__name__,
                    e is not None
                    and ("set-up failed" in told or "initializer" in told),
                    True,
                )
                e = ex.submit(use, 1).exception(timeout=120)
                check(f"{f.__name__} again", e is not None, True)
        except Exception as e:
            BAD.append(f"{f.__name__}: the Executor raised {e!r}")
    with mt.Executor() as ex:
        check("after", ex.submit(abs, -2).result(timeout=120), 2)
    finish()
