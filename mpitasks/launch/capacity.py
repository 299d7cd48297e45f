"""For how many ranks there is room: in the batch job, or else on this machine.

For ``mpitasks -n auto``, and to know when an mpiexec has to be told that ranks may
share cores. Reads variables and files, starts nothing; no rank loads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from mpitasks.launch.absent_ranks import expand_counts
from mpitasks.launch.cores import cpu_quota, usable_cores
from mpitasks.subprocesses import LAUNCH

__all__ = ["job_ranks", "room_for_ranks", "whole_cores"]

_COUNTS = ("SLURM_NTASKS", "PBS_NP", "LSB_DJOB_NUMPROC", "NSLOTS", "PJM_MPI_PROC")
"""Variables of SLURM, Torque, LSF, Grid Engine and Fujitsu's system."""

_FILES = ("PBS_NODEFILE", "OAR_NODEFILE")  # a line for each place


def room_for_ranks(environ: Mapping[str, str] = LAUNCH, root: str = "/") -> int:
    """Return for how many ranks there is room: those of the job, else a core each.

    Args:
        environ: The environment.
        root: Where ``proc`` and ``sys`` are.
    """
    ranks = job_ranks(environ)
    if ranks is not None and ranks > 1:  # one is what a job has that asked for none
        return ranks
    cores, quota = len(usable_cores()), cpu_quota(root)
    return cores if quota is None else max(min(cores, int(quota)), 1)


def job_ranks(environ: Mapping[str, str] = LAUNCH) -> int | None:
    """Return for how many ranks the batch job was given room; None outside of one."""
    for name in _COUNTS:
        if environ.get(name, "").isdigit():
            return int(environ[name])
    places = sum(expand_counts(environ.get("SLURM_TASKS_PER_NODE", "")))
    for name in _FILES:
        with contextlib.suppress(OSError, KeyError):
            lines = Path(environ[name]).read_text(errors="replace").split()
            places = max(places, len(lines))
    return places or None


def whole_cores(root: str = "/") -> int:
    """Return how many cores there are for this process; threads of a core are one.

    Args:
        root: Where ``sys`` is.
    """
    folder = Path(root) / "sys/devices/system/cpu"
    found = set()
    for number in usable_cores():
        siblings = f"{number}"
        with contextlib.suppress(OSError):
            topology = folder / f"cpu{number}" / "topology"
            siblings = (topology / "thread_siblings_list").read_text(encoding="ascii")
        found.add(siblings.strip())
    return len(found)
