"""Results that come from a journal refer to the script's own classes, enum members and
exceptions as well.
"""

import collections
import dataclasses
import enum
import os
import tempfile

import mpitasks as mt
from checking import check, finish


class Color(enum.Enum):
    RED = 1


class Perm(enum.Flag):
    R = 1
    W = 2


@dataclasses.dataclass(order=True)
class Row:
    n: int
    c: Color = Color.RED
    tags: tuple = ()


Point = collections.namedtuple("Point", "x y")


class Bad(Exception):
    def __init__(self, n, *, why):
        super().__init__(n)
        self.why = why


def work(n):
    return (
        Row(n),
        Color.RED,
        Perm.R | Perm.W,
        Point(n, n),
        Row,
        {Color.RED: [Row(n, tags=(Perm.R,))]},
    )


def fail(n):
    raise Bad(n, why="so")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2):
            with mt.Executor(
                journal=os.path.join(folder, "j.db"), keep_failures=True
            ) as ex:
                for i, (row, red, perm, point, kind, d) in enumerate(
                    ex.map(work, range(5))
                ):
                    check(
                        "same",
                        (
                            row == Row(i),
                            type(row) is Row,
                            red is Color.RED,
                            perm is (Perm.R | Perm.W),
                            point == Point(i, i),
                            type(point) is Point,
                            kind is Row,
                            d[Color.RED][0].tags[0] is Perm.R,
                        ),
                        (True,) * 8,
                    )
                e = ex.submit(fail, 3).exception()
                check(
                    "error",
                    (type(e) is Bad, getattr(e, "why", None), e.args),
                    (True, "so", (3,)),
                )
    finish()
