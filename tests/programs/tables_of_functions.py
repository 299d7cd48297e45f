"""Functions reached through dicts, lists, namespaces, class attributes, and what
changes in these.
"""

import types

import mpitasks as mt
from checking import check, finish


def a(x):
    return "a", x


def b(x):
    return "b", x


TABLE = {"f": a}
LIST = [a]
NS = types.SimpleNamespace(f=a)


class Registry:
    f = staticmethod(a)
    entries = {"f": a}


def call(x):
    return TABLE["f"](x), LIST[0](x), NS.f(x), Registry.f(x), Registry.entries["f"](x)


if __name__ == "__main__":
    with mt.Executor() as ex:
        check("first", list(ex.map(call, [1])), [call(1)])
        TABLE["f"], LIST[0], NS.f, Registry.entries["f"] = b, b, b, b
        Registry.f = staticmethod(b)
        check("second", list(ex.map(call, [1])), [call(1)])

        def b(x):
            return "never called: the tables hold the old one", x

        def a(x):
            return "new a", x

        check("third", list(ex.map(call, [1])), [call(1)])
        TABLE["f"] = LIST[0] = NS.f = Registry.entries["f"] = lambda x: ("lambda", x)
        check("fourth", list(ex.map(call, [1])), [call(1)])
        TABLE["f"] = len
        LIST[0] = str.upper
        NS.f = str
        check("fifth", list(ex.map(call, ["abc"])), [call("abc")])
    finish()
