"""Recursion, mutual recursion, decorators with and without wraps, class decorators,
stacked ones.
"""

import contextlib
import functools

import mpitasks as mt
from checking import check, finish


def plain(f):
    def wrapper(*a):
        return ("plain", f(*a))

    return wrapper


def wrapped(f):
    @functools.wraps(f)
    def wrapper(*a):
        wrapper.calls += 1
        return ("wrapped", wrapper.calls, f(*a))

    wrapper.calls = 0
    return wrapper


class Counted:
    def __init__(self, f):
        functools.update_wrapper(self, f)
        self.f, self.calls = f, 0

    def __call__(self, *a):
        self.calls += 1
        return ("counted", self.calls, self.f(*a))


def fact(n):
    return 1 if n < 2 else n * fact(n - 1)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


@plain
def one(x):
    return x


@wrapped
def two(x):
    return x if x <= 0 else two(x - 1)


@Counted
def three(x):
    return x


@plain
@wrapped
def four(x):
    return x


@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@contextlib.contextmanager
def opened(x):
    yield x * 2


def five(x):
    with opened(x) as y:
        return y


if __name__ == "__main__":
    cases = [(fact, 10), (even, 7), (odd, 7), (one, 1), (four, 1), (fib, 30), (five, 4)]
    with mt.Executor() as ex:
        for f, x in cases:
            got = ex.submit(f, x).result()
            if f is four:
                got, want = got[1][2], 1
            else:
                want = f(x)
            check(getattr(f, "__qualname__", "?"), got, want)
            check("map", len(list(ex.map(f, [x] * 3))), 3)
        deep = ex.submit(two, 2).result()
        check("wraps", deep, ("wrapped", 1, ("wrapped", 2, ("wrapped", 3, 0))))
        check("own count", two.calls, 0)
        check("class decorator", ex.submit(three, 5).result()[2], 5)
        check("own count", three.calls, 0)
        fact = fib
        check("rebound", ex.submit(five, 2).result(), 4)
    finish()
