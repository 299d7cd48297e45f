"""Why workers were idle: a cause for each second in which one held no task. Pure.

The cause is what kept the scheduler from having a task for that worker. It never leaves
one idle beside a task that could run, so there is always one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpitasks.scheduler.statistics import Statistics

__all__ = ["CAUSES", "Idleness"]

CAUSES = {
    "start": "before the first task",
    "script": "the script did something else, and no task was there",
    "few": "fewer tasks than workers, while others were running",
    "tail": "the last tasks were running",
    "inputs": "tasks waited for results of others",
    "retries": "tasks waited for their next attempt",
    "stopping": "nothing new was started any more",
    "end": "all tasks were done",
}
"""What each cause means."""


class Idleness:
    """Adds up the idle seconds of all workers, by cause.

    Args:
        now: The time, on the clock of the events.
        workers: How many there are.

    Attributes:
        idle: How many hold no task; changed by the recording.
        submitted: Whether there was a task since the last look; set by the recording.
        seconds: What was added up.
    """

    def __init__(self, now: float, workers: int) -> None:
        self.idle = workers
        self.submitted = False
        self.seconds = dict.fromkeys(CAUSES, 0.0)
        self._now = now
        self._cause = "start"
        self._last = {"few": 0.0, "script": 0.0}  # since there was a new task

    def pass_time(self, now: float) -> None:
        """Some time has passed, in which nothing has changed."""
        seconds = self.idle * (now - self._now)
        self._now = now
        if seconds <= 0:
            return
        if self._cause in self._last:
            self._last[self._cause] += seconds
        else:
            self.seconds[self._cause] += seconds

    def look(self, counts: Statistics) -> None:
        """Take note of how things are now."""
        if self.submitted:
            self.submitted = False
            for cause, seconds in self._last.items():
                self.seconds[cause] += seconds
                self._last[cause] = 0.0
        elif self._cause == "start":
            return
        stuck = counts.waiting + counts.postponed
        if counts.queued > stuck:
            self._cause = "stopping"
        elif counts.waiting:
            self._cause = "inputs"
        elif counts.postponed:
            self._cause = "retries"
        elif counts.assigned:
            self._cause = "few"
        else:
            self._cause = "script"

    def lose_worker(self) -> None:
        """A worker is gone; it counts as idle until then."""
        self.idle -= 1

    def totals(self) -> dict[str, float]:
        """Return the seconds by cause, as if the run were over.

        What was idle since there was the last new task is the tail and the end.
        """
        totals = self.seconds.copy()
        totals["tail"] += self._last["few"]
        totals["end"] += self._last["script"]
        return totals
