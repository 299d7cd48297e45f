"""Inside a task: which one it is.

The code that runs tasks in this process tells this module how to find out. A task that
does not ask pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mpitasks.errors import ConfigurationError

if TYPE_CHECKING:
    from mpitasks.runner.current_task import CurrentTask

__all__ = ["current_task", "provide"]


_provider: Callable[[], CurrentTask | None] = lambda: None  # noqa: E731


def provide(provider: Callable[[], CurrentTask | None]) -> None:
    """Say how to find the current task of this process; None if there is none."""
    global _provider
    _provider = provider


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
