"""Pure choices: which task next, how many in a batch, when to send one ahead.

Functions and small classes without side effects beyond their own fields. The
numbers that decide balance against overhead are the constants at the top.
What lives here never changes a task's or worker's state: that is
`mpitasks.scheduler.scheduler` alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from mpitasks.scheduler.events import Bulk, Cost, FunctionId, Task, TaskState

__all__ = ["Profile", "Profiles", "ReadyQueue", "batch_share"]

BATCH_SECONDS = 0.016
"""Work wanted in one message. After some milliseconds of user code a message costs a
worker 0.3 ms on a virtual machine (cold caches, and the ring that wakes rank 0), which
is 2% of this. Lists of 0.3 s in all take a tenth to a fifth less time than with 4 ms,
and no less with 40 ms."""

LEAST_SECONDS = 0.0002
"""Shares shrink towards the end of the queue, but not below this much work: smaller
ones cost more in exchanges than the balance they bring."""

PREFETCH_SECONDS = 0.002
"""A batch expected to take longer than this gets no second one queued behind it:
from about 100 round trips on, balance is worth more than a worker that never waits."""

DEEP_PREFETCH_SECONDS = 0.05
DEEP_QUEUE = 2
"""A longer batch gets one behind it all the same, if it takes at most the first of
these and the queue has more items for each worker than the second: then no worker will
be idle for want of that batch. A worker that has it need not sleep until its next task
comes. Beyond that time this would save less than 1%."""

BATCH_TASKS = 512
"""Most tasks in one message. Past this the per-message cost is invisible, and the
master would be silent for too long while it packs."""

BATCH_BYTES = 4 << 20
"""Most payload in one message, in either direction, unless one task alone is larger."""

GROWTH = 8
"""A batch is at most this many times the largest one measured so far: the first
measured duration of a function may be far off (imports, caches, clock)."""

SMOOTHING = 0.3
"""Weight of a new report in the moving averages."""

KNOWN_FUNCTIONS = 4096
"""Functions whose durations are remembered; the longest known is forgotten first."""

ASIDE = -math.inf
"""The priority of what nobody could finish in time, below all that users can give."""

_QUEUED = TaskState.QUEUED  # an attribute of an enum costs 0.2 us on CPython 3.11


class Profile:
    """What one item of a function costs, as a moving average over reports.

    Attributes:
        seconds: Wall time per item.
        nbytes: Result size per item.
        largest: Most items seen in one report.
    """

    __slots__ = ("largest", "nbytes", "seconds")

    def __init__(self, items: int, seconds: float, nbytes: int) -> None:
        self.seconds = seconds / items
        self.nbytes = nbytes / items
        self.largest = items

    def observe(self, items: int, seconds: float, nbytes: int) -> None:
        """Take one more report into the averages."""
        self.seconds += SMOOTHING * (seconds / items - self.seconds)
        self.nbytes += SMOOTHING * (nbytes / items - self.nbytes)
        if items > self.largest:
            self.largest = items

    def batch_items(self) -> int:
        """Return how many items make a batch of the wanted length; at least 1."""
        items = self.largest * GROWTH
        if self.seconds * items > BATCH_SECONDS:
            items = int(BATCH_SECONDS / self.seconds)
        if self.nbytes * items > BATCH_BYTES:
            items = int(BATCH_BYTES / self.nbytes)
        return max(items, 1)

    def least_items(self) -> int:
        """Return how many items are too little work to be shared out further."""
        if self.seconds * self.largest > LEAST_SECONDS:
            return int(LEAST_SECONDS / self.seconds)
        return self.largest


class Profiles(dict[FunctionId, Profile]):
    """The profiles of the functions seen lately."""

    def observe(self, cost: Cost) -> None:
        """Take one report in."""
        function, items, seconds, nbytes = cost
        profile = self.get(function)
        if profile is not None:
            profile.observe(items, seconds, nbytes)
            return
        if len(self) >= KNOWN_FUNCTIONS:
            del self[next(iter(self))]
        self[function] = Profile(items, seconds, nbytes)


def batch_share(ready: int, workers: int) -> int:
    """Return how many of the ready items one worker may take at once; at least 1.

    Guided self-scheduling with factor 2 (Polychronopoulos and Kuck, IEEE Trans.
    Computers C-36(12), 1987): shares shrink with the queue, so that the workers
    end together.
    """
    return ready // (2 * workers) + 1


class ReadyQueue:
    """Calls and bulk jobs that wait for a worker: by priority, then first come.

    A cancelled task stays in its place until it comes up and is dropped then.

    Attributes:
        items: Number of items ready, cancelled ones not counted.
    """

    def __init__(self) -> None:
        self.items = 0
        self._levels: dict[float, deque[Task | Bulk]] = {}
        self._order: list[float] = []  # priorities in use, highest first

    def add(self, entry: Task | Bulk, items: int) -> None:
        """Put a task, or a bulk job with new items, at the end of its level."""
        self._level(entry.priority).append(entry)
        self.items += items

    def add_tasks(self, tasks: Sequence[Task]) -> None:
        """Put tasks at the end of their levels, in order."""
        priority = None
        append = None
        for task in tasks:
            if append is None or task.priority != priority:
                priority = task.priority
                append = self._level(priority).append
            append(task)
        self.items += len(tasks)

    def head(self) -> Task | Bulk | None:
        """Return what goes next without taking it, or None if nothing is ready."""
        while self._order:
            level = self._levels[self._order[0]]
            while level:
                entry = level[0]
                if isinstance(entry, Bulk):
                    if entry.ready:
                        return entry
                elif entry.state is _QUEUED:
                    return entry
                level.popleft()
            del self._levels[self._order.pop(0)]
        return None

    def entries(self) -> Iterator[Task | Bulk]:
        """Yield all that is there, but what was cancelled."""
        for level in self._levels.values():
            for entry in level:
                if isinstance(entry, Bulk):
                    if entry.ready:
                        yield entry
                elif entry.state is _QUEUED:
                    yield entry

    def drop_head(self) -> None:
        """Remove what `head` returned from its place."""
        self._levels[self._order[0]].popleft()

    def take_calls(self, function: FunctionId, limit: int) -> list[Task]:
        """Take a run of calls of one function off the head of the queue.

        Only after `head` returned a call of that function. Stops at `limit`, at a
        full message (`BATCH_BYTES`) and at anything that is no such call.
        """
        level: deque[Any] = self._levels[self._order[0]]
        if level[0].alone:
            limit = 1
        taken: list[Task] = []
        gone = items = nbytes = 0
        for task in level:
            if items >= limit or nbytes >= BATCH_BYTES:
                break
            if task.function != function or (task.alone and taken):
                break
            gone += 1
            if task.state is _QUEUED:
                taken.append(task)
                items += task.count
                nbytes += task.nbytes
        pop = level.popleft
        for _ in range(gone):
            pop()
        self.items -= items
        return taken

    def put_back(self, tasks: list[Task]) -> None:
        """Put tasks that were taken before at the head of their levels, in order."""
        for task in reversed(tasks):
            self._level(task.priority).appendleft(task)
            self.items += task.count

    def set_aside(self) -> bool:
        """Move the head behind everything else; return whether it was not there yet."""
        if self._order[0] == ASIDE:
            return False
        self._level(ASIDE).append(self._levels[self._order[0]].popleft())
        return True

    def recall(self) -> None:
        """Have what was set aside wait as before: things have changed."""
        if ASIDE in self._levels:
            self._order.remove(ASIDE)
            for entry in self._levels.pop(ASIDE):
                self._level(entry.priority).append(entry)

    def _level(self, priority: float) -> deque[Task | Bulk]:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
            self._order.append(priority)
            self._order.sort(reverse=True)
        return level
