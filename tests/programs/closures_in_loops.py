"""Closures over loop variables.

In the loop each call sees the value of its turn, after it the last one; as with
plain calls.
"""

import mpitasks as mt
from checking import check, finish


def in_loop(ex):
    futures, plain = [], []
    for i in range(20):
        futures.append(ex.submit(lambda x: x + i, 100))
        plain.append((lambda x: x + i)(100))
    return [f.result() for f in futures], plain


def after_loop(ex):
    functions = [lambda x: x + i for i in range(5)]
    return [ex.submit(f, 0).result() for f in functions], [f(0) for f in functions]


def one_function(ex):
    k = 0

    def f(x):
        return x + k

    def bump():
        nonlocal k
        k += 1

    futures, plain = [], []
    for _ in range(10):
        bump()
        futures.append(ex.submit(f, 0))
        plain.append(f(0))
    return [f.result() for f in futures], plain


def container(ex):
    seen = []

    def f(_):
        return len(seen)

    got, plain = [], []
    for i in range(5):
        seen.append(i)
        got += ex.map(f, [0])
        plain.append(f(0))
    return got, plain


if __name__ == "__main__":
    with mt.Executor() as ex:
        for case in (in_loop, after_loop, one_function, container):
            check(case.__name__, *case(ex))
    finish()
