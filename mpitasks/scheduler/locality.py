"""Tasks that wait for the worker that has their data, and for how long they do.

A task is passed over by other workers as long as to move its data would take longer
than it has waited (delay scheduling: Zaharia et al., EuroSys 2010). Then it goes to the
ready queue, for any worker. So no task waits here for ever, and one whose data is small
hardly waits at all.

Pure bookkeeping. Only the scheduler changes a task's state: all tasks here are QUEUED.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Rank, Task

__all__ = ["BYTES_PER_SECOND", "Locality"]

BYTES_PER_SECOND = 4e9
"""At which rate a worker gets what another one has. 64 MiB took 13 to 19 ms on one host
(a virtual machine, 2026-11-27); between hosts it takes longer, and waiting less long
than that does no harm."""


class Locality:
    """The tasks that wait for a worker of their own.

    Attributes:
        waiting: By the worker that they wait for: the tasks, and until when they do.
    """

    def __init__(self) -> None:
        self.waiting: dict[Rank, dict[Task, float]] = {}
        self._ends: list[tuple[float, int, Rank, Task]] = []  # a heap; some are gone
        self._numbers = itertools.count()

    @property
    def items(self) -> int:
        """How many tasks wait."""
        return sum(map(len, self.waiting.values()))

    def __bool__(self) -> bool:
        return bool(self.waiting)

    @property
    def next(self) -> float:
        """When the next of them has waited long enough; inf if there is none."""
        ends = self._ends
        while ends:
            end, _, rank, task = ends[0]
            if self.waiting.get(rank, {}).get(task) == end:
                return end
            heapq.heappop(ends)
        return math.inf

    def add(self, task: Task, now: float) -> None:
        """Have a task wait for the worker that has most of its data."""
        data: dict[Rank, int] = {}
        for rank, nbytes in task.data:
            data[rank] = data.get(rank, 0) + nbytes
        best = max(data, key=data.__getitem__)
        end = now + data[best] / BYTES_PER_SECOND
        self.waiting.setdefault(best, {})[task] = end
        heapq.heappush(self._ends, (end, next(self._numbers), best, task))

    def ranks(self) -> list[Rank]:
        """Return the workers that tasks wait for."""
        return list(self.waiting)

    def first(self, rank: Rank) -> Task | None:
        """Return the task that has waited longest for a worker, if one waits."""
        return next(iter(self.waiting.get(rank, ())), None)

    def remove(self, task: Task) -> bool:
        """Let go of a task; return whether it was here."""
        for rank, waiting in self.waiting.items():
            if task in waiting:
                del waiting[task]
                if not waiting:
                    del self.waiting[rank]
                return True
        return False

    def take(self, rank: Rank) -> list[Task]:
        """Take out all that wait for a worker."""
        return list(self.waiting.pop(rank, ()))

    def take_expired(self, now: float) -> list[Task]:
        """Take out those that have waited long enough."""
        expired = []
        while self.next <= now:
            _, _, _, task = heapq.heappop(self._ends)
            self.remove(task)
            expired.append(task)
        return expired

    def take_all(self) -> list[Task]:
        """Take all of them out."""
        tasks = list(self.tasks())
        self.waiting.clear()
        self._ends.clear()
        return tasks

    def tasks(self) -> Iterator[Task]:
        """Yield them."""
        for waiting in self.waiting.values():
            yield from waiting
