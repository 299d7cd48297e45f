"""Tasks that have tasks: each means what the same calls in the script mean."""

import asyncio
import concurrent.futures
import dataclasses
import operator
import os
import shutil
import tempfile
import threading
import time

import numpy as np

import mpitasks as mt
from checking import check, finish

FACTOR = 3
TABLE = [1, 2, 3]


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Refused(Exception):
    pass


def fib(n):
    if n < 2:
        return n
    with mt.Executor() as ex:
        one, other = ex.submit(fib, n - 1), ex.submit(fib, n - 2)
        return one.result() + other.result()


def quicksort(values):
    if len(values) < 2:
        return values
    pivot, *rest = values
    with mt.Executor() as ex:
        low = ex.submit(quicksort, [v for v in rest if v < pivot])
        high = ex.submit(quicksort, [v for v in rest if v >= pivot])
        return [*low.result(), pivot, *high.result()]


def square(x):
    return x * x


def scaled(x):
    return FACTOR * x + sum(TABLE)


def moved(point):
    point.x += 1
    return point


def sums(n):
    with mt.Executor() as ex:
        return sum(ex.map(square, range(n)))


def nested_maps(n):
    with mt.Executor() as ex:
        return list(ex.map(sums, range(n)))


def globals_of_the_script(x):
    with mt.Executor() as ex:
        return ex.submit(scaled, x).result()


def globals_that_were_set(x):
    global FACTOR
    FACTOR = 100
    try:
        with mt.Executor() as ex:
            first = ex.submit(scaled, x)
            FACTOR = 1000
            second = ex.submit(scaled, x)
            TABLE.append(10)
            third = list(ex.map(scaled, [x]))
            return first.result(), second.result(), third
    finally:
        FACTOR = 3
        TABLE[:] = [1, 2, 3]


def arguments_are_copied():
    point, array = Point(1), np.zeros(200_000)
    with mt.Executor() as ex:
        future = ex.submit(moved, point)
        filled = ex.submit(fill, array, 7.0)
        array[:] = 5.0
        back = future.result()
        after = filled.result()
    return (
        point.x,
        back.x,
        type(back) is Point,
        float(after[0]),
        float(after[-1]),
        float(array[0]),
    )


def fill(array, value):
    before = float(array[0])
    array[:] = value
    array[0] = before
    return array


def closures():
    with mt.Executor() as ex:
        return [ex.submit(lambda: k * FACTOR).result() for k in range(4)]


def raises(depth):
    if depth == 0:
        raise Refused("at the bottom")
    with mt.Executor() as ex:
        return ex.submit(raises, depth - 1).result()


def catches():
    with mt.Executor() as ex:
        try:
            ex.submit(raises, 3).result()
        except Refused as error:
            return str(error)


FAILED = []


def fails_at_first():
    if mt.current_task().attempt < 3:
        raise Refused
    return mt.current_task().attempt


def with_options():
    with mt.Executor() as ex:
        again = ex.with_options(retries=3).submit(fails_at_first)
        late = ex.with_options(timeout=0.2).submit(spin, 30)
        apart = ex.with_options(isolate=True).submit(os.getpid)
        named = ex.with_options(label="inner").submit(label)
        plain = ex.submit(label)
        error = late.exception()
        return (
            again.result(),
            type(error).__name__,
            apart.result() != os.getpid(),
            named.result(),
            plain.result(),
        )


def label():
    return mt.current_task().label


def graph():
    with mt.Executor() as ex:
        one = ex.submit(square, 3)
        kept = ex.with_options(keep=True).submit(np.full, 100_000, 2.0)
        both = ex.submit(operator.add, one, ex.submit(square, 4))
        total = ex.submit(np.sum, kept)
        shared = ex.share(np.arange(300_000))
        seen = ex.submit(np.max, shared)
        bad = ex.submit(operator.truediv, one, 0)
        worse = ex.submit(operator.neg, bad)
        return (
            both.result(),
            float(total.result()),
            int(seen.result()),
            type(worse.exception()).__name__,
            float(kept.result()[5]),
        )


def other_ways():
    out = np.zeros(10)
    with mt.Executor() as ex:
        done = [f.result() for f in mt.as_completed([ex.submit(square, 2)])]
        stdlib = concurrent.futures.wait([ex.submit(square, k) for k in range(3)])
        called = []
        future = ex.submit(square, 5)
        future.add_done_callback(lambda f: called.append(f.result()))
        polled = ex.submit(square, 6)
        looks = 0
        while not polled.done():
            looks += 1
        ex.map_into(out, float, range(10))
        reduced = ex.map_reduce(square, range(100), op=operator.add)
        unordered = dict(ex.map_unordered(square, range(5)))
        cancelled = ex.submit(square, 7).cancel()
        return (
            done,
            sorted(f.result() for f in stdlib.done),
            called,
            polled.result(),
            float(out.sum()),
            reduced,
            unordered == {k: k * k for k in range(5)},
            type(cancelled),
            looks < 3,
        )


async def gather():
    loop = asyncio.get_running_loop()
    with mt.Executor() as ex:
        futures = [loop.run_in_executor(ex, square, k) for k in range(4)]
        return await asyncio.gather(*futures)


def in_asyncio():
    return asyncio.run(gather())


def left_open(path):
    ex = mt.Executor()
    for k in range(3):
        ex.submit(note, path, k)
    return "left"


