"""Several functions and classes of one name.

Each call runs the one that was passed.
"""

import mpitasks as mt
from checking import check, finish

versions = []
for n in range(4):

    def f(x, n=n):
        return ("f", n, x)

    def g(x):
        return ("g", 0)

    if n == 3:

        def g(x):
            return ("g", f(x))

    class C:
        number = n

        def get(self):
            return C.number, self.number, type(self).number

    versions.append((f, g, C))


def same_class(c, kind):
    return type(c) is kind, kind.number, isinstance(c, C), C.number


if __name__ == "__main__":
    with mt.Executor() as ex:
        for turn in range(2):
            for n, (func, gunc, kind) in enumerate(versions):
                check(f"f{n}", ex.submit(func, 1).result(), func(1))
                check(f"g{n}", ex.submit(gunc, 1).result(), gunc(1))
                check(f"C{n}", ex.submit(kind().get).result(), kind().get())
                check(
                    f"class {n}",
                    ex.submit(same_class, kind(), kind).result(),
                    same_class(kind(), kind),
                )
                made = ex.submit(kind).result()
                check(f"made {n}", type(made) is kind, True)
        futures = [
            (ex.submit(func, i), func(i)) for i in range(20) for func, _, _ in versions
        ]
        check("all queued", [a.result() for a, _ in futures], [b for _, b in futures])
    finish()
