"""SLURM: job scripts, their submission, and what comes of jobs. Nothing here loads MPI.

From Python: ``mpitasks.slurm.submit(script, nodes=4, time=30)``. The two names are
looked up late, since every rank of a job imports a part of this room when it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpitasks.slurm.job import Job, submit

__all__ = ["Job", "submit"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mpitasks.slurm import job

    return getattr(job, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
