"""Bound methods, partials and callable objects have the attributes of the moment of
the call.
"""

import functools

import mpitasks as mt
from checking import check, finish


class Model:
    def __init__(self):
        self.n = 0
        self.table = []

    def get(self, x):
        return self.n, list(self.table), x

    def __call__(self, x):
        return "call", self.n, list(self.table), x

    def plus(self, a, b=0):
        return self.n + a + b

    plus_one = functools.partialmethod(plus, 1)


def f(a, b, k=None):
    return a, b, k


if __name__ == "__main__":
    model = Model()
    arguments = [0]
    p = functools.partial(f, arguments, k={"v": 0})
    q = functools.partial(p, 1)
    with mt.Executor() as ex:
        futures, plain = [], []
        for model.n in range(10):
            futures += [
                ex.submit(model.get, 1),
                ex.submit(model, 1),
                ex.submit(model.plus, 1, b=2),
                ex.submit(model.plus_one, 3),
            ]
            plain += [model.get(1), model(1), model.plus(1, b=2), model.plus_one(3)]
        check("attributes", [f.result() for f in futures], plain)
        for i in range(3):
            model.table.append(i)
            arguments.append(i)
            p.keywords["k"]["v"] = i
            check("method in place", list(ex.map(model.get, [1])), [model.get(1)])
            check("object in place", list(ex.map(model, [1])), [model(1)])
            check("partial in place", list(ex.map(p, [1])), [p(1)])
            check("partial of partial", list(ex.starmap(q, [()])), [q()])
        model.get = lambda x: "instance attribute"
        check("instance attribute", ex.submit(model.get, 1).result(), model.get(1))
        p.extra = 1
    with mt.Executor() as ex:
        arguments.append("new executor")
        check("new executor", ex.submit(p, 1).result(), p(1))
    finish()
