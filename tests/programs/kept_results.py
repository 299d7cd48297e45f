"""Kept results: tasks get what the call returned, wherever it stayed."""

import dataclasses
import os
import sys
import time

import numpy as np

import mpitasks as mt
from checking import BAD, check, finish

BIG = 200_000


@dataclasses.dataclass
class Tile:
    rows: np.ndarray
    name: str


class Scale:
    def __init__(self, by):
        self.by = by


def full(value, n=BIG):
    return np.full(n, float(value))


def add(one, other):
    return one + other


def total(array, more=0.0):
    return float(array.sum()) + more


def spoil(array):
    array[:] = -1.0
    return float(array.sum())


def tile(value):
    return Tile(full(value), f"tile {value}")


def looked_at(tile):
    return type(tile) is Tile, tile.name, float(tile.rows[-1])


def scaled(tile):
    return Tile(tile.rows * SCALE.by, tile.name + "!")


SCALE = Scale(3.0)


def words(count):
    return [f"word {number}" for number in range(count)]


def deep(parts):
    return sum(float(each.sum()) for each in parts["all"][0]) + float(parts["one"][0])


def same(one, other):
    return one is other


def strided(value):
    return np.asfortranarray(np.full((300, 400), value)), np.arange(BIG)[::2]


def layout(pair):
    first, second = pair
    return first.flags.f_contiguous, float(first.sum()), int(second.sum()), len(second)


def several(count):
    return [full(number, 9000) for number in range(count)]


def sums(arrays):
    return [float(each[0]) for each in arrays]


def fails(array=None):
    raise ValueError("no such file")


def once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        raise OSError("not yet")
    return full(5)


def table():
    return {"a": full(1), "b": b"x" * BIG, "c": bytearray(BIG), "d": "text"}


def keys(table):
    return sorted(table), len(table["b"]), type(table["c"]).__name__, table["d"]


def shared_sum(array, table):
    return float(array[0] + table[0])


def opened(path):
    while not os.path.exists(path):
        time.sleep(0.002)


def marked(gate=None, count=BIG):
    array = np.zeros(count)
    array[0] = array.ctypes.data
    return array


def step(array):
    array[1] += 1
    return array


def is_where_it_was(array):
    return array[0] == array.ctypes.data, float(array[1])


