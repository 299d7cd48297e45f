"""The background thread: it turns the pump while nobody else does.

Without it, done-callbacks and the stdlib's `wait` would make progress only while some
thread waits in mpitasks itself. It naps between turns and leaves the turning to whoever
drives; it sleeps when nothing is outstanding.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from mpitasks.wire.patience import sharpen_timers

if TYPE_CHECKING:
    from mpitasks.master.pump import Pump

__all__ = ["Background"]

NAP_SHORT, NAP_LONG = 250e-6, 800e-6
"""Pauses of the background thread while it drives, and while it need not."""
DOZE_SECONDS = 0.1
"""With nothing outstanding for so long, the background thread goes to sleep."""


class Background(threading.Thread):
    """Turns the pump while work is outstanding and nobody else does."""

    def __init__(self, pump: Pump, *, enabled: bool) -> None:
        super().__init__(name="mpitasks-pump", daemon=True)
        self.asleep = enabled  # what is not asleep is never woken
        self._pump = pump
        self._woken = threading.Event()
        self._stopped = False

    def wake(self) -> None:
        """There is work. May be called without need."""
        self.asleep = False
        if self.ident is None:
            with contextlib.suppress(RuntimeError):  # another thread started it
                self.start()
        self._woken.set()

    def stop(self) -> None:
        """End the thread. Called once."""
        self._stopped = True
        self._woken.set()
        if self.ident is not None and self is not threading.current_thread():
            self.join()

    def run(self) -> None:
        sharpen_timers()
        while not self._stopped:
            self._keep_turning()
            self.asleep = True
            if not self._pump.outstanding:  # else somebody submitted meanwhile
                self._woken.wait()
            self._woken.clear()
            self.asleep = False

    def _keep_turning(self) -> None:
        """Turn until there was nothing to do for a while."""
        pump = self._pump
        nap = NAP_SHORT
        last_work = time.monotonic()
        while not self._stopped:
            turns = pump.turns
            time.sleep(nap)
            if pump.outstanding:
                last_work = time.monotonic()
            elif time.monotonic() - last_work > DOZE_SECONDS:
                return
            if pump.turns != turns:
                nap = NAP_LONG  # somebody else drives
            elif pump.nudge():
                nap = NAP_SHORT
            else:
                nap = min(nap * 1.1, NAP_LONG)
