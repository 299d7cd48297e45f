"""A lazy map (buffersize, map_unordered) runs the function as it was when the map was
called, whatever the loop over its results rebinds.
"""

import mpitasks as mt
from checking import check, finish

alpha = 1
TABLE = {"k": 1}


def f(x):
    return x * alpha, TABLE["k"]


if __name__ == "__main__":
    with mt.Executor() as ex:
        got = []
        for i, value in ex.map_unordered(f, range(1, 301), chunksize=2):
            got.append((i, value))
            alpha = 2
        check("map_unordered", sorted(got), [(i, (i + 1, 1)) for i in range(300)])
        alpha, got = 5, []
        for value in ex.map(f, range(300), buffersize=4, chunksize=1):
            got.append(value[0])
            alpha = 6
        check("buffersize", got, [5 * i for i in range(300)])
        check("starmap", [v[0] for v in ex.starmap(f, [(1,), (2,)])], [6, 12])
    finish()
