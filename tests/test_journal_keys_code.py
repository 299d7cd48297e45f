"""What the journal's keys say of functions: an edit that can tell is noticed."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

from keying import Load, identity, key, load
from mpitasks.journal.keys import Keys
from mpitasks.journal.walk import Unkeyable

__all__ = ["load"]  # a fixture


BASE = """
    import math
    import threading
    import functools
    import dataclasses

    RATE = 2
    TABLE = {"a": [1, 2]}
    LOCK = threading.Lock()
    COUNT = [0]

    @dataclasses.dataclass
    class Model:
        x: int
        def step(self):
            return helper(self.x) + self.limit
        limit = 3

    def helper(x):
        return deeper(x) * RATE

    def deeper(x):
        return x + TABLE["a"][0]

    def unused(x):
        return x

    def task(x, y=1, *, z=(1, 2)):
        '''Do it.'''
        with LOCK:
            def inner(v):
                return helper(v) if v in {"a", "b"} else math.sqrt(v)
            return inner(x) + y + unused.__doc__

    def run(model):
        return model.step()

    def make(n):
        def made(x):
            return x + n
        return made
"""


SAME = [
    ("RATE = 2", "# moved\n\n\n    RATE = 2"),
    ("'''Do it.'''", "'''Do it well.'''"),
    ("def unused(x):\n        return x", "def unused(x):\n        return x  # yes"),
    ("LOCK = threading.Lock()", "LOCK = threading.Lock() if 1 else None"),
    ("return model.step()", "return model.step"),
]

CHANGED = [
    ("RATE = 2", "RATE = 3", "global helper"),
    ('"a": [1, 2]', '"a": [1, 3]', "deeper"),
    ("return deeper(x) * RATE", "return RATE * deeper(x)", "helper"),
    ("return x + TABLE", "return TABLE[0] - x + TABLE", "deeper"),
    ("y=1", "y=2", "defaults"),
    ("z=(1, 2)", "z=(1, 3)", "defaults"),
    ('{"a", "b"}', '{"a", "c"}', "code"),
    ("inner(x) + y", "inner(x) - y", "code"),
    ("math.sqrt(v)", "math.cos(v)", "code"),
    ("LOCK = threading.Lock()", "LOCK = threading.Condition()", "global LOCK"),
    ("def task(x,", "def task(w, x=0,", "code"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_what_changes_nothing_keeps_the_key(load: Load, old: str, new: str) -> None:
    assert old in BASE
    before = identity(load(BASE).task)
    assert identity(load(BASE.replace(old, new)).task) == before


@pytest.mark.parametrize(("old", "new", "part"), CHANGED)
def test_an_edit_that_counts_changes_the_key(
    load: Load, old: str, new: str, part: str
) -> None:
    assert old in BASE
    before = Keys().identify(load(BASE).task)
    after = Keys().identify(load(BASE.replace(old, new)).task)
    assert before.digest != after.digest
    differing = [
        name
        for name in {**before.parts, **after.parts}
        if before.parts.get(name) != after.parts.get(name)
    ]
    assert any(part.split()[-1] in name for name in differing), differing


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("limit = 3", "limit = 4"),
        ("helper(self.x)", "deeper(self.x)"),
        ("RATE = 2", "RATE = 1"),
    ],
)
def test_methods_of_an_argument_count(load: Load, old: str, new: str) -> None:
    one = load(BASE)
    before = key(one.run, one.Model(1))
    assert key(one.run, one.Model(1)) == before
    assert key(one.run, one.Model(2)) != before
    other = load(BASE.replace(old, new))
    assert key(other.run, other.Model(1)) != before


def test_closures_count(load: Load) -> None:
    module = load(BASE)
    assert identity(module.make(1)) == identity(module.make(1))
    assert identity(module.make(1)) != identity(module.make(2))


def test_functions_that_call_each_other_come_to_an_end(load: Load) -> None:
    text = """
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n != 0 and even(n - 1)
    """
    one = load(text)
    even, odd = identity(one.even), identity(one.odd)
    assert even != odd
    keys = Keys()
    other = load(text)  # in the other order
    assert keys.identify(other.odd).digest == odd
    assert keys.identify(other.even).digest == even
    edited = load(text.replace("n != 0", "n > 0"))
    assert identity(edited.even) != even


def test_many_ways_to_one_function_are_quick(load: Load) -> None:
    text = "def f{0}(x): return f{1}(x) + f{1}(x) + f{2}(x)"
    lines = [text.format(n, n - 1, n // 2) for n in range(1, 200)]
    module = load("\n".join(["def f0(x): return x", *lines]))
    parts = Keys().identify(module.f199).parts
    assert len(parts) < 300


def test_swapped_lambdas_are_another_function(load: Load) -> None:
    text = """
        STEPS = {"a": lambda x: x + 1, "b": lambda x: x - 1}
        NUMBERED = {1: lambda x: x + 1, 2: lambda x: x - 1}
        def task(x):
            return STEPS["a"](x)
        def other(x):
            return NUMBERED[1](x)
    """
    swapped = text.replace("x + 1", "?").replace("x - 1", "x + 1").replace("?", "x - 1")
    one, two = load(text), load(swapped)
    assert identity(one.task) != identity(two.task)
    assert identity(one.other) != identity(two.other)


def test_modules_of_the_user_count_as_far_as_they_are_used(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpers = types.ModuleType("users_helpers")
    helpers.__file__ = "/home/user/users_helpers.py"
    monkeypatch.setitem(sys.modules, "users_helpers", helpers)
    exec("def go(x): return x\ndef other(x): return x\nN = 1", helpers.__dict__)
    text = "import users_helpers as h\ndef task(x): return h.go(x) + h.N"
    before = identity(load(text).task)
    exec("def other(x): return 2 * x", helpers.__dict__)
    assert identity(load(text).task) == before
    helpers.N = 2  # type: ignore[attr-defined]
    changed = identity(load(text).task)
    assert changed != before
    exec("def go(x): return 2 * x", helpers.__dict__)
    assert identity(load(text).task) not in (before, changed)


def test_callables_of_every_kind_have_identities(load: Load) -> None:
    text = (
        BASE
        + """
    class Caller:
        def __init__(self, n):
            self.n = n
        def __call__(self, x):
            return x * self.n
        @classmethod
        def classy(cls, x):
            return x
        @staticmethod
        def static(x):
            return x
    cached = functools.lru_cache(helper)
    """
    )

    def several(source: str) -> list[bytes]:
        module = load(source)
        caller = module.Caller
        found = [
            caller(1),
            caller(2),
            caller(1).__call__,
            caller.classy,
            caller.static,
            module.cached,
            functools.partial(module.helper, 1),
            functools.partial(module.helper, 2),
        ]
        return [identity(each) for each in found]

    one = several(text)
    assert several(text) == one
    assert len(set(one)) == len(one)
    edited = several(text.replace("x * self.n", "self.n * x"))
    assert [a == b for a, b in zip(one, edited, strict=True)] == [
        *(False, False, False, False, True, True, True, True)
    ]
    other_rate = several(text.replace("RATE = 2", "RATE = 1"))
    assert [a == b for a, b in zip(one, other_rate, strict=True)] == [
        *(True, True, True, True, True, False, False, False)
    ]


def test_library_functions_are_known_by_name_and_package() -> None:
    before = identity(np.linalg.norm), identity(np.sin), identity(len)
    assert (identity(np.linalg.norm), identity(np.sin), identity(len)) == before
    assert len(set(before)) == 3
    for function in (np.linalg.norm, np.sin, np.frombuffer, np.ndarray):
        assert "package numpy" in Keys().identify(function).parts, function


def test_a_function_is_looked_at_each_time(load: Load) -> None:
    module = load(BASE)
    keys = Keys()
    before = keys.identify(module.task)
    module.RATE = 7
    assert keys.identify(module.task).digest != before.digest
    module.RATE = 2
    assert keys.identify(module.task).digest == before.digest


NUMBA = """
class Dispatcher:
    def __init__(self, function):
        self.py_func = function
        self.drawn = id(self)
    def __call__(self): return self.py_func()
