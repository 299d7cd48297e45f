"""What tasks of `mpitasks.futures` find around themselves, where that asks for it.

Workers are shared by all Executors. So each such task sets its worker up, and sets it
back afterwards. Workers import this; which keyword asks for what, is in
`mpitasks.futures.keywords`.
"""

# ruff: noqa: PTH109  pathlib is slow to import

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["Around", "Within"]


class Around(NamedTuple):
    """What the tasks of an executor find around themselves on a worker.

    Attributes:
        path: What is added at the end of `sys.path`.
        folder: The working folder; None for that of the script.
        environment: Environment variables.
        names: Globals of ``__main__`` that the script itself does not have.
    """

    path: tuple[str, ...]
    folder: str | None
    environment: dict[str, str]
    names: dict[str, Any]

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as one that runs with this around it."""
        return Within(self, function) if any(self) else function

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Set this process up, and set it back."""
        added = [entry for entry in self.path if entry not in sys.path]
        main = sys.modules["__main__"].__dict__
        names = self.names.keys() - main.keys()
        environment = {name: os.environ.get(name) for name in self.environment}
        folder = None if self.folder is None else os.getcwd()
        sys.path.extend(added)
        main.update((name, self.names[name]) for name in names)
        os.environ.update(self.environment)
        try:
            if self.folder is not None:
                os.chdir(self.folder)
            yield
        finally:
            if folder is not None:
                os.chdir(folder)
            for name, value in environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            for name in names:
                main.pop(name, None)
            for entry in added:
                with contextlib.suppress(ValueError):  # the task has taken it away
                    sys.path.remove(entry)


class Within:
    """A function that runs with something around it.

    Args:
        around: What is around it.
        function: The function.
    """

    def __init__(self, around: Around, function: Callable[..., Any]) -> None:
        self.around = around
        self.function = function
        name = getattr(function, "__qualname__", None)
        self.__qualname__ = name or type(function).__qualname__  # for messages

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        with self.around.applied():
            return self.function(*args, **kwargs)
