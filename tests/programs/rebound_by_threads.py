"""Threads that submit one function while another global of it is rebound.

Each call sees one of the values of its time, and the last one at the end; counters
only grow.
"""

import threading

import mpitasks as mt
from checking import BAD, check, finish

tick = 0
other = 0


def f(n):
    return n, tick, other


def g(n):
    return tick


if __name__ == "__main__":
    with mt.Executor() as ex:
        stop, out = threading.Event(), [[], []]

        def work(k):
            for n in range(200):
                low = tick
                future = ex.submit(f if n % 3 else g, n)
                out[k].append((low, tick, future))

        threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
        [t.start() for t in threads]
        while any(t.is_alive() for t in threads):
            tick += 1
        [t.join() for t in threads]
        for part in out:
            for low, high, future in part:
                got = future.result(120)
                value = got[1] if isinstance(got, tuple) else got
                if not low <= value <= high:
                    BAD.append(f"{value} not in {low}..{high}")
        check("last", ex.submit(g, 0).result(), tick)
    del BAD[5:]
    finish()
