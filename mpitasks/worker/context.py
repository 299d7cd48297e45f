"""Inside a task: which one it is.

Who runs tasks in this process says here how to find out; asking costs the task,
not asking costs nobody.
"""

from __future__ import annotations

from collections.abc import Callable

from mpitasks.errors import ConfigurationError
from mpitasks.records import dataclass

__all__ = ["CurrentTask", "current_task", "provide"]


@dataclass(frozen=True, slots=True)
class CurrentTask:
    """A task, as it sees itself.

    Attributes:
        id: Its number in the run. Each attempt, and each chunk of a map, has its own.
        attempt: Which attempt this is, from 1 on.
        label: Its name, as given by ``with_options(label=...)``, or None.
        rank: The rank that runs it.
        host: That rank's host.
    """

    id: int
    attempt: int
    label: str | None
    rank: int
    host: str


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
