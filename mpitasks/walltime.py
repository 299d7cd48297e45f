"""What this process knows of the job's end, for whoever asks: script, task, engine.

The launcher of a rank says it here. A child that runs isolated tasks asks its rank, by
the page that both share (`follow`). On rank 0 `mpitasks.launch.early_stop` acts on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = [
    "end",
    "follow",
    "foresee",
    "known",
    "margin",
    "note_stop",
    "stopping",
    "time_left",
]

_end = math.inf
_margin = 0.0
_stopping = False


def known() -> tuple[float, float, bool]:
    """Return `end`, `margin`, and whether the run is coming to its end."""
    return _end, _margin, _stopping


_source = known


def time_left() -> float:
    """Return the seconds until the job is ended by force; at least 0.

    Known from SLURM or from ``--time-limit``, and the same on every rank: in the
    script as well as in a task. `math.inf` if no end is known.

    Example:
        >>> if mpitasks.time_left() < 600:
        ...     save_checkpoint()
    """
    return max(end() - time.monotonic(), 0.0)


def stopping() -> bool:
    """Whether the run is coming to its end, and what takes long should be cut short.

    On rank 0 it is true as soon as no more tasks are started: by the walltime, or
    after SIGTERM or SIGUSR1. In a task it is true within the margin before the job's
    end, and on a rank to which the launcher passed on such a signal.

    Example:
        >>> while not mpitasks.stopping():
        ...     improve(solution)
    """
    at, reserve, stopped = _source()
    return stopped or time.monotonic() >= at - reserve


def follow(source: Callable[[], tuple[float, float, bool]]) -> None:
    """Ask another process of the same machine from now on.

    Args:
        source: Returns what `known` returns there.
    """
    global _source
    _source = source


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
    return _source()[0]


def margin() -> float:
    """Return how long before that everything should be finished, in seconds."""
    return _source()[1]
