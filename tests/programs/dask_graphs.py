"""Graphs of dask on the workers: what comes back is what dask's own schedulers give."""

import os
import threading

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
from checking import check, finish
from dask.callbacks import Callback

import mpitasks as mt
from mpitasks.integrations.dask import get

SCALE = 3
BIG = 200_000  # so many doubles stay on their worker


class Point:
    def __init__(self, x):
        self.x = x


def inc(x):
    return x + 1


def scaled(x):
    return x * SCALE


def full(value):
    return np.full(BIG, float(value))


def spoil(array):
    array[:] = -1.0
    return float(array.sum())


def total(array):
    return float(array.sum())


def add(*arrays):
    return sum(arrays[1:], arrays[0])


def pair(first, second):
    return first is second


def where(*_):
    return os.getpid()


def nested(n):
    array = da.arange(n, chunks=2)
    return int(array.sum().compute(scheduler=get))


def fail(x):
    raise LookupError(x)


def leave(x):
    raise SystemExit(x)


def caught(kind, *args, **keywords):
    try:
        return get(*args, **keywords)
    except kind as error:
        return type(error).__name__, error.args


def same(what, *collections):
    """Compare with dask's threads."""
    want = dask.compute(*collections, scheduler="threads")
    got = dask.compute(*collections, scheduler=get)
    for one, other in zip(got, want, strict=True):
        check(f"{what}: kind", type(one), type(other))
        if isinstance(other, (pd.DataFrame, pd.Series)):
            by = [*other.columns] if isinstance(other, pd.DataFrame) else None
            ordered = [
                (x.sort_values(by) if by else x.sort_values()).reset_index(drop=True)
                for x in (one, other)
            ]
            check(what, ordered[0].equals(ordered[1]), True)
        else:
            check(what, bool(np.allclose(one, other)), True)


