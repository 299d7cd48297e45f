"""Checks of what can be a function: where it is from, and how often it travels.

Functions of ``__main__`` itself are in contract_main.py, which is run on its own.
"""

from __future__ import annotations

import functools
import operator
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from support import double, echo, raises

import mpitasks as mt


class Scale:
    """A callable object with a state."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return self.factor * number

    def method(self, number: int) -> int:
        return -self.factor * number

    @classmethod
    def of_class(cls, number: int) -> tuple[str, int]:
        return cls.__name__, number

    @staticmethod
    def of_nobody(number: int) -> int:
        return number


_loads: Counter[str] = Counter()


class Counted:
    """A callable that counts, per process, how often it is unpickled."""

    def __init__(self, name: str, ballast: bytes = b"") -> None:
        self.name = name
        self.ballast = ballast

    def __call__(self, _: object = None) -> tuple[int, int]:
        return os.getpid(), _loads[self.name]

    def __reduce__(self) -> Any:
        return _load, (self.name, self.ballast)


def _load(name: str, ballast: bytes) -> Counted:
    _loads[name] += 1
    return Counted(name, ballast)


def check_builtins_and_library_functions(ex: mt.Executor) -> None:
    assert ex.submit(len, "four").result(120) == 4
    assert ex.submit(str.upper, "a").result(120) == "A"
    assert ex.submit([1, 2, 1].count, 1).result(120) == 2
    assert ex.submit(operator.itemgetter(1), "abc").result(120) == "b"
    assert ex.submit(np.add, 1, 2).result(120) == 3
    assert ex.submit(np.linalg.norm, [3.0, 4.0]).result(120) == 5.0
    assert ex.submit(dict, a=1).result(120) == {"a": 1}
    assert ex.submit(os.path.basename, "a/b").result(120) == "b"


def check_module_beside_the_script(ex: mt.Executor) -> None:
    assert ex.submit(double, 3).result(120) == 6
    assert ex.submit(Scale.of_class, 3).result(120) == ("Scale", 3)
    assert ex.submit(Scale.of_nobody, 3).result(120) == 3
    scale = ex.submit(Scale, 3).result(120)
    assert type(scale) is Scale
    assert scale.factor == 3


def check_lambdas_and_closures(ex: mt.Executor) -> None:
    assert ex.submit(lambda: 5).result(120) == 5
    assert ex.submit(lambda x, *, y: (x, y), 1, y=2).result(120) == (1, 2)
    adders = [lambda x, n=n: x + n for n in range(5)]
    assert [ex.submit(add, 10).result(120) for add in adders] == [10, 11, 12, 13, 14]

    def outer(n: int) -> Callable[[int], int]:
        def inner(x: int) -> int:
            return x * n

        return inner

    assert list(ex.map(outer(3), range(5))) == [0, 3, 6, 9, 12]
    assert ex.submit(outer(4), 2).result(120) == 8


def check_recursive_local_function(ex: mt.Executor) -> None:
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    assert ex.submit(factorial, 5).result(120) == 120


def check_partials(ex: mt.Executor) -> None:
    assert ex.submit(functools.partial(pow, 2), 5).result(120) == 32
    assert list(ex.map(functools.partial(pow, exp=2), range(4))) == [0, 1, 4, 9]
    nested = functools.partial(functools.partial(pow, 2), 6)
    assert ex.submit(nested).result(120) == 64
    table = np.arange(50_000)
    assert ex.submit(functools.partial(np.take, table), 7).result(120) == 7


def check_bound_methods(ex: mt.Executor) -> None:
    scale = Scale(2)
    assert ex.submit(scale.method, 5).result(120) == -10
    scale.factor = 3
    assert ex.submit(scale.method, 5).result(120) == -15
    assert list(ex.map(scale.method, range(3))) == [0, -3, -6]


def check_callable_whose_state_changes(ex: mt.Executor) -> None:
    scale = Scale(0)
    futures = []
    for factor in range(30):
        scale.factor = factor
        futures.append(ex.submit(scale, 10))
    assert [f.result(120) for f in futures] == [10 * n for n in range(30)]


def check_calls_do_not_change_the_scripts_object(ex: mt.Executor) -> None:
    numbers = [1, 2]
    assert ex.submit(numbers.append, 3).result(120) is None
    assert numbers == [1, 2]
    assert ex.submit(_append, numbers).result(120) == [1, 2, "more"]
    assert numbers == [1, 2]


def _append(values: list[Any]) -> list[Any]:
    values.append("more")
    return values


def check_decorated_functions(ex: mt.Executor) -> None:
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> tuple[str, Any]:
            return function.__name__, function(*args)

        return wrapper

    @traced
    def add(x: int, y: int) -> int:
        return x + y

    assert ex.submit(add, 1, 2).result(120) == ("add", 3)


def check_shipped_once_per_worker(ex: mt.Executor) -> None:
    function = Counted("submit", os.urandom(1000))
    futures = [ex.submit(function) for _ in range(300)]
    loads = [future.result(120) for future in futures]
    assert set(dict(loads).values()) == {1}, set(loads)
    loads = list(ex.map(Counted("map", os.urandom(1000)), range(300), chunksize=3))
    assert {count for _, count in loads} == {1}, set(loads)


def check_closure_is_shipped_once_per_worker(ex: mt.Executor) -> None:
    part = Counted("closure")
    futures = [ex.submit(lambda_of(part)) for _ in range(2)]
    function = lambda_of(part)
    futures = [ex.submit(function) for _ in range(100)]
    loads = {future.result(120) for future in futures}
    assert all(count <= 3 for _, count in loads), loads


def lambda_of(part: Counted) -> Callable[[], tuple[int, int]]:
    """Return a function that cannot be sent by name."""
    return lambda: part()


def check_more_functions_than_a_worker_keeps(ex: mt.Executor) -> None:
    first = Scale(1000)
    assert ex.submit(first, 2).result(120) == 2000
    scales = [Scale(n) for n in range(700)]
    for _ in range(2):
        futures = [ex.submit(scale, 2) for scale in scales]
        assert [f.result(120) for f in futures] == [2 * n for n in range(700)]
    assert ex.submit(first, 2).result(120) == 2000


def check_function_with_large_state(ex: mt.Executor) -> None:
    table = np.arange(1_000_000.0)
    assert ex.submit(lambda n: float(table[n]), 77).result(120) == 77.0
    assert list(ex.map(lambda n: float(table[n]), range(5))) == [0, 1, 2, 3, 4]


def check_not_callable(ex: mt.Executor) -> None:
    assert type(ex.submit(5, 1).exception(120)) is TypeError  # type: ignore[arg-type]
    raises(TypeError, lambda: list(ex.map(None, [1])))  # type: ignore[arg-type]
    assert ex.submit(echo, 1).result(120) == 1


def check_wrong_arguments(ex: mt.Executor) -> None:
    assert type(ex.submit(double).exception(120)) is TypeError
    assert type(ex.submit(double, 1, 2).exception(120)) is TypeError
    assert type(ex.submit(double, bad=1).exception(120)) is TypeError
