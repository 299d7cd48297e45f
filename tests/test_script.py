"""What belongs to the script means on a worker what it means in the script."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from mpitasks.errors import SerializationError
from staging import Stage

Make = Callable[[str], Stage]


@pytest.fixture
def stage(tmp_path: Path) -> Make:
    return lambda source: Stage(source, tmp_path)


# Each of these is run in the script and in a task, and must come to the same.
SAME = {
    "function": """
def task(): return helper(3)
def helper(x): return x * factor
factor = 7
""",
    "recursion": "def task(n=5): return 1 if n < 2 else n * task(n - 1)",
    "mutual recursion": """
def task(): return even(10)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
""",
    "closure": """
def make(k):
    def inner(x): return x * k
    return inner
task = make(5).__get__(3)
""",
    "cells that two closures share": """
def make():
    n = 0
    def add():
        nonlocal n
        n += 1
        return n
    return add, lambda: n
pair = make()
def task():
    add, get = pair
    add()
    return add(), get()
""",
    "decorator": """
import functools
def twice(f):
    @functools.wraps(f)
    def wrapper(x): return 2 * f(x)
    return wrapper
@twice
def g(x): return x + 1
def task(): return g(3), g.__wrapped__(3), g.__name__
""",
    "lru_cache": """
import functools
@functools.lru_cache(maxsize=7)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def task():
    fib.cache_clear()
    return fib(30), fib.cache_info().maxsize, fib.cache_info().misses
""",
    "singledispatch": """
import functools
@functools.singledispatch
def kind(x): return "object"
@kind.register
def _(x: int): return "int"
@kind.register(list)
def _(x): return "list of " + kind(x[0])
def task(): return kind(1), kind("a"), kind([1])
""",
    "singledispatchmethod, partialmethod, static and class methods": """
import functools
class A:
    base = 10
    def named(self, a, *, b=1): return a + b
    seven = functools.partialmethod(functools.partialmethod(named, 3), b=4)
    seven.unit = "m"
    @functools.singledispatchmethod
    def kind(self, x): return "object"
    @kind.register
    def _(self, x: int): return "int"
    def add(self, a, b): return a + b + self.base
    add3 = functools.partialmethod(add, 3)
    @staticmethod
    def s(x): return x + 1
    @classmethod
    def c(cls): return cls.__name__, cls.base
def task():
    return (A().kind(1), A().kind(""), A().add3(4), A.s(1), A.c(), A().seven(),
            vars(A)["seven"].unit)
""",
    "cached_property": """
import functools
class A:
    count = 0
    @functools.cached_property
    def value(self):
        A.count += 1
        return 5
def task():
    A.count = 0
    a = A()
    return a.value, a.value, A.count
""",
    "super, property, slots, private names": """
class Base:
    __slots__ = ("a", "__b")
    def __init__(self): self.a, self.__b = 1, 2
    def both(self): return [self.a, self.__b]
class Sub(Base):
    __slots__ = ("c", "__dict__")
    def both(self): return super().both() + [self.third]
    @property
    def third(self): return 3
def task():
    sub = Sub()
    sub.extra = 4
    return sub.both(), hasattr(Base(), "__dict__"), sub.__dict__, Sub.__slots__
""",
    "enumerations": """
import enum
class Color(enum.Enum):
    RED = 1
    BLUE = enum.auto()
    @property
    def nice(self): return self.name.lower()
class Planet(enum.Enum):
    EARTH = (5.9, 6.3)
    MARS = (0.6, 3.3)
    def __init__(self, mass, radius): self.mass, self.radius = mass, radius
class Coord(bytes, enum.Enum):
    def __new__(cls, value, label):
        made = bytes.__new__(cls, [value])
        made._value_, made.label = value, label
        return made
    PX = (0, "P.X")
    PY = (1, "P.Y")
class Perm(enum.Flag):
    R = 4
    W = 2
class Text(str, enum.Enum):
    A = "a"
class Number(enum.IntEnum):
    ONE = 1
def task():
    assert Color(2) is Color.BLUE and Color["RED"] is Color.RED
    assert Planet((0.6, 3.3)) is Planet.MARS and Coord(1) is Coord.PY
    assert (Perm.R | Perm.W) is Perm(6) and Perm.R in Perm(6)
    return (Color.BLUE.nice, Planet.MARS.radius, Coord.PY.label, bytes(Coord.PY),
            Perm(6).value, Text.A == "a", Number.ONE + 1, len(Color), [*Perm])
""",
    "dataclasses": """
from __future__ import annotations
import dataclasses, typing
@dataclasses.dataclass
class Point:
    x: float
    tags: list[str] = dataclasses.field(default_factory=list, metadata={"m": 1})
    next: typing.Optional[Point] = None
@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: dataclasses.InitVar[int] = 0
    def __post_init__(self, b): object.__setattr__(self, "a", self.a + b)
@dataclasses.dataclass(kw_only=True)
class Child(Point):
    z: int = 7
