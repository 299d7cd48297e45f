"""Checks of what goes wrong in a task: it comes back, and costs that task only."""

from __future__ import annotations

import builtins
import pickle
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from support import double, echo, fail, raises

import mpitasks as mt


class Failure(Exception):
    """An exception with more than its message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


class NeedsKeyword(Exception):
    """An exception that pickles, but does not unpickle."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class HasLock(Exception):
    """An exception that does not pickle."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class Engine:
    """An object that does not pickle, because of a part of a part of it."""

    def __init__(self) -> None:
        self.name = "engine"
        self.parts = {"valve": [1, threading.Lock()]}

    def run(self, _: object = None) -> int:
        return 1

    def __call__(self) -> int:
        return 1


class BreaksOnArrival:
    """An object that pickles, but raises when it is unpickled."""

    def __init__(self, kind: str = "ValueError") -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return _break, (self.kind,)

    def __call__(self) -> None:
        pass


def _break(kind: str) -> None:
    raise getattr(builtins, kind)("broke on arrival")


def _still_well(ex: mt.Executor) -> None:
    """Every worker still takes tasks."""
    assert list(ex.map(double, range(50), chunksize=1)) == list(range(0, 100, 2))


def check_types_and_arguments(ex: mt.Executor) -> None:
    for kind, args in (
        (ValueError, ("bad", 3)),
        (KeyError, ("k",)),
        (OSError, ("gone",)),
        (ZeroDivisionError, ()),
        (UnicodeDecodeError, ("utf-8", b"x", 0, 1, "why")),
        (mt.OptionError, ("chunksize",)),
    ):
        error = ex.submit(fail, kind, *args).exception(120)
        assert type(error) is kind, error
        assert error.args == args
    error = ex.submit(fail, Failure, "broken", 7).exception(120)
    assert type(error) is Failure
    assert error.code == 7
    assert type(ex.submit(open, "/no/such").exception(120)) is FileNotFoundError


def check_remote_traceback(ex: mt.Executor) -> None:
    for error in (
        ex.submit(_inverse_of_zero).exception(120),
        raises(ZeroDivisionError, lambda: list(ex.map(_inverse, [0]))),
        raises(ZeroDivisionError, lambda: list(ex.map(_inverse, [np.zeros(1)[0], 0]))),
    ):
        cause = error.__cause__
        assert isinstance(cause, mt.RemoteTraceback), cause
        text = str(cause)
        # On another host, if the worker is there.
        assert re.search(r"rank \d+ on \w+ \(pid|the process itself \(host \w+", text)
        assert "in _inverse" in text
        assert "contract_errors.py" in text
        assert "1 / number" in text
        assert "ZeroDivisionError" in text
        assert "mpitasks/worker" not in text, text
        assert "rank 0" not in text, text


def _inverse(number: float) -> float:
    if number == 0:
        number = 0  # not NumPy's zero
    return 1 / number


def _inverse_of_zero() -> float:
    return _inverse(0)


def check_chained_exceptions(ex: mt.Executor) -> None:
    error = ex.submit(_chain).exception(120)
    assert type(error) is RuntimeError
    assert "KeyError: 'first'" in str(error.__cause__)
    assert "direct cause" in str(error.__cause__)


def _chain() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise RuntimeError("second") from error


def check_groups_and_notes(ex: mt.Executor) -> None:
    if sys.version_info < (3, 11):
        return
    error = ex.submit(_group).exception(120)
    assert type(error) is builtins.ExceptionGroup
    assert [type(part) for part in error.exceptions] == [ValueError, KeyError]
    assert error.__notes__ == ["a note"]


def _group() -> None:
    group = builtins.ExceptionGroup("both", [ValueError(1), KeyError(2)])
    group.add_note("a note")
    raise group


def check_exits_and_interrupts_of_a_task(ex: mt.Executor) -> None:
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, BaseException):
        error = ex.submit(fail, kind, 3).exception(120)
        assert type(error) is kind
        assert error.args == (3,)
        raises(kind, lambda kind=kind: list(ex.map(fail, [kind], [4])))
    assert type(ex.submit(sys.exit, "text").exception(120)) is SystemExit
    _still_well(ex)


def check_recursion_and_memory(ex: mt.Executor) -> None:
    assert type(ex.submit(_endless).exception(120)) is RecursionError
    assert isinstance(ex.submit(np.zeros, 1 << 50).exception(120), MemoryError)
    _still_well(ex)


def _endless() -> None:
    _endless()


def check_exception_that_does_not_pickle(ex: mt.Executor) -> None:
    error = ex.submit(fail, HasLock, "has a lock").exception(120)
    assert type(error) is mt.RemoteError
    assert "HasLock: has a lock" in str(error)
    assert "in fail" in str(error.__cause__)
    _still_well(ex)


def check_exception_with_an_init_of_its_own(ex: mt.Executor) -> None:
    error = ex.submit(_raise_needs_keyword).exception(120)
    assert type(error) is NeedsKeyword  # made without its own __init__
    assert error.args == ("code 3",)
    again = ex.with_options(retries=1, retry_on=NeedsKeyword)
    assert again.submit(_raise_at_first).result(120) == 2
    _still_well(ex)


def _raise_at_first() -> int:
    attempt = mt.current_task().attempt
    if attempt == 1:
        _raise_needs_keyword()
    return attempt


def _raise_needs_keyword() -> None:
    raise NeedsKeyword(code=3)


def _assert_names_the_part(error: BaseException | None, *parts: str) -> None:
    assert type(error) is mt.SerializationError, repr(error)
    assert isinstance(error, pickle.PicklingError)
    for part in ("lock", *parts):
        assert part in str(error), f"{part!r} is not in: {error}"


def check_argument_that_does_not_pickle(ex: mt.Executor) -> None:
    before = ex.submit(echo, 1)
    bad = ex.submit(echo, Engine())
    after = ex.submit(echo, 2)
    _assert_names_the_part(bad.exception(120), "parts", "'valve'", "[1]")
    _assert_names_the_part(ex.submit(echo, value=Engine()).exception(120), "value")
    assert (before.result(120), after.result(120)) == (1, 2)


def check_function_that_does_not_pickle(ex: mt.Executor) -> None:
    lock = threading.Lock()

    def closure() -> bool:
        return lock.locked()

    engine = Engine()
    functions: list[Callable[..., Any]] = [closure, engine, engine.run]
    for function in functions:
        before = ex.submit(echo, 1)
        _assert_names_the_part(ex.submit(function).exception(120))
        assert before.result(120) == 1
        raises(mt.SerializationError, lambda f=function: list(ex.map(f, [1])))
    _assert_names_the_part(ex.submit(engine).exception(120), "parts", "'valve'")
    _still_well(ex)


def check_result_that_does_not_pickle(ex: mt.Executor) -> None:
    futures = [ex.submit(_engine_if, number == 5) for number in range(10)]
    for number, future in enumerate(futures):
        if number == 5:
            _assert_names_the_part(future.exception(120), "parts", "'valve'", "[1]")
        else:
            assert future.result(120) is None
    for chunksize in (1, 10):
        results = ex.map(_engine_if, [False, True, False], chunksize=chunksize)
        assert next(results) is None
        error = raises(mt.SerializationError, lambda r=results: next(r))
        _assert_names_the_part(error, "parts")
    generator = ex.submit(_generator).exception(120)
    assert "generator" in str(generator)
    _still_well(ex)


def _engine_if(wanted: bool) -> Engine | None:
    return Engine() if wanted else None


def _generator() -> Any:
    return (n for n in range(3))


def check_item_that_does_not_pickle(ex: mt.Executor) -> None:
    for chunksize in (None, 1, 4):
        results = ex.map(echo, [1, 2, Engine(), 4], chunksize=chunksize)
        assert [next(results), next(results)] == [1, 2]
        error = raises(mt.SerializationError, lambda r=results: next(r))
        _assert_names_the_part(error, "item 2", "parts")
    pairs = ex.starmap(capture_second, [(1, 2), (3, Engine())])
    assert next(pairs) == 2
    _assert_names_the_part(raises(mt.SerializationError, lambda: next(pairs)))
    _still_well(ex)


def capture_second(_: object, second: object) -> object:
    """Task: return the second argument."""
    return second


def check_what_breaks_on_arrival(ex: mt.Executor) -> None:
    for kind in ("ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit"):
        bad = BreaksOnArrival(kind)
        good = [ex.submit(echo, 1) for _ in range(3)]
        for what, future in (
            ("argument", ex.submit(echo, bad)),
            ("function", ex.submit(bad)),
            ("result", ex.submit(BreaksOnArrival, kind)),
        ):
            error = future.exception(120)
            assert "broke on arrival" in str(error), (what, kind, repr(error))
            if kind == "ValueError":
                assert type(error) is mt.SerializationError, (what, repr(error))
                assert what in str(error)
        assert [future.result(120) for future in good] == [1, 1, 1]
    _still_well(ex)


class BreaksOnLeaving:
    """An object that raises when it is pickled."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        _break(self.kind)


