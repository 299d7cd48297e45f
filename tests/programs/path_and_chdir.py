"""Workers follow sys.path and os.chdir as they are when an Executor is used first."""

import os
import sys
import tempfile

import mpitasks as mt
from checking import check, finish


def here(_=0):
    import late_module

    return os.getcwd(), late_module.VALUE


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        os.makedirs(f"{folder}/lib")
        os.makedirs(f"{folder}/work")
        with open(f"{folder}/lib/late_module.py", "w") as f:
            f.write("VALUE = 42\n")
        sys.path.insert(0, f"{folder}/lib")
        os.chdir(f"{folder}/work")
        with mt.Executor() as ex:
            check("submit", ex.submit(here).result(), (f"{folder}/work", 42))
            check("map", list(ex.map(here, [0, 0])), [(f"{folder}/work", 42)] * 2)
        os.chdir(folder)
        with mt.Executor() as ex:
            check("again", ex.submit(os.getcwd).result(), folder)
        os.chdir("/")
    finish()
