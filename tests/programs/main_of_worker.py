"""The worker's __main__ is the script's.

Pickle, type hints, copy, inspect, __name__, __file__, __doc__.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
import typing

import mpitasks as mt
from checking import check, finish


@dataclasses.dataclass
class Point:
    x: int = 0
    other: Point | None = None if sys.version_info >= (3, 10) else None


class Config(typing.TypedDict):
    a: int
    b: typing.List[Point]


UserId = typing.NewType("UserId", int)
T = typing.TypeVar("T", bound="Point")


def hinted(a: Point, b: Config, c: UserId = UserId(1)) -> typing.Optional[Point]:
    return a


def work(_=0):
    import __main__

    p = Point(3, Point(4))
    again = pickle.loads(pickle.dumps(p))
    hints = typing.get_type_hints(hinted)
    return {
        "pickle": again == p and type(again) is Point,
        "class": pickle.loads(pickle.dumps(Point)) is Point,
        "function": pickle.loads(pickle.dumps(hinted)) is hinted,
        "copy": copy.deepcopy(p) == p,
        "hints": (
            hints["a"] is Point,
            hints["b"] is Config,
            hints["c"] is UserId,
            str(hints["return"])[:15],
        ),
        "class hints": typing.get_type_hints(Config)["b"].__args__[0] is Point,
        "fields": [f.name for f in dataclasses.fields(Point)],
        "asdict": dataclasses.asdict(p),
        "main": (__main__.Point is Point, __main__.hinted is hinted),
        "name": __name__,
        "module": (
            Point.__module__,
            hinted.__module__,
            sys.modules["__main__"].Point is Point,
        ),
        "new type": (UserId(5), UserId.__name__),
        "source": inspect.getsource(hinted).startswith("def hinted("),
        "signature": str(inspect.signature(hinted))[:6],
        "repr": repr(p),
        "file": (
            __file__.endswith("a4_main_of_worker.py"),
            hinted.__code__.co_filename == __file__,
        ),
    }


if __name__ == "__main__":
    want = work()
    with mt.Executor() as ex:
        for got in (ex.submit(work).result(), *ex.map(work, [0])):
            for name in want:
                check(name, got[name], want[name])
    finish()
