"""The same in the middle of a map's chunk.

The items around it keep their places and values.
"""

import mpitasks as mt
from checking import check, finish


class Hook:
    def __init__(self, where, kind, i):
        self.where, self.kind, self.i = where, kind, i

    def __reduce__(self):
        if self.where == "reduce":
            raise self.kind("fired")
        return load, (self.where, self.kind, self.i)


def load(where, kind, i):
    if where == "load":
        raise kind("fired")
    return i


def f(i):
    if i % 5 == 2:
        return Hook(WHERE, KIND, i)
    if i % 5 == 4:
        raise KIND("own")
    return i


def g(x):
    return 0


class Own(BaseException):
    pass


if __name__ == "__main__":
    for KIND in (
        SystemExit,
        KeyboardInterrupt,
        GeneratorExit,
        Own,
        RecursionError,
        MemoryError,
    ):
        for WHERE in ("reduce", "load"):
            with mt.Executor() as ex:
                for chunksize in (None, 7):
                    got = list(
                        ex.map(
                            f, range(40), chunksize=chunksize, return_exceptions=True
                        )
                        if chunksize
                        else ex.map(f, range(40), return_exceptions=True)
                    )
                    got = ["error" if isinstance(v, BaseException) else v for v in got]
                    check(
                        f"{KIND.__name__} {WHERE} {chunksize}",
                        got,
                        ["error" if i % 5 in (2, 4) else i for i in range(40)],
                    )
    finish()
