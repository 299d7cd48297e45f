"""What the environment says about the launch. Reads variables, starts nothing.

The only place that reads launcher variables. Whether the launcher and the MPI library
belong together is told from the variables and from the library's own words: before MPI
is started where they leave no doubt, and else once each copy has found itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpitasks.errors import ConfigurationError, LaunchError
from mpitasks.records import dataclass
from mpitasks.subprocesses import LAUNCH

__all__ = [
    "BatchJob",
    "LaunchHint",
    "batch_job",
    "is_lone_copy",
    "launch_hint",
    "local_place",
    "misfit",
    "refuse_lone_copy",
    "refuse_misfit",
    "short_name",
]

SRUN = "srun"
OPEN_MPI = "Open MPI's mpiexec"

# (variable with this copy's rank, variable with the number of copies, who sets them)
_LAUNCHERS = [
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", OPEN_MPI),
    ("PMI_RANK", "PMI_SIZE", "an mpiexec of the MPICH family"),
    ("PALS_RANKID", "PALS_SIZE", "PALS"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MVAPICH's mpiexec"),
    ("PMIX_RANK", "PMIX_SIZE", "a PMIx launcher"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", SRUN),
]

# (variable with the rank among the copies on this host, variable with their number)
_LOCAL = [
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
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

    @property
    def loses_end_of_input(self) -> bool:
        """Whether rank 0 may wait for the end of its standard input for ever.

        Open MPI 5's mpiexec passes on what it reads, but not that there is no more
        (openpmix pull request 4024); of more than 64 KiB it may pass on parts twice.
        """
        return self.launcher == OPEN_MPI


def survives_losses(environ: Mapping[str, str] = LAUNCH) -> bool:
    """Whether the MPI goes on when a rank dies: Open MPI 5 with ``--with-ft ulfm``.

    By the variable that mpiexec sets then: the functions are there in any case, and do
    nothing if it is off.
    """
    told = environ.get("OMPI_MCA_mpi_ft_enable", "").lower()
    return told in ("1", "true", "yes", "enabled", "t", "y")


def may_leave_ranks(hint: LaunchHint) -> bool:
    """Whether the launcher may let ranks live when another has died.

    Those of the MPI libraries end them all, unless they are told to let a run survive;
    srun does with ``--kill-on-bad-exit``, which is not its default.
    """
    return hint.launcher == SRUN or survives_losses()


@dataclass(frozen=True, slots=True)
class BatchJob:
    """What the environment says of the SLURM job that this process is part of.

    Attributes:
        id: As squeue shows it: 12, or 12_3 in an array.
        number: The number that is its own, also in an array.
        folder: Where it was submitted.
        end: When its time is up, in seconds since 1970; None if not told.
    """

    id: str
    number: str
    folder: str
    end: int | None


def launch_hint(environ: Mapping[str, str] = LAUNCH) -> LaunchHint | None:
    """Return what a launcher left in the environment, or None if none did.

    Inside a batch job but outside any step, SLURM_PROCID is set as well; without
    SLURM_STEP_NUM_TASKS it says nothing.
    """
    for rank_name, size_name, launcher in _LAUNCHERS:
        rank, size = _number(environ, rank_name), _number(environ, size_name)
        if rank is None:
            continue
        if launcher == SRUN and (size is None or _is_batch_step(environ)):
            continue
        tasks = _number(environ, "SLURM_STEP_NUM_TASKS")
        if tasks and size in (None, tasks) and _is_started_by_srun(environ, rank):
            return LaunchHint(rank, tasks, SRUN)
        return LaunchHint(rank, size, launcher)
    return None


def local_place(environ: Mapping[str, str] = LAUNCH) -> tuple[int, int] | None:
    """Return this copy's rank among those on its host and their number, if told."""
    for rank_name, size_name in _LOCAL:
        rank, size = _number(environ, rank_name), _number(environ, size_name)
        if rank is not None and size:
            return rank, size
    return None


def batch_job(environ: Mapping[str, str] = LAUNCH) -> BatchJob | None:
    """Return what a SLURM job knows of itself, or None outside of one."""
    id = environ.get("SLURM_JOB_ID")
    if not id:
        return None
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return BatchJob(
        id=f"{array}_{task}" if array and task else id,
        number=id,
        folder=environ.get("SLURM_SUBMIT_DIR", ""),
        end=_number(environ, "SLURM_JOB_END_TIME"),
    )


