"""30 partials of 20 MB that the script keeps, used in turn.

Right values whatever the worker had to drop.
"""

import functools

import numpy as np

import mpitasks as mt
from checking import check, finish


def member(table, i):
    return float(table[i])


if __name__ == "__main__":
    held = [functools.partial(member, np.full(2_500_000, float(n))) for n in range(30)]
    with mt.Executor() as ex:
        for turn in range(2):
            futures = [ex.submit(f, 3) for f in held]
            check("turn", [f.result() for f in futures], [float(n) for n in range(30)])
        held[7].args[0][3] = 99.0
        check("in place", list(ex.map(held[7], [3])), [99.0])
        maps = [ex.map(f, [0, 1]) for f in held[:8]]
        check("maps", [list(m)[0] for m in maps], [float(n) for n in range(8)])
    finish()
