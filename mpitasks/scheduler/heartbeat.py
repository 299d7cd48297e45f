"""Which ranks are silent for so long that they count as lost. Time is an argument.

Somebody looks every few seconds. A rank that nothing was heard of since the last look,
and that could answer, is asked whether it is there; one that has not answered for long
is lost. A rank in user code is left alone: a call that holds Python's global lock keeps
it as silent as death would, and that is no reason to give it up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Rank

__all__ = [
    "PERIOD_SECONDS",
    "SILENT_SECONDS",
    "SILENT_SECONDS_BUSY",
    "SILENT_SECONDS_FATAL",
    "Findings",
    "SilenceMonitor",
]

PERIOD_SECONDS = 2.0
"""Between two looks."""

SILENT_SECONDS = 10.0
"""With no answer for so long, a rank is lost."""

SILENT_SECONDS_FATAL = 20.0
"""The same, where the loss of a rank is the end of the run."""

SILENT_SECONDS_BUSY = 60.0
"""With no answer for so long, a rank in user code is worth a line to the user."""

AWAY_SECONDS = 3 * PERIOD_SECONDS
"""After so long without a look it was us who were away: stopped, or starved. What came
meanwhile waits to be read, so nobody's silence counts."""


class Findings(NamedTuple):
    """What one look has found.

    Attributes:
        ask: Who is to be asked for a sign of life.
        lost: Who has not answered for too long.
    """

    ask: list[Rank]
    lost: list[Rank]


class SilenceMonitor:
    """Keeps count of who is silent.

    Args:
        seconds: After so long without an answer a rank is lost.
    """

    def __init__(self, seconds: float = SILENT_SECONDS) -> None:
        self._seconds = seconds
        self._since: dict[Rank, float] = {}  # asked, and silent from then on
        self._looked = 0.0

    def look(
        self, now: float, able: Iterable[Rank], heard: Collection[Rank]
    ) -> Findings:
        """Take one look.

        Args:
            now: The time in seconds.
            able: The ranks that could answer now.
            heard: The ranks that something was heard of since the last look.
        """
        if now - self._looked > AWAY_SECONDS:
            self._since.clear()
        self._looked = now
        silent = [rank for rank in able if rank not in heard]
        before, self._since = self._since, {}
        lost = []
        for rank in silent:
            since = before.get(rank, now)
            if now - since >= self._seconds:
                lost.append(rank)
            else:
                self._since[rank] = since
        return Findings(list(self._since), lost)
