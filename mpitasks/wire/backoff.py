"""How to wait without burning a core: spin, then yield, then sleep.

MPI's own blocking calls spin for ever, so nothing here sits in one. The steps of
the ladder, counted from the last thing that happened:

    spin    return at once; only while every rank on the node has its own core
    yield   `os.sched_yield`: 0.8 us if nobody else wants the core. (`time.sleep(0)`
            costs 50 to 80 us since CPython 3.11, gh-125997.)
    doze    until a wake-up rings (`mpitasks.wire.wakeup`), if there is one that all
            who may send ring; after 2 ms, or at once where ranks share cores: there a
            rank that waits takes time from one that works
    sleep   otherwise; from 50 us, growing by half, up to 0.8 ms; up to 4 ms after a
            second, since each look costs some 60 us with the wake-up (measured on a
            virtual machine)

The timer slack of the thread is set to its minimum, since the default of 50 us
would double the short sleeps (prctl(2), PR_SET_TIMERSLACK).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from time import perf_counter, sleep  # a task may patch the module

__all__ = ["SILENT_POLLS", "Backoff", "sharpen_timers"]

SPIN_SECONDS = 50e-6
LOOK_SECONDS = 8e-6
"""While it spins, so long for what comes at a time. Between two such times are 2 us of
locks, clocks and other errands, in which a message goes unseen."""
YIELD_SECONDS = 2e-3
YIELD_SECONDS_CROWDED = 0.2e-3
SLEEP_FIRST = 50e-6
SLEEP_LAST = 0.8e-3
SLEEP_LONG_IDLE = 4e-3
LONG_IDLE_SECONDS = 1.0
DOZE_AFTER_SECONDS_CROWDED = 30e-6
SILENT_POLLS = 8
"""It looks in vain at least this often before it dozes or sleeps, and after it dozed. A
wake-up may ring before its message can be seen, since MPI makes its progress in small
steps, or ring for another thread; and where ranks share cores, one `sched_yield` may
take as long as the whole ladder."""

_PR_SET_TIMERSLACK = 29


class Backoff:
    """One waiter's place on the ladder.

    Args:
        spare_cores: Whether the node has a core for each of its ranks. If not,
            spinning would take the core from whom we wait for.
        doze: Does the last step, for at most the seconds that it is given; or returns
            False if that is not possible now.

    Attributes:
        idle_since: Set it to 0 when something happens: back to the first step.
        doze_after: How long nothing must have happened before it dozes, in seconds.
        look_seconds: How long to look for what comes, before the next pause.
    """

    def __init__(
        self, spare_cores: bool, doze: Callable[[float], bool] = lambda _: False
    ) -> None:
        self._doze = doze
        self._spin = SPIN_SECONDS if spare_cores else 0.0
        self._yield = YIELD_SECONDS if spare_cores else YIELD_SECONDS_CROWDED
        self.idle_since = 0.0
        self.doze_after = YIELD_SECONDS if spare_cores else DOZE_AFTER_SECONDS_CROWDED
        self._sleep = SLEEP_FIRST
        self._polls = 0  # in vain, since `idle_since` or since it dozed
        self.look_seconds = 0.0

    def pause(self, limit: float) -> None:
        """Wait for the current step's time, at most `limit` seconds."""
        now = perf_counter()
        if not self.idle_since:
            self.idle_since = now
            self._sleep = SLEEP_FIRST
            self._polls = 1
            if self._spin:
                self.look_seconds = LOOK_SECONDS
            return
        self._polls += 1
        idle = now - self.idle_since
        if idle < self._spin:
            return
        self.look_seconds = 0.0
        patient = self._polls < SILENT_POLLS
        if not patient and idle >= self.doze_after and self._doze(limit):
            self._polls = 0
            return
        if patient or idle < self._yield:
            os.sched_yield()
            return
        sleep(max(min(self._sleep, limit), 0.0))
        last = SLEEP_LAST if idle < LONG_IDLE_SECONDS else SLEEP_LONG_IDLE
        self._sleep = min(self._sleep * 1.5, last)


def sharpen_timers() -> None:
    """Let short sleeps of the calling thread be as short as the kernel can."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
