"""Shared objects: each task sees what was shared, and the arrays are read-only."""

import dataclasses
import os
import socket
import tempfile

import numpy as np

import mpitasks as mt
from checking import BAD, check, finish

BIG = 400_000
SCRIPT = os.getpid()


@dataclasses.dataclass
class Table:
    rows: np.ndarray
    names: list


def total(table, i=0):
    return float(table["rows"].sum()) + len(table["names"]) + i


def grow(table):
    table["names"].append("mine")
    return len(table["names"])


def described(array):
    with open("/proc/self/maps") as maps:
        mapped = "big.npy" in maps.read()
    own = os.getpid() != SCRIPT  # else the script has mapped it in any case
    return array.shape, float(array.sum()), array.dtype.str, mapped if own else None


def write(array):
    try:
        array[0] = 1
    except ValueError as error:
        return "read-only" in str(error)
    return "written"


def kind(table):
    return type(table) is Table and float(table.rows[-1]) + len(table.names)


def pick(array, i):
    return float(array[i])


def both(one, other, same):
    return one is same, float(one.sum() + other.sum())


def attached(_=None):
    with open("/proc/self/maps") as maps:
        mapped = {line.split()[-2] for line in maps if "memfd:mpitasks-" in line}
    return len(mapped - {"/memfd:mpitasks-page"})  # an isolated child's


def sizes(*arrays):
    return [a.nbytes for a in arrays]


with mt.Executor() as ex:
    source = {"rows": np.ones(BIG), "names": ["a"]}
    shared = ex.share(source)
    check("done", shared.done(), True)
    source["rows"][:] = 5
    source["names"].append("b")
    check("as it was", ex.submit(total, shared).result(), BIG + 1.0)
    check("here as well", shared.result()["names"], ["a"])
    check("once more", ex.submit(total, shared).result(), BIG + 1.0)
    check("its own list", [ex.submit(grow, shared).result() for _ in range(3)], [2] * 3)
    array = ex.share(np.arange(float(BIG)))
    check("read-only", ex.submit(write, array).result(), True)
    check("read-only here", write(array.result()), True)
    table = ex.share(Table(np.arange(float(BIG)), ["x"]))
    check("a class of the script", ex.submit(kind, table).result(), float(BIG))
    check("and of rank 0", type(table.result()) is Table, True)
    got = list(ex.starmap(pick, [(array, i) for i in range(2000)]))
    check("in a map", got == [float(i) for i in range(2000)], True)
    got = list(ex.map(pick, [array] * 3, [1, ex.submit(abs, -2), 3]))
    check("beside others", got, [1.0, 2.0, 3.0])
    other = ex.share(np.ones(BIG))
    got = ex.submit(both, array, other, array).result()
    check("two of them", got, (True, BIG * (BIG - 1) / 2 + BIG))
    check("small", ex.submit(len, ex.share([1, 2, 3])).result(), 3)
    check("nothing", ex.submit(repr, ex.share(None)).result(), "None")
    many = ex.share([np.full(BIG, float(n)) for n in range(20)])
    check(
        "many", ex.submit(lambda m: [float(a[0]) for a in m], many).result()[19], 19.0
    )
    isolated = ex.with_options(isolate=True)
    check("isolated", isolated.submit(total, shared).result(), BIG + 1.0)
    check("again", isolated.submit(total, shared, 1).result(), BIG + 2.0)
    check(
        "isolated map",
        list(isolated.starmap(pick, [(array, 7), (array, 8)])),
        [7.0, 8.0],
    )
    retried = ex.with_options(retries=1)
    check(
        "retried",
        type(retried.submit(pick, array, "x").exception()).__name__,
        "IndexError",
    )
    check(
        "labelled",
        ex.with_options(label="fit", timeout=30).submit(pick, array, 3).result(),
        3.0,
    )
    check("in a reduction", ex.map_reduce(lambda i: i, [1, 2], lambda x, y: x + y), 3)
    later = ex.submit(np.add, array, other)
    check("an input of an input", ex.submit(pick, later, 2).result(), 3.0)
    for bad in (lambda: ex.share(i for i in ()), lambda: ex.share([(i for i in ())])):
        try:
            bad()
        except mt.SerializationError as error:
            check("message", "the shared object" in str(error), True)
        else:
            BAD.append("it was shared")
    old = ex.share(Table(np.ones(3), []))

    @dataclasses.dataclass
    class Table:  # noqa: F811
        rows: np.ndarray

    changed = ex.submit(kind, old).exception()
    check("another class", "share the object again" in str(changed), True)
    before = ex.submit(attached).result()
    del shared, array, table, other, many, later
    for _ in range(3):
        list(ex.map(attached, range(20 * ex.num_workers), chunksize=1))
    left = max(ex.map(attached, range(20 * ex.num_workers), chunksize=1))
    check("let go of", (before > 0, left), (True, 0))

with tempfile.TemporaryDirectory() as folder, mt.Executor() as ex:
    path = os.path.join(folder, "big.npy")
    whole = np.lib.format.open_memmap(path, "w+", np.float64, (3000, 500))
    whole[:] = np.arange(3000.0)[:, None]
    parts = {
        "whole": whole,
        "rows": whole[1000:2000],
        "a row": whole[7],
        "columns": whole[:, 3:5],
        "transposed": whole[:1000].T,
        "reversed": whole[::-1],
        "nothing": whole[:0],
        "a copy": np.load(path, mmap_mode="c"),
        "read-only": np.load(path, mmap_mode="r"),
    }
    parts["a copy"][0] = 5
    for name, part in parts.items():
        got = ex.submit(described, ex.share(part)).result()
        check(name, got, described(part)[:3] + got[3:])
        by_path = name in ("whole", "rows", "a row", "transposed", "read-only")
        if got[3] is not None:
            check(f"{name}, by path", got[3], by_path)
    del whole, parts, part

with mt.Executor() as ex:
    kept = ex.share(np.arange(float(BIG)))
    kept_bytes = 8 * BIG
with mt.Executor() as ex:
    before = ex.statistics().links
    everywhere = ex.map(pick, [kept] * 40, range(40), chunksize=1)
    check("of an earlier Executor", list(everywhere), [*map(float, range(40))])
    after = ex.statistics().links
    for rank, link in after.items():
        whole = (link.shared - before[rank].shared) // kept_bytes
        is_near = link.host == socket.gethostname()  # it attaches rank 0's memory
        check(
            f"sent to {rank}",
            whole,
            int(link.tasks > before[rank].tasks and not is_near),
        )

finish()