def main(options):
    with mt.Executor(**options) as ex:
        keep = ex.with_options(keep=True)
        one = keep.submit(full, 1)
        two = keep.submit(add, one, one)
        check("chain", ex.submit(total, two).result(), 2.0 * BIG)
        check("where", (len(one.ranks), len(two.ranks)), (1, 1))
        check("bytes", BIG * 8 <= one.nbytes < BIG * 8 + 500, True)
        check("by name", ex.submit(total, more=2.0, array=two).result(), 2.0 * BIG + 2)

        check("each its own", ex.submit(spoil, one).result(), -1.0 * BIG)
        check(
            "unspoilt",
            [ex.submit(total, one).result() for _ in range(4)],
            [1.0 * BIG] * 4,
        )
        check("passed twice", ex.submit(same, one, one).result(), True)
        parts = {"all": [[one, two]], "one": two}
        check("inside", ex.submit(deep, parts).result(), 3.0 * BIG + 2)

        value = one.result()
        check("fetched", (float(value.sum()), value.flags.writeable), (1.0 * BIG, True))
        value[:] = 7
        check("the same again", one.result() is value, True)
        check("kept as it was", ex.submit(total, one).result(), float(BIG))
        check("still there", one.nbytes >= BIG * 8, True)

        check(
            "in a map",
            list(ex.map(total, [one, two, one])),
            [1.0 * BIG, 2.0 * BIG, 1.0 * BIG],
        )
        pairs = [(one, two), (two, two), (one, np.ones(BIG))]
        got = [float(each[0]) for each in ex.starmap(add, pairs)]
        check("in pairs", got, [3.0, 4.0, 2.0])

        kept = keep.submit(tile, 2)
        check("class", ex.submit(looked_at, kept).result(), (True, "tile 2", 2.0))
        more = keep.submit(scaled, kept)
        check("again", ex.submit(looked_at, more).result(), (True, "tile 2!", 6.0))
        check("is ours", type(more.result()) is Tile, True)

        text = keep.submit(words, 30_000)
        check("no arrays", ex.submit(len, text).result(), 30_000)
        check("fetched text", text.result()[-1], "word 29999")
        small = keep.submit(words, 3)
        check("small", (small.result(), small.ranks), (words(3), (0,)))
        check("small in", ex.submit(len, small).result(), 3)
        number = keep.submit(float, 3)
        check("number", (number.result(), number.nbytes), (3.0, 0))

        shape = keep.submit(strided, 2.0)
        expected = True, 2.0 * 300 * 400, sum(range(0, BIG, 2)), BIG // 2
        check("layout", ex.submit(layout, shape).result(), expected)
        many = keep.submit(several, 700)
        check("many", ex.submit(sums, many).result(), [float(i) for i in range(700)])
        mixed = keep.submit(table)
        check(
            "kinds",
            ex.submit(keys, mixed).result(),
            (["a", "b", "c", "d"], BIG, "bytearray", "text"),
        )
        shared = ex.share(full(10))
        check("with shared", ex.submit(shared_sum, one, shared).result(), 11.0)

        bad = keep.submit(fails)
        after = keep.submit(add, bad, one)
        error = after.exception()
        check("failed", (type(error), str(error)), (ValueError, "no such file"))
        notes = " ".join(getattr(error, "__notes__", []))
        check("named", "fails" in notes or sys.version_info < (3, 11), True)
        check("nowhere", (bad.ranks, bad.nbytes), ((), None))

        path = f"{PLACE}/once-{options.get('isolate', False)}"
        again = ex.with_options(keep=True, retries=2).submit(once, path)
        check("second attempt", ex.submit(total, again).result(), 5.0 * BIG)
        apart = ex.with_options(keep=True, isolate=True)
        far = apart.submit(add, one, one)
        check("isolated", apart.submit(total, far).result(), 2.0 * BIG)
        check("from there", ex.submit(total, far).result(), 2.0 * BIG)
        timed = ex.with_options(keep=True, timeout=60, priority=3)
        late = timed.submit(add, far, one)
        check("timed", timed.submit(total, late).result(), 3.0 * BIG)

        try:
            keep.map(total, [one])
        except mt.OptionError as error:
            check("no maps", "submit" in str(error), True)
        else:
            check("no maps", "mapped", "refused")

        gate = f"{path}-gate"
        moved = keep.submit(marked, ex.submit(opened, gate))
        for _ in range(10):
            moved = keep.submit(step, moved)
        moved = ex.submit(is_where_it_was, moved)
        open(gate, "w").close()  # all are submitted, and only the last is referred to
        is_there, steps = moved.result()
        goes_on = ex.num_workers == 1 and not options
        check("memory of a chain", bool(is_there) or not goes_on, True)
        check("steps of a chain", steps, 10.0)
        held = keep.submit(marked)
        spent = ex.submit(step, held)
        check("copied", ex.submit(is_where_it_was, held).result()[1], 0.0)
        check("its own", float(spent.result()[1]), 1.0)

        state = keep.submit(full, 0)
        for _ in range(50):
            state = keep.submit(add, state, one)
        check("long chain", float(state.result()[0]), 50.0)

        count_bytes(ex, keep)

    with mt.Executor(**options) as ex:
        check("another Executor", ex.submit(total, two).result(), 2.0 * BIG)


def held_there(array, begun, gate):
    open(begun, "w").close()
    opened(gate)
    return mt.current_task().rank


def read_there(array):
    return mt.current_task().rank


def count_bytes(ex, keep):
    """Two ranks need what one of them, or neither, has: statistics must tell."""
    begun, gate = f"{PLACE}/begun-{id(ex)}", f"{PLACE}/go-{id(ex)}"
    kept = keep.submit(full, 7)
    ex.submit(read_there, kept).result()
    holder = kept.ranks[0]
    nbytes = 8 * BIG
    before = ex.statistics()
    check("most kept", sum(before.most_kept.values()) >= nbytes, True)
    if ex.num_workers > 1:
        first = ex.submit(held_there, kept, begun, gate)
        opened(begun)
        ranks = {ex.submit(read_there, kept).result()}
        open(gate, "w").close()
        ranks.add(first.result())
        check("two ranks", len(ranks), 2)
        after = ex.statistics()
        for rank, link in after.links.items():
            copies = nbytes if rank in ranks and rank != holder else 0
            near = link.host == after.links[holder].host
            for name, expected in (("near", near), ("far", not near)):
                more = getattr(link, name) - getattr(before.links[rank], name)
                check(f"{name} {rank}", more // nbytes, copies // nbytes * expected)
            if link.near + link.far:
                check(f"copying {rank}", link.copying > 0, True)
        before = after
    kept.result()
    links = ex.statistics().links
    more = [link.received - before.links[rank].received for rank, link in links.items()]
    check("fetched", sum(more) // nbytes, 1)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as PLACE:
        main({})
        main({"isolate": True})
    finish()
