"""How far the maps and calls of a run are, as numbers and as text. Pure.

A `Source` tells its counts when it is asked. A `Tracker` makes a `View` of them: the
rate of late, and how long the rest takes. `describe` is the line that people read. When
and where lines are shown is the business of `mpitasks.observe.display`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from mpitasks.text import printable

if TYPE_CHECKING:
    from typing import Protocol

    class Source(Protocol):
        """Something that takes a while: a map, or the calls of an Executor."""

        @property
        def name(self) -> str:
            """What people call it."""

        def counts(self) -> Counts:
            """Return how far it is. From any thread; it runs no code of the user."""


__all__ = ["Counts", "Intervals", "Tracker", "View", "describe", "duration"]

RATE_SECONDS = 30.0
"""The rate is that of this many seconds before now."""

NAME_LENGTH = 40


class Counts(NamedTuple):
    """How far something is.

    Attributes:
        done: Items that are over.
        failed: How many of them failed.
        total: How many there are; None if that is not known.
        work: Seconds that one worker would need for the others, by what items with
            their labels took; None if nothing was measured yet.
        grows: Whether there may be more of them later.
    """

    done: int
    failed: int
    total: int | None
    work: float | None = None
    grows: bool = False


class View(NamedTuple):
    """What is shown of a source at one moment.

    Attributes:
        name: As people call it, fit for a terminal.
        done: As in `Counts`.
        failed: As in `Counts`.
        total: As in `Counts`.
        seconds: Since it began.
        rate: Items a second: of late, or of all the time if it is over.
        eta: Seconds until all is done; None if unknown.
        over: Whether nothing more will come.
    """

    name: str
    done: int
    failed: int
    total: int | None
    seconds: float
    rate: float
    eta: float | None
    over: bool


class Tracker:
    """Knows the past of one source.

    Args:
        source: The source.
        now: The time in seconds, on any clock.
    """

    def __init__(self, source: Source, now: float) -> None:
        self._source = source
        self._name = _short(source.name)
        self._start = now
        self._past: deque[tuple[float, int]] = deque([(now, 0)])

    def take(self, now: float, workers: int, *, over: bool = False) -> View:
        """Return what is to be shown now.

        Args:
            now: The time.
            workers: How many workers take tasks.
            over: Whether it is over, also if not all of it is done.
        """
        done, failed, total, work, grows = self._source.counts()
        if not total and grows:
            self._start = now  # it has not begun
        seconds = now - self._start
        over = over or (total is not None and done >= total and not grows)
        if over:
            rate = done / seconds if seconds > 0 else 0.0
            return View(self._name, done, failed, total, seconds, rate, None, True)
        past = self._past
        past.append((now, done))
        while len(past) > 2 and past[1][0] <= now - RATE_SECONDS:
            past.popleft()
        lately = now - past[0][0]
        rate = (done - past[0][1]) / lately if lately > 0 else 0.0
        eta = None if total is None else _eta(max(total - done, 0), rate, work, workers)
        return View(self._name, done, failed, total, seconds, rate, eta, False)


class Intervals:
    """Says when the next line is due: after longer and longer times.

    Args:
        now: The time in seconds, on any clock.
    """

    FIRST_SECONDS = 2.0
    GROWTH = 1.5
    MOST_SECONDS = 300.0

    def __init__(self, now: float) -> None:
        self._step = self.FIRST_SECONDS
        self._next = now + self._step

    def due(self, now: float) -> bool:
        """Whether it is time for a line; if so, the next one is due later."""
        if now < self._next:
            return False
        self._step = min(self._step * self.GROWTH, self.MOST_SECONDS)
        self._next = now + self._step
        return True


def describe(view: View) -> str:
    """Return a line about a source."""
    count = f"{view.done}"
    if view.total is not None:
        count += f"/{view.total}"
        if not view.over:
            count += f" ({100 * view.done // max(view.total, 1)}%)"
    parts = [f"{view.name}: {count}"]
    if view.failed:
        parts.append(f"{view.failed} failed")
    if view.over:
        parts.append(f"in {duration(view.seconds)}")
    parts.append(f"{view.rate:.3g}/s")
    if view.eta is not None:
        parts.append(f"{duration(view.eta)} to go")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration for a human."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}:{minutes:02} h"
    return f"{hours // 24} days {hours % 24} h"


def _eta(left: int, rate: float, work: float | None, workers: int) -> float | None:
    """Return how long the rest takes: the longer of what two forecasts say.

    The rate knows of other work that shares the workers, but nothing at first. What
    items took tells more at the beginning, and nothing of such work.
    """
    forecasts = []
    if rate > 0:
        forecasts.append(left / rate)
    if work is not None and workers:
        forecasts.append(work / workers)
    return max(forecasts, default=None)


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 3] + "..."
