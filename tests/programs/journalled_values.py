"""With a journal as well.

The value of the moment, none stored under another's key; a second run finds the
same.
"""

import os
import tempfile

import mpitasks as mt
from checking import check, finish

alpha = 1
CONF = {"k": 1}


def f(x):
    return x * alpha, CONF["k"]


class K:
    v = 0

    def m(self, x):
        return self.v, x


def run(path):
    global alpha
    out = []
    for alpha in (1, 2, 3):
        with mt.Executor(journal=path) as ex:
            CONF["k"] = alpha * 7
            out += ex.map(f, [10])
            out.append(ex.submit(f, 11).result())
    with mt.Executor(journal=path) as ex:
        for alpha in (4, 5):
            CONF["k"] = -alpha
            out += ex.map(f, [10])
            K.v = alpha
            out.append(ex.submit(K().m, 1).result())
            k = alpha
            out.append(ex.submit(lambda x: x + k, 1).result())
    return out


if __name__ == "__main__":
    want = [v for a in (1, 2, 3) for v in ((10 * a, 7 * a), (11 * a, 7 * a))]
    want += [v for a in (4, 5) for v in ((10 * a, -a), (a, 1), a + 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "j.db")
        check("first", run(path), want)
        check("again", run(path), want)
    finish()
