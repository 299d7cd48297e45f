"""What processes that this one starts inherit of the launch: nothing.

A launcher tells each rank by variables who it is and how to reach its fellows. An MPI
program that inherits them takes itself for a rank of this run: MPICH dies of a file
descriptor that it does not have, Open MPI joins the run as a second copy of the rank.
The MPI library reads them once, when it starts. So after that they are taken out of the
environment that the operating system hands on: `subprocess`, `os.system`,
`multiprocessing` and what C code starts are free of them. Our own go with them.

Variables that tell a program its place (its rank, its rank on this host) stay readable
in `os.environ`, since scripts choose their GPU by them. A process to which a script
hands `os.environ` itself gets those; `subprocess_environment` leaves them out as well.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping

__all__ = ["LAUNCH", "hide_launch", "set_for_launch", "subprocess_environment"]

_LAUNCH = (
    "HYDI_",
    "MPITASKS_",
    "OMPI_",
    "OPAL_USER_PARAMS_GIVEN",
    "PMIX_",
    "PMI_",
    "PMI2_",
    "PRTE_",
    "SLURM_PMI",
    "SLURM_MPI_TYPE",
    "SLURM_SRUN_COMM_",
)
"""How the names of variables begin that a launcher, or this program, has set."""

_PLACE = (
    "MPI_LOCAL",
    "MV2_COMM_WORLD_",
    "OMPI_COMM_WORLD_",
    "PALS_",
    "PMI_RANK",
    "PMI_SIZE",
    "SLURM_GTIDS",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_PROCID",
    "SLURM_STEP",
    "SLURM_TASK_PID",
)
"""The same, of those that only tell a program its place among others."""

_SETTINGS = ("OMPI_MCA_", "PMIX_MCA_", "PRTE_MCA_", "OMPI_ALLOW_RUN_AS_ROOT")
"""The same, of those by which users and sites configure an MPI, but for the next."""

_NO_SETTINGS = (
    "OMPI_MCA_PREFIXES",
    "OMPI_MCA_cpu_type",
    "OMPI_MCA_ess",
    "OMPI_MCA_initial_wdir",
    "OMPI_MCA_mpi_ft_enable",
    "OMPI_MCA_num_procs",
    "OMPI_MCA_orte_",
)

_hidden: dict[str, str] = {}
_lent: list[str] = []

LAUNCH: Mapping[str, str] = ChainMap(_hidden, os.environ)
"""The environment that this process was launched with, also after `hide_launch`."""


def subprocess_environment() -> dict[str, str]:
    """Return an environment for a program that a task or the script starts.

    It is `os.environ` without what a launcher or mpitasks has put there: the program,
    an MPI program or a run of mpitasks, say, takes itself for no rank of this run.

    Example:
        >>> environment = mpitasks.subprocess_environment()
        >>> subprocess.run(["mpiexec", "-n", "2", "./solver"], env=environment)
    """
    return {name: value for name, value in os.environ.items() if not _of_launch(name)}


def set_for_launch(name: str, value: str) -> None:
    """Set a variable that the MPI library is to read, unless the user has set it."""
    if name not in os.environ:
        os.environ[name] = value
        _lent.append(name)


def hide_launch() -> None:
    """Have no process inherit what the launcher said. Once MPI is started.

    `LAUNCH` still has it.
    """
    for name in _lent:
        os.environ.pop(name, None)
    _lent.clear()
    for name in [name for name in os.environ if _of_launch(name)]:
        if name.startswith(_PLACE):
            os.unsetenv(name)  # os.environ keeps it
        else:
            _hidden[name] = os.environ.pop(name)


def _of_launch(name: str) -> bool:
    """Whether a variable is about this launch."""
    if name.startswith(_SETTINGS) and not name.startswith(_NO_SETTINGS):
        return False
    return name.startswith(_LAUNCH) or name.startswith(_PLACE)