def misfit(hint: LaunchHint, library: str, environ: Mapping[str, str] = LAUNCH) -> bool:
    """Whether this MPI library certainly does not hear this launcher.

    MPICH without PMIx ends the process in MPI_Init where a PMIx launcher started it;
    Open MPI 5 knows nothing but PMIx, and takes each copy for a world of its own.

    Args:
        hint: What is known of the launch.
        library: All that the library says of itself.
        environ: The environment.
    """
    has_pmix = "PMIX_RANK" in environ or "PMIX_NAMESPACE" in environ
    if library.startswith("MPICH"):
        has_pmi = any(name in environ for name in ("PMI_RANK", "PMI_FD", "PMI_PORT"))
        return has_pmix and not has_pmi and "pmix" not in library.lower()
    return _major_open_mpi(library) >= 5 and not has_pmix and hint.size != 1


def refuse_misfit(hint: LaunchHint, library: str) -> None:
    """Raise if the MPI library certainly does not hear the launcher.

    Raises:
        ConfigurationError: With what fits together instead.
    """
    if misfit(hint, library):
        raise ConfigurationError(_alone(hint, library))


def refuse_lone_copy(hint: LaunchHint, library: str) -> None:
    """Raise if this copy is alone in its MPI world, though several were started.

    Raises:
        ConfigurationError: With what fits together instead.
        LaunchError: The same, where the first copy cannot know of it.
    """
    if not is_lone_copy(hint, library):
        return
    if hint.size is None and _major_open_mpi(library):
        raise LaunchError(_alone(hint, library))
    raise ConfigurationError(_alone(hint, library))


def is_lone_copy(hint: LaunchHint, library: str) -> bool:
    """Whether a copy that is alone in its MPI world was started with others.

    Where nobody tells the size: Open MPI hears every launcher of that kind, so the
    first copy may be the only one.
    """
    if hint.size is None and _major_open_mpi(library):
        return hint.rank > 0
    return hint.size != 1


def _alone(hint: LaunchHint, library: str) -> str:
    copies = "several" if hint.size is None else str(hint.size)
    started = f"{copies} copies, but each is alone"
    if hint.size == 1:
        started = "this, but it cannot tell that to the MPI library"
    if hint.launcher == SRUN:
        cure = (
            "Use an srun --mpi= that the library knows: srun --mpi=pmi2 (srun "
            "--mpi=list shows what there is), or the mpiexec of the library"
        )
        if _major_open_mpi(library) >= 5:
            cure = (
                "Use the mpiexec of the library, or srun --mpi=pmix where srun can "
                "load that (srun --mpi=pmix --test-only true tells)"
            )
    else:
        cure = (
            f"Use the mpiexec of that library (mpitasks -n {hint.size or 4} script.py "
            f"finds it)"
        )
    return (
        f"{hint.launcher} started {started}: it does not fit the MPI library that "
        f"mpi4py loads ({short_name(library)}). {cure}; mpitasks doctor says more"
    )


def short_name(library: str) -> str:
    """Return a library's name and version, out of all that it says of itself."""
    words = library.splitlines()[0].partition(",")[0].strip("\0 ").split()
    return " ".join(word for word in words if word.lower() != "version:")


def _major_open_mpi(library: str) -> int:
    """Return the major version of an Open MPI; 0 of any other library."""
    head, _, rest = library.partition("Open MPI v")
    digits = rest.partition(".")[0]
    return int(digits) if not head and digits.isdigit() else 0


def _number(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "")
    return int(value) if value.isdigit() else None


def _is_started_by_srun(environ: Mapping[str, str], rank: int) -> bool:
    """Whether srun itself started this copy; it sets what the PMI of its --mpi needs.

    An mpiexec inside a job has srun start its own helpers, and they pass on variables
    that are theirs.
    """
    helped = "PRTE_LAUNCHED" in environ or "HYDI_CONTROL_FD" in environ
    return not helped and _number(environ, "SLURM_PROCID") == rank


def _is_batch_step(environ: Mapping[str, str]) -> bool:
    """Whether this is the batch script itself, whose step has one task."""
    return environ.get("SLURM_STEP_NUM_TASKS") == "1"
