"""The background thread: it polls the event loop while nobody else does.

Without it, done-callbacks and clients that wait in their own way would make progress
only while some thread waits in mpitasks itself. It rests as deeply as the others allow;
who changes that wakes it:

    AWAKE    polls, or pauses for less than a millisecond
    NAPPING  others poll the event loop again and again; a watched future wakes it
    DEEP     one thread has been driving for a while, and wakes it at the end
    IDLE     nothing is outstanding, and nobody has driven lately; a submit wakes it
    ASLEEP   nothing has been outstanding for a while; a submit wakes it

It gives other threads the GIL between two polls: its pauses are real sleeps, of some
15 us. If it then waits for the GIL, a thread is computing, and its pauses get longer.
After a silence it sleeps until a wake-up rings.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Protocol

from mpitasks.wire.backoff import SILENT_POLLS, sharpen_timers

__all__ = ["ASLEEP", "AWAKE", "DEEP", "IDLE", "NAPPING", "Background"]

AWAKE, NAPPING, DEEP, IDLE, ASLEEP = range(5)

CONTENDED_SECONDS = 1e-3
"""A pause that takes so much longer than it should has waited for the GIL, if the
process has computed meanwhile."""

LIVELY_POLLS = 24
"""It polls in vain at least this often after something came, for some 0.5 ms, in which
the next message often comes: to be woken costs 50 us and more. After that, or while
another thread computes, `SILENT_POLLS` do."""

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 250e-6, 2e-3
"""While another thread computes, pauses grow from the first to the second; then it
sleeps until a wake-up rings."""

REST_SECONDS = {DEEP: 0.05, ASLEEP: None}
"""How long a rest lasts if no thread ends it."""

NAP_SECONDS, LONGEST_NAP_SECONDS = 4e-3, 32e-3
"""A nap lasts the first, and twice as long each time that there is a driver when it
ends, up to the second. A nap's end slows a driver down: this thread wants the GIL then,
and is woken in vain a dozen times, when a call of MPI lets go of it for a moment."""

RELEASE_SECONDS = 0.2
"""While workers keep results, the longest rest: the script may have let go of one, in a
finalizer, which can wake nobody."""

LINGER_SECONDS = 0.1
"""After so many seconds with nothing outstanding, the thread goes to sleep."""


class Polled(Protocol):
    """What the background thread needs of the event loop."""

    driven: bool
    drives: int

    @property
    def outstanding(self) -> int:
        """Items that were submitted and are neither done nor cancelled."""

    @property
    def has_inbox(self) -> bool:
        """Whether calls were submitted that no poll has taken in."""

    @property
    def keeps_results(self) -> bool:
        """Whether workers keep results, which they must be told to let go of."""

    @property
    def polls(self) -> int:
        """How often the engine was polled."""

    @property
    def doze_after(self) -> float:
        """Seconds of silence after which `doze` misses no wake-up."""

    def nudge(self) -> bool:
        """Poll while messages come; return whether any came."""

    def doze(self) -> bool:
        """Sleep until a wake-up rings; return whether one did."""


class Background(threading.Thread):
    """Polls the event loop while work is outstanding and no thread drives.

    Attributes:
        rest: How deeply it rests: one of the constants above.
        enabled: Whether it may poll the event loop at all.
        dozing: Whether it sleeps until a wake-up rings. Only one thread can.
    """

    def __init__(self, event_loop: Polled, *, enabled: bool) -> None:
        super().__init__(name="mpitasks-events", daemon=True)
        self.enabled = enabled
        self.rest = ASLEEP if enabled else AWAKE  # what is awake is never woken
        self.dozing = False
        self._event_loop = event_loop
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
        event_loop = self._event_loop
        last_work = time.monotonic()
        polls = drives = -1
        nap = NAP_SECONDS
        pauses = _Pauses(self, event_loop)
        while not self._stopped:
            if not event_loop.outstanding:
                lingered = time.monotonic() - last_work > LINGER_SECONDS
                keeps = event_loop.keeps_results
                if (keeps or not lingered) and not event_loop.driven:
                    event_loop.nudge()  # lets go of what is sent: of the user's arrays
                    polls = event_loop.polls
                how = IDLE if event_loop.drives == drives else NAPPING
                drives = event_loop.drives
                how = ASLEEP if lingered else how
                if self._rest(how, RELEASE_SECONDS if keeps else NAP_SECONDS):
                    last_work = time.monotonic()  # even if it is done already
                continue
            last_work = time.monotonic()
            if event_loop.driven:
                how = DEEP if event_loop.drives == drives else NAPPING
                drives = event_loop.drives  # as it is before the rest, not after
                self._rest(how, nap)
                nap = min(2 * nap, LONGEST_NAP_SECONDS)
                polls = event_loop.polls
                continue
            nap = NAP_SECONDS
            if event_loop.polls != polls:
                polls = event_loop.polls
                if self._rest(NAPPING):
                    polls = event_loop.polls  # wanted now, whoever else is about
                continue
            pauses.pause(moved=event_loop.nudge())
            polls = event_loop.polls

    def _rest(self, how: int, nap: float = NAP_SECONDS) -> bool:
        """Sleep until woken, or until this kind of rest ends; return which."""
        self._woken.clear()
        self.rest = how
        # Whoever changed something before it could see that, did not wake.
        changed = self._stopped or (how >= IDLE and self._event_loop.outstanding > 0)
        seconds = nap if nap == RELEASE_SECONDS else REST_SECONDS.get(how, nap)
        woken = changed or self._woken.wait(seconds)
        self.rest = AWAKE
        return woken


class _Pauses:
    """The pauses between two polls."""

    def __init__(self, thread: Background, event_loop: Polled) -> None:
        self._thread = thread
        self._event_loop = event_loop
        self._moved = 0.0  # when something happened last
        self._polls = 0  # in vain, since then or since it dozed
        self._patience = SILENT_POLLS
        self._seconds = PAUSE_SECONDS
        self._contended = False

    def pause(self, *, moved: bool) -> None:
        """Let other threads run for a while.

        Args:
            moved: Whether the last poll brought anything.
        """
        now = time.perf_counter()
        self._polls += 1
        if moved:
            self._moved, self._polls, self._patience = now, 0, LIVELY_POLLS
            self._seconds = PAUSE_SECONDS
        seconds = 0.0
        if self._contended:
            seconds = self._seconds
            self._seconds = min(seconds * 1.5, LONGEST_PAUSE_SECONDS)
            self._patience = SILENT_POLLS
            silent = seconds == LONGEST_PAUSE_SECONDS
        else:
            silent = now - self._moved > self._event_loop.doze_after
        if silent and self._polls >= self._patience:
            self._thread.dozing = True
            if not (self._event_loop.driven or self._event_loop.has_inbox):
                rung = self._event_loop.doze()
                self._polls, self._patience = 0, SILENT_POLLS
                if rung:
                    self._moved, self._contended = time.perf_counter(), False
                    self._patience = LIVELY_POLLS
            self._thread.dozing = False
            return
        before = time.process_time()
        time.sleep(seconds)
        late = time.perf_counter() - now - seconds
        if late > CONTENDED_SECONDS:  # if not for want of a core: another thread ran
            self._contended = time.process_time() - before > late / 2
        else:
            self._contended = False
