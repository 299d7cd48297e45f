"""State that tasks keep on a worker (globals, class attributes, caches, function
attributes) stays while the script binds nothing new, also next to other functions
that change.
"""

import functools

import mpitasks as mt
from checking import check, finish

COUNT = 0
CACHE = {}
other = 0


class Conn:
    made = 0
    current = None


@functools.lru_cache(maxsize=None)
def load(k):
    Conn.made += 1
    return [k]


def bump():
    global COUNT
    COUNT += 1
    return COUNT


def remember(k):
    if k not in CACHE:
        CACHE[k] = len(CACHE)
    return CACHE[k]


def connect():
    if Conn.current is None:
        Conn.current = object()
        Conn.made += 1
    return Conn.made


def read():
    return COUNT, len(CACHE), Conn.made


def unrelated(x):
    return x + other


def cached():
    return load("a") is load("a")


if __name__ == "__main__":
    with mt.Executor(max_workers=1) as ex:
        check("bump", [ex.submit(bump).result() for _ in range(3)], [1, 2, 3])
        check(
            "remember", [ex.submit(remember, k).result() for k in "abca"], [0, 1, 2, 0]
        )
        check("connect", [ex.submit(connect).result() for _ in range(3)], [1, 1, 1])
        for other in range(5):
            check("unrelated", ex.submit(unrelated, 1).result(), 1 + other)
        check("read", ex.submit(read).result(), (3, 3, 1))
        check("cached", ex.submit(cached).result(), True)
        check("own", (COUNT, CACHE, Conn.made), (0, {}, 0))
    finish()
