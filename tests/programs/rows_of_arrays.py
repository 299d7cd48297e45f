"""Results as rows of an array: each in its place, or its row stays as it was."""

import os
import tempfile
import time

import numpy as np

import mpitasks as mt
from checking import BAD, check, finish


def row(n, width=5):
    return np.full(width, float(n))


def number(n):
    return n * n


def slow(n):
    time.sleep(0.05 if n == 0 else 0)
    return n


def bad(n):
    return [np.zeros(4), np.zeros(5, complex), "text", None][n % 4]


def boom(n):
    if n == 7:
        raise KeyError("seven")
    return row(n)


def raises(kind, call, words):
    try:
        call()
    except kind as error:
        check(words, words in str(error), True)
    else:
        BAD.append(f"nothing was raised: {words}")


with mt.Executor() as ex:
    out = np.full((20, 5), -1.0)
    check("returns it", ex.map_into(out, row, range(20)) is out, True)
    check("rows", out.tolist(), [[float(n)] * 5 for n in range(20)])
    numbers = np.zeros(1000, np.int64)
    ex.map_into(numbers, number, iter(range(1000)))
    check("numbers", numbers.tolist(), [n * n for n in range(1000)])
    ex.map_into(numbers, pow, range(1000), [2] * 1000, chunksize=7)
    check("two iterables", numbers.tolist(), [n * n for n in range(1000)])
    floats = np.zeros(10, np.float32)
    raises(TypeError, lambda: ex.map_into(floats, np.float64, range(10)), "float64")
    ex.map_into(floats, np.int16, range(10))
    check("a safe cast", floats.tolist(), [float(n) for n in range(10)])
    large = np.zeros((6, 200_000))
    ex.map_into(large, lambda n: row(n, 200_000), range(6), buffersize=2)
    check("large rows", large[:, -1].tolist(), [float(n) for n in range(6)])
    three = np.zeros((4, 3, 2), np.uint8)
    ex.map_into(three, lambda n: np.full((3, 2), n, np.uint8), range(4))
    check("three dimensions", three[:, 2, 1].tolist(), [0, 1, 2, 3])
    order = np.zeros(50)
    seen = list(ex.map_into(order, slow, range(50), ordered=False, chunksize=1))
    check("each row once", sorted(seen), list(range(50)))
    squares = np.arange(100.0)
    ex.map_into(squares, lambda x: x * x, squares)
    check("onto itself", squares.tolist(), [float(n * n) for n in range(100)])
    futures = [ex.submit(number, n) for n in range(10)]
    ex.map_into(numbers[:10], number, futures)
    check("futures", numbers[:10].tolist(), [n**4 for n in range(10)])

    # What does not fit leaves its row as it was.
    for n, words in enumerate(["shape (4,)", "complex128", "shape ()", "shape ()"]):
        out = np.full((1, 5), -1.0)
        raises((ValueError, TypeError), lambda: ex.map_into(out, bad, [n]), words)
        check(words, out.tolist(), [[-1.0] * 5])
    out = np.full((20, 5), -1.0)
    raises(KeyError, lambda: ex.map_into(out, boom, range(20)), "seven")
    check("its row", out[7].tolist(), [-1.0] * 5)
    done = {float(n) for n in range(20)} | {-1.0}
    check("no other values", set(out.ravel().tolist()) <= done, True)

    # Bad arguments.
    full = np.zeros((10, 5))
    raises(TypeError, lambda: ex.map_into([1], row, [1]), "must be a NumPy array")
    raises(TypeError, lambda: ex.map_into(full.astype(object), row, [1]), "objects")
    raises(ValueError, lambda: ex.map_into(np.array(1.0), row, [1]), "no rows")
    raises(ValueError, lambda: ex.map_into(full.T, row, range(5)), "contiguous")
    raises(ValueError, lambda: ex.map_into(full, row, range(9)), "9 items for 10 rows")
    raises(ValueError, lambda: ex.map_into(full, row, iter(range(9))), "9 items for 10")
    raises(ValueError, lambda: ex.map_into(full, row, iter(range(11))), "more items")
    raises(
        ValueError,
        lambda: ex.map_into(full, number, full, buffersize=2),
        "shares its memory",
    )
    full.flags.writeable = False
    raises(ValueError, lambda: ex.map_into(full, row, range(10)), "read-only")
    raises(
        mt.OptionError,
        lambda: ex.map_into(np.zeros((1, 5)), row, [1], return_exceptions=True),
        "no place for exceptions",
    )

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "rows.npy")
    for run in range(2):
        with mt.Executor(journal=os.path.join(folder, "run.db")) as ex:
            rows = np.lib.format.open_memmap(path, "w+", np.float64, (30, 5))
            ex.map_into(rows, row, range(30))
            rows.flush()
            del rows
        got = np.load(path)
        check("a file", got.tolist(), [[float(n)] * 5 for n in range(30)])

finish()
