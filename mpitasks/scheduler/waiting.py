"""Tasks that wait for results of other tasks, by the results.

Pure bookkeeping: which tasks become ready with a result, and which never will. A task
that was cancelled, or has failed, is let go of; the lists of the other results that it
waited for drop it when their turn comes. Only the scheduler changes a task's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpitasks.scheduler.events import ObjectId, Task

__all__ = ["Waiting"]


class Waiting:
    """The tasks that wait.

    Attributes:
        items: How many items they have.
    """

    def __init__(self) -> None:
        self.items = 0
        self._missing: dict[Task, int] = {}  # how many results each of them lacks
        self._users: dict[ObjectId, list[Task]] = {}

    def add(self, task: Task) -> None:
        """Keep a task until its inputs are there."""
        self._missing[task] = len(task.inputs)
        self.items += task.count
        for id in task.inputs:
            self._users.setdefault(id, []).append(task)

    def remove(self, task: Task) -> None:
        """Let go of a task."""
        del self._missing[task]
        self.items -= task.count

    def users(self, id: ObjectId) -> list[Task]:
        """Return the tasks that wait for a result, in the order they came; once."""
        return [t for t in self._users.pop(id, ()) if t in self._missing]

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
        counts = dict.fromkeys(self._missing, 0)
        for users in self._users.values():
            for task in users:
                if task in counts:
                    counts[task] += 1
        assert counts == self._missing
