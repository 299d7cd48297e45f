"""What the environment says about the launch. Reads variables, starts nothing.

The only place that reads launcher variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mpitasks.errors import ConfigurationError

__all__ = ["LaunchHint", "launch_hint", "refuse_lone_copy"]

# (variable with this copy's rank, variable with the number of copies, who sets them)
_LAUNCHERS = [
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "Open MPI's mpiexec"),
    ("PMI_RANK", "PMI_SIZE", "an mpiexec of the MPICH family"),
    ("PALS_RANKID", "PALS_SIZE", "PALS"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MVAPICH's mpiexec"),
    ("PMIX_RANK", "PMIX_SIZE", "a PMIx launcher"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun"),
]


@dataclass(frozen=True, slots=True)
class LaunchHint:
    """What the environment says of this copy of the program.

    Attributes:
        rank: Its rank among the copies.
        size: How many copies were started; None if not told.
        launcher: Who started them.
    """

    rank: int
    size: int | None
    launcher: str


def launch_hint(environ: Mapping[str, str] = os.environ) -> LaunchHint | None:
    """Return what a launcher left in the environment, or None if none did.

    Inside a batch job but outside any step, SLURM_PROCID is set as well; without
    SLURM_STEP_NUM_TASKS it says nothing.
    """
    for rank_name, size_name, launcher in _LAUNCHERS:
        rank = environ.get(rank_name, "")
        size = environ.get(size_name, "")
        if launcher == "srun" and (not size.isdigit() or _is_batch_step(environ)):
            continue
        if rank.isdigit():
            return LaunchHint(
                int(rank), int(size) if size.isdigit() else None, launcher
            )
    return None


def refuse_lone_copy(hint: LaunchHint, library: str) -> None:
    """Raise if this copy is alone in its MPI world, though several were started.

    Raises:
        ConfigurationError: With what fits together instead.
    """
    if hint.size is None or hint.size < 2:
        return
    raise ConfigurationError(
        f"{hint.launcher} started {hint.size} copies, but each is alone: it does not "
        f"fit the MPI library that mpi4py loads ({library}). Use the mpiexec of that "
        f"library (mpitasks -n {hint.size} script.py finds it), or under SLURM an "
        f"srun --mpi= that the library knows (srun --mpi=list)"
    )


def _is_batch_step(environ: Mapping[str, str]) -> bool:
    """Whether this is the batch script itself, whose step has one task."""
    return environ.get("SLURM_STEP_NUM_TASKS") == "1"
