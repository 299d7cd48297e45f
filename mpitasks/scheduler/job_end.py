"""The job's end, as the scheduler sees it: which work can still be finished.

Knows the end, whether new work is wanted at all, and the longest durations seen
lately; decides what may still be started. What becomes of a task is decided in
`mpitasks.scheduler.scheduler`; who knows the end, and what happens then, in
`mpitasks.launch.early_stop`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mpitasks.scheduler.events import Bulk, Cost, FunctionId, Task

if TYPE_CHECKING:
    from mpitasks.scheduler.policy import ReadyQueue

__all__ = ["JobEnd"]

FORGETTING = 0.1
"""The longest duration of a function comes so much closer to each shorter one that is
reported: one slow call, say the first with its imports, does not count for ever."""

KNOWN_FUNCTIONS = 4096
"""Functions whose durations are remembered; the longest known is forgotten first."""


class JobEnd:
    """What may still be started.

    Args:
        known: Seconds that an item took, for the functions that were measured before.

    Attributes:
        at: When whatever was started should be finished, on the scheduler's clock.
        draining: Nothing new is to be started.
    """

    __slots__ = ("_longest", "at", "draining")

    def __init__(self, known: Mapping[FunctionId, float]) -> None:
        self.at = math.inf
        self.draining = False
        self._longest = dict(known)

    def observe(self, costs: Iterable[Cost]) -> None:
        """Take measured durations in."""
        known = self._longest
        for function, items, seconds, _ in costs:
            each = seconds / items
            longest = known.get(function)
            if longest is None:
                if len(known) >= KNOWN_FUNCTIONS:
                    del known[next(iter(known))]
                known[function] = each
            elif each >= longest:
                known[function] = each
            else:
                known[function] = longest + FORGETTING * (each - longest)

    def fits(self, entry: Task | Bulk, start: float) -> bool:
        """Whether an entry of the queue, begun at `start`, can be finished in time.

        By the longest duration of its function lately; if it was never measured, by
        its timeout; if it has none, it has the benefit of the doubt. Of a bulk job,
        it is about the next chunk: one item, or as many as the user wants together.
        """
        if self.draining:
            return False
        seconds = self._longest.get(entry.function)
        if seconds is None and entry.task_spec is not None:
            seconds = entry.task_spec.timeout
        if seconds is None:
            return start <= self.at
        if isinstance(entry, Bulk):
            items = min(entry.chunksize or 1, entry.ready)
        else:
            items = entry.count
        return start + seconds * items <= self.at

    def choose(self, queue: ReadyQueue, start: float) -> bool:
        """Bring what can be finished to the head of the queue; return whether any can.

        What cannot is set aside, so that it is looked at once, and is looked at again
        only when there is nothing else.
        """
        while (head := queue.head()) is not None:
            if self.fits(head, start):
                return True
            if self.draining or not queue.set_aside():
                return False
        return False