def left_by_an_error(path):
    ex = mt.Executor()
    ex.submit(note, path, 1)
    raise Refused("left")


def note(path, k):
    with open(path, "a") as file:
        file.write(f"{k}\n")


def draws():
    own = mt.rng().random()
    with mt.Executor() as ex:
        child = [ex.submit(draw).result() for _ in range(2)]
        again = mt.rng().random()
        items = list(ex.map(draw, range(3), chunksize=1))
    with mt.Executor() as ex:
        other = ex.submit(draw).result()
    return [own, again, *child, *items, other]


def draw(_=None):
    return mt.rng().random()


def limited():
    started = time.monotonic()
    with mt.Executor() as ex:
        for _ in range(3):
            ex.submit(spin, 0.4).result()
    return time.monotonic() - started > 1.0


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def too_slow():
    with mt.Executor() as ex:
        ex.submit(spin, 0.1).result()
    spin(30)


def who():
    before = mt.current_task()
    with mt.Executor() as ex:
        inside = ex.submit(current).result()
    return before == mt.current_task(), inside != before.id


def current():
    return mt.current_task().id


def in_thread():
    said = []

    def run():
        try:
            mt.Executor()
        except mt.ConfigurationError as error:
            said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    # In one process, threads other than the one of the tasks are the script's.
    return len(said) == (mt.current_task().rank != 0)


def deep(n):
    if n == 0:
        return 0
    with mt.Executor() as ex:
        return 1 + ex.submit(deep, n - 1).result()


def no_journal():
    try:
        mt.Executor(journal="x.db")
    except mt.ConfigurationError as error:
        return str(error)


def ten(n):
    with mt.Executor() as ex:
        return sum(ex.submit(square, n + k).result() for k in range(10))


SET = None


def set_up(value):
    global SET
    SET = value


def is_set():
    return SET


def initialized():
    with mt.Executor(initializer=set_up, initargs=("inner",)) as ex:
        inside = ex.submit(is_set).result()
    with mt.Executor() as ex:
        return inside, ex.submit(is_set).result(), SET


if __name__ == "__main__":
    with mt.Executor(seed=7) as ex:
        check(1, ex.submit(fib, 10).result(), 55)
        values = [5, 3, 9, 1, 5, 7, 0, 2]
        check(2, ex.submit(quicksort, values).result(), sorted(values))
        wanted = [sum(k * k for k in range(n)) for n in range(6)]
        check(3, ex.submit(nested_maps, 6).result(), wanted)
        check(4, list(ex.map(nested_maps, [3, 6])), [wanted[:3], wanted])
        check(5, ex.submit(globals_of_the_script, 5).result(), 21)
        check(6, ex.submit(globals_that_were_set, 5).result(), (506, 5006, [5016]))
        check(7, ex.submit(globals_of_the_script, 5).result(), 21)
        check(8, ex.submit(arguments_are_copied).result(), (1, 2, True, 0.0, 7.0, 5.0))
        check(9, ex.submit(closures).result(), [0, 3, 6, 9])
        check(10, ex.submit(catches).result(), "at the bottom")
        check(11, type(ex.submit(raises, 4).exception()), Refused)
        check(
            12,
            ex.submit(with_options).result(),
            (3, "TaskTimeout", True, "inner", None),
        )
        outer = ex.with_options(label="outer").submit(with_options)
        check(13, outer.result()[-2:], ("outer/inner", "outer"))
        check(
            14,
            ex.submit(graph).result(),
            (25, 200_000.0, 299_999, "ZeroDivisionError", 2.0),
        )
        check(
            15,
            ex.submit(other_ways).result(),
            ([4], [0, 1, 4], [25], 36, 45.0, 328350, True, bool, True),
        )
        check(16, ex.submit(in_asyncio).result(), [0, 1, 4, 9])
        folder = tempfile.mkdtemp()
        path = os.path.join(folder, "notes")
        check(17, ex.submit(left_open, path).result(), "left")
        with open(path) as file:
            check(18, file.read(), "0\n1\n2\n")
        check(19, type(ex.submit(left_by_an_error, path).exception()), Refused)
        shutil.rmtree(folder)
        drawn = ex.submit(draws).result()
        check(20, len({*drawn}), len(drawn))
        print("drawn", drawn[0], drawn[3], drawn[-1])
        check(21, ex.with_options(timeout=0.8).submit(limited).result(), True)
        error = ex.with_options(timeout=0.3).submit(too_slow).exception()
        check(22, type(error), mt.TaskTimeout)
        check(23, ex.submit(sums, 10).result(), 285)
        check(24, ex.submit(who).result(), (True, True))
        check(25, ex.submit(in_thread).result(), True)
        check(26, ex.submit(deep, 99).result(), 99)
        error = ex.submit(deep, 101).exception()
        check(27, type(error), RecursionError)
        check(28, "nested 100 deep" in str(error), True)
        check(
            29, "is for Executors of the script" in ex.submit(no_journal).result(), True
        )
        parents = list(ex.map(ten, range(500)))
        check(30, parents[7], sum((7 + k) ** 2 for k in range(10)))
        check(31, ex.submit(initialized).result(), ("inner", None, None))
        isolated = ex.with_options(isolate=True)
        check(32, isolated.submit(fib, 8).result(), 21)
        check(33, isolated.submit(globals_of_the_script, 5).result(), 21)
        check(34, isolated.submit(draws).result() != drawn, True)
        check(35, ex.submit(fib, 8).result(), 21)
    finish()
