"""Every worker has the new value, also one that idled while the others got it, and one
that joins in a later Executor.
"""

import os
import time

import mpitasks as mt
from checking import check, finish

alpha = 0


def f(_):
    time.sleep(0.01)
    return os.getpid(), alpha


if __name__ == "__main__":
    seen = set()
    for alpha in range(4):
        with mt.Executor(max_workers=1 + alpha % 2) as ex:
            for turn in range(3):
                alpha += 100
                got = list(ex.map(f, range(8), chunksize=1))
                check("value", {v for _, v in got}, {alpha})
                seen |= {p for p, _ in got}
            futures = []
            for alpha in range(6):
                futures.append(ex.submit(f, 0))
            check("submit", [x.result()[1] for x in futures], list(range(6)))
    finish()
