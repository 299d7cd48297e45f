"""Features of the language in tasks.

Async, generators, context managers, properties, descriptors, super, mangling,
partialmethod, slots, match, walrus, globals of nested scopes.
"""

import asyncio
import contextlib
import functools
import itertools

import mpitasks as mt
from checking import check, finish


async def double(x):
    await asyncio.sleep(0)
    return x * K


async def several(n):
    return await asyncio.gather(*(double(i) for i in range(n)))


async def agen(n):
    for i in range(n):
        yield i * K


def gen(n):
    for i in range(n):
        got = yield i * K
        if got:
            yield got


@contextlib.contextmanager
def doubled(x):
    yield x * K


class Base:
    def hello(self):
        return "base"

    def __init_subclass__(cls, /, tag="none", **kw):
        cls.tag = tag


class Child(Base, tag="child"):
    def __init__(self):
        self.__hidden = K

    def hello(self):
        return super().hello() + " child " + __class__.__name__

    @property
    def hidden(self):
        return self.__hidden

    @hidden.setter
    def hidden(self, v):
        self.__hidden = v + K

    @functools.cached_property
    def slow(self):
        return [K]

    def add(self, a, b):
        return a + b + K

    add_one = functools.partialmethod(add, 1)

    def __class_getitem__(cls, item):
        return (cls.__name__, item)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        return True


K = 2


def work(n):
    async def collect():
        return [x async for x in agen(n)]

    c = Child()
    c.hidden = 3
    with c:
        raise ValueError("swallowed")
    with doubled(3) as d:
        pass
    match (n, d):
        case (int(a), int(b)) if a < b:
            m = "less"
        case _:
            m = "more"
    total = [y := K, y**2]
    return (
        asyncio.run(several(n)),
        asyncio.run(collect()),
        list(gen(n)),
        c.hello(),
        c.tag,
        c.hidden,
        c.slow,
        c.slow is c.slow,
        c.add_one(2),
        Child[int],
        d,
        m,
        total,
        {i: j * K for i, j in zip("ab", itertools.count())},
        [[K for _ in range(2)] for _ in range(2)],
        functools.reduce(lambda a, b: a * b * K, [1, 2, 3]),
    )


def returns_generator():
    return gen(3)


if __name__ == "__main__":
    with mt.Executor() as ex:
        for K in (2, 5):
            check(f"K {K}", ex.submit(work, 3).result(), work(3))
        e = ex.submit(returns_generator).exception()
        check("generator", isinstance(e, mt.SerializationError), True)
        e = ex.submit(double, 3).exception()
        check("coroutine", isinstance(e, mt.SerializationError), True)
        check("after", ex.submit(work, 1).result(), work(1))
    finish()
