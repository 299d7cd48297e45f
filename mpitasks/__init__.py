"""Python tasks on MPI, at the speed of MPI.

The public names, imported when they are first used: ``import mpitasks`` loads
neither mpi4py nor NumPy and never initialises MPI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mpitasks import slurm
    from mpitasks.api.actors import ActorGroup, ActorHandle
    from mpitasks.api.executor import Executor
    from mpitasks.api.pool import Pool
    from mpitasks.api.waiting import as_completed, wait
    from mpitasks.errors import (
        ActorCycle,
        ActorDied,
        ConfigurationError,
        DataLost,
        ExecutorClosedError,
        InitializerError,
        InternalError,
        JournalError,
        LaunchError,
        MpiTasksError,
        OptionError,
        RemoteError,
        RemoteTraceback,
        SerializationError,
        SlurmError,
        Stopped,
        TaskCrashed,
        TaskMemoryExceeded,
        TaskTimeout,
        TooManyFailures,
        TransitionError,
        TransportError,
        WorkerLost,
    )
    from mpitasks.launch.outside import start
    from mpitasks.launch.spmd import run
    from mpitasks.master.future import Future
    from mpitasks.observe.accounts import (
        LabelStatistics,
        LinkStatistics,
        RunStatistics,
    )
    from mpitasks.options import TaskOptions
    from mpitasks.randomness import rng
    from mpitasks.runner.context import current_task
    from mpitasks.runner.current_task import CurrentTask
    from mpitasks.subprocesses import subprocess_environment
    from mpitasks.walltime import stopping, time_left

_HOMES = {
    "ActorGroup": "mpitasks.api.actors",
    "ActorHandle": "mpitasks.api.actors",
    "Executor": "mpitasks.api.executor",
    "Future": "mpitasks.master.future",
    "Pool": "mpitasks.api.pool",
    "LabelStatistics": "mpitasks.observe.accounts",
    "LinkStatistics": "mpitasks.observe.accounts",
    "RunStatistics": "mpitasks.observe.accounts",
    "CurrentTask": "mpitasks.runner.current_task",
    "TaskOptions": "mpitasks.options",
    "as_completed": "mpitasks.api.waiting",
    "current_task": "mpitasks.runner.context",
    "rng": "mpitasks.randomness",
    "run": "mpitasks.launch.spmd",
    "start": "mpitasks.launch.outside",
    "stopping": "mpitasks.walltime",
    "subprocess_environment": "mpitasks.subprocesses",
    "time_left": "mpitasks.walltime",
    "wait": "mpitasks.api.waiting",
    **dict.fromkeys(
        [
            "ActorCycle",
            "ActorDied",
            "ConfigurationError",
            "DataLost",
            "ExecutorClosedError",
            "InitializerError",
            "InternalError",
            "JournalError",
            "LaunchError",
            "MpiTasksError",
            "OptionError",
            "RemoteError",
            "RemoteTraceback",
            "SerializationError",
            "SlurmError",
            "TaskCrashed",
            "TaskMemoryExceeded",
            "Stopped",
            "TaskTimeout",
            "TooManyFailures",
            "TransitionError",
            "TransportError",
            "WorkerLost",
        ],
        "mpitasks.errors",
    ),
}

__all__ = [
    "ActorCycle",
    "ActorDied",
    "ActorGroup",
    "ActorHandle",
    "ConfigurationError",
    "CurrentTask",
    "DataLost",
    "Executor",
    "ExecutorClosedError",
    "Future",
    "InitializerError",
    "InternalError",
    "JournalError",
    "LabelStatistics",
    "LaunchError",
    "LinkStatistics",
    "MpiTasksError",
    "OptionError",
    "Pool",
    "RemoteError",
    "RemoteTraceback",
    "RunStatistics",
    "SerializationError",
    "SlurmError",
    "Stopped",
    "TaskCrashed",
    "TaskMemoryExceeded",
    "TaskOptions",
    "TaskTimeout",
    "TooManyFailures",
    "TransitionError",
    "TransportError",
    "WorkerLost",
    "__version__",
    "as_completed",
    "current_task",
    "rng",
    "run",
    "slurm",
    "start",
    "stopping",
    "subprocess_environment",
    "time_left",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name == "slurm":
        return importlib.import_module("mpitasks.slurm")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mpitasks' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
