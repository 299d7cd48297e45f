"""Importing mpi4py without starting MPI, where a process is no rank.

mpi4py starts MPI when `mpi4py.MPI` is imported, unless `mpi4py.rc` says otherwise just
then. An environment variable would say it too, but to every program that is started
from here as well. Looking over the import costs nothing until there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from mpitasks.wire import mpi_library

__all__ = ["never_start_mpi"]


def never_start_mpi() -> None:
    """From now on, importing `mpi4py.MPI` leaves MPI alone."""
    finder: Any = _Overlooker()
    sys.meta_path.insert(0, finder)


class _Overlooker:
    """Finds no module, but sees what is imported."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> None:
        if name == "mpi4py.MPI":
            mpi_library.point_to_wheel()
            sys.modules["mpi4py"].rc.initialize = False
