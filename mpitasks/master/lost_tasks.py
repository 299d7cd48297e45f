"""What is said of a task whose worker did not bring it to an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mpitasks.errors import ExecutorClosedError, TaskTimeout, TransportError, WorkerLost

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Rank, Task

__all__ = [
    "SHUTDOWN_SECONDS",
    "UNSOUND",
    "abandoned",
    "limited",
    "lost",
    "miscounted",
    "overdue",
    "overdue_error",
]

SHUTDOWN_SECONDS = 30.0
"""How long ``Executor.shutdown(cancel_futures=True)`` waits for what is running."""


_REPLACED = (
    "a task that it ran has replaced what mpitasks needs, len or map, say (with "
    "isolate=True it would have broken a process of its own)"
)

UNSOUND = f"sent a report that does not fit together: {_REPLACED}"
"""What is said of a worker that does so, behind its name."""


def lost(task: Task, rank: Rank | None, losses: Mapping[Rank, str]) -> WorkerLost:
    """Return the error of a task that was lost with its rank.

    Args:
        task: The task.
        rank: The rank; None if no worker is left to run the task.
        losses: What became of ranks that are gone.
    """
    if rank is None:
        text = f"no worker is left to run {_name(task)}"
        return WorkerLost(": ".join([text, *losses.values()]))
    how = losses.get(rank, f"rank {rank} is gone or stuck")
    return WorkerLost(f"{how} while it held {_name(task)}")


def overdue(task: Task, rank: Rank) -> str:
    """Return the line that reports an overdue task."""
    return (
        f"mpitasks: {_name(task)} on rank {rank} has not ended at its limit "
        f"of {_limit(task):g} s: it may be in a call into C, which nothing interrupts "
        f"(isolate=True runs it where it can be ended)"
    )


def overdue_error(task: Task, rank: Rank) -> TaskTimeout:
    """Return the error of a task that nobody waits for any more."""
    return TaskTimeout(
        f"{_name(task)} on rank {rank} did not end at its limit of {_limit(task):g} s "
        f"nor for some time after, and its rank does not answer: it may be in a call "
        f"into C (isolate=True runs it where it can be ended)"
    )


def abandoned(task: Task) -> ExecutorClosedError:
    """Return the error of a task that outlived its Executor."""
    return ExecutorClosedError(
        f"{_name(task)} was still running {SHUTDOWN_SECONDS:g} s after its Executor "
        f"was shut down with cancel_futures=True"
    )


def miscounted(task: Task, results: int) -> TransportError:
    """Return the error of the items of a chunk that do not have a result each."""
    return TransportError(
        f"the worker sent {results} results for {task.count} items of {_name(task)}: "
        f"{_REPLACED}"
    )


def limited(task: Task) -> bool:
    """Return whether a task has a time limit."""
    return task.task_spec is not None and task.task_spec.timeout is not None


def _limit(task: Task) -> float:
    assert task.task_spec is not None
    return task.task_spec.timeout or 0.0


def _name(task: Task) -> str:
    label = None if task.task_spec is None else task.task_spec.label
    return f"task {task.id}" if label is None else f"task {task.id} ({label!r})"
