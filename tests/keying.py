"""Keys of calls, and modules of a user to make them of."""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mpitasks.journal.keys import Keys

Load = Callable[[str], types.ModuleType]


def key(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    """Return the key that a new process would give the call."""
    keys = Keys()
    return keys.key(keys.identify(function), args, kwargs)


def identity(function: Callable[..., Any]) -> bytes:
    """Return the digest that a new process would give the function."""
    return Keys().identify(function).digest


def task(*args: Any, **kwargs: Any) -> None:
    """A function to have keys for."""


@pytest.fixture
def load() -> Iterator[Callable[[str], types.ModuleType]]:
    """Loads a module of the user, each time anew."""
    before = sys.modules.get("users_module")

    def loaded(source: str) -> types.ModuleType:
        module = types.ModuleType("users_module")
        module.__file__ = "/home/user/users_module.py"
        sys.modules["users_module"] = module
        code = compile(
            textwrap.dedent(source), module.__file__, "exec", dont_inherit=True
        )
        exec(code, module.__dict__)
        return module

    yield loaded
    if before is None:
        sys.modules.pop("users_module", None)