Dispatcher.__module__ = "numba.core.registry"
"""

# Where an edit counts: the source, what is replaced, by what.
EDITS: dict[str, tuple[str, str, str]] = {
    "an annotation": ("def task(x: int): return x", "int", "float"),
    "a return annotation": ("def task(x) -> int: return x", "int", "float"),
    "an annotation as text": ("def task(x: 'a b'): return x", "a b", "a c"),
    "an annotation of a class": (
        "class M:\n    x: int = 1\ndef task(): return M()",
        "int",
        "float",
    ),
    "an annotation of a helper": (
        "def helper(x: int): return x\ndef task(x): return helper(x)",
        "int",
        "float",
    ),
    "its docstring": ("def task():\n    'a'\n    return task.__doc__", "'a'", "'b'"),
    "a helper's docstring": (
        "def f():\n    'a'\ndef task(): return f.__doc__",
        "'a'",
        "'b'",
    ),
    "a class's docstring": (
        "class C:\n    'a'\ndef task(): return C.__doc__",
        "'a'",
        "'b'",
    ),
    "a docstring of what is found": (
        "def f():\n    'a'\nALL = [f]\ndef task(): return ALL[0].__doc__",
        "'a'",
        "'b'",
    ),
    "a class's docstring that is found": (
        "class C:\n    'a'\nALL = [C]\ndef task(): return ALL[0].__doc__",
        "'a'",
        "'b'",
    ),
    "a method's docstring": (
        "class C:\n    def m(self):\n        'a'\ndef task(): return C.m.__doc__",
        "'a'",
        "'b'",
    ),
    "a nested function's docstring": (
        "def task():\n    def f():\n        'a'\n    return f.__doc__",
        "'a'",
        "'b'",
    ),
    "a docstring that was set": (
        "def f(): pass\nf.__doc__ = 'a'\ndef task(): return f.__doc__",
        "'a'",
        "'b'",
    ),
    "what Numba compiles": (
        NUMBA + "def go(): return 1\nfast = Dispatcher(go)\ndef task(): return fast()",
        "return 1",
        "return 2",
    ),
    "a docstring by getattr": (
        "def f():\n    'a'\ndef task(): return getattr(f, '__doc__')",
        "'a'",
        "'b'",
    ),
    "a docstring that was set, by getattr": (
        "def f(): pass\nf.__doc__ = 'a'\ndef task(): return getattr(f, '__doc__')",
        "'a'",
        "'b'",
    ),
    "a docstring by inspect": (
        "import inspect\ndef f():\n    'a'\ndef task(): return inspect.getdoc(f)",
        "'a'",
        "'b'",
    ),
    "a docstring by a helper": (
        "def read(f): return f.__doc__\ndef f():\n    'a'\ndef task(): return read(f)",
        "'a'",
        "'b'",
    ),
    "the module's docstring": ("'a'\ndef task(): return __doc__", "'a'", "'b'"),
    "a constant": ("def task(): return 1", "1", "2"),
    "a constant's type": ("def task(): return 1", "1", "1.0"),
    "a constant's sign": ("def task(): return 0.0", "0.0", "-0.0"),
    "a constant in a lambda": ("def task(): return (lambda: 1)()", "1", "2"),
    "a first constant that is text": ("task = lambda: 'a'", "'a'", "'b'"),
    "a keyword": ("def task(): return dict(a=1)", "a=", "b="),
    "an argument's name": ("def task(a): return locals()", "(a)", "(b)"),
    "a keyword only": ("def task(a, b): return a", "a, b", "a, *, b"),
    "a position only": ("def task(a, b): return a", "a, b", "a, /, b"),
    "a star": ("def task(a): return a", "(a)", "(*a)"),
    "a handler": (
        "def task(f):\n    try: return f()\n    except ValueError: return 1",
        "ValueError",
        "KeyError",
    ),
    "where a handler reaches": (
        "def task(f):\n    try:\n        f()\n    except ValueError: return 1\n    f()",
        "        f()\n    except ValueError: return 1\n    f()",
        "        f()\n        f()\n    except ValueError: return 1",
    ),
    "its name": ("def task(): pass\nother = task", "", ""),
    "a nested name": (
        "def task():\n    def f(): pass\n    return f.__name__",
        "def f(): pass\n    return f",
        "def g(): pass\n    return g",
    ),
    "a generator": ("def task():\n    return 1", "return", "yield"),
    "an attribute": ("def task(): return task.n\ntask.n = 1", "n = 1", "n = 2"),
    "a default": ("def task(x=[1]): return x", "[1]", "[2]"),
    "a keyword's default": ("def task(*, x=1): return x", "1", "2"),
    "a global": ("N = 1\ndef task(): return N", "N = 1", "N = 2"),
    "a global that is not there": ("def task(): return N", "def", "N = 1\ndef"),
    "a global in a class": (
        "N = 1\ndef task():\n    class C:\n        n = N\n    return C.n",
        "N = 1",
        "N = 2",
    ),
    "a global's content": ("T = {'a': [1]}\ndef task(): return T", "[1]", "[2]"),
    "a global with a lock": (
        "import threading\nT = [threading.Lock(), 1]\ndef task(): return T[1]",
        ", 1]",
        ", 2]",
    ),
    "a global object with a lock": (
        "import threading\n"
        "class C:\n"
        "    def __init__(self, n): self.lock, self.n = threading.Lock(), n\n"
        "T = C(1)\n"
        "def task(): return T.n",
        "C(1)",
        "C(2)",
    ),
    "a global that does not pickle": (
        "class C:\n"
        "    def __reduce__(self): raise TypeError\n"
        "T = C()\nT.n = 1\n"
        "def task(): return T.n",
        "n = 1",
        "n = 2",
    ),
    "a dict's order": ("T = {'a': 1, 'b': 2}\ndef task(): return T", "'b'", "'B'"),
    "one list or two": (
        "A = []\nB = A\ndef task(): return A is B",
        "B = A",
        "B = []",
    ),
    "a view": ("T = memoryview(b'a')\ndef task(): return T[0]", "b'a'", "b'b'"),
    "a proxy": (
        "import types\nT = types.MappingProxyType({1: 2})\ndef task(): return T[1]",
        "2",
        "3",
    ),
    "a variable": (
        "from contextvars import ContextVar\nT = ContextVar('t', default=1)\n"
        "def task(): return T.get()",
        "=1",
        "=2",
    ),
    "a sentinel's content": (
        "class S:\n"
        "    def __reduce__(self): return 'MISSING'\n"
        "MISSING = S()\nMISSING.n = 1\n"
        "def task(): return MISSING.n",
        "n = 1",
        "n = 2",
    ),
    "a class's attribute": ("class C:\n    n = 1\ndef task(): return C.n", "1", "2"),
    "a class's name": (
        "class C: pass\ndef task(): return C",
        "C: pass",
        "D: pass\nC = D",
    ),
    "a base": (
        "class A: n = 1\nclass B: n = 1\nclass C(A): pass\ndef task(): return C",
        "C(A)",
        "C(B)",
    ),
    "a metaclass": (
        "class M(type): n = 1\nclass C(metaclass=M): pass\ndef task(): return C.n",
        "1",
        "2",
    ),
    "no metaclass": (
        "class M(type): pass\nclass C(metaclass=M): pass\ndef task(): return C",
        "(metaclass=M)",
        "",
    ),
    "the order of a class": (
        "class C:\n    a = 1\n    b = 2\ndef task(): return list(vars(C))",
        "a = 1\n    b = 2",
        "b = 2\n    a = 1",
    ),
    "a field's metadata": (
        "import dataclasses as d\n@d.dataclass\nclass C:\n"
        "    x: int = d.field(default=1, metadata={'a': 1})\n"
        "def task(): return d.fields(C)[0].metadata",
        "'a': 1",
        "'a': 2",
    ),
    "a dataclass's order": (
        "import dataclasses as d\n@d.dataclass\nclass C:\n    a: int\n    b: int\n"
        "def task(): return d.fields(C)",
        "a: int\n    b: int",
        "b: int\n    a: int",
    ),
    "a frozen dataclass": (
        "import dataclasses as d\n@d.dataclass(frozen=True)\nclass C:\n    a: int\n"
        "def task(): return C(1)",
        "frozen=True",
        "frozen=False",
    ),
    "a wrapper": (
        "import functools\ndef go(): return 1\n"
        "@functools.wraps(go)\ndef task(): return task.__wrapped__()",
        "return 1",
        "return 2",
    ),
    "a cached function": (
        "import functools\n@functools.lru_cache\ndef go(): return 1\n"
        "def task(): return go()",
        "return 1",
        "return 2",
    ),
    "a cached function's attribute": (
        "import functools\n@functools.lru_cache\ndef go(): return 1\ngo.n = 1\n"
        "def task(): return go.n",
        "n = 1",
        "n = 2",
    ),
    "a cached function's size": (
        "import functools\n@functools.lru_cache(maxsize=1)\ndef go(): return 1\n"
        "def task(): return go()",
        "maxsize=1",
        "maxsize=2",
    ),
    "a property": (
        "class C:\n    @property\n    def n(self): return 1\ndef task(): return C().n",
        "return 1",
        "return 2",
    ),
    "a property's setter": (
        "class C:\n    @property\n    def n(self): return 1\n"
        "    @n.setter\n    def n(self, x): self.x = 5\ndef task(): C().n = 1",
        "self.x = 5",
        "self.x = 6",
    ),
    "a property's deleter": (
        "class C:\n    @property\n    def n(self): return 1\n"
        "    @n.deleter\n    def n(self): self.x = 5\ndef task(): del C().n",
        "self.x = 5",
        "self.x = 6",
    ),
    "a static method": (
        "class C:\n    @staticmethod\n    def n(): return 1\ndef task(): return C.n()",
        "return 1",
        "return 2",
    ),
    "a class method": (
        "class C:\n    @classmethod\n    def n(cls): return 1\ndef task(): C.n()",
        "return 1",
        "return 2",
    ),
    "another descriptor": (
        "class C:\n    @staticmethod\n    def n(x=0): return 1\ndef task(): C.n()",
        "@staticmethod",
        "@classmethod",
    ),
    "a set's functions": (
        "def f(): return 1\ndef g(): return 1\nALL = {f, g}\ndef task(): return ALL",
        "def g(): return 1",
        "def g(): return 2",
    ),
    "a function after a set": (
        "def f(): return 1\ndef g(): return 1\n"
        "ALL = [{(f, 1)}, g]\ndef task(): return ALL[1]()",
        "def g(): return 1",
        "def g(): return 2",
    ),
    "which of two lambdas": (
        "F, G = (lambda: 1), (lambda: 1)\nALL = [F, F]\ndef task(): return ALL",
        "[F, F]",
        "[F, G]",
    ),
    "a built-in of another module": (
        "import math, cmath\nROOT = math.sqrt\ndef task(): return ROOT(1)",
        "math.sqrt",
        "cmath.sqrt",
    ),
    "a builtin's object": ("ADD = [1].append\ndef task(): ADD(1)", "[1]", "[2]"),
    "code as data": (
        "CODE = compile('1', '', 'eval')\ndef task(): return CODE",
        "'1'",
        "'2'",
    ),
    "the function of a decorator of Python's": (
        "import contextlib\ndef go(): yield 1\n"
        "inner = contextlib.contextmanager(go)\n"
        "def task():\n    with inner() as found: return found",
        "yield 1",
        "yield 2",
    ),
    "a number in a nested class": (
        "def task():\n    class C:\n        line = 7\n    return C.line",
        "line = 7",
        "line = 2",
    ),
    "an enumeration": (
        "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\n"
        "def task(): return E.B.value",
        "B = 2",
        "B = 3",
    ),
    "a method of an enumeration": (
        "import enum\nclass E(enum.Enum):\n    A = 1\n    def f(self): return 1\n"
        "def task(): return E.A.f()",
        "return 1",
        "return 2",
    ),
    "a named tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'a b')\n"
        "def task(): return P(1, 2)",
        "a b",
        "b a",
    ),
    "a slot": ("class C:\n    __slots__ = ('a',)\ndef task(): return C", "'a'", "'b'"),
    "a class that an annotation names": (
        "import typing\nclass C: n = 1\ndef f(x: 'C'): pass\n"
        "def task(): return typing.get_type_hints(f)['x'].n",
        "C: n = 1",
        "C: n = 2",
    ),
    "a type's variable": (
        "from typing import TypeVar\nT = TypeVar('T')\ndef task(x: T): return x",
        "'T'",
        "'U'",
    ),
    "a partial": (
        "import functools\ndef go(x): return x\nF = functools.partial(go, 1)\n"
        "def task(): return F()",
        "go, 1",
        "go, 2",
    ),
    "a closure": (
        "def make(n):\n    def task(): return n\n    return task\ntask = make(1)",
        "make(1)",
        "make(2)",
    ),
    "an empty closure": (
        "def make(n):\n    def task(): return n\n    if n: del n\n    return task\n"
        "task = make(0)",
        "make(0)",
        "make(1)",
    ),
    "which of its closure's names": (
        "def make(a, b):\n    def task(): return a - b\n    return task\n"
        "task = make(1, 2)",
        "a - b",
        "b - a",
    ),
}
del EDITS["its name"]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_counts_wherever_it_is(load: Load, edit: str) -> None:
    source, old, new = EDITS[edit]
    assert old in source
    before = Keys().identify(load(source).task)
    assert Keys().identify(load("# moved\n\n" + source).task) == before
    after = Keys().identify(load(source.replace(old, new)).task)
    assert after.digest != before.digest
    assert after.parts != before.parts


NO_EDITS: dict[str, tuple[str, str, str]] = {
    "a docstring": ("def task():\n    'a'\n    return 1", "'a'", "'b'"),
    "a helper's docstring": (
        "def f():\n    'a'\n    return 1\ndef task(): return f()",
        "'a'",
        "'b'",
    ),
    "a class's docstring": (
        "class C:\n    'a'\n    n = 1\ndef task(): return C.n",
        "'a'",
        "'b'",
    ),
    "a method's docstring": (
        "class C:\n    def n(self):\n        'a'\n        return 1\n"
        "def task(): return C().n()",
        "'a'",
        "'b'",
    ),
    "a nested function's docstring": (
        "def task():\n    def f():\n        'a'\n        return 1\n    return f()",
        "'a'",
        "'b'",
    ),
    "a cached property's docstring": (
        "import functools\nclass C:\n    @functools.cached_property\n"
        "    def n(self):\n        'a'\n        return 1\ndef task(): return C().n",
        "'a'",
        "'b'",
    ),
    "another function's docstring": (
        "def f():\n    'a'\ndef g():\n    'c'\n    return 1\n"
        "def task(): return f.__doc__, g()",
        "'c'",
        "'d'",
    ),
    "a comment": ("def task(): return 1", "1", "1  # one"),
    "what is not used": (
        "def f(): return 1\ndef task(): return 1",
        "f(): return 1",
        "f(): 2",
    ),
    "what a cached function does not use": (
        "import functools\n@functools.lru_cache\ndef go(): return 1\n"
        "def other(): return 5\ndef task(): return go()",
        "return 5",
        "return 6",
    ),
    "what Numba draws": (
        NUMBA + "def go(): return 1\nfast = Dispatcher(go)\ndef task(): return fast()",
        "fast = ",
        "# moved\nfast = ",
    ),
    "a lock": (
        "import threading\nL = threading.Lock()\ndef task(): return L",
        "L = ",
        "\n\n# moved\nL = ",
    ),
    "an open file": (
        "import sys\nL = sys.__stdout__\ndef task(): return L",
        "L = ",
        "# moved\nL = ",
    ),
}


@pytest.mark.parametrize("edit", NO_EDITS)
def test_what_nobody_can_tell_does_not_count(load: Load, edit: str) -> None:
    source, old, new = NO_EDITS[edit]
    assert old in source
    before = identity(load(source).task)
    assert identity(load(source.replace(old, new)).task) == before


def test_what_was_used_is_not_another_class(load: Load) -> None:
    module = load("""
        import dataclasses, enum, pickle
        @dataclasses.dataclass
        class Model:
            x: int
        class Slotted:
            __slots__ = ("x",)
        class Flags(enum.Flag):
            A = 1
            B = 2
            C = 4
        def task(): return Model, Slotted, Flags
    """)
    before = identity(module.task)
    slotted = module.Slotted()
    slotted.x = 1
    slotted.__reduce_ex__(4)  # which leaves a cache in the class
    assert module.Flags(5).value == 5  # which makes a member
    assert identity(module.task) == before


def test_builtins_of_one_name_from_different_modules_differ(load: Load) -> None:
    import cmath
    import math

    assert identity(math.sqrt) != identity(cmath.sqrt)
    assert key(math.sqrt, math.sqrt) != key(math.sqrt, cmath.sqrt)
    one = load("import math as m\ndef task(): return (f := m.sqrt)(1)")
    assert identity(one.task) != identity(
        load("""
        import cmath as m
        def task(): return (f := m.sqrt)(1)
    """).task
    )


def test_ufuncs_are_told_by_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(np.sin), key(len, np.sin)
    module = types.ModuleType("a")
    module.sin = np.sin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a", module)
    assert (identity(np.sin), key(len, np.sin)) == before


def test_functions_of_modules_made_by_hand_have_identities() -> None:
    def made(text: str, name: str | None) -> types.FunctionType:
        scope: dict[str, types.FunctionType] = {}
        if name is not None:
            module = types.ModuleType(name)
            scope = vars(module)
        exec(text, scope)
        return scope["task"]

    text = "N = 1\ndef go(x): return x * N\ndef task(x): return go(x)"
    for name in (None, "made", "json", "builtins"):
        before = identity(made(text, name))
        assert identity(made(text, name)) == before
        assert identity(made(text.replace("N = 1", "N = 2"), name)) != before
        assert identity(made(text.replace("x * N", "N * x"), name)) != before


def test_callables_that_travel_by_value_are_strict() -> None:
    with pytest.raises(Unkeyable, match="lock"):
        Keys().identify(functools.partial(print, threading.Lock()))
    with pytest.raises(Unkeyable, match="generator"):
        Keys().identify(functools.partial(print, (x for x in "ab")))


def test_classes_among_arguments_are_looked_at_as_their_names_say(load: Load) -> None:
    module = load("""
        RATE = [1]
        N = 1
        class Model:
            k = 1
            def run(self): return N, RATE
        def make(n):
            def inner(): return n
            def change(x):
                nonlocal n
                n = x
            inner.change = change
            return inner
    """)
    keys = Keys()
    own = keys.identify(len)
    model = module.Model()

    def told() -> bytes:
        return keys.key(own, (model,))

    first = told()
    for change, back in [
        (lambda: setattr(module.Model, "k", 2), lambda: setattr(module.Model, "k", 1)),
        (lambda: setattr(module, "N", 2), lambda: setattr(module, "N", 1)),
        (lambda: delattr(module, "N"), lambda: setattr(module, "N", 1)),
        (lambda: setattr(module.Model, "m", 2), lambda: delattr(module.Model, "m")),
    ]:
        change()
        assert told() != first
        back()
        assert told() == first
    module.RATE.append(2)  # in place
    assert told() != first
    inner = module.make(1)
    before = keys.key(own, (inner,))
    assert keys.key(own, (inner,)) == before
    inner.change(2)
    assert keys.key(own, (inner,)) != before


SEEDED = """
import sys
sys.path.insert(0, {here!r})
from mpitasks.journal.keys import Keys
from mpitasks.journal.walk import Unkeyable

A, B, C, D = 1, [2], {{"x", "y", "z"}}, {{"p": {{"q", "r"}}}}
class E: names = frozenset({{"u", "v"}})
def f(): return A, E
def g(): return B, f
def h(): return C, g
ALL = {{f, g, h, E}}
KINDS = {{E: 1, f: 2}}
class Thing:
    def __init__(self, name, inner): self.name, self.inner = name, inner
GRAPH = {{Thing(n, {{Thing(n + m, set()) for m in "xyz"}}) for n in "abcd"}}
def task(x):
    import json, collections
    class Local:
        def __init__(self):
            self.a, self.b, self.c, self.d = A, B, C, D
    return [f(), g(), h(), A, B, C, D, E, x in {{"m", "n"}}, ALL, KINDS, GRAPH]
identity = Keys().identify(task)
print(identity.digest.hex(), list(identity.parts))
print(Keys().key(identity, (ALL, GRAPH)).hex())
"""


def test_several_globals_under_any_hash_seed(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(SEEDED.format(here=str(Path.cwd())))
    outputs = set()
    for seed in ("0", "1", "2", "3", "random"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, str(script)]
        done = subprocess.run(
            command,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=500,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1, outputs
