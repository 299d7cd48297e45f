"""The background thread: it turns the pump while nobody else does.

Without it, done-callbacks and the stdlib's `wait` would make progress only while some
thread waits in mpitasks itself. It rests as deeply as the others allow, and who makes
that wrong wakes it:

    AWAKE     turning, or in a nap of less than a millisecond
    NAPPING   others turn the pump again and again; a future that is watched wakes it
    DEEP      one thread has been driving for a while; that thread wakes it at the end
    ASLEEP    nothing is outstanding; a submit wakes it
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from mpitasks.wire.patience import sharpen_timers

if TYPE_CHECKING:
    from mpitasks.master.pump import Pump

__all__ = ["ASLEEP", "AWAKE", "DEEP", "NAPPING", "Background"]

AWAKE, NAPPING, DEEP, ASLEEP = range(4)

TURN_SECONDS, DOZE_AFTER_SECONDS = 250e-6, 2e-3
"""Pauses between turns grow from the first to the second; then it dozes. It never
spins or yields: the thread that it would take the GIL from may be computing."""

REST_SECONDS = {DEEP: 0.05, ASLEEP: None}
"""How long a rest lasts if nobody ends it."""

NAP_SECONDS, LONGEST_NAP_SECONDS = 4e-3, 32e-3
"""A nap lasts the first, and twice as long each time that there is a driver when it
ends, up to the second. Waking up is dear to a driver: this thread wants the GIL then,
and is woken in vain a dozen times, when a call of MPI lets go of it for a moment."""

LINGER_SECONDS = 0.1
"""With nothing outstanding for so long, the background thread goes to sleep."""


class Background(threading.Thread):
    """Turns the pump while work is outstanding and nobody else does.

    Attributes:
        rest: How deeply it rests: one of the constants above.
        enabled: Whether it may turn the pump at all.
    """

    def __init__(self, pump: Pump, *, enabled: bool) -> None:
        super().__init__(name="mpitasks-pump", daemon=True)
        self.enabled = enabled
        self.rest = ASLEEP if enabled else AWAKE  # what is awake is never woken
        self._pump = pump
        self._woken = threading.Event()
        self._stopped = False

    def wake(self) -> None:
        """Look again now. May be called without need."""
        self.rest = AWAKE
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
        pump = self._pump
        last_work = time.monotonic()
        turns = drives = -1
        pause = TURN_SECONDS
        nap = NAP_SECONDS
        while not self._stopped:
            if not pump.outstanding:
                lingered = time.monotonic() - last_work > LINGER_SECONDS
                if not lingered and not pump.driven:
                    pump.nudge()  # lets go of what is sent: of the user's arrays
                    turns = pump.turns
                if self._rest(ASLEEP if lingered else NAPPING):
                    last_work = time.monotonic()  # even if it is done already
                continue
            last_work = time.monotonic()
            if pump.driven:
                how = DEEP if pump.drives == drives else NAPPING
                drives = pump.drives  # as it is before the rest, not after
                self._rest(how, nap)
                nap = min(2 * nap, LONGEST_NAP_SECONDS)
                pause = TURN_SECONDS
                turns = pump.turns
                continue
            nap = NAP_SECONDS
            if pump.turns != turns:
                turns = pump.turns
                pause = TURN_SECONDS
                if self._rest(NAPPING):
                    turns = pump.turns  # wanted now, whoever else is about
                continue
            if pump.nudge():
                time.sleep(TURN_SECONDS)
                pause = TURN_SECONDS
            elif pause < DOZE_AFTER_SECONDS:
                time.sleep(pause)
                pause *= 1.5
            else:
                pump.doze()
            turns = pump.turns

    def _rest(self, how: int, nap: float = NAP_SECONDS) -> bool:
        """Sleep until woken, or until this kind of rest ends; return which."""
        self._woken.clear()
        self.rest = how
        # Whoever changed something before it could see that, did not wake.
        changed = self._stopped or (how == ASLEEP and self._pump.outstanding > 0)
        seconds = nap if how == NAPPING else REST_SECONDS[how]
        woken = changed or self._woken.wait(seconds)
        self.rest = AWAKE
        return woken
