"""The end of a run before its time: by the walltime, SIGTERM or SIGUSR1. Rank 0 only.

A thread looks how far the end has come (`mpitasks.core.course`) and does it: nothing
new is started, nobody waits any longer, the script is interrupted, the job is aborted.
The script ends by `mpitasks.Stopped`, a SystemExit of code 75: raised where it waits
for tasks, else in a signal handler, which runs in the main thread. The handler leaves
alone what is in the middle of the engine; the engine raises it itself soon.
"""

from __future__ import annotations

import concurrent.futures._base
import contextlib
import math
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from mpitasks import walltime
from mpitasks.core.course import Course, Step, choose_margin
from mpitasks.errors import ConfigurationError, Stopped
from mpitasks.launch import signals
from mpitasks.launch.environment import batch_job
from mpitasks.launch.parting import tell_end
from mpitasks.master import journals

if TYPE_CHECKING:
    from types import FrameType

    from mpitasks.core.statistics import Statistics
    from mpitasks.master.pump import Pump
    from mpitasks.settings import Settings

__all__ = ["Ending", "begin", "foresee"]

LOOK_SECONDS, CLOSE_LOOK_SECONDS = 0.5, 0.05
"""Between two looks while an end is known; and once it is near, or has begun."""

TWICE_SECONDS = 1.0
"""A second SIGTERM means it, but not within this time: a batch system may signal the
ranks, and their mpiexec as well, which passes it on."""

ASK_SECONDS = 5.0
"""How long SLURM may take to say when the job ends."""

JOURNAL_SECONDS = 3.0
"""How long an abort waits for the disk."""

KEEP = "run the same command again to continue"
LOSE = "without a journal nothing is kept of them (--journal FILE)"

ENGINE = ("mpitasks.master.", "mpitasks.wire.", "mpitasks.core.")
CALLBACKS = "_run_callbacks"
"""The engine's function that calls the script's code."""


def foresee(settings: Settings) -> None:
    """Find out when the job will be ended: the batch system tells, or the user."""
    seconds = math.inf if settings.time_limit is None else settings.time_limit
    job = batch_job()
    if job is not None and job.end is not None:
        seconds = min(seconds, job.end - time.time())
    elif job is not None and seconds == math.inf:
        seconds = _ask_slurm(job.id)
    margin = settings.margin
    if seconds < math.inf:
        walltime.foresee(seconds, choose_margin(seconds) if margin is None else margin)


def _ask_slurm(job: str) -> float:
    """Return the seconds that a job has left, if its SLURM tells only who asks."""
    import subprocess

    from mpitasks.launch.duration import parse_duration

    try:
        words = ["squeue", "--noheader", "--format=%L", f"--jobs={job}"]
        answer = subprocess.run(
            words, capture_output=True, text=True, check=True, timeout=ASK_SECONDS
        )
        return parse_duration(answer.stdout.strip())
    except (OSError, subprocess.SubprocessError, ConfigurationError):
        return math.inf  # or it has no end: UNLIMITED


def begin(pump: Pump, settings: Settings, abort: Callable[[int], object]) -> Ending:
    """Watch over the end of the run that this pump drives.

    Args:
        pump: The run's.
        settings: What the command line asks.
        abort: Ends the job with an exit code, whatever goes on.
    """
    course = Course(walltime.end(), walltime.margin(), settings.grace)
    return Ending(pump, course, settings, abort)


