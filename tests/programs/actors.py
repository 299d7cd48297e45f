"""Actors: an object on a worker is what the same object in the script would be."""

import concurrent.futures
import gc
import time

import numpy as np

import mpitasks as mt
from checking import check, finish

OFFSET = 100


class Counter:
    """Counts; raises; keeps what it was given."""

    def __init__(self, value=0, *, step=1):
        self.value = value
        self.step = step
        self.seen = []

    def add(self, n=None):
        self.value += self.step if n is None else n
        return self.value

    def note(self, what):
        self.seen.append(what)
        return len(self.seen)

    def fail(self, kind):
        raise kind("on purpose")

    def offset(self):
        return self.value + OFFSET

    def slow(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    def who(self):
        task = mt.current_task()
        return task.label, task.rank

    def fill(self, n):
        return np.full(n, float(self.value))


class Broken:
    def __init__(self, what):
        raise LookupError(what)

    def method(self):
        return "never"


class Store(dict):
    """Has methods that a handle has, too."""

    def put(self, key, value):
        self[key] = value


class Unsent:
    def __init__(self, value):
        self.value = value


def later(value):
    return value + 1


def raised(call):
    """Return what a call, or the future that it returns, raises."""
    try:
        value = call()
        if isinstance(value, concurrent.futures.Future):
            value.result()
    except BaseException as error:
        return type(error).__name__
    return None


def order(ex):
    counter = ex.actor(Counter, 5, step=2)
    check("first", counter.add().result(), 7)
    futures = [counter.add(1) for _ in range(2000)]
    check("in order", [f.result() for f in futures], list(range(8, 2008)))
    check("get", counter.get("value").result(), 2007)
    slow = ex.submit(later, 1)
    futures = [counter.note(slow), counter.note("b"), counter.note([slow])]
    check("held up by inputs", [f.result() for f in futures], [1, 2, 3])
    check("values of inputs", counter.get("seen").result(), [2, "b", [2]])
    done = set(concurrent.futures.as_completed([counter.add() for _ in range(10)]))
    check("as_completed", len(done), 10)
    check("as an argument", ex.submit(later, counter.get("step")).result(), 3)
    counter.close()


def state(ex):
    global OFFSET
    counter = ex.actor(Counter, 1)
    check("globals", counter.offset().result(), 101)
    OFFSET = 200
    check("globals follow the script", counter.offset().result(), 201)
    OFFSET = 100
    kept = counter.fill.with_options(keep=True)(100_000)
    check("kept", float(ex.submit(np.sum, kept).result()), 100_000.0)
    check("array in order", counter.note(np.ones(200_000)).result(), 1)
    named = ex.actor(Counter, label="tally")
    label, rank = named.who().result()
    check("label", label, "tally")
    check("own label", named.who.with_options(label="x")().result()[0], "x")
    check("always there", {named.who().result()[1] for _ in range(9)}, {rank})


def failures(ex):
    counter = ex.actor(Counter)
    for kind in (KeyError, SystemExit, KeyboardInterrupt, StopIteration):
        name = kind.__name__
        check(name, raised(lambda kind=kind: counter.fail(kind)), name)
    check("lives on", counter.add().result(), 1)
    broken = ex.actor(Broken, "cause")
    for _ in range(2):
        check("constructor", raised(broken.method), "LookupError")
    check("unknown method", raised(lambda: counter.nothing), "AttributeError")
    check("unknown attribute", raised(lambda: counter.get("no")), "AttributeError")
    check("no attribute to set", raised(lambda: counter.put(1)), "AttributeError")
    limited = counter.slow.with_options(timeout=0.2)
    check("timeout", raised(lambda: limited(60.0)), "TaskTimeout")
    check("after timeout", counter.add().result(), 2)
    check("option", raised(lambda: counter.add.with_options(retries=1)), "OptionError")
    check("no class", raised(lambda: ex.actor(later, 1)), "TypeError")
    check("checkpoint", raised(lambda: ex.actor(Counter, checkpoint=2)), "OptionError")
    check("isolate", raised(lambda: ex.actor(Counter, isolate=True)), "OptionError")
    check("rank", raised(lambda: ex.actor(Counter, rank=99)), "OptionError")
    check("node", raised(lambda: ex.actor(Counter, node="nowhere")), "OptionError")
    sent = ex.actor(Unsent, 1)
    check("unpicklable", raised(lambda: ex.actor(Unsent, gc.get_objects)), None)
    generator = (n for n in range(3))
    error = raised(lambda: ex.actor(Unsent, generator))
    check("unpicklable argument", error, "SerializationError")
    check("of a call", raised(lambda: counter.note(generator)), "SerializationError")
    sent.close()
    check("closed", raised(lambda: sent.get("value")), "ExecutorClosedError")
    with ex.actor(Counter) as short:
        last = short.add()
    check("what was called before", last.result(), 1)
    check("after with", raised(short.add), "ExecutorClosedError")


def names(ex):
    store = ex.actor(Store)
    store.put("a", 1)
    check("own get", raised(lambda: store.get("a")), "TypeError")
    check("call", store.call("get", "a").result(), 1)


def groups(ex):
    with ex.actors(Counter, 3, per="rank") as group:
        check("one a rank", len(group), ex.num_workers)
        check("all", [f.result() for f in group.call("add")], [4] * len(group))
        ranks = [f.result()[1] for f in group.call("who")]
        check("own ranks", len(set(ranks)), len(group))
    with ex.actors(Counter, per="node") as group:
        check("one host", len(group), 1)
    if ex.num_workers == 1:
        text = raised(lambda: ex.actor(Counter, exclusive=True))
        check("exclusive", text, "OptionError")
        return
    with ex.actor(Counter, exclusive=True) as alone:
        rank = alone.who().result()[1]
        there = {f.result() for f in [ex.submit(where) for _ in range(200)]}
        check("nothing else there", rank in there, False)
        text = raised(lambda: ex.actor(Counter, exclusive=True))
        check("one rank for tasks", text, "OptionError")


def where():
    return mt.current_task().rank


class Alive:
    """Says whether its own state is still in memory."""

    living = 0

    def __init__(self):
        Alive.living += 1

    def __del__(self):
        Alive.living -= 1

    def count(self):
        gc.collect()
        return Alive.living


def memory(ex):
    """Without a handle there is no state: also with calls that nobody waits for."""
    gc.collect()
    watcher = ex.actor(Alive)
    for _ in range(5):
        short = ex.actor(Alive)
        short.count()
        del short
    while watcher.count().result() > 1:  # others end when a poll sees that
        pass
    check("state leaves", watcher.count().result(), 1)


def end():
    """A handle after its Executor, and after nothing."""
    with mt.Executor() as ex:
        counter = ex.actor(Counter)
        check("before", counter.add().result(), 1)
    check("after its Executor", raised(counter.add), "ExecutorClosedError")


if __name__ == "__main__":
    with mt.Executor() as ex:
        order(ex)
        state(ex)
        failures(ex)
        names(ex)
        groups(ex)
        memory(ex)
    end()
    finish()
