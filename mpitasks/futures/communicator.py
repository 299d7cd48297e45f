"""`MPICommExecutor`: for programs that every rank runs.

Which rank leads and which ones serve is found out by `mpitasks.launch.spmd`, as for
`mpitasks.run`. Nothing is sent here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from mpitasks.api import session as sessions
from mpitasks.api.executor import INTERRUPTS
from mpitasks.futures.pool import MPIPoolExecutor, ThreadPoolExecutor
from mpitasks.launch import spmd
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.run import Role
from mpitasks.runner import context

__all__ = ["MPICommExecutor", "get_comm_workers"]


class MPICommExecutor:
    """Gives one rank of a communicator an executor, whose workers are the others.

    Collective: each rank of the communicator enters and leaves the ``with`` block. On
    the root its target is an `MPIPoolExecutor`. The other ranks serve, until the root
    leaves the block; then their target is None, and the program goes on everywhere.

    In a script that was started by ``python -m mpitasks``, which rank 0 alone runs, it
    gives an executor for all of the workers, whatever the communicator is.

    Args:
        comm: An intracommunicator of mpi4py; None for ``MPI.COMM_WORLD``.
        root: The rank, in `comm`, that gets the executor.
        **kwargs: For `MPIPoolExecutor`.

    Raises:
        ValueError: `comm` is an intercommunicator, or has no rank `root`.

    Example:
        >>> with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        ...     if executor is not None:
        ...         total = sum(executor.map(simulate, range(100)))
    """

    def __init__(self, comm: Any = None, root: int = 0, **kwargs: Any) -> None:
        if comm is not None and comm.Is_inter():
            raise ValueError("expecting an intracommunicator")
        if not 0 <= root < _size(comm):
            raise ValueError("expecting root in range(comm.size)")
        self._comm = comm
        self._root = root
        self._keywords = kwargs
        self._executor: MPIPoolExecutor | None = None
        self._role: Role | None = None  # None in a run that goes on afterwards

    def __enter__(self) -> MPIPoolExecutor | None:
        """Return the executor on the root; on others, serve and then return None.

        Raises:
            RuntimeError: It was entered already.
            LaunchError: Ranks do not come, or do not fit together.
            ConfigurationError: The launcher does not fit the MPI library, or this is a
                task.
        """
        if self._executor is not None:
            raise RuntimeError("an MPICommExecutor is entered one time after another")
        sessions.refuse_in_task()
        # Before the ranks meet: the others would wait for one that raises here.
        executor = MPIPoolExecutor(**self._keywords)
        if not sessions.installed():
            if _size(self._comm) == 1 < _size(None):
                return self._enter_alone()
            self._role = spmd.meet(self._comm, self._root)
            if self._role is Role.WORKER:
                return None
        self._executor = executor
        return executor

    def _enter_alone(self) -> MPIPoolExecutor:
        """Return an executor for one rank among others: a thread of it."""
        initializer = self._keywords.get("initializer")
        begin = functools.partial(_begin, self._comm, initializer)
        own = {"max_workers": 1, "initializer": begin}
        self._executor = ThreadPoolExecutor(**{**self._keywords, **own})
        return self._executor

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        """Shut the executor down on the root, and let the others go on.

        Returns:
            Whether what was raised in the block is dropped: on the ranks that have
            served, as by mpi4py, where the block is often written for the root alone.
        """
        executor, self._executor = self._executor, None
        if executor is None:
            return not (kind is not None and issubclass(kind, KeyboardInterrupt))
        role, self._role = self._role, None
        failed = True
        try:
            executor.__exit__(kind, error, trace)
            failed = kind is not None and issubclass(kind, INTERRUPTS)
        finally:
            if role is not None:
                spmd.part(role, failed=failed)
        return False


_thread = threading.local()  # with the communicator of a rank that is its own worker


def _begin(comm: Any, initializer: Callable[..., Any] | None, *args: Any) -> None:
    """In the thread of such a rank."""
    _thread.comm = comm
    if initializer is not None:
        initializer(*args)


def get_comm_workers() -> Any:
    """Return, in a call on a worker, the communicator of all workers, without rank 0.

    Who communicates by it sees to it that all of them do: calls go to workers as these
    become free, so `mpi4py` programs do this in an initializer.

    Returns:
        An intracommunicator of mpi4py.

    Raises:
        RuntimeError: This is no call on a worker; or it is one in a process of its own
            (``isolate``), or in a run that goes on without ranks that die.
    """
    comm = getattr(_thread, "comm", None) or context.worker_communicator()
    if comm is None:
        raise RuntimeError("communicator is not accessible")
    return comm


def _size(comm: Any) -> int:
    """Return the size of a communicator; for None, of the world, as far as is known."""
    if comm is not None:
        return int(comm.Get_size())
    hint = launch_hint()
    return 1 if hint is None else hint.size or hint.rank + 1
