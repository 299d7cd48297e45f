"""Keyword arguments of mpi4py's executors: what tasks find, and nobody else.

path, wdir, env and globals hold for the calls of one executor. Objects that carry an
executor along can be arguments.
"""

import copy
import os
import pathlib
import sys
import tempfile

import numpy as np
from checking import check, finish

from mpitasks.futures import MPIPoolExecutor, ThreadPoolExecutor, collect

own = "the script's"


class Sampler:
    def __init__(self, pool):
        self.pool = pool

    def walk(self, x):
        return x * x

    def refused(self, x):
        try:
            return self.pool.submit(abs, x)
        except Exception as error:
            return type(error).__name__

    def run(self):
        return list(self.pool.map(self.walk, range(5)))


def around(name=None):
    return os.getcwd(), os.environ.get("MADE_UP"), sys.path[-1], name


def uses_globals(x):
    return x * factor, own, helper(x)  # noqa: F821


def set_up():
    global seen
    seen = around(), factor  # noqa: F821


def seen_at_set_up():
    return seen


def imports():
    import beside

    return beside.VALUE


def twice(x):
    return 2 * x


def changes():
    os.chdir("/")
    os.environ["MADE_UP"] = "changed"
    sys.path.append("/changed")
    return around()


def sum_of(array):
    return float(array.sum())


if __name__ == "__main__":
    before = around()
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        pathlib.Path(folder, "beside.py").write_text("VALUE = 7")
        keywords = {
            "path": [pathlib.Path(folder)],
            "wdir": pathlib.Path(folder),
            "env": [("MADE_UP", "set")],
            "globals": {"factor": 3, "own": "not the script's", "helper": twice},
        }
        with (
            MPIPoolExecutor(**keywords, initializer=set_up) as one,
            MPIPoolExecutor() as two,
        ):
            inside = folder, "set", folder
            for _ in range(3):
                check("submit", one.submit(around, 1).result(), (*inside, 1))
                check("map", set(one.map(around, [2] * 40)), {(*inside, 2)})
                check("starmap", set(one.starmap(around, [(3,)])), {(*inside, 3)})
                check("others", set(two.map(around, [1] * 40)), {(*before[:3], 1)})
            check("globals", one.submit(uses_globals, 2).result(), (6, own, 4))
            error = two.submit(uses_globals, 2).exception()
            check("others' globals", type(error), NameError)
            check("initializer", one.submit(seen_at_set_up).result()[1], 3)
            check("initializer", one.submit(seen_at_set_up).result()[0][:3], inside)
            check("path", one.submit(imports).result(), 7)
            one.submit(changes).result()
            check("changed", one.submit(around).result()[:2], inside[:2])
            check("the script itself", around()[:2], before[:2])

    # What says how mpi4py starts its workers changes nothing.
    with MPIPoolExecutor(
        max_workers=1,
        main=False,
        use_pkl5=True,
        backoff=0.1,
        mpi_info={"host": "nowhere"},
        python_exe="/nowhere/python",
        python_args=["-O"],
        path=None,
        globals=None,
    ) as ex:
        array = np.arange(100_000.0)
        check("large", ex.submit(sum_of, array).result(), float(array.sum()))
        check("lambdas", list(ex.map(lambda x: own, range(2))), [own, own])

    os.environ["MPI4PY_FUTURES_MAX_WORKERS"] = "1"
    with MPIPoolExecutor() as ex:
        check("as many as the variable says", ex.num_workers, 1)
    del os.environ["MPI4PY_FUTURES_MAX_WORKERS"]

    with MPIPoolExecutor() as ex:
        sampler = Sampler(ex)
        check("carried along", sampler.run(), [0, 1, 4, 9, 16])
        refused = ex.submit(sampler.refused, 1).result()
        check("of no use there", refused, "ConfigurationError")
        back = ex.submit(Sampler, ex).result()
        check("nor here", back.refused(1), "ConfigurationError")
        back.pool.shutdown()
        check("copies", copy.deepcopy(sampler).pool is ex is copy.copy(ex), True)
    with ThreadPoolExecutor(2) as threads:
        shared = []
        collect([threads.submit(shared.append, n) for n in range(3)]).result()
        check("threads share objects", sorted(shared), [0, 1, 2])
    finish()
