"""Hooks of classes of the script, which travel by value: they run under no lock of ours.

What a class answers by its metaclass, what an exception computes, what `retry_on` and
`wait` compare. The locks are looked at on rank 0, where the hooks may raise anything;
finalizers that run in the middle of a turn are refused what would wait for it.
"""

import functools
import pathlib
import signal
import tempfile

import locks
import mpitasks as mt
from checking import check, finish
from locks import CURRENT, FIRED, LOCKS, THEN, Owned, OwnedAgain, fire
from mpitasks.api import session
from mpitasks.master import future as futures


class Meta(type):
    def __hash__(cls):
        fire("hash of a class")
        return 1

    def __eq__(cls, other):
        fire("eq of a class")
        return cls is other

    def __instancecheck__(cls, instance):
        fire("instancecheck")
        return True

    def __getattr__(cls, name):
        fire("getattr of a class")
        raise AttributeError(name)


class Classed(metaclass=Meta):
    pass


class Retried(Exception, metaclass=Meta):
    pass


class Properties(Exception):
    @property
    def args(self):
        fire("args")
        return ()

    @property
    def __cause__(self):
        fire("cause")
        return None

    @property
    def __traceback__(self):
        fire("traceback")
        return None


class Text(str):
    def __eq__(self, other):
        fire("eq of text")
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def same(x):
    return x


def make(n):
    class Inner(metaclass=Meta):
        pass

    return Inner()


def fail(n):
    raise Properties(n)


def fail_retried(n):
    raise Retried(n)


def uses(executor):
    """Yield what users do, each as a function."""
    retrying = executor.with_options(retries=1, retry_delay=0.0)
    yield lambda: executor.submit(same, Classed()).result(30)
    yield lambda: executor.submit(same, Classed).result(30)
    yield lambda: executor.submit(make, 1).result(30)
    yield lambda: list(executor.map(same, [Classed(), 1, Classed()]))
    yield lambda: list(executor.map(make, range(3)))
    yield lambda: executor.submit(functools.partial(same, Classed())).result(30)
    yield lambda: executor.submit(fail, 1).result(30)
    yield lambda: retrying.submit(fail, 1).result(30)
    yield lambda: list(retrying.map(fail, range(3), return_exceptions=True))
    yield (
        lambda: (
            retrying.with_options(retry_on=Retried).submit(fail_retried, 1).result(30)
        )
    )
    yield lambda: list(
        retrying.map(fail_retried, range(3), retry_on=Retried, chunksize=3)
    )
    yield lambda: mt.wait([executor.submit(same, 1)], 30, Text("FIRST_COMPLETED"))


def run(executor):
    for number, use in enumerate(uses(executor)):
        try:
            use()
        except (mt.SerializationError, mt.RemoteError):
            pass
        except BaseException as error:
            kinds = ("Properties", "Retried", "TypeError")
            if THEN["raise"] is None or type(error) is not THEN["raise"]:
                check(f"what use {number} raises", type(error).__name__ in kinds, True)
        check("and then", executor.submit(abs, -5).result(30), 5)


class Interrupting:
    def __reduce__(self):
        signal.raise_signal(signal.SIGINT)
        return Interrupting, ()


def interrupt(executor):
    """Ctrl-C in the midst of a hook is the script's."""
    try:
        executor.submit(same, Interrupting())
    except KeyboardInterrupt:
        check("after Ctrl-C", executor.submit(abs, -5).result(30), 5)
    else:
        check("Ctrl-C in a hook", "went by", "raised")


def refused(executor, use):
    """A finalizer in the middle of a turn: what it may not do is refused."""
    said = []

    def finalize(*args):
        if not said:
            said.append(None)
            try:
                use()
            except BaseException as error:
                said.append(error)

    engine = session.current().event_loop.engine
    engine.listeners.append(finalize)
    check("with a finalizer", executor.submit(abs, -5).result(30), 5)
    engine.listeners.remove(finalize)
    check("refused", type(said[1]), mt.ConfigurationError)


def main():
    folder = pathlib.Path(tempfile.mkdtemp())
    for journal in (None, folder / "run.db"):
        with mt.Executor(journal=journal) as executor:
            CURRENT[:] = [executor]
            executor.submit(abs, 1).result()  # so that there is a session
            event_loop = session.current().event_loop
            event_loop._lock, event_loop._driver = Owned(), Owned()
            futures._gate = OwnedAgain()
            LOCKS.update(
                event_loop=event_loop._lock,
                driver=event_loop._driver,
                gate=futures._gate,
            )
            run(executor)
            THEN["call"] = True
            run(executor)
            THEN["call"] = False
            for kind in (ValueError, SystemExit, KeyboardInterrupt, MemoryError):
                locks.RAISING.update(FIRED)
                THEN["raise"] = kind
                run(executor)
            THEN["raise"] = None
            run(executor)
            LOCKS.clear()
            interrupt(executor)
            refused(executor, lambda: mt.Executor())  # noqa: B023
            refused(executor, lambda: executor.submit(abs, -1).result(5))  # noqa: B023
            refused(executor, lambda: executor.shutdown())  # noqa: B023
            del executor
    finish()


if __name__ == "__main__":
    main()
