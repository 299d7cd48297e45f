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

What they do inherit are the options of the interpreter: ``-O``, ``-W error``, ``-I``.
"""

from __future__ import annotations

import os
import sys
from collections import ChainMap
from collections.abc import Mapping, Sequence

__all__ = [
    "LAUNCH",
    "hide_launch",
    "interpreter_options",
    "of_launch",
    "set_for_launch",
    "split_command",
    "subprocess_environment",
]

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

_PROGRAM = "cm"
_WITH_VALUE = "WX"
_NO_PASSING = "hiVx?"  # what asks for something else than to run a program

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
    return {name: value for name, value in os.environ.items() if not of_launch(name)}


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
    for name in [name for name in os.environ if of_launch(name)]:
        if name.startswith(_PLACE):
            os.unsetenv(name)  # os.environ keeps it
        else:
            _hidden[name] = os.environ.pop(name)


def of_launch(name: str) -> bool:
    """Whether a variable is about this launch."""
    if name.startswith(_SETTINGS) and not name.startswith(_NO_SETTINGS):
        return False
    return name.startswith(_LAUNCH) or name.startswith(_PLACE)


def interpreter_options() -> list[str]:
    """Return the options that this interpreter was given, for one that it starts.

    As they were typed: what the environment asks (PYTHONOPTIMIZE, say) is asked of the
    other interpreter by its own environment.
    """
    return split_command(sys.orig_argv)[0]


def split_command(line: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the command line of an interpreter into its options and what it runs.

    Returns:
        The options; then ``-m NAME``, ``-c CODE`` or a script, with what follows it.
        Nothing for an interpreter that asks at a prompt.
    """
    words = list(line[1:])
    options: list[str] = []
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word.startswith("--"):
            options.append(word)
            if word == "--check-hash-based-pycs" and words:
                options.append(words.pop(0))
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in _PROGRAM:
                return options, [f"-{letter}", *filter(None, [word[at:]]), *words]
            if letter in _WITH_VALUE:
                value = word[at:] or (words.pop(0) if words else "")
                options += [f"-{letter}", value]
                break
            if letter not in _NO_PASSING:
                options.append(f"-{letter}")
    return options, words
