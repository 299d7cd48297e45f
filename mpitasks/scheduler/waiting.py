"""Tasks that lack results of other tasks, and how many each of them lacks.

Pure bookkeeping. Which tasks need a result is known to whoever reports that it is
there. Only the scheduler changes a task's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Task

__all__ = ["Waiting"]


class Waiting:
    """The tasks that wait.

    Attributes:
        items: How many items they have.
    """

    def __init__(self) -> None:
        self.items = 0
        self._missing: dict[Task, int] = {}

    def add(self, task: Task) -> None:
        """Keep a task until its inputs are there."""
        self._missing[task] = len(task.inputs)
        self.items += task.count

    def remove(self, task: Task) -> None:
        """Let go of a task."""
        del self._missing[task]
        self.items -= task.count

    def supply(self, task: Task) -> bool:
        """One more of its inputs is there; return whether that was the last.

        Then the task is let go of.
        """
        self._missing[task] -= 1
        if self._missing[task]:
            return False
        self.remove(task)
        return True

    def tasks(self) -> list[Task]:
        """Return those that wait, in the order they came."""
        return list(self._missing)

    def check(self) -> None:
        """Assert every invariant. For tests and debugging."""
        assert self.items == sum(task.count for task in self._missing)
        for task, missing in self._missing.items():
            assert 0 < missing <= len(task.inputs)
