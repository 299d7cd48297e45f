"""The keyword arguments of the executors of `mpi4py.futures`: what becomes of each.

Four of them (`path`, `wdir`, `env`, `globals`) say what tasks find around themselves:
`mpitasks.around` sees to that. Others say how mpi4py starts and reaches its workers;
they have no effect, as they have none there under ``python -m mpi4py.futures``. What
runs the tasks is in `mpitasks.futures.backends`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from mpitasks.around import Around
from mpitasks.errors import ConfigurationError

__all__ = ["Keywords", "understand"]

AROUND = frozenset({"env", "globals", "path", "wdir"})
WITHOUT_EFFECT = frozenset(
    {"backoff", "main", "mpi_info", "python_args", "python_exe", "use_pkl5"}
)
MAX_WORKERS = "MPI4PY_FUTURES_MAX_WORKERS"


class Keywords(NamedTuple):
    """What an executor was given, understood.

    Attributes:
        max_workers: The most workers that are used; None for all there are.
        initializer: What each process calls before it runs tasks, if anything.
        initargs: Its arguments.
        around: What tasks find around themselves.
    """

    max_workers: int | None
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]
    around: Around


def understand(
    max_workers: Any, initializer: Any, initargs: Any, others: dict[str, Any]
) -> Keywords:
    """Return what an executor was given, checked.

    Args:
        max_workers: As in `mpitasks.futures.MPIPoolExecutor`.
        initializer: As there.
        initargs: As there.
        others: The other keyword arguments.

    Raises:
        TypeError: There is no such keyword, or its value is of a wrong type.
        ValueError: `max_workers` is not positive, or no number.
        ConfigurationError: `service` was given, which mpitasks does not have.
    """
    if max_workers is None:
        max_workers = os.environ.get(MAX_WORKERS) or None
    if max_workers is not None:
        max_workers = int(max_workers)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if "service" in others:
        raise ConfigurationError(
            "mpitasks connects to no service: its workers are the other ranks. Start "
            "them with the script: mpiexec -n 4 python -m mpitasks script.py"
        )
    unknown = sorted(others.keys() - AROUND - WITHOUT_EFFECT)
    if unknown:
        raise TypeError(f"there is no keyword argument {unknown[0]!r}")
    around = Around(
        _folders(others.get("path")),
        _folder(others.get("wdir")),
        _named("env", others.get("env"), str),
        _named("globals", others.get("globals"), object),
    )
    return Keywords(max_workers, initializer, tuple(initargs), around)


def _folders(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a list of folders, not {value!r}")
    return () if value is None else tuple(os.fsdecode(each) for each in value)


def _folder(value: Any) -> str | None:
    # Workers start where the script does.
    return None if value is None else os.path.abspath(os.fsdecode(value))  # noqa: PTH100


def _named(keyword: str, value: Any, kind: type) -> dict[str, Any]:
    """Return a mapping, or (name, value) pairs, as a dictionary."""
    found = {} if value is None else dict(value)
    for name, each in found.items():
        if not (isinstance(name, str) and isinstance(each, kind)):
            raise TypeError(f"{keyword} cannot have {name!r}: {each!r}")
    return found