def task():
    missing = dataclasses.fields(Point)[1].default is dataclasses.MISSING
    try:
        Frozen(1).a = 2
    except dataclasses.FrozenInstanceError:
        frozen = True
    hints = typing.get_type_hints(Point)["next"] == typing.Optional[Point]
    return (Point(1.0), dataclasses.asdict(Child(x=1.0)), Frozen(1, 2), missing, frozen,
            hints, dataclasses.replace(Point(1.0), x=2.0), Point(1.0) == Point(1.0))
""",
    "named tuples, NewType, generics, protocols": """
import collections, typing
class NT(typing.NamedTuple):
    a: int
    b: str = "q"
NT2 = collections.namedtuple("NT2", "u v")
UserId = typing.NewType("UserId", int)
T = typing.TypeVar("T")
class Box(typing.Generic[T]):
    def __init__(self, v: T): self.v = v
class Proto(typing.Protocol):
    def f(self) -> int: ...
def task():
    return NT(1)._replace(a=2), NT2(1, 2).v, UserId(3), Box[int](3).v, (
        Box.__parameters__ == (T,)), Proto.__name__
""",
    "hooks do not run again": """
LOG = []
class Meta(type):
    def __new__(meta, name, bases, body):
        LOG.append(name)
        if "need" not in body: raise TypeError("need")
        return super().__new__(meta, name, bases, body)
    def __call__(cls):
        made = super().__call__()
        made.made = True
        return made
class A(metaclass=Meta):
    need = 1
class Base:
    registry = {}
    def __init_subclass__(cls, /, tag, **more):
        LOG.append(tag)
        Base.registry[tag] = cls
class Plug(Base, tag="p"): pass
class Descriptor:
    def __set_name__(self, owner, name): LOG.append(name); self.name = name
    def __get__(self, it, kind=None): return it.__dict__[self.name]
    def __set__(self, it, value): it.__dict__[self.name] = 2 * value
class Has:
    d = Descriptor()
def task():
    has = Has()
    has.d = 4
    class Local(Base, tag="local"): pass
    names = sorted(Base.registry)
    del Base.registry["local"]
    return A().made, Base.registry["p"] is Plug, has.d, names, LOG[:4]
""",
    "abstract base classes": """
import abc
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
class Square(Shape):
    def area(self): return 4
class Round: pass
Shape.register(Round)
def task():
    try:
        Shape()
    except TypeError:
        refused = True
    return Square().area(), issubclass(Round, Shape), isinstance(3, Shape), refused
""",
    "total_ordering, context managers, generators": """
import contextlib, functools
@functools.total_ordering
class V:
    def __init__(self, v): self.v = v
    def __eq__(self, o): return self.v == o.v
    def __lt__(self, o): return self.v < o.v
@contextlib.contextmanager
def doubled(x): yield 2 * x
def count(n): yield from range(n)
def task():
    with doubled(3) as six:
        return V(1) <= V(2), V(3) >= V(2), six, [*count(3)]
""",
    "a class that only ctypes can make": """
import ctypes
class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double)]
    def total(self): return self.a + self.b
class Three(ctypes.Array):
    _type_, _length_ = ctypes.c_int, 3
class Nested(ctypes.Structure):
    _anonymous_ = ["pair"]
    _fields_ = [("pair", Pair), ("three", Three)]
    default = ctypes.c_int(7)
    n: int
    def first(self, at: "Pair" = 0) -> int: return self.three[at]
def task():
    nested = Nested(Pair(1, 2.5), Three(3, 4, 5))
    return (Pair(1, 2.5).total(), ctypes.sizeof(Pair), nested.a, nested.b,
            nested.first(), list(nested.three), Nested.default.value)
""",
    "annotations": """
import dataclasses, typing
if typing.TYPE_CHECKING:
    import pandas as pd
class Point:
    Number = int
    x: Number
    next: "Point"
    def move(self, by: Number, to: "Point" = None) -> float: return 2.0
class Further(Point):
    y: float
def distance(one: Point, other: "Point") -> typing.Optional[float]: return 1.0
@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    p: Point = None
class Record(typing.NamedTuple):
    a: Point
    b: "Point" = None
class Given: pass
Given.__annotations__ = {"q": Point}
def task():
    assert distance.__annotations__["one"] is Point
    hints = typing.get_type_hints
    return (str([Point.__annotations__, Further.__annotations__, hints(Further),
                 Point.move.__annotations__, hints(Point.move)]),
            str([distance.__annotations__, hints(distance), Given.__annotations__]),
            [f.name for f in dataclasses.fields(Slotted)], str(hints(Slotted)),
            str(Slotted.__annotations__), Slotted(1) == Slotted(1),
            str(Record.__annotations__), str(hints(Record)), Record(1)._asdict())
""",
    "what pickle finds by name": """
import pickle, sys
class Point:
    def __init__(self, x): self.x = x
class Missing:
    def __reduce__(self): return "MISSING"
