"""What the checks of the contract share: the runner, gates, and small tasks.

A check is a function named ``check_...``. It takes an open Executor, or nothing
if it makes its own. It says what is wrong by raising.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import mpitasks as mt

PATIENCE = 120.0
"""Seconds after which what a check waits for is taken to hang."""

scratch = Path(tempfile.gettempdir())


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something is the case."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.001)


def raises(kind: type[BaseException], action: Callable[[], object]) -> Any:
    """Return the exception that the action raises, which must be of that kind."""
    try:
        value = action()
    except kind as error:
        return error
    raise AssertionError(f"returned {value!r} and raised no {kind.__name__}")


class Gate:
    """A door that tasks wait at until the script opens it. A file, so it pickles."""

    def __init__(self) -> None:
        self._path = scratch / f"gate-{uuid.uuid4().hex}"
        self._path.mkdir()

    def open(self) -> None:
        """Let the tasks through."""
        (self._path / "open").touch()

    @property
    def waiting(self) -> int:
        """How many tasks have come to the gate."""
        return sum(entry.name.startswith("task-") for entry in self._path.iterdir())

    def hold(self, value: Any = None) -> Any:
        """In a task: wait at the gate, then return the value."""
        (self._path / f"task-{uuid.uuid4().hex}").touch()
        until((self._path / "open").exists, "the gate opens")
        return value


class Log:
    """A list of lines that tasks append to, in the order in which they do."""

    def __init__(self) -> None:
        self._path = scratch / f"log-{uuid.uuid4().hex}"
        self._path.touch()

    def append(self, line: object) -> None:
        """In a task: append a line at once and whole."""
        number = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(number, f"{line}\n".encode())
        finally:
            os.close(number)

    def lines(self) -> list[str]:
        """Return the lines so far."""
        return self._path.read_text().splitlines()


class Occupied:
    """Keeps every worker busy, each at a gate of its own, inside a ``with``."""

    def __init__(self, executor: mt.Executor) -> None:
        self.gates = [Gate() for _ in range(executor.num_workers)]
        self.futures = [executor.submit(fresh(gate.hold)) for gate in self.gates]

    def __enter__(self) -> Occupied:
        for gate in self.gates:
            until(lambda gate=gate: gate.waiting == 1, "a worker is at its gate")
        return self

    def release(self) -> None:
        """Let every worker go on."""
        for gate in self.gates:
            gate.open()

    def __exit__(self, *_: object) -> None:
        self.release()


def fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as one that the run has no measured durations of."""
    return functools.partial(_call, uuid.uuid4().hex, function)


def _call(_: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def echo(value: Any) -> Any:
    """Task: return the argument."""
    return value


def double(value: Any) -> Any:
    """Task: return twice the argument."""
    return value + value


def fail(kind: type[BaseException], *args: Any) -> None:
    """Task: raise."""
    raise kind(*args)


def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Task: return the arguments."""
    return args, kwargs


def checks_of(modules: Iterable[ModuleType]) -> list[tuple[str, Callable[..., None]]]:
    """Return the checks of the modules, with their names."""
    return [
        (f"{module.__name__.removeprefix('contract_')}.{name}", value)
        for module in modules
        for name, value in vars(module).items()
        if name.startswith("check_")
    ]


def run_checks(modules: Iterable[ModuleType], only: str = "") -> int:
    """Run the checks whose names contain `only`; return the exit code."""
    global scratch
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="mpitasks-contract-") as folder:
        scratch = Path(folder)
        for name, check in checks_of(modules):
            if only not in name:
                continue
            print(f"{name} ...", flush=True)
            started = time.perf_counter()
            try:
                _run_check(check)
            except BaseException:
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()}", file=sys.stderr)
            else:
                passed += 1
                print(f"{name} ok {time.perf_counter() - started:.3f}", flush=True)
    print(f"checks: {passed} passed, {failed} failed", flush=True)
    return min(failed, 1)


def _run_check(check: Callable[..., None]) -> None:
    if not inspect.signature(check).parameters:
        check()
        return
    with mt.Executor() as executor:
        check(executor)
