"""Locks that know who holds them, for the program that looks at ours from its hooks.

A module of its own, so that workers have another copy, in which nothing is looked at.
"""

import gc
import threading

from checking import BAD, check

LOCKS = {}
FIRED = {}
THEN = {"raise": None, "call": False}
CURRENT = []
RAISING = {"reduce", "getstate", "setstate", "made", "iter", "next", "nbytes", "len"}
CALLING = threading.local()
COLLECTING = []


def note_collection(phase, info):
    """Know whether a finalizer is run by the garbage collector."""
    if phase == "start":
        COLLECTING.append(1)
    else:
        COLLECTING.clear()


gc.callbacks.append(note_collection)


class Owned:
    """A lock that knows which thread holds it, in the place of one of ours."""

    def __init__(self):
        self._lock = threading.Lock()
        self._owner = None

    def acquire(self, blocking=True, timeout=-1):
        if blocking and self._owner == threading.get_ident():
            BAD.append("a thread waits for a lock that it holds")
            raise RuntimeError("deadlock")
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._owner = threading.get_ident()
        return taken

    def release(self):
        self._owner = None
        self._lock.release()

    def locked(self):
        return self._lock.locked()

    def mine(self):
        return self._owner == threading.get_ident()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *error):
        self.release()


class OwnedAgain:
    """The same for a lock that its thread may take again."""

    def __init__(self):
        self._lock = threading.RLock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        self.mine = self._lock._is_owned

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *error):
        self._lock.release()


def fire(name):
    """A hook was called: on rank 0 look at the locks, call back, raise."""
    if not LOCKS:  # on a worker
        return
    FIRED[name] = FIRED.get(name, 0) + 1
    held = [lock for lock, each in LOCKS.items() if each.mine()]
    if held and not COLLECTING:  # nobody can say when the garbage collector runs
        BAD.append(f"{name} runs under {held}")
    if THEN["call"] and not getattr(CALLING, "now", False):
        CALLING.now = True
        try:
            call_back(name)
        finally:
            CALLING.now = False
    if THEN["raise"] is not None and name in RAISING:
        raise THEN["raise"](name)


def call_back(name):
    """Use the executor from a hook."""
    executor = CURRENT[0]
    if COLLECTING:  # it may not wait
        executor.submit(abs, -6).cancel()
        return
    check(f"submit in {name}", executor.submit(abs, -3).result(30), 3)
    check(f"map in {name}", list(executor.map(abs, [-1, -2])), [1, 2])
    executor.submit(abs, -4).cancel()
