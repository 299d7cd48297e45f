"""Errors of every class in pickling hooks, on either side, in arguments, results,
functions, exceptions: that task's error, nothing else.
"""

import mpitasks as mt
from checking import BAD, check, finish


class Hook:
    def __init__(self, where, kind):
        self.where, self.kind = where, kind

    def fire(self, where):
        if where == self.where:
            raise self.kind("fired")

    def __reduce_ex__(self, protocol):
        self.fire("reduce")
        return load, (
            self.where,
            self.kind,
            self.__dict__ if self.where == "state" else None,
        )


class GetState:
    def __init__(self, kind):
        self.kind = kind

    def __getstate__(self):
        raise self.kind("fired")


class SetState:
    def __init__(self, kind):
        self.kind = kind

    def __setstate__(self, state):
        raise state["kind"]("fired")


class Deleted:
    def __init__(self, kind):
        self.kind = kind

    def __del__(self):
        raise self.kind("fired")


class Property:
    kind = None

    @property
    def __dict__(self):
        raise SystemExit("fired")


class BadError(Exception):
    def __reduce__(self):
        raise KeyboardInterrupt


class BadStr(Exception):
    def __str__(self):
        raise SystemExit("str")

    __repr__ = __str__


class Recursive:
    def __reduce__(self):
        return Recursive.__reduce__(self)


class BadEq:
    def __eq__(self, o):
        raise SystemExit("eq")

    def __hash__(self):
        raise SystemExit("hash")

    def __bool__(self):
        raise SystemExit("bool")

    def __len__(self):
        raise SystemExit("len")


def load(where, kind, state):
    if where == "load":
        raise kind("fired")
    return 5


def take(x):
    return "took"


def make(what, *a):
    return what(*a)


def fail(what, *a):
    raise what(*a)


def deep(n):
    return deep(n + 1)


def nest(n):
    x = []
    for _ in range(n):
        x = [x]
    return x


class Own(BaseException):
    pass


KINDS = [
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    RecursionError,
    MemoryError,
    Own,
    StopIteration,
    ValueError,
]

if __name__ == "__main__":
    with mt.Executor() as ex:

        def failed(what, future):
            try:
                e = future.exception(timeout=120)
            except BaseException as caught:
                BAD.append(f"{what}: exception() raised {caught!r}")
                return
            if e is None:
                BAD.append(f"{what}: no error")
            check(
                f"after {what}",
                [f.result(120) for f in [ex.submit(abs, -i) for i in range(4)]],
                [0, 1, 2, 3],
            )

        for kind in KINDS:
            name = kind.__name__
            failed(f"result reduce {name}", ex.submit(make, Hook, "reduce", kind))
            failed(f"result load {name}", ex.submit(make, Hook, "load", kind))
            failed(f"result getstate {name}", ex.submit(make, GetState, kind))
            failed(f"result setstate {name}", ex.submit(make, SetState, kind))
            failed(f"argument load {name}", ex.submit(take, Hook("load", kind)))
            failed(f"argument setstate {name}", ex.submit(take, SetState(kind)))
            failed(f"raise {name}", ex.submit(fail, kind))
            try:
                f = ex.submit(take, Hook("reduce", kind))
            except mt.MpiTasksError:
                pass
            except BaseException as e:
                if type(e) is not kind:
                    BAD.append(f"submit raised {e!r}")
            else:
                failed(f"argument reduce {name}", f)
            check(
                f"deleted {name}",
                type(ex.submit(make, Deleted, ValueError).result(120)) is Deleted,
                True,
            )
        failed("bad error", ex.submit(fail, BadError))
        failed("bad str", ex.submit(fail, BadStr))
        failed("recursive", ex.submit(make, Recursive))
        failed("deep", ex.submit(deep, 0))
        failed("nested", ex.submit(nest, 100_000))
        check("bad eq", type(ex.submit(make, BadEq).result(120)) is BadEq, True)
        check("bad eq argument", ex.submit(take, BadEq()).result(120), "took")
        check("map of bad eq", list(ex.map(take, [BadEq(), BadEq()])), ["took"] * 2)
    finish()
