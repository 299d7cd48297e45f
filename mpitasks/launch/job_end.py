"""When the job's time is up, which SLURM is asked: at the start, and again and again.

Rank 0 only. The variable that should tell it may be missing, or left by a job around;
squeue may be slow, fail or not be there; and a walltime may be changed while the job
runs. So nothing here raises: no answer is no end, and it is asked for later. What is
done with the answers is `mpitasks.launch.early_stop`'s.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpitasks import walltime
from mpitasks.errors import ConfigurationError
from mpitasks.launch.duration import parse_duration
from mpitasks.launch.environment import batch_job
from mpitasks.scheduler.run_state import choose_margin
from mpitasks.subprocesses import LAUNCH

if TYPE_CHECKING:
    from mpitasks.settings import Settings

__all__ = ["DEFAULT_KILL_SECONDS", "Inquirer", "end_of", "foresee"]

ASK_SECONDS = 5.0
"""How long SLURM may take to answer."""

AGAIN_SECONDS = 60.0
"""How often it is asked while an end is known, which may be changed."""

RETRY_SECONDS, SELDOM_SECONDS = 5.0, 300.0
"""It is asked so soon for the first time, and after no answer; then less and less
often. The second holds where there is no end, too."""

RUNNING = ("CONFIGURING", "RESIZING", "RUNNING", "SIGNALING", "STOPPED", "SUSPENDED")
"""States of a job whose end SLURM knows."""

DEFAULT_KILL_SECONDS = 30.0
"""SLURM's KillWait, from SIGTERM to SIGKILL, where it does not tell."""

_KILL_WAIT = re.compile(r"^KillWait\s*=\s*(\d+)", re.MULTILINE)

_own_end = math.inf
"""By ``--time-limit``, on the monotonic clock."""


def foresee(settings: Settings) -> None:
    """Find out when the job will be ended: the batch system tells, or the user."""
    global _own_end
    _own_end = math.inf
    if settings.time_limit is not None:
        _own_end = time.monotonic() + settings.time_limit
    job = batch_job()
    left: float | None = math.inf
    if job is not None:
        left = None if job.end is None else job.end - time.time()
        # One that is over was left by a job around.
        if left is None or left <= 0:
            left = _seconds_left(job.number, _ask)
    end = end_of(left)
    if end < math.inf:
        seconds = end - time.monotonic()
        margin = settings.margin
        walltime.foresee(seconds, choose_margin(seconds) if margin is None else margin)


def end_of(left: float | None) -> float:
    """Return when the run must end, on the monotonic clock.

    Args:
        left: What SLURM says that the job has left, in seconds; None for no answer.
    """
    return min(_own_end, math.inf if left is None else time.monotonic() + left)


class Inquirer:
    """Asks SLURM in a thread of its own, which may wait for it.

    Args:
        number: The job's own number.
        tell: Called with the seconds that the job has left, inf for no end, or None
            for no answer.
        tell_kill: Called with the seconds from SIGTERM to SIGKILL, after `ask_kill`.
    """

    def __init__(
        self,
        number: str,
        tell: Callable[[float | None], object],
        tell_kill: Callable[[float], object],
    ) -> None:
        self._number = number
        self._tell = tell
        self._tell_kill = tell_kill
        self._heard = -math.inf
        self._wanted = threading.Event()
        self._kill_wanted = False
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._program: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(
            target=self._run, name="mpitasks-walltime", daemon=True
        )
        self._thread.start()

    @property
    def age(self) -> float:
        """Seconds since SLURM has answered, or has not; inf if it was not asked yet."""
        return time.monotonic() - self._heard

    def ask(self) -> None:
        """Ask soon."""
        self._wanted.set()

    def ask_kill(self) -> None:
        """Ask how long it is from SIGTERM to SIGKILL."""
        self._kill_wanted = True
        self._wanted.set()

    def close(self) -> None:
        """Ask no more."""
        with self._lock:
            self._closed.set()
            if self._program is not None:
                _kill(self._program)
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        # Soon for the first time: what is known may be of a job around.
        pause = retry = RETRY_SECONDS
        while True:
            self._wanted.wait(pause)
            self._wanted.clear()
            if self._kill_wanted:
                self._kill_wanted = False
                shown = self._ask("scontrol", "show", "config")
                if found := _KILL_WAIT.search(shown or ""):
                    self._tell_kill(float(found[1]))
            if self._closed.is_set():
                return
            left = _seconds_left(self._number, self._ask)
            if self._closed.is_set():
                return
            self._heard = time.monotonic()
            self._tell(left)
            if left is None:
                pause, retry = retry, min(2 * retry, SELDOM_SECONDS)
            else:
                pause = AGAIN_SECONDS if left < math.inf else SELDOM_SECONDS
                retry = RETRY_SECONDS

    def _ask(self, *words: str) -> str | None:
        return _ask(*words, starting=self._started)

    def _started(self, program: subprocess.Popen[str] | None) -> None:
        with self._lock:
            self._program = program
            if program is not None and self._closed.is_set():
                _kill(program)


def _seconds_left(number: str, ask: Callable[..., str | None]) -> float | None:
    """Return what SLURM says that a job has left; inf for no end, None for no answer.

    Args:
        number: The job's own; where it is that of a whole array as well, SLURM tells
            of all its jobs.
        ask: Runs a program.
    """
    shown = ask("squeue", "--noheader", "--format=%A %T %L %e", f"--jobs={number}")
    for line in (shown or "").splitlines():
        id, state, left, end, *_ = [*line.split(), "", "", "", ""]
        if id != number or state not in RUNNING:  # of another it is a guess
            continue
        if left == "UNLIMITED":
            return math.inf
        if end.isdecimal():  # not always what is left of the walltime
            return int(end) - time.time()
        with contextlib.suppress(ConfigurationError):  # INVALID, NOT_SET
            return parse_duration(left)
    return None


def _ask(
    *words: str,
    starting: Callable[[subprocess.Popen[str] | None], object] = lambda program: None,
) -> str | None:
    """Run a program of SLURM's and return what it prints; None if it fails."""
    from mpitasks.slurm.inherited import for_programs

    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={**for_programs(LAUNCH), "SLURM_TIME_FORMAT": "%s"},
            start_new_session=True,  # so that what it starts can be ended with it
        ) as program:
            starting(program)
            try:
                shown, _ = program.communicate(timeout=ASK_SECONDS)
            except subprocess.TimeoutExpired:
                _kill(program)
                return None
            except BaseException:  # Ctrl-C at the start; it has a session of its own
                _kill(program)
                raise
            finally:
                starting(None)
    except OSError:
        return None
    return None if program.returncode else shown


def _kill(program: subprocess.Popen[str]) -> None:
    """End a program, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
