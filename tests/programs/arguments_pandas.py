"""Data frames and series changed in place between submits, and results that are views
of a kept one.
"""

import sys

import mpitasks as mt
from checking import check, finish

try:
    import pandas as pd
except ImportError:
    print("ok")
    sys.exit()
import numpy as np

KEPT = None


def total(df):
    return float(df["x"].iloc[0])


def kept(i):
    global KEPT
    if KEPT is None:
        KEPT = pd.DataFrame({"x": np.zeros(50_000), "s": ["a"] * 50_000})
    KEPT.loc[:, "x"] = float(i)
    return KEPT


if __name__ == "__main__":
    df = pd.DataFrame({"x": np.zeros(50_000), "y": np.zeros(50_000)})
    with mt.Executor() as ex:
        futures = []
        for i in range(20):
            df.loc[:, "x"] = float(i)
            futures.append(ex.submit(total, df))
        df.loc[:, "x"] = -1.0
        got = [f.result() if f.exception() is None else "refused" for f in futures]
        check(
            "arguments",
            [g for i, g in enumerate(got) if g not in (float(i), "refused")],
            [],
        )
        check(
            "results",
            [float(v["x"].max()) for v in ex.map(kept, range(10))],
            [float(i) for i in range(10)],
        )
        check(
            "submit",
            [
                float(f.result()["x"].min())
                for f in [ex.submit(kept, i) for i in range(10)]
            ],
            [float(i) for i in range(10)],
        )
    finish()
