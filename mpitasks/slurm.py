"""SLURM jobs from Python: ``mpitasks.slurm.submit(script, nodes=4, time=30)``.

The names; what is behind them is in `mpitasks.launch.slurm.job`.
"""

from __future__ import annotations

from mpitasks.launch.slurm.job import Job, submit

__all__ = ["Job", "submit"]