class Ending:
    """Sees to it that the run ends in time.

    Args:
        pump: The run's.
        course: When that is.
        settings: What the command line asks.
        abort: Ends the job with an exit code, whatever goes on.
    """

    def __init__(
        self,
        pump: Pump,
        course: Course,
        settings: Settings,
        abort: Callable[[int], object],
    ) -> None:
        self._pump = pump
        self._course = course
        self._settings = settings
        self._abort = abort
        self._main = threading.main_thread().ident or 0
        # Simple: a signal handler may put while it is being put to, or got from.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._signal: int | None = None
        self._signalled = -math.inf
        self._step = Step.GO
        self._mark: object = None
        self._kicking = False  # the next signal is our own
        self._raised = False  # in the main thread
        self._closed = False
        if course.end < math.inf:
            pump.set_end(course.end - course.margin)
        signals.listen(self.take_signal)
        signals.wake_up()
        self._thread = threading.Thread(
            target=self._run, name="mpitasks-ending", daemon=True
        )
        self._thread.start()

    # In the main thread.

    def take_signal(self, number: int, frame: FrameType | None) -> bool:
        """Handle a signal; return False if the run must end at once.

        Raises:
            Stopped: It is our own: the script's time is over.
        """
        if self._kicking:
            self._kicking = False
            if not (self._closed or self._raised or _inside_engine(frame)):
                self._stop()
            return True
        if self._closed:
            return number != signal.SIGTERM
        now = time.monotonic()
        if number != self._signal:
            self._signal = number
            self._signalled = now
            walltime.note_stop()
            self._signals.put(number)
        elif number == signal.SIGTERM and now > self._signalled + TWICE_SECONDS:
            return False
        return True

    def close(self) -> None:
        """The script is over: what is to be done now, the launcher does."""
        self._closed = True
        self._signals.put(0)
        self._thread.join()
        self._pump.allow_waits()

    def _stop(self) -> NoReturn:
        """End the script; in another thread of it, that thread."""
        if threading.get_ident() == self._main:
            self._raised = True
        raise Stopped

    # In the thread.

    def _run(self) -> None:
        while not self._closed:
            with contextlib.suppress(queue.Empty):
                if self._signals.get(timeout=self._pause()):
                    self._course.ask(time.monotonic())
            if not self._closed:
                self._look()

    def _pause(self) -> float | None:
        """Return the seconds until the next look; None if only a signal matters."""
        left = self._course.drains_at - time.monotonic()
        if left == math.inf:
            return None
        if self._step > Step.GO or self._mark is not None:
            return CLOSE_LOOK_SECONDS
        return min(max(left, CLOSE_LOOK_SECONDS), LOOK_SECONDS)

    def _look(self) -> None:
        """See how far the end has come, and do what comes next."""
        pump = self._pump
        counts = pump.statistics()
        before = self._step
        self._step = step = max(before, self._next_step(counts))
        if step > Step.GO >= before:
            walltime.note_stop()
            pump.drain()
            if step is Step.DRAIN and counts.assigned:
                self._tell_begin(counts)
        if step >= Step.HALT > before:
            self._tell_end()
            pump.refuse_waits(self._stop)
        if step >= Step.INTERRUPT:
            self._kick()
        if step >= Step.ABORT:
            self._end_job(counts)

    def _end_job(self, counts: Statistics) -> None:
        """Save what can be saved, and end every rank."""
        with contextlib.suppress(Exception):
            journals.end_journals(JOURNAL_SECONDS)
            tell_end(Stopped.status)
        if self._settings.requeue:
            from mpitasks.launch import requeue

            requeue.end_round(counts.succeeded, self._settings.requeue_rounds)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        self._abort(Stopped.status)

    def _next_step(self, counts: Statistics) -> Step:
        pump = self._pump
        # Somebody waits, and did so at the last look, when nothing else was different.
        mark = None
        if pump.driven or _waits_for_futures(self._main):
            mark = pump.drives, counts
        waiting = mark is not None and mark == self._mark
        stranded = pump.stranded
        self._mark = mark if stranded else None
        return self._course.step(
            time.monotonic(),
            running=counts.assigned,
            queued=counts.queued,
            stranded=stranded,
            waiting=waiting,
        )

    def _why(self) -> str:
        if self._signal is not None:
            return f"{signal.Signals(self._signal).name} came"
        return f"{_in_words(walltime.time_left())} of walltime left"

    def _tell_begin(self, counts: Statistics) -> None:
        seconds = max(self._course.interrupts_at - time.monotonic(), 0.0)
        _say(
            f"stopping: {self._why()}; nothing new is started, tasks that run "
            f"({counts.assigned}) get {_in_words(seconds)}"
        )

    def _tell_end(self) -> None:
        counts = self._pump.statistics()
        cut = f", {counts.assigned} cut off" if counts.assigned else ""
        then = KEEP if journals.keeps_results() else LOSE
        _say(
            f"stopped: {self._why()}; {counts.succeeded + counts.failed} tasks done"
            f"{cut}, {counts.queued} not started; {then}"
        )

    def _kick(self) -> None:
        """Have the signal handler called in the main thread, if it is still ours."""
        if signals.expected() and not self._raised:
            self._kicking = True
            signal.pthread_kill(self._main, signal.SIGTERM)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"mpitasks: {text}", file=sys.stderr, flush=True)


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def _inside_engine(frame: FrameType | None) -> bool:
    """Whether the innermost code that is not the stdlib's or the user's is ours."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(ENGINE):
            return frame.f_code.co_name != CALLBACKS
        frame = frame.f_back
    return False


def _waits_for_futures(thread: int) -> bool:
    """Whether a thread is in `concurrent.futures.wait` or one of its relatives."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_globals.get("__name__") == "threading":
        frame = frame.f_back
    stdlib = concurrent.futures._base.__name__
    return frame is not None and frame.f_globals.get("__name__") == stdlib
