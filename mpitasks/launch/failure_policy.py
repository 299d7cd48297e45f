"""What is done about a rank that dies: go on without it, or end the run and say why.

On rank 0. `mpitasks.master.failure_detector` finds out that a rank died.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpitasks import exit_codes
from mpitasks.launch import signals
from mpitasks.launch.exit import report_meeting, tell_end
from mpitasks.master.failure_detector import FailureDetector

if TYPE_CHECKING:
    from mpitasks.master.event_loop import EventLoop
    from mpitasks.wire.messages import Hello

__all__ = ["look_out"]

"""A rank died, and the MPI does not survive that. (EX_UNAVAILABLE of sysexits.h)"""

SPEAK_SECONDS = 1.0
"""Open MPI's mpiexec is about to end this process itself, and forwards the line then;
after an abort it would drop it. MPICH's must hear of the abort at once: it may take the
death of a rank that ended with code 0 for the end of a job where all went well."""

REMEDY = (
    "With Open MPI 5, mpitasks -n N --survive goes on without it; with isolate=True a "
    "task that crashes costs no rank"
)


def look_out(
    event_loop: EventLoop, hellos: Sequence[Hello], *, survives: bool, listens: bool
) -> None:
    """Look after the workers until the event loop is closed.

    Args:
        event_loop: The event loop of the run.
        hellos: What each rank said of itself, by rank.
        survives: Whether the MPI goes on when a rank dies.
        listens: Whether workers can answer while user code runs.
    """
    report_meeting()
    end_run = None if survives else _end_run
    failure_detector = FailureDetector(
        event_loop, hellos, end_run, _say, listens=listens
    )
    event_loop.on_close = failure_detector.stop
    event_loop.loses_rank = failure_detector.untold
    failure_detector.start()


def _say(text: str) -> None:
    """Write one line at once: the launcher may be about to kill this process."""
    with contextlib.suppress(OSError):
        os.write(2, f"mpitasks: {text}\n".encode())


def _end_run(text: str) -> None:
    """Say which rank died, and end the run."""
    _say(f"{text}; the run ends with it. {REMEDY}")
    signals.listen(lambda number, frame: True)  # the launcher's part of this end
    from mpitasks.wire import mpi_transport

    tell_end(exit_codes.LOST, leaving=True)
    if "Open MPI" in mpi_transport.library_version():
        time.sleep(SPEAK_SECONDS)
    mpi_transport.abort(exit_codes.LOST)
    os._exit(exit_codes.LOST)  # it may return, and what the launcher kills is no news
