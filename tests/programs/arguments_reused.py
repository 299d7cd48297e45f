"""Argument buffers used again.

Loop over submit, generators for map, keyword arguments, inside objects; small and
large. Each task has the value of its moment, or the call fails with a clear error.
"""

import array

import numpy as np

import mpitasks as mt
from checking import BAD, finish

GOT = []


class Box:
    def __init__(self, a):
        self.a = a


def first(x):
    return float(x[0])


def by_key(*, x):
    return float(x[0])


def box(b):
    return float(b.a[0])


def nested(d):
    return float(d["k"][0][0])


def many(*xs):
    return [float(x[0]) for x in xs]


def values(futures):
    out = []
    for f in futures:
        e = f.exception()
        if e is None:
            out.append(f.result())
        elif isinstance(e, mt.MpiTasksError) and "chang" in str(e):
            out.append("refused")
        else:
            out.append(repr(e))
    return out


def same(what, got, want):
    if len(got) != len(want) or any(g not in ("refused", w) for g, w in zip(got, want)):
        BAD.append(f"{what}: {got}")


if __name__ == "__main__":
    n = 40
    want = [float(i) for i in range(n)]
    for size in (4, 8191, 8192, 8193, 200_000):
        buf = np.zeros(size)
        with mt.Executor() as ex:
            calls = {
                k: []
                for k in (
                    "plain",
                    "key",
                    "box",
                    "nested",
                    "bytes",
                    "array",
                    "view",
                    "twice",
                )
            }
            raw, arr, b, d = (
                bytearray(size * 8),
                array.array("d", [0.0] * size),
                Box(buf),
                {"k": [buf]},
            )
            for i in range(n):
                buf[:] = i
                raw[0] = i
                arr[0] = i
                calls["plain"].append(ex.submit(first, buf))
                calls["key"].append(ex.submit(by_key, x=buf))
                calls["box"].append(ex.submit(box, b))
                calls["nested"].append(ex.submit(nested, d))
                calls["bytes"].append(ex.submit(first, raw))
                calls["array"].append(ex.submit(first, arr))
                calls["view"].append(ex.submit(first, buf[1:] if size > 4 else buf))
                calls["twice"].append(ex.submit(many, buf, buf))
            buf[:] = -1
            for name, futures in calls.items():
                same(
                    f"{name} {size}",
                    values(futures),
                    want if name != "twice" else [[w, w] for w in want],
                )

            def reused():
                for i in range(n):
                    buf[:] = i
                    yield buf

            for name, it in {
                "map": ex.map(first, reused()),
                "buffersize": ex.map(first, reused(), buffersize=3),
                "chunks": ex.map(first, reused(), chunksize=5),
                "starmap": ex.starmap(first, ((x,) for x in reused())),
            }.items():
                try:
                    same(f"{name} {size}", list(it), want)
                except mt.MpiTasksError as e:
                    if "chang" not in str(e):
                        BAD.append(f"{name} {size}: {e!r}")
            try:
                got = dict(ex.map_unordered(first, reused()))
                same(f"unordered {size}", [got[i] for i in range(n)], want)
            except mt.MpiTasksError as e:
                if "chang" not in str(e):
                    BAD.append(f"unordered {size}: {e!r}")
    finish()
