"""What a task does to a global of its worker is overruled by what the script binds."""

import mpitasks as mt
from checking import check, finish

G = 1
L = [0]


def spoil():
    global G
    G = "spoilt"
    L.append("spoilt")


def read(_=0):
    return G, list(L)


if __name__ == "__main__":
    with mt.Executor(max_workers=1) as ex:
        check("first", ex.submit(read).result(), (1, [0]))
        ex.submit(spoil).result()
        G = 2
        L = [1]
        check("rebound", ex.submit(read).result(), (2, [1]))
        ex.submit(spoil).result()
        check("script", (G, L), (2, [1]))
        G = 3
        L.append(2)
        check("map", list(ex.map(read, [0])), [(3, [1, 2])])
        G = 1
        L = [0]
        check("back", ex.submit(read).result(), (1, [0]))
    finish()