MISSING = Missing()
SENTINEL = object()
def square(x): return x * x
def task():
    again = pickle.loads(pickle.dumps([Point(4), square, MISSING]))
    main = sys.modules["__main__"]
    return (again[0].x, again[1] is square, again[2] is MISSING, main.square(3),
            main.__file__ == __file__, __name__, SENTINEL is main.SENTINEL)
""",
    "one object under two names, and in other objects": """
class Config: a = 1
class Model:
    def __init__(self, config): self.config = config
    def run(self): return self.config.a
config = Config()
model = Model(config)
cache = {}
class Holder: store = cache
tree, leaf = Model(None), Model(None)
tree.config, leaf.config = leaf, tree
loop = [1]
loop.append(loop)
alias = loop
def task():
    config.a = 5
    cache["x"] = 1
    return (model.run(), Holder.store is cache, tree.config is leaf,
            leaf.config is tree, loop[1] is loop, alias is loop)
""",
    "locks and thread-local data of the script": """
import contextvars, threading
lock, again, local = threading.Lock(), threading.RLock(), threading.local()
var = contextvars.ContextVar("var", default=3)
class Guarded:
    lock = threading.Lock()
def task():
    with lock, again, Guarded.lock:
        local.x = 1
        return local.x, var.get()
""",
    "an instance whose state needs functions of the script": """
def norm(x): return x // SCALE
SCALE = 2
class State:
    def __init__(self, x): self.x = x
    def __getstate__(self): return {"x": self.x * SCALE}
    def __setstate__(self, state): self.x = norm(state["x"])
value = State(3)
def task(): return value.x
""",
    "submodules of a package": """
import xml, xml.etree.ElementTree
def task(): return xml.etree.ElementTree.fromstring("<a><b/></a>")[0].tag
""",
    "a class body that reads globals": """
base = 4
def task():
    class Inner:
        value = base + 1
    return Inner.value
""",
    "shadowed built-ins": "def len(x): return 77\ndef task(): return len([])",
    "defaults": "def task(a=[1], *, b={'k': 2}): a.append(3); return a[-1], b['k']",
}


@pytest.mark.parametrize("name", SAME)
def test_a_task_means_what_the_call_means(name: str, stage: Make) -> None:
    on = stage(SAME[name])
    there = on.call(on.task)
    with on.on_rank_0():
        assert there == on.task()
        assert type(there) is type(on.task())


VALUES = """
import dataclasses, enum
from math import floor
Auto = enum.Enum("OtherName", "P Q")
cube = lambda x: floor(x) ** 3
Made = type("AnotherName", (), {})
class Color(enum.Enum):
    RED = 1
class Perm(enum.Flag):
    R = 4
    W = 2
@dataclasses.dataclass
class Point:
    x: float
class Node:
    class Inner: pass
class Busy(Exception): pass
SENTINEL = object()
def square(x): return x * x
@dataclasses.dataclass
class Holder:
    value: object
THINGS = [Color.RED, Perm(6), Auto.P, Auto, cube, Made, Point, Node.Inner, Busy]
THINGS += [SENTINEL, square, Point.__init__]
def things(): return THINGS
def point(): return Point(1.0)
def both(thing): return thing is THINGS[0], [thing]
def raised(): return Busy("x")
"""


def test_results_refer_to_what_rank_0_has(stage: Make) -> None:
    on = stage(VALUES)
    for there, here in zip(on.call(on.things), on.THINGS, strict=True):
        assert there is here
    assert on.call(on.point) == on.Point(1.0)
    assert type(on.call(on.raised)) is on.Busy


def test_arguments_refer_to_what_the_worker_has(stage: Make) -> None:
    on = stage(VALUES)
    same, [back] = on.call(on.both, on.Color.RED)
    assert same
    assert back is on.Color.RED


def test_a_result_never_changes_a_class_of_rank_0(stage: Make) -> None:
    on = stage("""
class Model:
    default = 10
    def value(self): return self.default
def work(): return Model()
""")
    own = on.Model.value
    on.call(on.work)
    on.run("Model.default = 99\nModel.more = 1")
    model = on.call(on.work)
    assert on.Model.value is own
    assert (on.Model.default, on.Model.more, model.value()) == (99, 1, 99)


def test_local_classes_travel_by_value_and_keep_their_identity(stage: Make) -> None:
    on = stage("""
def make():
    class Local:
        n = 1
        def get(self): return self.n
    return Local
Local = make()
def work(kind): return kind(), kind
""")
    first, kind = on.call(on.work, on.Local)
    assert kind is on.Local
    assert type(first) is on.Local
    on.run("Local.n = 5")
    second, _ = on.call(on.work, on.Local)
    assert second.get() == 5


def test_a_class_made_in_a_task_is_one_class_for_all_its_results(stage: Make) -> None:
    on = stage("""
kinds = []
def work():
    class Made:
        n = 1
    if not kinds: kinds.append(Made)
    return kinds[0]()
