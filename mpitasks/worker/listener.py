"""The listener: answers for a worker while user code takes long.

While user code runs, nobody else on the rank can speak. So a second thread looks now
and then whether the same call, or the same item of a chunk, has been running since the
last look; then it has the worker give back what it has not begun, for others to run.
It sleeps while the worker has nothing to do.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpitasks.worker.loop import Worker

__all__ = ["Listener"]

LOOK_SECONDS = 0.05
"""Between two looks. A batch is meant to take a tenth of it."""

LOOK_SECONDS_SENDING = 0.005
"""The same, while results are on their way that need the help of this rank."""

LOOK_SECONDS_LAST = 0.4
"""The same, for a call that has been running for long; longer by a half each time."""

SLEEP_AFTER_SECONDS = 1.0
"""With nothing done for so long, and nothing to do, it goes to sleep."""


class Listener(threading.Thread):
    """Looks after one worker.

    Attributes:
        asleep: Whether it must be woken for work to come.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="mpitasks-listener", daemon=True)
        self.asleep = True
        self._worker = worker
        self._woken = threading.Event()
        self._stopped = False

    def wake(self) -> None:
        """There is work."""
        self.asleep = False
        if self.ident is None:
            self.start()
        self._woken.set()

    def stop(self) -> None:
        """Have nothing more given back. Called under the worker's lock."""
        self._stopped = True
        self._woken.set()

    def run(self) -> None:
        worker = self._worker
        look = LOOK_SECONDS
        before = None
        changed = time.monotonic()
        while not self._stopped:
            self._woken.clear()
            self._woken.wait(None if self.asleep and not self._stopped else look)
            progress = worker.progress()
            look = LOOK_SECONDS
            if progress != before:
                changed = time.monotonic()
                if worker.replies.logs is not None:
                    worker.replies.logs.push()
            elif worker.lock.acquire(blocking=False):  # it is in user code
                try:
                    if worker.progress() == before and not self._stopped:
                        worker.give_back()
                        look = min((time.monotonic() - changed) / 2, LOOK_SECONDS_LAST)
                        if worker.sending():
                            look = LOOK_SECONDS_SENDING
                finally:
                    worker.lock.release()
            elif time.monotonic() - changed > SLEEP_AFTER_SECONDS:
                self.asleep = True
                if worker.busy:  # this look comes last: it gets busy, then looks here
                    self.asleep = False
            before = progress
