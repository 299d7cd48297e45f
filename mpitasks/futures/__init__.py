"""The names of `mpi4py.futures`, for scripts that change one import line.

    from mpitasks.futures import MPIPoolExecutor  # was: from mpi4py.futures import ...

Each name means here what the documentation of mpi4py says
(https://mpi4py.readthedocs.io/en/stable/mpi4py.futures.html). The differences are in
``docs/mpi4py-futures.md``. `mpitasks.Executor` can do more.

This file only names things. What adapts them lives beside it: `pool` (the executors),
`backends` (what their calls run on), `keywords` (their keyword arguments),
`communicator` (programs that every rank runs), `chaining` (futures made of futures).
What runs tasks does not belong here.
"""

from __future__ import annotations

from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    TimeoutError,
)

from mpitasks.api.waiting import as_completed, wait
from mpitasks.futures.chaining import collect, compose
from mpitasks.futures.communicator import MPICommExecutor, get_comm_workers
from mpitasks.futures.pool import (
    MPIPoolExecutor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "MPICommExecutor",
    "MPIPoolExecutor",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "TimeoutError",
    "as_completed",
    "collect",
    "compose",
    "get_comm_workers",
    "wait",
]
