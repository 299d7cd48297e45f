"""What is said of a task whose worker did not bring it to an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mpitasks.errors import TaskTimeout, WorkerLost

if TYPE_CHECKING:
    from mpitasks.core.events import Rank, Task

__all__ = ["lost", "overdue", "overdue_error"]


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


def _limit(task: Task) -> float:
    assert task.terms is not None
    return task.terms.timeout or 0.0


def _name(task: Task) -> str:
    label = None if task.terms is None else task.terms.label
    return f"task {task.id}" if label is None else f"task {task.id} ({label!r})"
