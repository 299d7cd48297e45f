"""The state of a run on its way to the end: go on, drain, halt, interrupt, abort.

Pure: asked again and again with the time and a few counts, it says how far the end
has come. `mpitasks.launch.early_stop` asks, and acts.

The job's end is at `end`. Nothing that would not be finished `margin` before it is
started (`mpitasks.scheduler.job_end`); what runs on all the same gets until `safety`
before it, a part of the margin; so does the script. A signal asks for the same at once,
and gives what runs a grace.
"""

from __future__ import annotations

import enum
import math

__all__ = ["RunState", "Step", "choose_margin"]

MARGIN_SECONDS, MARGIN_SHARE = 60.0, 0.05
"""The margin is the first, or that share of the time there is, whichever is less."""

SAFETY_SECONDS, SAFETY_SHARE = 10.0, 1 / 3
"""The part of the margin that is kept for the end itself: the script's `finally`, the
journal, the goodbyes."""

KILL_SAFETY_SECONDS = 1.5
"""The least that is kept for it where the batch system is about to kill."""


class Step(enum.IntEnum):
    """How far the end has come. Each step includes those before it."""

    GO = 0  # no end in sight
    DRAIN = 1  # start nothing new; let what runs finish
    HALT = 2  # nothing more will come: let no thread wait for it
    INTERRUPT = 3  # end the script, whatever it does
    ABORT = 4  # it did not end: end the job


def choose_margin(seconds: float) -> float:
    """Return the margin, in seconds, for a job with this many seconds to go."""
    return min(MARGIN_SECONDS, MARGIN_SHARE * max(seconds, 0.0))


class RunState:
    """How far the end has come, by the time and the signals so far.

    Args:
        end: When the job ends, on any clock that does not go back; inf for never.
        margin: Seconds before the end when everything should be finished.
        grace: Seconds that running tasks get after a signal, and after them the
            script for its own cleaning up.

    Attributes:
        asked: When a signal asked for the end, if one did.
    """

    def __init__(self, end: float, margin: float, grace: float) -> None:
        self.end = end
        self.margin = margin
        self.grace = grace
        self.asked = math.inf
        self._safety = min(SAFETY_SECONDS, SAFETY_SHARE * margin)
        self._killed = math.inf
        self._kill_safety = 0.0

    def move_end(self, end: float, margin: float) -> None:
        """The job ends at another time, with another margin."""
        self.end = end
        self.margin = margin
        self._safety = min(SAFETY_SECONDS, SAFETY_SHARE * margin)

    def bound_grace(self, seconds: float) -> None:
        """The batch system kills this many seconds after it has asked for the end."""
        self._killed = self.asked + seconds
        least = max(KILL_SAFETY_SECONDS, SAFETY_SHARE * seconds)
        self._kill_safety = min(SAFETY_SECONDS, least)

    def ask(self, now: float) -> None:
        """A signal asked for the end."""
        self.asked = min(self.asked, now)

    @property
    def drains_at(self) -> float:
        """When nothing new is started any more."""
        return min(self.end - self.margin, self.asked)

    @property
    def interrupts_at(self) -> float:
        """When nothing is waited for any more."""
        return min(
            self.end - self._safety,
            self.asked + self.grace,
            self._killed - self._kill_safety,
        )

    def step(
        self, now: float, *, running: int, queued: int, stranded: bool, waiting: bool
    ) -> Step:
        """Return how far the end has come.

        Args:
            now: The time.
            running: Tasks that workers hold.
            queued: Tasks that wait.
            stranded: Nothing runs, and nothing that waits can be started.
            waiting: The script waits for tasks, and does nothing else.
        """
        if now >= min(
            self.asked + 2 * self.grace,
            self.end - self._safety / 2,
            self._killed - self._kill_safety / 2,
        ):
            return Step.ABORT
        if now >= self.interrupts_at:
            return Step.INTERRUPT
        if now >= self.asked:
            if running:
                return Step.DRAIN
            # With nothing left to wait for, there is no reason to.
            return Step.INTERRUPT if waiting or not queued else Step.HALT
        if waiting and stranded:
            return Step.INTERRUPT
        if now < self.end - self.margin:
            return Step.GO
        return Step.HALT if stranded else Step.DRAIN