""")
    one, two = on.call(on.work), on.call(on.work)
    assert type(one) is type(two)
    type(one).n = 7  # rank 0 has it from now on
    assert on.call(on.work).n == 7


# The value at the call.

CHANGES = {
    "global": ("alpha = 1\ndef f(): return alpha", "alpha = {}", "f"),
    "global behind a helper": (
        "alpha = 1\ndef g(): return alpha\ndef f(): return g()",
        "alpha = {}",
        "f",
    ),
    "small dictionary in place": (
        "C = {'k': 1}\ndef f(): return C['k']",
        "C['k'] = {}",
        "f",
    ),
    "type of an equal value": (
        "alpha = 1\ndef f(): return repr(alpha)",
        "alpha = [1, 1.0, True][{} % 3]",
        "f",
    ),
    "list in place": ("C = [1]\ndef f(): return C[0]", "C[0] = {}", "f"),
    "attribute of an object": (
        "class C: pass\nc = C()\nc.k = 1\ndef f(): return c.k",
        "c.k = {}",
        "f",
    ),
    "attribute in a slot": (
        "class C: __slots__ = ('k',)\nc = C()\nc.k = 1\ndef f(): return c.k",
        "c.k = {}",
        "f",
    ),
    "attribute of a class": (
        "class C: k = 1\ndef f(): return C.k",
        "C.k = {}",
        "f",
    ),
    "method of a class": (
        "class C:\n  def m(self): return 1\ndef f(): return C().m()",
        "C.m = lambda self: {}",
        "f",
    ),
    "class redefined": (
        "class C: k = 1\ndef f(): return C.k, C().k",
        "class C: k = {}",
        "f",
    ),
    "helper redefined": (
        "def g(): return 1\ndef f(): return g()",
        "def g(): return {}",
        "f",
    ),
    "name defined later": (
        "def f(): return globals().get('later', 1) if False else later() \n"
        "def later(): return 1",
        "def later(): return {}",
        "f",
    ),
    "built-in shadowed": (
        "def f(): return abs(-1)",
        "def abs(x): return {}",
        "f",
    ),
    "cell": (
        "def make():\n  k = 1\n  def s(v):\n    nonlocal k\n    k = v\n"
        "  def get(): return k\n  return s, get\ns, f = make()",
        "s({})",
        "f",
    ),
    "default": ("def f(k=1): return k", "f.__defaults__ = ({},)", "f"),
    "keyword default": (
        "def f(*, k=1): return k",
        "f.__kwdefaults__ = dict(k={})",
        "f",
    ),
    "keyword default in place": (
        "def f(*, k=1): return k",
        "f.__kwdefaults__['k'] = {}",
        "f",
    ),
    "code": (
        "def f(): return 1",
        "f.__code__ = (lambda: {}).__code__",
        "f",
    ),
    "attribute of the function": (
        "def f(): return f.k\nf.k = 1",
        "f.k = {}",
        "f",
    ),
    "partial": (
        "import functools\nbox = [1]\ndef g(b): return b[0]\n"
        "p = functools.partial(g, box)",
        "box[0] = {}",
        "p",
    ),
    "method, deep": (
        "class S: x = 1\nclass M:\n  def __init__(self): self.s = S()\n"
        "  def get(self): return self.s.x\nm = M()",
        "m.s.x = {}",
        "m.get",
    ),
    "callable object, deep, of a global that another holds": (
        "class S: x = 1\nclass M:\n  def __init__(self, s): self.s = s\n"
        "  def __call__(self): return self.s.t.x\ns = S()\ns.t = S()\nm = M(s)",
        "s.t.x = {}",
        "m",
    ),
    "lambda": ("alpha = 1\nf = lambda: alpha", "alpha = {}", "f"),
    "small array": (
        "import numpy as np\nA = np.ones(3)\ndef f(): return float(A[0])",
        "A[0] = {}",
        "f",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_call_sees_what_there_was_at_its_submit(name: str, stage: Make) -> None:
    source, change, function = CHANGES[name]
    on = stage(source)
    calls, expected = [], []
    for value in (2, 3, 4, 3):
        on.run(change.format(value))
        calls.append(on.submit(eval(function, on.script.__dict__)))
        with on.on_rank_0():
            expected.append(eval(function, on.script.__dict__)())
    assert [call.result() for call in calls] == expected
    assert len({*map(repr, expected)}) > 1


IN_PLACE = {
    "large array": ("A = np.ones(10_000)", "A[:] = {}", "float(A[7])"),
    "large list": ("A = [[0]] * 100", "A[0] = [{}]", "A[0][0]"),
    "nested": (
        "A = {{1: {{2: [object, [0]]}}}}",
        "A[1][2][1][0] = {}",
        "A[1][2][1][0]",
    ),
    "data frame": ("A = pd.DataFrame(dict(x=[0]))", "A.x[0:1] = {}", "int(A['x'][0])"),
    "deep object": (
        "class S: x = 0\nA = S()\nA.s = S()",
        "A.s.x = {}",
        "A.s.x",
    ),
}


@pytest.mark.parametrize("how", ["map", "executor"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_map_and_a_new_executor_see_what_changed_in_place(
    name: str, how: str, stage: Make
) -> None:
    made, change, read = IN_PLACE[name]
    head = "import numpy as np\nimport pandas as pd\n"
    on = stage(f"{head}{made.format('')}\ndef f(): return {read}")
    on.call(on.f)
    for value in (2, 3):
        on.run(change.format(value).replace("A.x[0:1]", "A.loc[0, 'x']"))
        if how == "executor":
            on.open()
        assert on.call(on.f, whole=how == "map") == value


def test_what_is_the_same_is_sent_once(stage: Make) -> None:
    on = stage("""
