"""Threads of the script that submit, rebind and wait at once.

Futures' callbacks that submit; each has its own values.
"""

import threading

import mpitasks as mt
from checking import check, finish


def f(x):
    return x


def work(ex, k, out):
    for n in range(50):
        local = k * 1000 + n
        out.append((ex.submit(lambda x: x + local, 1), local + 1))
    out.append((ex.submit(f, k), k))


if __name__ == "__main__":
    with mt.Executor() as ex:
        outs = [[] for _ in range(6)]
        threads = [
            threading.Thread(target=work, args=(ex, k, out))
            for k, out in enumerate(outs)
        ]
        [t.start() for t in threads]
        maps = [list(ex.map(f, range(100))) for _ in range(5)]
        [t.join() for t in threads]
        for out in outs:
            check("values", [a.result(120) for a, _ in out], [b for _, b in out])
        check("maps", maps, [list(range(100))] * 5)
        chain, done = [], threading.Event()

        def again(future):
            chain.append(future.result())
            if len(chain) < 20:
                ex.submit(f, len(chain)).add_done_callback(again)
            else:
                done.set()

        ex.submit(f, 0).add_done_callback(again)
        check("chain", (done.wait(120), chain), (True, list(range(20))))
    finish()
