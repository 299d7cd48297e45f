"""The end of a run before its time: by the walltime, SIGTERM or SIGUSR1. Rank 0 only.

A thread looks how far the end has come (`mpitasks.scheduler.run_state`) and does it:
nothing new is started, nobody waits any longer, the script is interrupted, the job is
aborted. The script ends by `mpitasks.Stopped`, a SystemExit of code 75: raised where it
waits for tasks, else in a signal handler, which runs in the main thread. The handler
leaves alone what is in the middle of the engine; the engine raises it itself soon.
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
from mpitasks.errors import Stopped
from mpitasks.journal import open_journals
from mpitasks.launch import signals
from mpitasks.launch.environment import batch_job
from mpitasks.launch.exit import tell_end
from mpitasks.launch.job_end import DEFAULT_KILL_SECONDS, Inquirer, end_of
from mpitasks.launch.output import flush
from mpitasks.scheduler.run_state import RunState, Step, choose_margin

if TYPE_CHECKING:
    from types import FrameType

    from mpitasks.master.event_loop import EventLoop
    from mpitasks.scheduler.statistics import Statistics
    from mpitasks.settings import Settings

__all__ = ["EarlyStop", "begin"]

LOOK_SECONDS, CLOSE_LOOK_SECONDS = 0.5, 0.05
"""Between two looks while an end is known; and once it is near, or has begun."""

TWICE_SECONDS = 1.0
"""A second SIGTERM means it, but not within this time: a batch system may signal the
ranks, and their mpiexec as well, which passes it on."""

AHEAD_SECONDS, OFTEN_SECONDS, FRESH_SECONDS = 10.0, 3.0, 5.0
"""So long before nothing new is started, SLURM is asked whether that still holds, so
often; and an answer is old after the last."""

LEAST_SECONDS = 3.0
"""Where a walltime is cut and is over at once, the script still gets this long."""

MOVED_SECONDS = 2.0
"""Answers that differ by less are the same: SLURM tells whole seconds."""

JOURNAL_SECONDS = 3.0
"""How long an abort waits for the disk."""

KEEP = "run the same command again to continue"
LOSE = "without a journal nothing is kept of them (--journal FILE)"

ENGINE = tuple(
    f"mpitasks.{room}." for room in ("api", "master", "journal", "wire", "scheduler")
)
CALLBACKS = "_run_callbacks"
"""The engine's function that calls the script's code."""


def begin(
    event_loop: EventLoop, settings: Settings, abort: Callable[[int], object]
) -> EarlyStop:
    """Watch over the end of the run that this event loop drives.

    Args:
        event_loop: The run's.
        settings: What the command line asks.
        abort: Ends the job with an exit code, whatever goes on.
    """
    run_state = RunState(walltime.end(), walltime.margin(), settings.grace)
    return EarlyStop(event_loop, run_state, settings, abort)


class EarlyStop:
    """Sees to it that the run ends in time.

    Args:
        event_loop: The run's.
        course: When that is.
        settings: What the command line asks.
        abort: Ends the job with an exit code, whatever goes on.
    """

    def __init__(
        self,
        event_loop: EventLoop,
        run_state: RunState,
        settings: Settings,
        abort: Callable[[int], object],
    ) -> None:
        self._event_loop = event_loop
        self._run_state = run_state
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
        # What SLURM said: functions that take it in, in the thread.
        self._news: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        if run_state.end < math.inf:
            event_loop.set_end(run_state.end - run_state.margin)
        job = batch_job()
        self._inquirer = (
            None if job is None else Inquirer(job.number, self._hear, self._hear_kill)
        )
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
        if number == signal.SIGHUP:
            return False
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
        if self._inquirer is not None:
            self._inquirer.close()
        self._event_loop.allow_waits()

    def _stop(self) -> NoReturn:
        """End the script; in another thread of it, that thread."""
        if threading.get_ident() == self._main:
            self._raised = True
        raise Stopped

    # In the thread that asks SLURM.

    def _hear(self, left: float | None) -> None:
        if left is not None:
            end = end_of(left)
            self._news.put(lambda: self._move_end(end))
        self._signals.put(0)

    def _hear_kill(self, seconds: float) -> None:
        self._news.put(lambda: self._run_state.bound_grace(seconds))
        self._signals.put(0)

    # In the thread.

    def _run(self) -> None:
        while not self._closed:
            with contextlib.suppress(queue.Empty):
                if number := self._signals.get(timeout=self._pause()):
                    self._take_order(number)
            with contextlib.suppress(queue.Empty):
                while not self._closed:
                    self._news.get_nowait()()
            if not self._closed:
                self._look()

    def _take_order(self, number: int) -> None:
        """A signal asks for the end. SLURM kills some time after SIGTERM."""
        self._run_state.ask(time.monotonic())
        if number == signal.SIGTERM and self._inquirer is not None:
            self._run_state.bound_grace(DEFAULT_KILL_SECONDS)
            self._inquirer.ask_kill()

    def _move_end(self, end: float) -> None:
        """The job ends then, if that is news."""
        run_state = self._run_state
        before, now = run_state.end, time.monotonic()
        end = max(end, min(before, now + LEAST_SECONDS))
        if end == before or abs(end - before) < MOVED_SECONDS:
            return
        margin = self._settings.margin
        if margin is None:
            margin = max(choose_margin(end - now), min(run_state.margin, end - now))
        run_state.move_end(end, margin)
        walltime.foresee(end - now, margin)
        self._event_loop.set_end(end - margin)
        self._event_loop.tell_end(end - now, margin)
        reporting = sys.modules.get("mpitasks.launch.status_file")
        if reporting is not None:
            reporting.note_end()
        if before < math.inf:
            left = "no end" if end == math.inf else f"{_in_words(end - now)} left"
            _say(f"the job's walltime was changed: {left}")

    def _pause(self) -> float | None:
        """Return the seconds until the next look; None if only a signal matters."""
        left = self._run_state.drains_at - time.monotonic()
        if left == math.inf:
            return None
        if self._step > Step.GO or self._mark is not None:
            return CLOSE_LOOK_SECONDS
        return min(max(left, CLOSE_LOOK_SECONDS), LOOK_SECONDS)

    def _look(self) -> None:
        """See how far the end has come, and do what comes next."""
        event_loop = self._event_loop
        if self._step is Step.GO and event_loop.loses_rank():
            return  # MPICH's mpiexec sends SIGUSR1 then: say who died, not that it came
        counts = event_loop.statistics()
        before = self._step
        if before is Step.GO:
            self._ask_ahead()
        step = max(before, self._next_step(counts))
        if step > Step.GO and not self._is_sure():
            return
        self._step = step
        if step > Step.GO >= before:
            walltime.note_stop()
            event_loop.drain()
            if step is Step.DRAIN and counts.assigned:
                self._tell_begin(counts)
        if step >= Step.HALT > before:
            self._tell_end()
            event_loop.refuse_waits(self._stop)
        if step >= Step.INTERRUPT:
            self._kick()
        if step >= Step.ABORT:
            self._end_job(counts)

    def _ask_ahead(self) -> None:
        """Have SLURM asked, if the end is near: the walltime may have been changed."""
        inquirer = self._inquirer
        near = self._run_state.drains_at - AHEAD_SECONDS
        if inquirer is None or time.monotonic() < near:
            return
        if inquirer.age > OFTEN_SECONDS:
            inquirer.ask()

    def _is_sure(self) -> bool:
        """Whether the end is as near as it seems: SLURM was asked just now, say."""
        now = time.monotonic()
        run_state, inquirer = self._run_state, self._inquirer
        if inquirer is None or self._signal is not None or inquirer.age < FRESH_SECONDS:
            return True
        if self._step > Step.GO or now >= run_state.interrupts_at:
            return True
        inquirer.ask()
        return False

    def _end_job(self, counts: Statistics) -> None:
        """Save what can be saved, and end every rank."""
        with contextlib.suppress(Exception):
            open_journals.end_journals(JOURNAL_SECONDS)
            tell_end(Stopped.status)
        if self._inquirer is not None:
            self._inquirer.close()
        if self._settings.requeue:
            from mpitasks.slurm import requeue

            requeue.end_round(counts.succeeded, self._settings.requeue_rounds)
        flush()
        self._abort(Stopped.status)

    def _next_step(self, counts: Statistics) -> Step:
        event_loop = self._event_loop
        # Somebody waits, and did so at the last look, when nothing else was different.
        mark = None
        if event_loop.driven or _waits_for_futures(self._main):
            mark = event_loop.drives, counts
        waiting = mark is not None and mark == self._mark
        stranded = event_loop.stranded
        self._mark = mark if stranded else None
        return self._run_state.step(
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
        seconds = max(self._run_state.interrupts_at - time.monotonic(), 0.0)
        _say(
            f"stopping: {self._why()}; nothing new is started, tasks that run "
            f"({counts.assigned}) get {_in_words(seconds)}"
        )

    def _tell_end(self) -> None:
        counts = self._event_loop.statistics()
        cut = f", {counts.assigned} cut off" if counts.assigned else ""
        then = KEEP if open_journals.keeps_results() else LOSE
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
    with contextlib.suppress(Exception):  # whatever users put there
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
