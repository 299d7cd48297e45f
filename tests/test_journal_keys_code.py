"""What the journal's keys say of functions: an edit that can tell is noticed."""

from __future__ import annotations

import functools
import sys
import types

import numpy as np
import pytest

from keying import Load, identity, key, load
from mpitasks.master.journal.keys import Keys

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
    assert "package numpy" in Keys().identify(np.linalg.norm).parts


def test_a_function_is_looked_at_each_time(load: Load) -> None:
    module = load(BASE)
    keys = Keys()
    before = keys.identify(module.task)
    module.RATE = 7
    assert keys.identify(module.task).digest != before.digest
    module.RATE = 2
    assert keys.identify(module.task).digest == before.digest
