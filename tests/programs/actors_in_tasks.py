"""Handles of actors in tasks, in closures, in results, and in other actors."""

import concurrent.futures
import os
import threading

import numpy as np

import mpitasks as mt
from checking import check, finish

CALLS = int(os.environ.get("CALLS", "2000"))


class Item:
    """An object of a class of the script, which goes both ways."""

    def __init__(self, value):
        self.value = value


class Counter:
    def __init__(self):
        self.value = 0

    def add(self, n=1):
        self.value += n
        return self.value

    def fail(self):
        raise KeyError("on purpose")

    def wrap(self, item, scale=1):
        return Item(item.value * scale)

    def total(self, array):
        return float(array.sum())

    def slow(self):
        while True:
            pass


class Friend:
    """Calls others, and waits for them."""

    def __init__(self, other=None):
        self.other = other

    def meet(self, other):
        self.other = other

    def add(self, n):
        return self.other.add(n).result()

    def ask(self, n):
        """Ask the other, who asks back."""
        return self.other.answer(n).result()

    def answer(self, n):
        return self.other.number(n).result()

    def number(self, n):
        return n

    def spawn(self, counter):
        """Have actors and tasks of its own, beside that of the script."""
        with mt.Executor() as inner:
            own = inner.actor(Counter)
            values = [own.add().result() for _ in range(3)]
            values.append(inner.submit(count, counter, 1).result()[0] > 0)
            refused = raised(lambda: inner.submit(count, own, 1))
            return [*values, refused]


def count(counter, times):
    return [counter.add().result() for _ in range(times)]


def count_ahead(counter, times):
    return [f.result() for f in [counter.add() for _ in range(times)]]


def raised(call):
    try:
        call().result()
    except BaseException as error:
        return type(error).__name__
    return None


def try_all(counter):
    item = counter.wrap(Item(3), scale=2).result()
    futures = [counter.add(0) for _ in range(3)]
    done = concurrent.futures.wait(futures).done
    found = []
    thread = threading.Thread(target=lambda: found.append(raised(counter.add)))
    thread.start()
    thread.join()
    return [
        (type(item).__name__, item.value),
        counter.total(np.ones(100_000)).result(),
        len(done),
        counter.get("value").result() >= 0,
        raised(counter.fail),
        raised(lambda: counter.call("nothing")),
        raised(lambda: counter.add.with_options(keep=True)(1)),
        raised(counter.slow.with_options(timeout=0.1)),
        found,
    ]


WANTED = [
    ("Item", 6),
    100_000.0,
    3,
    True,
    "KeyError",
    "AttributeError",
    "OptionError",
    "TaskTimeout",
    ["ConfigurationError"],
]


def limited(friend):
    return friend.add(1).result()


def alone(counter):
    return raised(counter.add)


def give(counter):
    return counter


if __name__ == "__main__":
    with mt.Executor() as ex:
        counter = ex.actor(Counter)
        check("all", ex.submit(try_all, counter).result(), WANTED)
        check("in a closure", ex.submit(lambda: counter.add(0).result()).result(), 0)
        again = ex.submit(give, counter).result()
        check("in a result", again.add(0).result(), 0)
        tasks = [ex.submit(count, counter, CALLS // 20) for _ in range(10)]
        tasks += [ex.submit(count_ahead, counter, CALLS // 20) for _ in range(10)]
        lists = [task.result() for task in tasks]
        found = sorted(value for values in lists for value in values)
        check("no gap", found == list(range(1, CALLS + 1)), True)
        check("own order", all(values == sorted(values) for values in lists), True)

        front = ex.actor(Friend, ex.actor(Friend, counter))
        check("actors call actors", front.add(0).result(), CALLS)
        one, two = ex.actor(Friend), ex.actor(Friend)
        one.meet(two).result()
        two.meet(one).result()
        for _ in range(3):
            check("a circle", raised(lambda: one.ask(1)), "ActorCycle")
            check("both live on", one.number(1).result() + two.number(1).result(), 2)
        one.meet(one).result()
        check("waits for itself", raised(lambda: one.add(1)), "ActorCycle")
        wanted = [1, 2, 3, True, "SerializationError"]
        check("its own tasks", one.spawn(counter).result(), wanted)
        check("own actors are apart", counter.add(0).result(), CALLS + 1)
        view = ex.with_options(isolate=True)
        check("isolated", view.submit(alone, counter).result(), "ConfigurationError")
        counter.close()
        closed = ex.submit(alone, again)
        check("closed for tasks", closed.result(), "ActorDied")
    finish()