import numpy as np
table = np.ones(100_000)
class Model:
    def __init__(self, table): self.table = table
    def value(self, i): return float(self.table[i])
    def __call__(self, i): return float(self.table[i])
model = Model(table)
def f(i): return float(table[i])
""")
    import functools

    for _ in range(3):
        on.open()
        part = functools.partial(on.model.value)
        for run in (on.f, on.model, on.model.value, part):
            assert on.call(run, 1) == on.call(run, 2, whole=True) == 1.0
    assert sum(on.sent.values()) < 1_000_000


def test_a_partial_with_an_array_of_its_own_is_sent_once(stage: Make) -> None:
    import functools

    import numpy as np

    on = stage("def f(table, i): return float(table[i])")
    table = np.ones(100_000)
    for whole in (False, True, False):
        assert on.call(functools.partial(on.f, table), 1, whole=whole) == 1.0
    assert sum(on.sent.values()) < 900_000
    table[1] = 2.0
    assert on.call(functools.partial(on.f, table), 1, whole=True) == 2.0
    other = np.full(100_000, 3.0)
    assert on.call(functools.partial(on.f, other), 1) == 3.0


def test_an_array_that_takes_the_place_of_another_is_another(stage: Make) -> None:
    import functools

    import numpy as np

    on = stage("def f(table): return float(table[0])")
    for value in range(20):  # most land where the last one was
        part = functools.partial(on.f, np.full(20_000, float(value)))
        assert on.call(part) == value


# What a task does to the mirror.


def test_what_a_task_sets_stays_until_the_script_sets_it(stage: Make) -> None:
    on = stage("""
TABLE = None
def load():
    global TABLE
    TABLE = [1, 2]
def get(): return TABLE
""")
    on.call(on.load)
    assert on.call(on.get) == [1, 2]
    assert on.call(on.get, whole=True) == [1, 2]
    assert on.TABLE is None
    on.run("TABLE = 5")
    assert on.call(on.get) == 5


def test_an_object_that_is_replaced_is_replaced_wherever_it_is_held(
    stage: Make,
) -> None:
    import functools

    on = stage("""
A = {"n": 0}
B = A
class S: c = A
s = S()
s.c = A
def only_a(): return A["n"]
def both(a=None): return A is B, A is s.c, S.c is A, A["n"], a is None or a is A
""")
    part = functools.partial(on.both, on.A)
    assert on.call(on.both) == on.call(part) == (True, True, True, 0, True)
    on.run("A['n'] = 8")
    assert on.call(on.only_a, whole=True) == 8
    assert on.call(on.both) == on.call(part) == (True, True, True, 8, True)


def test_what_the_script_deletes_is_gone_on_the_worker(stage: Make) -> None:
    on = stage("x = 1\ndef f(): return 'x' in globals()\ndef g(): return x")
    assert on.call(on.g) == 1
    del on.script.x
    with pytest.raises(NameError, match="x"):
        on.call(on.g)


def test_tracebacks_name_the_file_of_the_script(stage: Make) -> None:
    import traceback

    on = stage("def invert(x):\n    return 1 / x\n")
    with pytest.raises(ZeroDivisionError) as raised:
        on.call(on.invert, 0)
    text = "".join(traceback.format_exception(raised.value))
    assert on.script.__file__ in text
    assert "return 1 / x" in text


# What cannot travel.


def test_an_unpicklable_global_is_named(stage: Make) -> None:
    on = stage("import sys\nframe = sys._getframe()\ndef f(): return frame")
    with pytest.raises(SerializationError, match="global variable 'frame'"):
        on.submit(on.f)


def test_a_lock_in_an_argument_is_refused(stage: Make) -> None:
    on = stage("import threading\ndef f(x): return x")
    with pytest.raises(SerializationError, match="lock"):
        on.submit(on.f, on.threading.Lock())


def test_a_global_that_cannot_be_loaded_is_named(stage: Make) -> None:
    on = stage("""
class Fragile:
    def __setstate__(self, state): raise ValueError("broken")
    def __getstate__(self): return {"a": 1}
