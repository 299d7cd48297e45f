"""Tasks whose time has not come: the next attempts of those that failed.

Pure: time is an argument. A cancelled task stays in its place until its time comes
and is dropped then. Only the scheduler changes a task's state.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence

from mpitasks.scheduler.events import Task, TaskState

__all__ = ["Postponed", "retry_delay"]

LONGEST_DELAY_SECONDS = 300.0

_POSTPONED = TaskState.POSTPONED


def retry_delay(attempt: int, first: float) -> float:
    """Return how many seconds the attempt after this one has to wait.

    Args:
        attempt: The attempt that failed, from 1 on.
        first: The delay after the first; each further one is twice as long.
    """
    return min(first * 2.0 ** min(attempt - 1, 64), LONGEST_DELAY_SECONDS)


class Postponed:
    """Tasks by the time at which they may go to the queue.

    Attributes:
        items: How many items they have, cancelled ones not counted.
        next: When the first of them may go.
    """

    def __init__(self) -> None:
        self.items = 0
        self.next = math.inf
        self._heap: list[tuple[float, int, Task]] = []
        self._order = itertools.count()  # among equals, first come

    def add(self, tasks: Sequence[Task], until: float) -> None:
        """Keep tasks until that time."""
        for task in tasks:
            heapq.heappush(self._heap, (until, next(self._order), task))
            self.items += task.count
        self._look()

    def take(self, now: float) -> list[Task]:
        """Take out those whose time has come, in its order."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            task = heapq.heappop(self._heap)[2]
            if task.state is _POSTPONED:
                taken.append(task)
                self.items -= task.count
        self._look()
        return taken

    def tasks(self) -> list[Task]:
        """Return those that wait, in no order."""
        return [task for _, _, task in self._heap if task.state is _POSTPONED]

    def _look(self) -> None:
        self.next = self._heap[0][0] if self._heap else math.inf
