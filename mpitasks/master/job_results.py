"""Results of a bulk job that have come and were not handed out yet.

One thread puts them in, under the event loop's lock or as the consumer of the job;
the consuming thread takes them out under no lock. So each step on what both use is a
single operation of the interpreter.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["JobResults"]


class JobResults:
    """Runs of results, each at the position of its first item.

    Args:
        ordered: Whether they are handed out in the order of their positions; if not,
            in the order in which they came.

    Attributes:
        taken: How many results were handed out.
        listener: Called when results have come, or none will come any more, by the
            thread that puts them in: under the event loop's lock, perhaps.
    """

    __slots__ = ("_arrived", "_in_order", "_news", "listener", "taken")

    def __init__(self, *, ordered: bool) -> None:
        self.taken = 0
        # Each with whether there may be others among them than values.
        self._arrived: dict[int, tuple[list[Any], bool]] = {}
        self._in_order: deque[tuple[int, list[Any], bool]] | None = (
            None if ordered else deque()
        )
        self._news = threading.Event()
        self.listener: Callable[[], None] | None = None

    def put(self, start: int, values: list[Any], *, mixed: bool) -> None:
        """Take results in, and wake the consumer.

        Args:
            start: The position of the first.
            values: The results of that item and of those after it.
            mixed: Whether a `Failure`, or a `Deferred` result, may be among them.
        """
        if self._in_order is None:
            self._arrived[start] = values, mixed
        else:
            self._in_order.append((start, values, mixed))
        self.wake()

    def has_news(self) -> bool:
        """Whether `take` would return results."""
        if self._in_order is None:
            return self.taken in self._arrived
        return bool(self._in_order)

    def take(self) -> tuple[int, list[Any], bool]:
        """Hand out a run: position of the first, results, any but values?

        Call it only if `has_news`.
        """
        if self._in_order is None:
            start = self.taken
            values, mixed = self._arrived.pop(start)
        else:
            start, values, mixed = self._in_order.popleft()
        self.taken += len(values)
        return start, values, mixed

    def clear(self) -> None:
        """Let go of what is there."""
        self._arrived.clear()
        if self._in_order is not None:
            self._in_order.clear()

    def wake(self) -> None:
        """Wake the consumer: results have come, or none may come any more."""
        self._news.set()
        listener = self.listener  # the consumer may take it away
        if listener is not None:
            listener()

    def block(self, seconds: float) -> None:
        """Sleep until results arrive, at most this long; another thread drives."""
        self._news.wait(seconds)
        self._news.clear()