value = Fragile()
def f(): return value
def g(): return 1
""")
    with pytest.raises(SerializationError, match=r"'value'.*broken"):
        on.call(on.f)
    with pytest.raises(SerializationError, match=r"'value'.*broken"):
        on.call(on.f)  # and again, without another reason
    assert on.call(on.g) == 1


def test_modules_that_are_registered_go_by_value(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    import cloudpickle

    (tmp_path / "only_here_now.py").write_text("def f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("only_here_now")
    cloudpickle.register_pickle_by_value(module)
    try:
        on = stage("def f(x): return x")
        call = on.submit(module.f, 1)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules["only_here_now"]
    monkeypatch.undo()
    assert call.result() == 2


def test_a_function_of_a_module_needs_nothing_of_the_script(stage: Make) -> None:
    import math

    on = stage("x = 1")
    assert on.call(math.sqrt, 4.0) == 2.0
    assert on.told == [None]


# The initializer.


def test_the_initializer_runs_once_before_the_first_task(stage: Make) -> None:
    on = stage("""
N = 0
def init(by):
    global N
    N += by
def get(): return N
def other(): return N
""")
    on.open(on.init, (5,))
    assert [on.call(on.get), on.call(on.get), on.call(on.other)] == [5, 5, 5]
    on.open()
    assert on.call(on.get) == 0  # what an initializer sets is its Executor's own
    on.open(on.init, (2,))
    assert on.call(on.other) == 2


def test_what_an_initializer_sets_is_seen_by_its_tasks_only(stage: Make) -> None:
    on = stage("""
N, TABLE = 0, {"n": 0}
class Config:
    n = 0
def init(n):
    global N
    N = TABLE["n"] = Config.n = n
def get(): return N, TABLE["n"], Config.n
def changed(): TABLE["n"] += 10; return get()
""")
    set_ups = []
    for args in ((1,), (2,)):
        on.open(on.init, args)
        set_ups.append(on.set_up)
    on.open()
    set_ups.append(on.set_up)
    for round in (0, 10):
        for n, set_up in zip((1, 2, 0), set_ups, strict=True):
            on.set_up = set_up
            assert on.call(on.get) == (n, n + round, n)
            assert on.call(on.changed) == (n, n + round + 10, n)
    on.run("N = 7; TABLE = {'n': 7}")  # until the script has another value
    for n, set_up in zip((1, 2, 0), set_ups, strict=True):
        on.set_up = set_up
        assert on.call(on.get) == (7, 7, n)


def test_what_an_initializer_has_set_goes_with_it(stage: Make) -> None:
    on = stage("""
import sys
class Big: pass
def init():
    global BIG
    BIG = Big()
def get(): return type(BIG) is sys.modules["__main__"].Big
""")
    values, sent = [], []
    for _ in range(2):
        on.open(on.init)
        assert on.call(on.get)
        values.append(weakref.ref(on.worker.main.BIG))
        own = on.set_up.initializers[0].id
        sent.append([id for id, each in on.worker.sent.items() if each.space == own])
    with on.on_worker():
        on.worker.forget(sent[0])
    gc.collect()
    assert values[0]() is None
    assert on.worker.main.BIG is values[1]()  # the other one is in its place still
    assert on.call(on.get)
    with on.on_worker():
        on.worker.forget(sent[1])
    gc.collect()
    assert values[1]() is None
    assert not hasattr(on.worker.main, "BIG")
    assert not hasattr(on.script, "BIG")


def test_an_initializer_that_fails_fails_each_task(stage: Make) -> None:
    from mpitasks.errors import InitializerError

    on = stage("def init(): raise SystemExit('no licence')\ndef f(): return 1")
    on.open(on.init)
    for _ in range(2):
        with pytest.raises(InitializerError, match="no licence"):
            on.call(on.f)
    on.open()
    assert on.call(on.f) == 1


def test_pickles_of_results_are_plain(stage: Make) -> None:
    """A result of a class of the script is as cheap as one of a module."""
    on = stage("class P:\n    def __init__(self): self.x = 1\ndef f(): return P()")
    on.call(on.f)
    with on.on_worker():
        from mpitasks.wire import codec

        value = on.worker.main.P()
        frame, _ = codec.encode(value, "it")
        assert frame == pickle.dumps(value, 5)


def test_workers_follow_what_the_script_has_changed(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = stage("""
import decimal, os, sys
import numpy as np
def around():
    return (os.getcwd(), sys.path[0], os.environ.get("SETTING_OF_A_TEST"),
            sys.getrecursionlimit(), decimal.getcontext().prec, np.geterr()["divide"])
""")
    import decimal
    import os

    import numpy as np

    limit = sys.getrecursionlimit()
    folder = tmp_path / "other"
    folder.mkdir()
    on.open()
    with decimal.localcontext() as context, np.errstate(divide="raise"):
        context.prec = 7
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("SETTING_OF_A_TEST", "x")
        sys.setrecursionlimit(limit + 11)
        call = on.submit(on.around)  # the first use
        expected = on.around()
        monkeypatch.undo()
        sys.setrecursionlimit(limit)
        monkeypatch.setattr(sys, "path", sys.path.copy())
        context.prec = 9
        np.seterr(divide="warn")
        assert "SETTING_OF_A_TEST" not in os.environ
        try:
            assert call.result() == expected
        finally:
            sys.setrecursionlimit(limit)
            os.environ.pop("SETTING_OF_A_TEST", None)
            os.chdir(tmp_path.parent)


def test_a_folder_that_a_worker_cannot_enter_fails_the_task(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpitasks.errors import SerializationError

    on = stage("def f(): return 1")
    on.open()
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    call = on.submit(on.f)
    monkeypatch.undo()
    folder.rmdir()
    with pytest.raises(SerializationError, match="cannot enter"):
        call.result()


@pytest.mark.parametrize("change", ["delete", "replace", "in place"])
def test_a_large_global_is_let_go_of_when_the_script_has_another(
    change: str, stage: Make
) -> None:
    import functools
    import gc

    on = stage("""
