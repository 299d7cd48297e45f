"""Executors that are open together, whose initializers set the same globals.

Tasks of each see what its own initializer has set, and those of one without see the
script's values; by assignment, and in containers and objects of the script.
"""

import functools
import sys

import mpitasks as mt
from checking import check, finish

STATE = "script"
TABLE = {"who": "script"}


class Config:
    who = "script"


def set_up(who):
    global STATE, ADDED
    STATE = ADDED = who
    TABLE["who"] = who
    Config.who = who


def look(i):
    return STATE, TABLE["who"], Config.who, globals().get("ADDED")


def look_deep(i):
    return helper()


def helper():
    return STATE, TABLE["who"], Config.who, sys.modules["__main__"].STATE


def change(who):
    global STATE
    STATE = who


def made():
    return Config()


def same_class(config):
    return type(config) is Config and isinstance(Config(), Config)


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self, i):
        self.count += 1
        return STATE


if __name__ == "__main__":
    script = ("script",) * 3
    with (
        mt.Executor(initializer=set_up, initargs=("a",)) as a,
        mt.Executor(initializer=set_up, initargs=("b",)) as b,
        mt.Executor() as plain,
    ):
        for _ in range(3):
            for who, ex in (("a", a), ("b", b), ("script", plain)):
                added = None if ex is plain else who
                want = (who, who, who, added)
                check(f"submit {who}", ex.submit(look, 0).result(), want)
                check(f"map {who}", set(ex.map(look, range(40))), {want})
                check(f"deep {who}", ex.submit(look_deep, 0).result(), (who,) * 4)
                check(
                    f"partial {who}",
                    ex.submit(functools.partial(look, 1)).result(),
                    want,
                )
                check(f"lambda {who}", ex.submit(lambda: STATE).result(), who)
                check(f"object {who}", ex.submit(Counter(), 0).result(), who)
        mixed = [ex.submit(look, i) for i in range(60) for ex in (a, b, plain)]
        got = [future.result()[:3] for future in mixed]
        check("mixed", set(got[0::3]), {("a",) * 3})
        check("mixed", set(got[1::3]), {("b",) * 3})
        check("mixed", set(got[2::3]), {script})
        future = a.submit(made)
        check("class", type(future.result()) is Config, True)
        check("class there", b.submit(same_class, future).result(), True)
        check("class there", plain.submit(same_class, Config()).result(), True)
        # What a task sets is seen by tasks of the same Executor only.
        one = [e.with_options(label="one") for e in (a, b, plain)]
        STATE = "changed"
        for ex in one:
            check("changed", ex.submit(look, 0).result()[0], "changed")
        check("changed", set(v[0] for v in a.map(look, range(40))), {"changed"})
    finish()
