"""Reductions: the bits of the result depend on the numbers of the items alone."""

import concurrent.futures
import functools
import itertools
import math
import time
import operator

import numpy as np

import mpitasks as mt
from checking import BAD, check, finish

SCALE = 3.0


def value(n):
    return SCALE / (n + 1) - math.pi * n


def row(n):
    return np.sin(np.arange(1000.0) * n)


def many(n):
    return np.full(30_000, float(n))


def reference(values, op):
    """Return what the tree gives, without any tasks."""
    leaves, at, size = [], 0, 1
    while at < len(values):
        leaves.append(functools.reduce(op, values[at : at + size]))
        at += size
        if len(leaves) % 1024 == 0:
            size *= 2
    levels = [leaves]
    while len(levels[-1]) >= 16:
        last = levels[-1]
        full = len(last) - len(last) % 16
        levels.append(
            [functools.reduce(op, last[k : k + 16]) for k in range(0, full, 16)]
        )
        levels[-2] = last[full:]
    return functools.reduce(op, [part for level in levels[::-1] for part in level])


def fail(n):
    if n == 30:
        raise ValueError(f"no {n}")
    return n


def add(x, y):
    return x * y


def worse(x, y):
    raise KeyError("op")


with mt.Executor() as ex:
    for count in (1, 2, 15, 16, 17, 300, 1024, 1025, 5000):
        values = list(map(value, range(count)))
        want = reference(values, operator.add)
        check(f"{count}", ex.map_reduce(value, range(count), operator.add), want)
        got = ex.map_reduce(value, iter(range(count)), operator.add)
        check(f"{count} of an iterator", got, want)
        exact = ex.map_reduce(value, range(count), exact=True)
        check(f"{count} exactly", exact, math.fsum(values))
    rows = [row(n) for n in range(1200)]
    got = ex.map_reduce(row, range(1200), op=np.add)
    check("arrays", got.tobytes() == reference(rows, np.add).tobytes(), True)
    check(
        "the greatest", ex.map_reduce(many, range(40), np.maximum).min(), np.float64(39)
    )
    check(
        "initial",
        ex.map_reduce(str, range(20), operator.add, initial=">"),
        ">" + "".join(map(str, range(20))),
    )
    check("initial alone", ex.map_reduce(str, [], operator.add, initial=">"), ">")
    SCALE = 5.0
    check(
        "new globals",
        ex.map_reduce(value, range(3), operator.add),
        reference([value(n) for n in range(3)], operator.add),
    )
    futures = [ex.submit(value, n) for n in range(40)]
    want = reference([f.result() for f in futures], operator.add)
    check("futures", ex.reduce(operator.add, futures).result(), want)
    check("futures as items", ex.map_reduce(float, futures, operator.add), want)
    check("one", ex.reduce(operator.add, futures[:1]).result(), futures[0].result())
    later = ex.reduce(operator.add, [ex.submit(many, n) for n in range(5)], initial=0.5)
    check("and goes on", ex.submit(np.sum, later).result(), np.float64(30_000 * 10.5))
    for name, call in {
        "a function that raises": lambda: ex.map_reduce(fail, range(99), operator.add),
        "an operation that raises": lambda: ex.map_reduce(fail, range(9), worse),
    }.items():
        try:
            call()
        except (ValueError, KeyError) as error:
            check(name, str(error), "no 30" if "function" in name else "'op'")
        else:
            BAD.append(name)
    numbered = ((ex.submit(abs, -1) if n % 700 == 0 else 1, n) for n in range(2100))
    got = ex.map_reduce(sum, numbered, operator.add)
    check("futures of a generator", got, 2100 + 2100 * 2099 // 2)

    def endless():
        for n in itertools.count(25):
            time.sleep(0.001)
            yield n

    try:
        ex.map_reduce(fail, endless(), operator.add)
    except ValueError as error:
        check("ends with the first failure", str(error), "no 30")
    try:
        ex.map_reduce(abs, itertools.count(), operator.add, timeout=0.3)
    except concurrent.futures.TimeoutError:
        pass
    for name, options in {
        "add": {"exact": True, "op": add},
        "key": {"op": operator.add, "key": "x"},
        "max_failures": {"op": operator.add, "max_failures": 3},
    }.items():
        try:
            ex.map_reduce(abs, [1], **options)
        except (ValueError, mt.OptionError) as error:
            check(name, name in str(error), True)
        else:
            BAD.append(name)
    check("afterwards", ex.submit(abs, -1).result(), 1)

finish()
