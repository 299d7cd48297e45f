"""Python tasks on MPI, at the speed of MPI.

The public names, imported when they are first used: ``import mpitasks`` loads
neither mpi4py nor NumPy and never initialises MPI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mpitasks.errors import (
        ConfigurationError,
        ExecutorClosedError,
        InternalError,
        LaunchError,
        MpiTasksError,
        OptionError,
        RemoteError,
        RemoteTraceback,
        SerializationError,
        TransitionError,
        TransportError,
        WorkerLost,
    )
    from mpitasks.launch.run import run
    from mpitasks.master.executor import Executor
    from mpitasks.master.future import Future
    from mpitasks.options import TaskOptions

_HOMES = {
    "Executor": "mpitasks.master.executor",
    "Future": "mpitasks.master.future",
    "TaskOptions": "mpitasks.options",
    "run": "mpitasks.launch.run",
    **dict.fromkeys(
        [
            "ConfigurationError",
            "ExecutorClosedError",
            "InternalError",
            "LaunchError",
            "MpiTasksError",
            "OptionError",
            "RemoteError",
            "RemoteTraceback",
            "SerializationError",
            "TransitionError",
            "TransportError",
            "WorkerLost",
        ],
        "mpitasks.errors",
    ),
}

__all__ = [
    "ConfigurationError",
    "Executor",
    "ExecutorClosedError",
    "Future",
    "InternalError",
    "LaunchError",
    "MpiTasksError",
    "OptionError",
    "RemoteError",
    "RemoteTraceback",
    "SerializationError",
    "TaskOptions",
    "TransitionError",
    "TransportError",
    "WorkerLost",
    "__version__",
    "run",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mpitasks' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
