"""cloudpickle.register_pickle_by_value is respected.

A module that workers cannot import, and its changes.
"""

import os
import sys
import tempfile

import cloudpickle

import mpitasks as mt
from checking import check, finish

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/only_here.py", "w") as f:
            f.write(
                "K = 3\nclass C:\n    def __init__(self, x): self.x = x\ndef f(x):\n    return x * K\ndef make(x):\n    return C(x)\n"
            )
        sys.path.insert(0, folder)
        import only_here

        sys.path.remove(folder)
    cloudpickle.register_pickle_by_value(only_here)
    with mt.Executor() as ex:
        check("value", ex.submit(only_here.f, 2).result(), 6)
        check("map", list(ex.map(only_here.f, [1, 2])), [3, 6])
        check("class", type(ex.submit(only_here.make, 2).result()).__name__, "C")
        check("in script", ex.submit(lambda: only_here.f(5)).result(), 15)
        only_here.K = 4
        check("changed", list(ex.map(only_here.f, [1, 2])), [4, 8])
    finish()