import numpy as np
table = np.ones(100_000)
def f(): return float(table[0])
def g(t): return float(t[0])
""")
    part = functools.partial(on.g, on.table)
    assert on.call(on.f) == on.call(part) == 1.0
    old = [each for each, nbytes in on.sent.items() if nbytes > 500_000]
    if change == "delete":
        del on.script.table, part
        on.open()
    else:
        code = (
            "table[:] = 2" if change == "in place" else "table = np.full(100_000, 2.0)"
        )
        on.run(code)
        assert on.call(on.f, whole=True) == 2.0
    gc.collect()
    assert old
    assert {*old} <= {*on.functions.dropped}


def test_a_partial_is_let_go_of_with_its_array(stage: Make) -> None:
    import functools

    import numpy as np

    on = stage("def f(table, i): return float(table[i])")
    part = functools.partial(on.f, np.ones(100_000))
    target = on.submit(part, 1).target
    assert target.nbytes > 500_000
    id = target.id
    del part, target
    assert id in on.functions.dropped


def test_nothing_is_kept_alive_by_a_watch(stage: Make) -> None:
    """Not until the collector comes by: it may be some 100 MB."""
    import gc
    import weakref

    from mpitasks.wire.change_detection import Watch

    on = stage("class C: pass\nc = C()\ndef f(): return c")
    for look in (False, True):
        value = on.C()
        watch = Watch({"c": value}, ["c"], [on.f], [on.C], [value])
        if look:
            assert watch.same()
        ref = weakref.ref(value)
        gc.disable()
        try:
            del watch, value
            assert ref() is None
        finally:
            gc.enable()


def test_a_name_that_was_bound_for_a_while_is_free_again(stage: Make) -> None:
    on = stage("def f(): return max(1, 2)\ndef g(): return later()")
    assert on.call(on.f) == 2
    on.run("max = min\ndef later(): return 5")
    assert (on.call(on.f), on.call(on.g)) == (1, 5)
    on.run("del max, later")
    assert on.call(on.f) == 2
    with pytest.raises(NameError, match="later"):
        on.call(on.g)


def test_what_holds_an_object_keeps_it_when_the_name_gets_another(
    stage: Make,
) -> None:
    on = stage("""
MISSING = object()
A = {"n": 1}
class S: pass
s = S()
s.conf = A
def one(x=MISSING): return x is MISSING
def two(): return s.conf is A, s.conf["n"], A["n"]
""")
    assert (on.call(on.one), on.call(on.two)) == (True, (True, 1, 1))
    on.run('MISSING = object()\nA = {"n": 2}')
    with on.on_rank_0():
        assert (on.one(), on.two()) == (False, (False, 1, 2))
    assert (on.call(on.one), on.call(on.two)) == (False, (False, 1, 2))


def test_what_a_map_has_noticed_every_submit_sees(stage: Make) -> None:
    on = stage("""
import numpy as np
table = np.ones(10_000)
def f(): return float(table[0])
def g(): return float(table[1])
""")
    for _ in range(3):
        assert on.call(on.f) == 1.0
    on.run("table[:] = 2")
    assert on.call(on.g, whole=True) == 2.0
    assert on.call(on.f) == 2.0


def test_watch_holds_what_was_pickled_and_not_what_another_thread_gave_since() -> None:
    from mpitasks.wire.change_detection import Watch

    main = {"tick": 2}
    watch = Watch(main, ["tick"], [], [], [], {"tick": 1})
    assert not watch.same()
    main["tick"] = 1
    assert watch.same()


def test_two_functions_that_are_sent_as_one_go_their_own_ways(stage: Make) -> None:
    on = stage("""
def make():
    k = 1
    def set_k(value):
        nonlocal k
        k = value
    def get(): return k
    return set_k, get
set_1, get_1 = make()
set_2, get_2 = make()
pair = [(set_1, get_1), (set_2, get_2)]
del set_1, get_1, set_2, get_2
""")
    (set_1, get_1), (set_2, get_2) = on.pair
    for _ in range(3):
        assert (on.call(get_1), on.call(get_2)) == (1, 1)
    set_1(5)
    assert (on.call(get_1), on.call(get_2)) == (5, 1)
    set_2(7)
    assert (on.call(get_1), on.call(get_2)) == (5, 7)


REDEFINED = """
import enum, functools
def h(x): return 0
TABLE = [h]
def t(): return TABLE[0](0)
def g(f=h): return f(0)
class A:
    def m(self): return 0
