"""The listener: answers for a worker while user code takes long.

While user code runs, the loop cannot speak. So a second thread looks now and then. It
sends the results that were finished before the call that runs, and those of finished
items of the chunk that runs. If one call or one item runs for long, it has the worker
give back what it has not begun, so that other workers run that. It sleeps while the
worker has nothing to do.
"""

from __future__ import annotations

import contextlib
import threading
from time import monotonic, perf_counter  # a task may patch the module
from typing import TYPE_CHECKING

from mpitasks.runner.nesting import depth

if TYPE_CHECKING:
    from mpitasks.worker.speaker import Speaker

__all__ = ["Listener"]

LOOK_SECONDS = 0.03
"""Between two looks. Each costs a computing task a switch of the interpreter's lock."""

WAIT_SECONDS = 0.01
"""A look leaves younger results to the loop: most batches do not take much longer than
this, and their results go together."""

QUICK_ITEMS, QUICK_SECONDS = 1000, 0.01
"""A chunk that has finished this many items since the last look is about to end: its
results go together, and the next look comes after these seconds."""

UNRESPONSIVE_SECONDS = 0.05
"""A call, or an item, that runs for this long takes long. A batch is meant to take a
third of it."""

LOOK_SECONDS_SENDING = 0.005
"""Between two looks while results are on their way that need the help of this rank."""

LOOK_SECONDS_LAST = 0.4
"""The longest time between two looks, reached while one call runs for long and nothing
waits behind it. Each is longer by a half than the one before."""

LOCK_SECONDS = 0.001
"""How long to wait for a loop that is between two pieces of user code."""

SLEEP_AFTER_SECONDS = 1.0
"""With nothing done for this long, and nothing to do, it goes to sleep."""

FOR_EVER = -1.0
"""A timeout of a lock: until the lock is released."""


class Listener(threading.Thread):
    """Looks after one worker.

    Attributes:
        asleep: Whether it must be woken for work to come.
    """

    def __init__(self, worker: Speaker) -> None:
        super().__init__(name="mpitasks-listener", daemon=True)
        self.asleep = True
        self._worker = worker
        # A lock that only `_ring` releases: it is cheaper than an event.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._stopped = False
        self._changed = 0.0  # when it was last seen to make progress

    def wake(self) -> None:
        """There is work."""
        self.asleep = False
        if self.ident is None:
            self.start()
        self._ring()

    def stop(self) -> None:
        """Have nothing more sent or given back. Called under the worker's lock."""
        self._stopped = True
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def run(self) -> None:
        worker = self._worker
        wait = self._bell.acquire
        pause = LOOK_SECONDS
        before = 0, 0
        self._changed = monotonic()
        while not self._stopped:
            wait(timeout=pause)
            self.asleep = False
            pause = LOOK_SECONDS
            progress = worker.progress()
            if progress != before:
                self._changed = monotonic()
                if worker.replies.logs is not None:
                    worker.replies.logs.push()
            if worker.lock.acquire(timeout=LOCK_SECONDS):  # it is in user code
                try:
                    if _is_quick(before, progress):
                        pause = QUICK_SECONDS
                    elif not self._stopped:
                        pause = self._speak(progress)
                finally:
                    worker.lock.release()
            elif (
                progress == before and monotonic() - self._changed > SLEEP_AFTER_SECONDS
            ):
                pause = self._go_to_sleep()
            before = progress

    def _speak(self, before: tuple[int, int]) -> float:
        """Speak for the worker; return when to look again. Under the worker's lock.

        Args:
            before: What the worker's progress was before the lock was taken.
        """
        worker = self._worker
        seconds = monotonic() - self._changed
        if seconds < UNRESPONSIVE_SECONDS or worker.progress() != before:
            worker.send_finished(perf_counter() - WAIT_SECONDS)
            return LOOK_SECONDS
        worker.give_back()
        if worker.is_limited and depth():
            worker.sign_helping()
        if worker.sending():
            return LOOK_SECONDS_SENDING
        pause = min(seconds / 2, LOOK_SECONDS_LAST)
        # The next batch must not wait for it. The loop takes the lock before it asks.
        self.asleep = pause > LOOK_SECONDS
        return pause

    def _go_to_sleep(self) -> float:
        """Say that it sleeps, unless there is work; return when to look again."""
        self.asleep = True
        if self._worker.busy:  # the worker says that it is busy, and then asks this
            self.asleep = False
            return LOOK_SECONDS
        return FOR_EVER


def _is_quick(before: tuple[int, int], now: tuple[int, int]) -> bool:
    """Whether a chunk has finished many items between two looks."""
    first = before[1] if before[0] == now[0] else 0
    return now[1] - first > QUICK_ITEMS
