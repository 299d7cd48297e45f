"""The watchdog: which workers hold a task beyond its time limit, and do not answer.

The worker itself keeps the limit. The watchdog is for when that fails: a call into C
that never comes back, or a rank that is frozen. A worker's clock starts when it gets
its first task, and again whenever it reports something.

Pure: time is an argument. The scheduler decides what happens to a worker that is
overdue.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from mpitasks.scheduler.events import Bulk

if TYPE_CHECKING:
    from mpitasks.scheduler.available_workers import WorkerRecord
    from mpitasks.scheduler.events import Rank, Task

__all__ = [
    "GIVE_UP_SECONDS",
    "HOPE_SECONDS",
    "REPORT_SECONDS",
    "Watchdog",
    "isolated",
    "limit_of",
    "produces",
]

REPORT_SECONDS = 2.0
"""This long after its limit a task is said to be overdue."""

GIVE_UP_SECONDS = 10.0
"""This long after its limit a task is no longer waited for."""

HOPE_SECONDS = 300.0
"""With every worker unresponsive, what is queued waits this long for one to report."""


def limit_of(task: Task) -> float | None:
    """Return how long a task may take in seconds, all its items; None for any time."""
    if task.task_spec is None or task.task_spec.timeout is None:
        return None
    return task.task_spec.timeout * task.count


def isolated(task: Task) -> bool:
    """Return whether a task runs in a process that can be ended."""
    return task.task_spec is not None and task.task_spec.isolate


def produces(entry: Task | Bulk) -> bool:
    """Return whether a task keeps its result, and needs none that is kept.

    Those that need some let go of them: they go on when memory is short.
    """
    if entry.task_spec is None or not entry.task_spec.keep or isinstance(entry, Bulk):
        return False
    return not entry.data


class Watchdog:
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

    def add(self, worker: WorkerRecord, now: float) -> None:
        """Watch a worker that was given tasks with a limit.

        Its clock goes on if it had others to do before.
        """
        if worker.batches:
            self.ranks.add(worker.rank)
        else:
            self.restart(worker, now)

    def restart(self, worker: WorkerRecord, now: float) -> None:
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
