"""Globals with locks, files, sockets, generators, modules, thread pools.

A clear error if a task needs them, none if it does not; other tasks go on.
"""

import logging
import socket
import threading

import mpitasks as mt
from checking import BAD, check, finish

LOCK = threading.Lock()
FILE = open(__file__)
GEN = (i for i in range(3))
LOG = logging.getLogger("mine")
NUMBER = 1


class WithLock:
    lock = threading.Lock()

    def get(self):
        with self.lock:
            return 7


class Service:
    name = "service"

    def __init__(self):
        self.mutex = threading.RLock()
        self.v = 3

    def __getstate__(self):
        return {"v": self.v}

    def __setstate__(self, s):
        self.__dict__.update(s)
        self.mutex = threading.RLock()

    def get(self):
        with self.mutex:
            return self.v + NUMBER


class Plain:
    def __init__(self):
        self.lock = threading.Lock()

    def get(self):
        return 1


def needs_lock():
    with LOCK:
        return NUMBER


def needs_file():
    return FILE.name


def needs_gen():
    return next(GEN)


def innocent():
    LOG.debug("x")
    return NUMBER


def name():
    return Service.name


if __name__ == "__main__":
    with mt.Executor() as ex:
        for NUMBER in (1, 2):
            check("innocent", ex.submit(innocent).result(), NUMBER)
            for f in (needs_lock, needs_file, needs_gen):
                e = ex.submit(f).exception()
                ok = isinstance(e, mt.SerializationError) and any(
                    w in str(e)
                    for w in ("lock", "LOCK", "FILE", "TextIO", "generator", "GEN")
                )
                if e is not None and not ok:
                    BAD.append(f"{f.__name__}: {e!r}")
            check("service", ex.submit(Service().get).result(), 3 + NUMBER)
            f = ex.submit(WithLock().get)
            if f.exception() is None:
                check("class with lock", f.result(), 7)
            elif "lock" not in str(f.exception()):
                BAD.append(f"class with lock: {f.exception()!r}")
            e = ex.submit(Plain().get).exception()
            check("plain", isinstance(e, mt.SerializationError), True)
            check("after", ex.submit(innocent).result(), NUMBER)
    finish()
