"""Programs of other tools' issues.

A lambda over a class attribute in a loop, grid search with a mutable default,
method of a class in a closure, sorted with a key of the script, map over dict
items, nested lists of partials, functions in kwargs.
"""

import functools
import itertools
import operator

import mpitasks as mt
from checking import check, finish


class Estimator:
    defaults = {"depth": 1}

    def __init__(self, **kw):
        self.params = {**self.defaults, **kw}
        self.fitted = None

    def fit(self, x):
        self.fitted = sum(x) * self.params["depth"]
        return self

    def score(self, metric):
        return metric(self.fitted)

    def __repr__(self):
        return f"E({self.params}, {self.fitted})"


def metric(v):
    return v + OFFSET


def evaluate(params, x, metric=metric, callbacks=()):
    e = Estimator(**params).fit(x)
    for c in callbacks:
        c(e)
    return repr(e), e.score(metric)


def compose(*fs):
    return functools.reduce(lambda f, g: lambda x: g(f(x)), fs)


def by(item):
    return -item[1], item[0]


OFFSET = 0

if __name__ == "__main__":
    grid = [{"depth": d} for d in (1, 2)] + [{}]
    with mt.Executor() as ex:
        for OFFSET in (0, 100):
            Estimator.defaults["depth"] = OFFSET + 3
            got = list(ex.map(evaluate, grid, itertools.repeat([1, 2])))
            check("grid", got, [evaluate(p, [1, 2]) for p in grid])
            log = []
            f = ex.submit(
                evaluate,
                {},
                [1],
                metric=lambda v: (v, OFFSET),
                callbacks=[lambda e: setattr(e, "fitted", OFFSET), log.append],
            )
            check(
                "callbacks",
                f.result(),
                evaluate(
                    {},
                    [1],
                    metric=lambda v: (v, OFFSET),
                    callbacks=[lambda e: setattr(e, "fitted", OFFSET)],
                ),
            )
            check("log", log, [])
            check(
                "compose",
                ex.submit(compose(metric, metric, str, len), 5).result(),
                compose(metric, metric, str, len)(5),
            )
            check(
                "sorted",
                ex.submit(sorted, {"a": 1, "b": 3, "c": 2}.items(), key=by).result(),
                [("b", 3), ("c", 2), ("a", 1)],
            )
            e = Estimator(depth=2)
            back = ex.submit(e.fit, [1, 2]).result()
            check(
                "fit", (back.fitted, e.fitted, type(back) is Estimator), (6, None, True)
            )
            check(
                "getter", list(ex.map(operator.attrgetter("params"), [e])), [e.params]
            )
            check(
                "caller",
                list(ex.map(operator.methodcaller("score", metric), [back])),
                [6 + OFFSET],
            )
    finish()
