"""Exception groups and notes (Python 3.11) keep the script's exceptions."""

import sys

import mpitasks as mt
from checking import check, finish

if sys.version_info < (3, 11):
    print("ok")
    sys.exit()


class Mine(Exception):
    def __init__(self, x, *, y):
        super().__init__(x)
        self.y = y


class MyGroup(ExceptionGroup):
    def derive(self, excs):
        return MyGroup(self.message, excs)


def group(kind):
    e = Mine(1, y=2)
    e.add_note("a note")
    if kind == "note":
        raise e
    if kind == "group":
        raise ExceptionGroup(
            "several", [e, ValueError(3), ExceptionGroup("inner", [KeyError(4)])]
        )
    if kind == "mine":
        raise MyGroup("mine", [e])
    raise BaseExceptionGroup("base", [KeyboardInterrupt()])


if __name__ == "__main__":
    with mt.Executor() as ex:
        e = ex.submit(group, "note").exception()
        check(
            "note",
            (
                type(e) is Mine,
                e.y if type(e) is Mine else None,
                "a note" in getattr(e, "__notes__", []),
            ),
            (True, 2, True),
        )
        e = ex.submit(group, "group").exception()
        check("group", (type(e), e.message), (ExceptionGroup, "several"))
        check(
            "members",
            (
                type(e.exceptions[0]) is Mine,
                e.exceptions[0].y,
                e.exceptions[1].args,
                e.exceptions[2].exceptions[0].args,
            ),
            (True, 2, (3,), (4,)),
        )
        check("note within", e.exceptions[0].__notes__, ["a note"])
        mine, rest = e.split(Mine)
        check("split", (len(mine.exceptions), len(rest.exceptions)), (1, 2))
        e = ex.submit(group, "mine").exception()
        check(
            "own group",
            (type(e) is MyGroup, type(e.exceptions[0]) is Mine),
            (True, True),
        )
        e = ex.submit(group, "base").exception()
        check("base", type(e).__name__ in ("BaseExceptionGroup", "RemoteError"), True)
        check("alive", ex.submit(abs, -1).result(), 1)
    finish()
