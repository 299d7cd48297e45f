"""What this process knows of the job's end, for whoever asks: script, task, engine.

Who launches a rank says it here. On rank 0 `mpitasks.launch.ending` acts upon it.
"""

from __future__ import annotations

import math
import time

__all__ = ["end", "foresee", "margin", "note_stop", "stopping", "time_left"]

_end = math.inf
_margin = 0.0
_stopping = False


def time_left() -> float:
    """Return the seconds until the job is ended by force; at least 0.

    Known from SLURM or from ``--time-limit``, and the same on every rank: in the
    script as well as in a task. `math.inf` if no end is known.

    Example:
        >>> if mpitasks.time_left() < 600:
        ...     save_checkpoint()
    """
    return max(_end - time.monotonic(), 0.0)


def stopping() -> bool:
    """Whether the run is coming to its end, and what takes long should be cut short.

    On rank 0 it is true as soon as no more tasks are started: by the walltime, or
    after SIGTERM or SIGUSR1. In a task it is true within the margin before the job's
    end, and on a rank to which the launcher passed on such a signal.

    Example:
        >>> while not mpitasks.stopping():
        ...     improve(solution)
    """
    return _stopping or time.monotonic() >= _end - _margin


def foresee(seconds: float, reserve: float) -> None:
    """Say how many seconds are left, and how many of them are the margin."""
    global _end, _margin
    _end = time.monotonic() + seconds
    _margin = reserve


def note_stop(stop: bool = True) -> None:
    """Say that the run is coming to its end."""
    global _stopping
    _stopping = stop


def end() -> float:
    """Return when the job ends, on the monotonic clock; inf if that is not known."""
    return _end


def margin() -> float:
    """Return how long before that everything should be finished, in seconds."""
    return _margin
