"""Inside a task: which one it is, and which communicator the workers share.

The code that runs tasks in this process tells this module how to find out. A task that
does not ask pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpitasks.errors import ConfigurationError

if TYPE_CHECKING:
    from mpitasks.runner.current_task import CurrentTask

__all__ = [
    "current_task",
    "provide",
    "provide_communicator",
    "provider",
    "worker_communicator",
]


_provider: Callable[[], CurrentTask | None] = lambda: None  # noqa: E731


def provide(provider: Callable[[], CurrentTask | None]) -> None:
    """Say how to find the current task of this process; None if there is none."""
    global _provider
    _provider = provider


def provider() -> Callable[[], CurrentTask | None]:
    """Return what finds the current task of this process."""
    return _provider


def current_task() -> CurrentTask:
    """Return the task that is running here.

    Raises:
        ConfigurationError: The caller is no task.

    Example:
        >>> def simulate(seed):
        ...     task = mpitasks.current_task()
        ...     print(f"attempt {task.attempt} on rank {task.rank} ({task.host})")
    """
    task = _provider()
    if task is None:
        raise ConfigurationError(
            "current_task() was called outside a task: it tells a function that an "
            "Executor runs which task it is"
        )
    return task


_communicator: Callable[[], Any] = lambda: None  # noqa: E731


def provide_communicator(find: Callable[[], Any]) -> None:
    """Say how to find the communicator of all workers; None if there is none."""
    global _communicator
    _communicator = find


def worker_communicator() -> Any:
    """Return the communicator of all workers; None outside of a task on a worker."""
    return _communicator()
