"""A task that is tried again runs with the globals of its submit."""

import mpitasks as mt
from checking import check, finish

alpha = 1


def flaky(x):
    if mt.current_task().attempt < 3:
        raise ValueError("again")
    return x * alpha


if __name__ == "__main__":
    with mt.Executor() as ex:
        ex2 = ex.with_options(retries=3, retry_delay=0.05)
        futures = []
        for alpha in range(5):
            futures.append(ex2.submit(flaky, 10))
        maps = ex2.map(flaky, [1, 2], chunksize=1)
        alpha = 99
        check("submit", [f.result() for f in futures], [0, 10, 20, 30, 40])
        check("map", list(maps), [4, 8])
    finish()
