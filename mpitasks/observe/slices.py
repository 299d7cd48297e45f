"""What a recording is made of: slices, moments, durations; and how slices are joined.

Plain values and pure functions. `mpitasks.observe.recording` makes them while a run
goes on, and a report makes slices of those in a trace.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Rank

__all__ = [
    "JOIN_SECONDS",
    "SEVERAL",
    "Arrow",
    "Durations",
    "Instant",
    "Sample",
    "Slice",
    "Slow",
    "Unfinished",
    "join",
]

JOIN_SECONDS = 1e-4
"""Slices that are shorter, and no further apart, are joined first."""

SEVERAL = "(several labels)"
"""The label of slices of different labels that were joined."""

WORTHWHILE = 0.9
"""If more than this part of the slices is left, the next ones to join are longer."""


class Slice(NamedTuple):
    """A worker ran something.

    Attributes:
        begin: When, in seconds since the run began.
        end: Until when.
        label: Its label.
        items: How many calls and items that were.
        seconds: Time in their function; less than the slice, if some were joined.
        failed: How many of them are reported as failed.
        attempt: Which attempt; of several the last.
        id: The id of the call, if it is a single one; else None.
        item: The number of the first item, if they are of one map; else None.
        inputs: How many results of other tasks that call waited for.
    """

    begin: float
    end: float
    label: str
    items: int
    seconds: float
    failed: int = 0
    attempt: int = 1
    id: int | None = None
    item: int | None = None
    inputs: int = 0


class Unfinished(NamedTuple):
    """A worker was at something when the run ended.

    Attributes:
        rank: The worker.
        begin: Since when, in seconds since the run began.
        label: The label of the first task that it held.
        held: How many calls and chunks it held.
    """

    rank: int
    begin: float
    label: str
    held: int


class Instant(NamedTuple):
    """Something happened at a moment: a retry, a loss, the beginning of the end."""

    time: float
    name: str
    rank: int


class Sample(NamedTuple):
    """Counts of a moment; `nbytes` are all that were moved, `cpu` is rank 0's."""

    time: float
    queued: int
    running: int
    nbytes: int
    cpu: float


class Arrow(NamedTuple):
    """A result went from one task to another."""

    source: int
    sent: float
    target: int
    taken: float


class Slow(NamedTuple):
    """A task that took long; `seconds` comes first, to be compared."""

    seconds: float
    number: int
    label: str
    name: str
    rank: int
    begin: float
    arguments: str


class Durations:
    """How long items with one label took.

    Attributes:
        count: How many.
        seconds: All of them together.
        longest: The longest, as far as items were measured one by one.
        bins: How many took from 2**(n/4) times 0.1 us on, by n. Items that were
            measured together count as equally long.
    """

    BIN_SECONDS = 1e-7
    BINS = 4
    """In which a time is doubled."""

    __slots__ = ("bins", "count", "longest", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = self.longest = 0.0
        self.bins: dict[int, int] = {}

    def add(self, items: int, seconds: float) -> None:
        """Take in what items took."""
        each = seconds / items
        self.count += items
        self.seconds += seconds
        self.longest = max(self.longest, each)
        at = max(int(self.BINS * math.log2(max(each, 1e-9) / self.BIN_SECONDS)), 0)
        self.bins[at] = self.bins.get(at, 0) + items

    def quantile(self, part: float) -> float:
        """Return about what that part of the items did not exceed."""
        wanted = part * self.count
        for at in sorted(self.bins):
            wanted -= self.bins[at]
            if wanted <= 0:
                middle = self.BIN_SECONDS * math.pow(2.0, (at + 0.5) / self.BINS)
                return min(middle, self.longest)
        return self.longest


def join(
    lanes: dict[Rank, list[Slice]], most: int, seconds: float = JOIN_SECONDS
) -> float:
    """Join neighbours until there are few slices enough.

    Args:
        lanes: The slices of each rank; changed.
        most: How many are few enough; there is one a rank at least.
        seconds: How long those are that are joined first.

    Returns:
        How long those are that may be joined next.
    """
    count = sum(map(len, lanes.values()))
    mixed = False
    while count > max(most, len(lanes)):
        before, count = count, 0
        for rank, slices in lanes.items():
            lanes[rank] = _joined(slices, seconds, mixed=mixed)
            count += len(lanes[rank])
        if count > before * WORTHWHILE:
            mixed = True  # labels take turns
            seconds *= 2
    return seconds


def _joined(slices: list[Slice], most: float, *, mixed: bool) -> list[Slice]:
    """Return slices with short neighbours joined, two and two.

    Args:
        slices: Those of a worker.
        most: How long a slice may be to be joined, and how far apart two.
        mixed: Whether two of different labels are joined, too.
    """
    joined: list[Slice] = []
    fresh = False
    for each in slices:
        last = joined[-1] if joined else None
        if (
            fresh
            and last is not None
            and (mixed or last.label == each.label)
            and last.end - last.begin < most
            and each.end - each.begin < most
            and each.begin - last.end < most
        ):
            joined[-1] = Slice(
                last.begin,
                each.end,
                last.label if last.label == each.label else SEVERAL,
                last.items + each.items,
                last.seconds + each.seconds,
                last.failed + each.failed,
                each.attempt,
            )
            fresh = False
        else:
            joined.append(each)
            fresh = True
    return joined
