"""An iterator of a map that raises SystemExit, a __len__ that lies, a key function
that exits: the caller's error, the Executor goes on.
"""

import mpitasks as mt
from checking import BAD, check, finish


def items(kind):
    yield 1
    yield 2
    raise kind("from the iterator")


class Liar(list):
    def __len__(self):
        return 100


class Exits(list):
    def __len__(self):
        raise SystemExit("len")

    def __length_hint__(self):
        raise SystemExit("hint")


if __name__ == "__main__":
    with mt.Executor() as ex:
        for kind in (
            ValueError,
            SystemExit,
            KeyboardInterrupt,
            GeneratorExit,
            StopIteration,
        ):
            for way in (ex.map, ex.map_unordered):
                try:
                    got = list(way(abs, items(kind)))
                except BaseException as e:
                    if not (
                        type(e) is kind
                        or (kind is StopIteration and isinstance(e, RuntimeError))
                    ):
                        BAD.append(f"{way.__name__} {kind.__name__}: raised {e!r}")
                else:
                    BAD.append(f"{way.__name__} {kind.__name__}: {got}")
                check("after", ex.submit(abs, -1).result(120), 1)
        check("liar", list(ex.map(abs, Liar([1, 2]))), [1, 2])
        try:
            check("exits", list(ex.map(abs, Exits([1, 2]))), [1, 2])
        except SystemExit:
            pass
        check("after", list(ex.map(abs, [-1])), [1])
    finish()
