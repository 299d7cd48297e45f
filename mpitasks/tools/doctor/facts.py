"""What the doctor knows: plain records, gathered by `gather*.py`, judged by `checks_*`.

Each can be invented, so that every judgement can be tested without the machine it is
about; and each turns into JSON as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "CopyFacts",
    "LauncherFacts",
    "MpiFacts",
    "PairFacts",
    "ProbeFacts",
    "RankFacts",
    "SlurmFacts",
]


@dataclass(frozen=True)
class CopyFacts:
    """Whether ranks of a host can copy out of each other's memory in one step.

    Attributes:
        cma: Whether `process_vm_readv` of another process works; None if not tried.
        why: What the kernel said if it does not.
        scope: Yama's ptrace_scope; None if there is no Yama.
        xpmem: Whether /dev/xpmem can be opened.
    """

    cma: bool | None
    why: str = ""
    scope: int | None = None
    xpmem: bool = False


@dataclass(frozen=True)
class RankFacts:
    """One rank, or this process if it is alone.

    Attributes:
        rank: Its rank; 0 if it is alone.
        host: The name of its host.
        pid: Its process.
        python: Python's version.
        executable: The interpreter.
        version: The version of mpitasks.
        library: The MPI library's name and version; empty without one.
        cores: The cores that it may use.
        online: How many cores its host has.
        quota: How many cores' time its control group has; None if not limited.
        threads: The variables that say how many threads BLAS or OpenMP uses.
        shm_total: The size of /dev/shm in bytes; None if there is none.
        shm_free: What is free of it.
        copy: How memory is copied between ranks of its host.
        thread_level: What MPI allows threads to do; empty before it was started.
    """

    rank: int
    host: str
    pid: int
    python: str
    executable: str
    version: str
    library: str
    cores: list[int]
    online: int
    quota: float | None
    threads: dict[str, str]
    shm_total: int | None
    shm_free: int | None
    copy: CopyFacts
    thread_level: str = ""


@dataclass(frozen=True)
class LauncherFacts:
    """An mpiexec.

    Attributes:
        path: Where it is.
        where: "beside this Python" or "on PATH".
        family: "MPICH" (also Intel's, Cray's, MVAPICH), "Open MPI", or empty.
        version: Its version, or empty.
        said: What it answered to ``--version``, shortened; or why it did not.
    """

    path: str
    where: str
    family: str
    version: str
    said: str


@dataclass(frozen=True)
class ProbeFacts:
    """What came of starting a small MPI program.

    Attributes:
        command: What was started, to be typed again.
        sizes: The size of the world that each copy saw.
        code: The exit code; None if it did not end in time.
        said: The last lines that it wrote to its standard error.
        seconds: How long it took.
        out: Its standard output.
    """

    command: str
    sizes: list[int]
    code: int | None
    said: str
    seconds: float
    out: str = ""


@dataclass(frozen=True)
class MpiFacts:
    """mpi4py, its library, and what starts it.

    Attributes:
        mpi4py: Its version; empty if it is not installed.
        library: All that the MPI library says of itself; empty if none was found.
        path: The file that it was loaded from.
        problem: Why there is no mpi4py or no library.
        launchers: The mpiexec that ``mpitasks -n`` uses first; then that on PATH, if
            it is another.
        ulfm: Whether this run was started so that the death of a rank can be survived.
        alone: What starting MPI in one process gave; None if it was not tried.
        launched: What ``mpiexec -n 2`` gave; None if it was not tried.
    """

    mpi4py: str
    library: str
    path: str
    problem: str
    launchers: list[LauncherFacts]
    ulfm: bool
    alone: ProbeFacts | None = None
    launched: ProbeFacts | None = None


@dataclass(frozen=True)
class SlurmFacts:
    """SLURM, as seen from here.

    Attributes:
        srun: Where srun is; empty if there is none.
        variables: The variables that tell of the job.
        kinds: What ``srun --mpi=list`` names; empty if it names none.
        problem: Why it did not answer.
    """

    srun: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class PairFacts:
    """What was measured between two ranks.

    Attributes:
        ranks: The two ranks.
        hosts: Their hosts.
        round_trip: The median of small messages there and back, in seconds.
        rate: Small messages a second, one way.
        bandwidth: Bytes a second in large messages, one way.
    """

    ranks: tuple[int, int]
    hosts: tuple[str, str]
    round_trip: float
    rate: float
    bandwidth: float
