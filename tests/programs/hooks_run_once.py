"""Metaclass hooks, __init_subclass__ with keywords, __set_name__, class decorators and
registries run on rank 0 once, whatever comes back; a registry that refuses a second
of a name is content.
"""

import mpitasks as mt
from checking import BAD, check, finish

LOG = []
REGISTRY = {}


class Meta(type):
    def __new__(mcs, name, bases, body, **kw):
        if name in LOG:
            raise TypeError(f"second {name}")
        LOG.append(name)
        return super().__new__(mcs, name, bases, body, **kw)

    def __init__(cls, name, bases, body, **kw):
        super().__init__(name, bases, body)

    def __call__(cls, *a):
        made = super().__call__(*a)
        made.by_meta = True
        return made


class Field:
    def __set_name__(self, owner, name):
        LOG.append(("field", owner.__name__, name))
        self.name = "_" + name

    def __get__(self, instance, owner):
        return self if instance is None else getattr(instance, self.name, None)

    def __set__(self, instance, value):
        setattr(instance, self.name, value * 2)


class Plugin(metaclass=Meta):
    def __init_subclass__(cls, /, key, **kw):
        super().__init_subclass__(**kw)
        if key in REGISTRY:
            raise ValueError(f"{key} twice")
        REGISTRY[key] = cls


class A(Plugin, key="a"):
    f = Field()

    def __init__(self, v):
        self.f = v


class B(A, key="b"):
    pass


def decorator(cls):
    LOG.append(("decorated", cls.__name__))
    cls.extra = 1
    return cls


@decorator
class D(Plugin, key="d"):
    pass


def work(v):
    return A(v), B(v), D(), len(REGISTRY), A(v).f, B(v).by_meta, D.extra


if __name__ == "__main__":
    log = list(LOG)
    with mt.Executor() as ex:
        results = [
            *ex.map(work, range(20)),
            *(f.result() for f in [ex.submit(work, 3) for _ in range(10)]),
        ]
        for got in results:
            a, b, d, *rest = got
            if not (
                type(a) is A
                and type(b) is B
                and type(d) is D
                and a.by_meta
                and REGISTRY["b"] is type(b)
            ):
                BAD.append(f"types {got}")
            if rest != [3, a.f, True, 1]:
                BAD.append(f"values {rest}")
        check("values", results[3][0].f, 6)
        check("log", LOG, log)
        check("registry", list(REGISTRY), ["a", "b", "d"])
        check("bound", ex.submit(A(5).__init__, 1).result(), None)
    finish()
