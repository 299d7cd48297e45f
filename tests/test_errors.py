"""The exception tree: as its docstring draws it, and each error survives a pickle."""

from __future__ import annotations

import concurrent.futures
import inspect
import pickle
import re

import pytest

import mpitasks
from mpitasks import errors
from mpitasks.errors import MpiTasksError, RemoteTraceback

# The last two are made when they are asked for.
CLASSES = [
    value
    for value in [*vars(errors).values(), errors.WorkerLost, errors.InitializerError]
    if inspect.isclass(value) and value.__module__ == errors.__name__
]


def _drawn_tree() -> dict[str, str | None]:
    """Return what the docstring draws: for each class, the one above it."""
    tree: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([|` ]*(?:-- )?)([A-Z]\w+)(?:\s\s|$)", line)
        if match is None:
            continue
        depth, name = len(match[1]), match[2]
        while above and above[-1][0] >= depth:
            above.pop()
        tree[name] = above[-1][1] if above else None
        above.append((depth, name))
    return tree


def _base_here(kind: type) -> str | None:
    bases = [base.__name__ for base in kind.__bases__ if base in CLASSES]
    assert len(bases) <= 1
    return bases[0] if bases else None


def test_the_docstring_draws_the_tree() -> None:
    actual = {
        kind.__name__: _base_here(kind)
        for kind in CLASSES
        if issubclass(kind, MpiTasksError)
    }
    assert _drawn_tree() == actual
    assert len(actual) > 10


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_it_is(kind: type[Exception]) -> None:
    assert kind.__doc__
    assert kind.__doc__.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_pickles(kind: type[Exception], protocol: int) -> None:
    error = kind("what happened")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert again.args == error.args
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.OptionError, ValueError),
        (errors.ExecutorClosedError, RuntimeError),
        (errors.SerializationError, pickle.PicklingError),
        (errors.WorkerLost, concurrent.futures.BrokenExecutor),
        (errors.InitializerError, concurrent.futures.BrokenExecutor),
    ],
)
def test_an_error_is_also_what_the_stdlib_would_raise(
    kind: type[Exception], base: type[Exception]
) -> None:
    assert issubclass(kind, base)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_public(kind: type[Exception]) -> None:
    assert getattr(mpitasks, kind.__name__) is kind
    assert kind.__name__ in mpitasks.__all__


def test_a_remote_traceback_prints_as_text_on_lines_of_its_own() -> None:
    assert str(RemoteTraceback("line 1\nline 2\n\n")) == "\nline 1\nline 2"
    assert not issubclass(RemoteTraceback, MpiTasksError)
