"""Class variables, methods, bases' variables, patched and redefined classes, between
submits and maps.
"""

import mpitasks as mt
from checking import check, finish


class Base:
    scale = 1

    def value(self):
        return self.scale * self.n

    @classmethod
    def make(cls, n):
        return cls(n).value()

    @staticmethod
    def add(a):
        return a + Base.scale


class Sub(Base):
    def __init__(self, n):
        self.n = n


def use(n):
    return Sub(n).value(), Sub.make(n), Sub.add(n), Sub.scale


if __name__ == "__main__":
    with mt.Executor() as ex:
        steps = []
        check("first", ex.submit(use, 3).result(), use(3))
        Base.scale = 10
        check("base variable", ex.submit(use, 3).result(), use(3))
        Sub.scale = 100
        check("own variable", ex.submit(use, 3).result(), use(3))
        del Sub.scale
        check("deleted", ex.submit(use, 3).result(), use(3))
        Sub.value = lambda self: -self.n
        check("patched", ex.submit(use, 3).result(), use(3))
        check("bound", ex.submit(Sub(4).value).result(), -4)
        check("class method", ex.submit(Sub.make, 4).result(), -4)
        del Sub.value
        check("unpatched", ex.submit(use, 3).result(), use(3))
        for k in (2, 3):
            exec(
                f"class Sub(Base):\n    def __init__(self, n): self.n = n * {k}\n",
                globals(),
            )
            check(f"exec {k}", list(ex.map(use, [3])), [use(3)])
            check(f"made {k}", type(ex.submit(Sub, 1).result()) is Sub, True)
        futures, plain = [], []
        for Base.scale in range(20):
            futures.append(ex.submit(use, 2))
            plain.append(use(2))
        check("queued", [f.result() for f in futures], plain)
    finish()
