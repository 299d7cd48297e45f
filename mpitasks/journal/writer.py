"""The thread that writes: takes what was recorded, and commits it a few times a second.

Between the event loop, which must not wait for a disk, and the disk. What waits to be
written is bounded in bytes: a disk that stays slower than the results makes the event
loop wait in the end, and says so once. Results go in the order in which they came,
small ones first where large ones would hold them up.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["LARGE_BYTES", "QUEUE_BYTES", "JournalWriter"]

LOSS_SECONDS = 0.18
"""What a kill may cost, with a little to spare: a result may have to wait for the
commit that is under way, then for others to come along, and for its own commit."""

GATHER_SECONDS = 0.01, 0.1
"""The least and the most time that a commit waits for others to come along. In between
it is what two commits of the length of the last one leave of `LOSS_SECONDS`."""

QUEUE_BYTES = 1 << 30
"""Results of at most this many bytes wait in memory for the disk."""


LARGE_BYTES = 1 << 20
"""Results of at least this many bytes are large: each has a file of its own."""

COMMIT_BYTES = 64 << 20
"""Large results of about this many bytes make one commit; small ones wait for it."""


class JournalWriter(threading.Thread):
    """Calls `write` with what was put, in batches.

    Args:
        write: Writes some of what was put. Its exception ends the writing.
        failed: Told, in this thread, of the exception that ended it.
        name: What messages call the journal.
        limit: How many bytes may wait.

    Attributes:
        error: What ended the writing.
    """

    def __init__(
        self,
        write: Callable[[list[Any]], None],
        failed: Callable[[Exception], None],
        name: str,
        limit: int = QUEUE_BYTES,
    ) -> None:
        super().__init__(name="mpitasks-journal", daemon=True)
        self.error: Exception | None = None
        self._write = write
        self._failed = failed
        self._label = name
        self._limit = limit
        self._changed = threading.Condition()
        self._queue: list[Any] = []
        self._large: deque[tuple[Any, int]] = deque()
        self._bytes = 0  # of what is queued or being written
        self._small_bytes = 0
        self._put = self._done = 0
        self._gather = GATHER_SECONDS[0]
        self._urgent = False
        self._idle = True
        self._ended = False
        self._said = False

    def put(self, item: Any, nbytes: int) -> None:
        """Have something written. Waits only if too much waits already."""
        changed = self._changed
        with changed:
            if self.error is not None or self._ended:
                return
            if nbytes >= LARGE_BYTES:
                self._large.append((item, nbytes))
            else:
                self._queue.append(item)
                self._small_bytes += nbytes
            self._bytes += nbytes
            self._put += 1
            if self._idle:
                changed.notify_all()
            if self._bytes > self._limit:
                self._wait_for_room()

    def flush(self, seconds: float) -> bool:
        """Have everything on disk; return whether it is within that many seconds."""
        with self._changed:
            goal = self._put
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._done >= goal or self.error is not None, seconds
            )
            return self._done >= goal

    def stop(self, seconds: float) -> bool:
        """Write everything and end; return whether it was all written."""
        written = self.flush(seconds)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self.ident is not None and written:
            self.join(seconds)
        return written

    def run(self) -> None:
        changed = self._changed
        while True:
            with changed:
                self._idle = True
                changed.wait_for(self._wanted)
                self._idle = False
                if not (self._queue or self._large):
                    return
                if not self._large:
                    changed.wait_for(
                        lambda: self._urgent or self._ended or self._large,
                        self._gather,
                    )
                items, nbytes = self._take()
            started = time.monotonic()
            try:
                self._write(items)
            except Exception as error:
                self._give_up(error)
                return
            least, most = GATHER_SECONDS
            rest = LOSS_SECONDS - 2 * (time.monotonic() - started)
            self._gather = min(max(rest, least), most)
            count = len(items)
            items.clear()
            with changed:
                self._bytes -= nbytes
                self._done += count
                self._urgent = self._urgent and self._done < self._put
                changed.notify_all()

    def _wanted(self) -> bool:
        return bool(self._queue or self._large or self._ended)

    def _take(self) -> tuple[list[Any], int]:
        """Return what to commit next: all that is small, and some of what is large."""
        items, self._queue = self._queue, []
        nbytes, self._small_bytes = self._small_bytes, 0
        large = 0
        while self._large and large < COMMIT_BYTES:
            item, size = self._large.popleft()
            items.append(item)
            large += size
        return items, nbytes + large

    def _wait_for_room(self) -> None:
        """The disk is slower than the results: wait, and say so the first time."""
        started = time.monotonic()
        self._urgent = True
        self._changed.notify_all()
        self._changed.wait_for(
            lambda: self._bytes <= self._limit or self.error is not None
        )
        if not self._said:
            self._said = True
            print(
                f"mpitasks: the disk of the journal {self._label} is slower than the "
                f"results come: {self._limit >> 20} MiB wait for it, so the run waits, "
                f"too (the first time {time.monotonic() - started:.1f} s)",
                file=sys.stderr,
            )

    def _give_up(self, error: Exception) -> None:
        with self._changed:
            self.error = error
            self._queue.clear()
            self._large.clear()
            self._changed.notify_all()
        self._failed(error)