OBJ = A()
def o(): return OBJ.m(), type(OBJ) is A
class D: op = staticmethod(h)
def d(): return D.op(0)
PART = functools.partial(h, 0)
def p(): return PART()
class E(enum.Enum): X = 0
EX = E.X
def e(): return EX is E.X, EX.value
"""


def test_what_holds_a_redefined_function_or_class_is_made_anew(stage: Make) -> None:
    on = stage(REDEFINED)
    names = "tgodpe"
    for i in range(3):
        on.run(
            REDEFINED.replace("return 0", f"return {i}").replace("X = 0", f"X = {i}")
        )
        with on.on_rank_0():
            expected = [on.script.__dict__[name]() for name in names]
        assert [on.call(on.script.__dict__[name]) for name in names] == expected
        # And where the holder stays, it keeps what it had.
        on.run("def h(x): return 77\nclass A:\n    def m(self): return 77")
        with on.on_rank_0():
            expected = [on.script.__dict__[name]() for name in "tgodp"]
        assert [on.call(on.script.__dict__[name]) for name in "tgodp"] == expected


def test_a_function_that_was_submitted_is_let_go_of(stage: Make) -> None:
    import gc
    import weakref

    on = stage("""
class Large: pass
def make(recursive):
    large = Large()
    def plain(): return large is None
    def again(n=1): return large is None if n == 0 else again(n - 1)
    return (again if recursive else plain), large
""")
    for recursive in (False, True):
        function, large = on.make(recursive)
        for _ in range(3):
            assert on.call(function) is False
        ref = weakref.ref(large)
        for _ in range(3):
            on.call(abs, 1)  # which takes the place of the latest one
        del function, large
        gc.collect()
        assert ref() is None, recursive


def test_no_function_of_the_user_is_taken_for_one_of_ours(stage: Make) -> None:
    """What finds the side is another function in each run: its id may come again."""
    from mpitasks.wire import rebuild, script_pickle

    mine = {name: getattr(rebuild, name) for name in rebuild.__all__}
    assert {id(value) for value in mine.values()} >= script_pickle._OURS
    assert id(rebuild._side) not in script_pickle._OURS
    code = "import mpitasks.wire.rebuild as r, mpitasks.wire.script_pickle as s\n"
    code += "assert id(r._side) not in s._OURS and len(s._OURS) > 10"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_settings_that_are_set_back_are_set_back_on_workers(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import decimal
    import os

    on = stage("""
import decimal, os
def look(): return decimal.getcontext().prec, os.environ.get("SETTING_OF_A_TEST")
""")
    usual = decimal.getcontext().prec
    on.open()
    with decimal.localcontext() as context:
        context.prec = 5
        monkeypatch.setenv("SETTING_OF_A_TEST", "a")
        call = on.submit(on.look)
        monkeypatch.delenv("SETTING_OF_A_TEST")
        context.prec = usual
        assert call.result() == (5, "a")
        # Which was here, too: so the script sets it back once more.
        decimal.getcontext().prec = usual
        os.environ.pop("SETTING_OF_A_TEST", None)
        on.open()
        back = on.submit(on.look)
        decimal.getcontext().prec = 9
        os.environ["SETTING_OF_A_TEST"] = "b"
        assert back.result() == (usual, None)
    os.environ.pop("SETTING_OF_A_TEST", None)


def test_items_of_script_classes_do_not_renew_what_the_function_needs(
    stage: Make,
) -> None:
    on = stage("""
alpha = 1
class P:
    def __init__(self, x): self.x = x
def f(p): return alpha * p.x
p = P(1)
""")
    with on.on_rank_0():
        target = on.functions.register(on.f, whole=True)
        on.script.alpha = 100
        wider = target.including(["P"])
    old = {need.name: need.id for need in target.needs}
    new = {need.name: need.id for need in wider.needs}
    assert new["alpha"] == old["alpha"]
    assert "P" in new


def test_a_view_that_is_bound_anew_is_looked_into(stage: Make) -> None:
    on = stage("""
import numpy as np
buf = np.zeros(20_000)
A = buf[:]
def g(): return float(A[0])
def make():
    view = buf[:]
    return lambda: float(view[0])
""")
    for i in range(4):
        on.run(f"buf[:] = {i}\nA = buf[:]")
        assert on.call(on.g) == i
        with on.on_rank_0():
            inner = on.make()
        assert on.call(inner) == i


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are made at once")
def test_names_in_annotations_need_not_be_there(stage: Make) -> None:
    """What is imported for type checkers alone (PEP 649)."""
    on = stage("""
import typing
if typing.TYPE_CHECKING:
    import pandas as pd
class Model:
    frame: pd.DataFrame
    def fit(self, frame: pd.DataFrame, by: "pd.Index" = None) -> "Model": return 1
def task(frame: pd.DataFrame = None) -> pd.Series:
    model = Model()
    return model.fit(frame), typing.get_type_hints
""")
    assert on.call(on.task)[0] == 1
