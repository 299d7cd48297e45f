"""A result that another thread of the task, or a later task, changes after the return;
and one that is a memory-map, read-only or borrowed memory.
"""

import ctypes
import mmap
import tempfile
import threading
import time

import numpy as np

import mpitasks as mt
from checking import check, finish

BUF = np.zeros(200_000)
MM = None


def background(i):
    mine = np.full(200_000, float(i))

    def later():
        time.sleep(0.3)
        mine[:] = -1

    threading.Thread(target=later, daemon=True).start()
    return mine


def mapped(i):
    global MM
    if MM is None:
        MM = np.memmap(tempfile.TemporaryFile(), dtype="f8", shape=(50_000,), mode="w+")
    MM[:] = i
    return MM


def readonly(i):
    BUF.flags.writeable = True
    BUF[:] = i
    BUF.flags.writeable = False
    return BUF


C = None


def borrowed(i):
    global C
    if C is None:
        C = (ctypes.c_double * 20_000)()
    a = np.ctypeslib.as_array(C)
    a[:] = i
    return a


def frombuffer(i, b=bytearray(160_000)):
    a = np.frombuffer(b)
    a[:] = i
    return a


if __name__ == "__main__":
    with mt.Executor(max_workers=1) as ex:
        for f in (background, mapped, readonly, borrowed, frombuffer):
            got = [
                float(x.result().max()) for x in [ex.submit(f, i) for i in range(30)]
            ]
            check(f.__name__, got, [float(i) for i in range(30)])
            got = [float(v.min()) for v in ex.map(f, range(30))]
            check(f.__name__ + " map", got, [float(i) for i in range(30)])
    finish()
