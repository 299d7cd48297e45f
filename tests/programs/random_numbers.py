"""mt.rng().

The same numbers for any ranks, chunk sizes, retries; different ones for each task;
by seed.
"""

import numpy as np

import mpitasks as mt
from checking import check, finish


def draw(_=0):
    return mt.rng().random(3).tolist()


def twice(_=0):
    return mt.rng().random(), mt.rng().random()


def flaky(_=0):
    value = mt.rng().random()
    if mt.current_task().attempt < 2:
        raise ValueError
    return value


def steady(_=0):
    return mt.rng().random()


if __name__ == "__main__":

    def run(**options):
        with mt.Executor(seed=7) as ex:
            a = [ex.submit(draw).result() for _ in range(3)]
            b = list(ex.map(draw, range(5), **options))
            c = list(ex.map(draw, range(5), **options))
            d = [f.result() for f in [ex.submit(draw) for _ in range(3)]]
            return a, b, c, d

    one, two = run(chunksize=1), run(chunksize=4)
    check("chunks", one, two)
    flat = [tuple(v) for part in one for v in part]
    check("different", len(set(flat)), len(flat))
    with mt.Executor(seed=8) as ex:
        check("other seed", ex.submit(draw).result() == one[0][0], False)
    with mt.Executor(seed=7) as ex:
        check("same seed", ex.submit(draw).result(), one[0][0])
    with mt.Executor(seed=7) as ex:
        a = ex.submit(steady).result()
    with mt.Executor(seed=7) as ex:
        check("retry", ex.with_options(retries=2).submit(flaky).result(), a)
    print("numbers", one[0][0][0], one[1][0][0], one[3][2][2])
    finish()