if __name__ == "__main__":
    # Graphs by hand, of tuples, as they were before dask 2024.12.
    old = {
        "a": 1,
        "b": (inc, "a"),
        "c": (add, "a", (inc, "b")),
        "d": (sum, ["a", "b", "c"]),
        ("e", 0): (scaled, "d"),
        "f": ("e", 0),
        "g": [("e", 0), "f", {"k": 1}],
    }
    check("key", get(old, "d"), 7)
    check("keys", get(old, ["a", ["b", "c"], "f"]), (1, (2, 4), 21))
    check("tuple", get(old, ("e", 0)), 21)
    check("list", get(old, "g"), [21, 21, {"k": 1}])
    check("nothing", get(old, []), ())
    check("not optimized", get(old, ["d", "f"], optimize_graph=False), (7, 21))
    check("cache", get(old, "d", cache={"b": 100}), 203)
    check("cache of what looks like a task", get(old, "b", {"b": (inc, 1)}), (inc, 1))
    check("workers", get(old, "d", num_workers=1), 7)
    with dask.config.set(num_workers=1):
        pids = [dask.delayed(where)(n, pure=False) for n in range(20)]
        check(
            "configured", len({*get(dask.delayed(pids).dask, [p.key for p in pids])}), 1
        )
    check("no key", caught(KeyError, old, "z"), ("KeyError", ("z",)))
    check("no key", caught(KeyError, old, ["a", "z"]), ("KeyError", ("z",)))
    circle = {"a": (inc, "b"), "b": (inc, "a")}
    check("circle", caught(RuntimeError, circle, "a")[0], "RuntimeError")
    both = caught(mt.ConfigurationError, old, "a", num_workers=1, executor=object())
    check("both", both[0], "ConfigurationError")
    data = np.arange(300_000.0)
    check("data is the script's own", get({"x": data}, "x") is data, True)
    shared = {"x": data, **{f"total {n}": (total, "x") for n in range(4)}}
    check("data", get(shared, [*shared])[1:], (total(data),) * 4)
    check("one object", get({"x": full(1), "y": (pair, "x", "x")}, "y"), True)

    # Kept results are each task's own.
    kept = {
        "x": (full, 1),
        "spoilt": (spoil, "x"),
        **{f"total {n}": (total, "x") for n in range(5)},
    }
    got = get(kept, [*kept, "x"])
    check("copies", got[1:-1], (-float(BIG), *(float(BIG),) * 5))
    check("fetched", total(got[-1]), float(BIG))
    tree = {("x", 0, n): (full, n) for n in range(16)}
    for level in range(1, 5):
        for n in range(16 >> level):
            inputs = [("x", level - 1, 2 * n), ("x", level - 1, 2 * n + 1)]
            tree["x", level, n] = (add, *inputs)
    check("tree", float(get(tree, ("x", 4, 0))[7]), 120.0)

    # Functions and classes of the script, as they are.
    points = [dask.delayed(Point)(x) for x in range(3)]
    (got,) = dask.compute(points, scheduler=get)
    check("classes", [type(p) is Point and p.x for p in got], [0, 1, 2])
    for SCALE in (3, 4):
        check("globals", dask.delayed(scaled)(2).compute(scheduler=get), 2 * SCALE)
    calls = [dask.delayed(lambda v, by=by: v * by)(2) for by in range(4)]
    check("lambdas", dask.compute(calls, scheduler=get), ([0, 2, 4, 6],))
    keywords = dask.delayed(dict)(one=dask.delayed(inc)(1), more=[dask.delayed(inc)(2)])
    check("keywords", keywords.compute(scheduler=get), {"one": 2, "more": [3]})
    pids = {dask.delayed(where)(n, pure=False) for n in range(40)}
    elsewhere = os.getpid() not in set(dask.compute(*pids, scheduler=get))
    check("on workers", elsewhere, mt.Executor().num_workers > 1 or elsewhere)
    check("nested", dask.delayed(nested)(5).compute(scheduler=get), 10)

    # Failures: the first, as it is, and then other things still work.
    late = {("n", n): (inc, ("n", n - 1)) for n in range(1, 50)}
    late["n", 0] = (fail, "x")
    check("failure", caught(LookupError, late, ("n", 49)), ("LookupError", ("x",)))
    some = {**{("ok", n): (inc, n) for n in range(40)}, **late}
    check("failure of some", caught(LookupError, some, [*some])[0], "LookupError")
    left = caught(SystemExit, {"x": (leave, 3), "y": (inc, "x")}, "y")
    check("leaving", left, ("SystemExit", (3,)))
    unsent = {"x": (inc, threading.Lock())}
    check("unsent", caught(mt.SerializationError, unsent, "x")[0], "SerializationError")
    try:
        dask.delayed(fail)("deep").compute(scheduler=get)
    except LookupError as error:
        check("traceback", "in fail" in str(error.__cause__), True)
    with mt.Executor(retries=1, label="own") as executor:
        check("executor", get(old, ["d", "f"], executor=executor), (7, 28))
        check(
            "failure", caught(LookupError, late, ("n", 9), executor=executor)[1], ("x",)
        )
        check("goes on", executor.submit(inc, 1).result(), 2)
        check("label", "own" in executor.statistics().labels, True)

    # Callbacks of dask.
    seen = []
    watching = Callback(
        start=lambda dsk: seen.append("start"),
        pretask=lambda key, dsk, state: seen.append(key),
        posttask=lambda key, value, dsk, state, id: seen.append((key, value)),
        finish=lambda dsk, state, failed: seen.append((failed, state["finished"])),
    )
    with watching:
        get(old, ["b", "c"], optimize_graph=False)
    check("callbacks", seen[0], "start")
    told = sorted(map(repr, seen[1:-1]))
    check("callbacks", told, ["'b'", "'c'", "('b', 2)", "('c', 4)"])
    check("callbacks", (seen[-1][0], sorted(seen[-1][1])), (False, ["b", "c"]))
    seen.clear()
    check(
        "and failures",
        caught(LookupError, late, ("n", 5), callbacks=[watching._callback])[1],
        ("x",),
    )
    check("and failures", seen[-1][0], True)

    # Collections.
    random = da.random.default_rng(7)
    x = random.random((600, 600), chunks=(200, 300))
    tall = random.random((4000, 20), chunks=(1000, 20))
    same("sum", x.sum(), x.mean(axis=0), x.std(), x.max(axis=1))
    same("transpose", (x + x.T).sum(axis=0), (x @ x.T)[::7, ::5])
    same("rechunk", x.rechunk((100, 600)).cumsum(axis=1))
    same("qr", *da.linalg.qr(tall))
    same("svd", da.linalg.svd(tall)[1])
    same(
        "solve",
        da.linalg.solve(
            (x + 600 * da.eye(600, chunks=200)).rechunk(200), x[0].rechunk(200)
        ),
    )
    same("overlap", x.map_overlap(lambda b: b + 1, depth=1, boundary="none"))
    same("from_array", (da.from_array(data, chunks=50_000) + 1).sum())
    bag = db.range(200, npartitions=7)
    words = db.from_sequence("the cat and the dog and the bird".split(), npartitions=3)
    with dask.config.set(scheduler=get):
        check("bag", bag.map(lambda v: v % 5).filter(bool).sum().compute(), 400)
        frequent = sorted(words.frequencies().compute())
        check("frequencies", frequent[3:], [("dog", 1), ("the", 3)])
        groups = sorted((k, sorted(v)) for k, v in bag.groupby(lambda v: v % 7))
        check("groupby", groups, [(k, [*range(k, 200, 7)]) for k in range(7)])
        folded = dict(words.foldby(len, lambda n, _: n + 1, 0, add, 0).compute())
        check("foldby", {k: folded[k] for k in (3, 4)}, {3: 7, 4: 1})
        check("accumulate", [*bag.accumulate(lambda a, b: a + b)][:4], [0, 1, 3, 6])
        check("lazy", bag.map_partitions(iter).take(3), (0, 1, 2))
    frame = pd.DataFrame(
        {
            "key": np.arange(5000) % 17,
            "name": [f"name {n % 13}" for n in range(5000)],
            "value": np.arange(5000.0)[::-1],
        }
    )
    df = dd.from_pandas(frame, npartitions=5)
    other = dd.from_pandas(
        frame[["key"]].assign(more=1.0).drop_duplicates(), npartitions=2
    )
    same("frame", df, df.value.sum(), df.groupby("name").value.mean())
    same("shuffle", df.shuffle("key"), df.shuffle("name").map_partitions(len))
    same("merge", df.merge(other, on="key"), df.set_index("value").name)
    same("sort", df.sort_values("value"), df.drop_duplicates("name")[["name"]])
    made = {label for label in mt.Executor().statistics().labels if label}
    check("labels", any("sum" in label for label in made), True)
    check("no shuffle on disk", [m for m in made if "partd" in m], [])
    finish()