def check_what_breaks_on_leaving(ex: mt.Executor) -> None:
    for kind in ("ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit"):
        good = [ex.submit(echo, 1) for _ in range(3)]
        for what, future in (
            ("argument", ex.submit(echo, BreaksOnLeaving(kind))),
            ("result", ex.submit(BreaksOnLeaving, kind)),
        ):
            error = future.exception(120)
            assert type(error) is mt.SerializationError, (what, repr(error))
            assert f"{kind}: broke on arrival" in str(error), (what, repr(error))
        assert [future.result(120) for future in good] == [1, 1, 1]
        items = [1, BreaksOnLeaving(kind), 3]
        values = list(ex.map(echo, items, return_exceptions=True, timeout=20))
        assert [values[0], values[2]] == [1, 3]
        assert type(values[1]) is mt.SerializationError
    _still_well(ex)


def check_items_that_break_on_arrival(ex: mt.Executor) -> None:
    results = ex.map(echo, [1, BreaksOnArrival(), 3], chunksize=3)
    assert next(results) == 1
    raises(mt.SerializationError, lambda: next(results))
    results = ex.map(_breaks_if, [False, True, False], chunksize=3)
    assert next(results) is None
    raises(mt.SerializationError, lambda: next(results))


def _breaks_if(wanted: bool) -> BreaksOnArrival | None:
    return BreaksOnArrival() if wanted else None


def check_bad_among_many(ex: mt.Executor) -> None:
    futures = [ex.submit(_odd_fails, number) for number in range(500)]
    for number, future in enumerate(futures):
        if number % 2:
            assert future.exception(120).args == (number,)
        else:
            assert future.result(120) == number


def _odd_fails(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _raise_nested(depth: int) -> None:
    error = ValueError("deep")
    error.value = _nested(depth)  # type: ignore[attr-defined]
    raise error


def check_what_is_nested_too_deeply(ex: mt.Executor) -> None:
    deep = _nested(100_000)
    errors = [
        ex.submit(len, deep).exception(20),
        ex.submit(dict, deep=deep).exception(20),
        ex.submit(lambda: deep).exception(20),
        ex.submit(_nested, 100_000).exception(20),
        *ex.map(echo, [deep], return_exceptions=True),
        *ex.map(_nested, [100_000], return_exceptions=True),
    ]
    for error in errors:
        assert type(error) is mt.SerializationError, repr(error)
        assert "recursion" in str(error), error
    error = ex.submit(_raise_nested, 100_000).exception(20)
    assert type(error) is mt.RemoteError
    assert "ValueError: deep" in str(error), error
    _still_well(ex)
