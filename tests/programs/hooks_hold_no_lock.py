"""Every hook that Python offers a user's object, on rank 0: it runs in a thread that
holds no lock of ours, may call back into the executor, and may raise anything.
"""

import functools

import locks
import mpitasks as mt
from checking import check, finish
from locks import CURRENT, FIRED, LOCKS, THEN, Owned, fire
from mpitasks.master import future as futures
from mpitasks.api import session


def made(name="made"):
    fire(name)
    return Hooked()


class Hooked:
    """An item, an argument, a result."""

    def __init__(self):
        self.text = "hooked"

    def __getstate__(self):
        fire("getstate")
        return {"text": self.text}

    def __setstate__(self, state):
        fire("setstate")
        self.__dict__.update(state)

    def __eq__(self, other):
        fire("eq")
        return self is other

    def __hash__(self):
        fire("hash")
        return 1

    def __len__(self):
        fire("len")
        return 3

    @property
    def nbytes(self):
        fire("nbytes")
        return 1 << 20

    def __bool__(self):
        fire("bool")
        return True

    def __repr__(self):
        fire("repr")
        return "Hooked()"

    def __buffer__(self, flags):
        fire("buffer")
        raise BufferError("none")

    def __del__(self):
        fire("del")


class Reduced(Hooked):
    def __reduce__(self):
        fire("reduce")
        return made, ()


class HookedError(Exception):
    def __init__(self, *args):
        super().__init__(*args)
        fire("made")

    def __str__(self):
        fire("str")
        return "text"

    def __eq__(self, other):
        fire("eq")
        return self is other

    __hash__ = Exception.__hash__


class Items:
    """What a map iterates over."""

    def __init__(self, kind, count):
        self.kind, self.left = kind, count

    def __iter__(self):
        fire("iter")
        return self

    def __next__(self):
        fire("next")
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.kind()

    def __len__(self):
        fire("len")
        return self.left

    def __length_hint__(self):
        fire("length_hint")
        return self.left


class Callable:
    def __init__(self):
        self.held = Hooked()

    def __call__(self, x):
        return self.held if x is None else type(x).__name__

    def __eq__(self, other):
        fire("eq")
        return self is other

    def __hash__(self):
        fire("hash")
        return 2


def same(x, *more):
    return x


def make(x):
    return Reduced()


def raise_hooked(x):
    raise HookedError(x)


def fail_once(x):
    if mt.current_task().attempt == 1:
        raise HookedError(x)
    return Hooked()


def uses(executor):
    """Yield what users do, each as a function."""
    yield lambda: executor.submit(same, Hooked()).result(30)
    yield lambda: executor.submit(same, Reduced()).result(30)
    yield lambda: executor.submit(same, [Hooked()] * 3, Reduced()).result(30)
    yield lambda: executor.submit(Callable(), None).result(30)
    yield lambda: executor.submit(functools.partial(same, Reduced()), 1).result(30)
    yield lambda: executor.submit(make, 1).result(30)
    yield lambda: list(executor.map(make, range(4)))
    yield lambda: executor.submit(raise_hooked, 1).exception(30)
    yield (
        lambda: (
            executor.with_options(retries=1, retry_delay=0.0)
            .submit(fail_once, 1)
            .result(30)
        )
    )
    yield lambda: list(executor.map(same, Items(Hooked, 5)))
    yield lambda: list(executor.map(same, Items(Reduced, 5), chunksize=2))
    yield lambda: list(executor.map(same, Items(Hooked, 3), Items(Reduced, 3)))
    yield lambda: list(executor.starmap(same, [(Hooked(), 1), (Reduced(), 2)]))
    yield lambda: list(executor.map_unordered(same, Items(Hooked, 5), buffersize=2))
    yield lambda: list(executor.map(raise_hooked, range(3), return_exceptions=True))
    yield lambda: list(
        executor.map(fail_once, range(3), retries=1, retry_delay=0.0, chunksize=2)
    )
    yield lambda: list(executor.map(Callable(), [Hooked(), Reduced()]))
    yield lambda: list(executor.map(raise_hooked, range(4), fail_fast=True))
    yield lambda: watched(executor)


def watched(executor):
    """Done-callbacks, and a future that nobody asks for its result."""
    seen = []
    future = executor.submit(same, Reduced())
    future.add_done_callback(lambda done: (fire("callback"), seen.append(done)))
    future.result(30)
    executor.submit(same, Reduced())
    executor.submit(same, 1).result(30)
    check("callbacks", len(seen), 1)


def run(executor):
    for use in uses(executor):
        try:
            use()
        except (HookedError, mt.SerializationError):
            pass
        except BaseException as error:
            if THEN["raise"] is None or not isinstance(error, THEN["raise"]):
                raise
        check("and then", executor.submit(abs, -5).result(30), 5)


def main():
    with mt.Executor() as executor:
        CURRENT.append(executor)
        executor.submit(abs, 1).result()  # so that there is a session
        event_loop = session.current().event_loop
        event_loop._lock, event_loop._driver, futures._gate = Owned(), Owned(), Owned()
        LOCKS.update(
            event_loop=event_loop._lock, driver=event_loop._driver, gate=futures._gate
        )
        run(executor)
        THEN["call"] = True
        run(executor)
        THEN["call"] = False
        kinds = [ValueError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError]
        for kind in kinds:
            THEN["raise"] = kind
            run(executor)
        THEN["raise"] = None
        run(executor)
        wanted = {"reduce", "getstate", "setstate", "made", "iter", "next", "callback"}
        check("never called", sorted(wanted - set(FIRED)), [])
        LOCKS.clear()
    finish()


if __name__ == "__main__":
    main()
