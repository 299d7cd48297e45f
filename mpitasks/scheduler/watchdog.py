"""Which workers are overdue: they hold a task with a time limit, and do not answer.

The limit itself is kept on the worker. This is for when that fails: a call into C
that never comes back, or a rank that is frozen. A worker's clock starts when it gets
a task to begin with, and again whenever it reports something.

Pure: time is an argument. What happens to a worker that is overdue, the scheduler
decides.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpitasks.core.events import Rank, Task
    from mpitasks.core.roster import Worker

__all__ = [
    "GIVE_UP_SECONDS",
    "HOPE_SECONDS",
    "REPORT_SECONDS",
    "Overdue",
    "isolated",
    "limit_of",
]

REPORT_SECONDS = 2.0
"""So long after its limit a task is said to be overdue."""

GIVE_UP_SECONDS = 10.0
"""So long after its limit nobody waits for it any more."""

HOPE_SECONDS = 300.0
"""With every worker stuck, what is queued waits so long for one of them to report."""


def limit_of(task: Task) -> float | None:
    """Return how long a task may take in seconds, all its items; None for any time."""
    if task.terms is None or task.terms.timeout is None:
        return None
    return task.terms.timeout * task.count


def isolated(task: Task) -> bool:
    """Return whether a task runs in a process that can be ended."""
    return task.terms is not None and task.terms.isolate


class Overdue:
    """Watches the workers that hold tasks with a time limit.

    Attributes:
        ranks: Those workers.
        next: When one of them will be overdue, if it does not report before.
    """

    def __init__(self) -> None:
        self.ranks: set[Rank] = set()
        self.next = math.inf
        self._due: dict[Rank, tuple[float, bool]] = {}  # when, and is it the last time
        self._order: list[tuple[float, Rank]] = []  # a heap; may hold what is no more

    def add(self, worker: Worker, now: float) -> None:
        """Watch a worker that was given tasks with a limit.

        Its clock goes on if it had others to do before.
        """
        if worker.batches:
            self.ranks.add(worker.rank)
        else:
            self.restart(worker, now)

    def restart(self, worker: Worker, now: float) -> None:
        """Start a worker's clock anew: it begins with the first task that it holds."""
        rank = worker.rank
        self._due.pop(rank, None)
        self.ranks.discard(rank)
        limits = [limit_of(task) for task in worker.tasks.values()]
        if any(limit is not None for limit in limits):
            self.ranks.add(rank)
            if limits[0] is not None:
                self._set(rank, now + limits[0] + REPORT_SECONDS, last=False)
        self._look()

    def expire(self, now: float) -> list[tuple[Rank, bool]]:
        """Return the workers whose time has come, and whether it was their last."""
        expired = []
        while self.next <= now:
            at, rank = heapq.heappop(self._order)
            _, last = self._due.pop(rank)
            expired.append((rank, last))
            if not last:
                self._set(rank, at + GIVE_UP_SECONDS - REPORT_SECONDS, last=True)
            self._look()
        return expired

    def _set(self, rank: Rank, at: float, *, last: bool) -> None:
        self._due[rank] = at, last
        heapq.heappush(self._order, (at, rank))

    def _look(self) -> None:
        order = self._order
        while order and self._due.get(order[0][1], (None,))[0] != order[0][0]:
            heapq.heappop(order)
        self.next = order[0][0] if order else math.inf
