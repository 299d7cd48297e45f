"""mpi4py, the MPI library, the mpiexec there are, and whether they start anything."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path

from mpitasks.errors import ConfigurationError
from mpitasks.launch.environment import short_name
from mpitasks.launch.mpiexec import find_mpiexec, permissions
from mpitasks.subprocesses import interpreter_options
from mpitasks.tools.doctor.facts import LauncherFacts, MpiFacts, ProbeFacts
from mpitasks.tools.doctor.gather import try_command
from mpitasks.wire import mpi_library

__all__ = [
    "family_of",
    "level_of",
    "library_file",
    "library_of",
    "look_at_mpi",
    "read_version",
    "try_start",
]

ULFM = "OMPI_MCA_mpi_ft_enable"  # what mpiexec --with-ft ulfm sets on each rank

VERSION_SECONDS = 15.0
ALONE_SECONDS = 30.0
LAUNCH_SECONDS = 60.0

# One write for both lines: those of two ranks must not mix.
PROBE = (
    "from mpitasks.wire import mpi_library; mpi_library.point_to_wheel(); "
    "from mpi4py import MPI; w = MPI.COMM_WORLD; "
    "levels = {getattr(MPI, 'THREAD_' + name): name.lower() for name in "
    "('SINGLE', 'FUNNELED', 'SERIALIZED', 'MULTIPLE')}; "
    "print(f'threads {levels[MPI.Query_thread()]}\\nprobe {w.rank} {w.size}\\n', "
    "end='', flush=True)"
)

_LIBRARY = re.compile(r"/lib(mpi|mpich|mpi_[a-z0-9]+|msmpi)\.(so|dylib)[.\d]*$")


def look_at_mpi(*, briefly: bool = False) -> MpiFacts:
    """Load the library, without starting it, and find every mpiexec.

    Args:
        briefly: Look at the library only; for copies that leave the report to another.
    """
    try:
        version = importlib.metadata.version("mpi4py")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    text = path = problem = ""
    try:
        mpi_library.load()
        text = mpi_library.version().strip("\0\n ")
        path = library_file()
    except (ImportError, RuntimeError, OSError) as error:
        problem = mpi_library.why_not(error)
    ulfm = os.environ.get(ULFM, "").lower() in ("1", "true", "yes")
    launchers = [] if briefly else find_launchers()
    return MpiFacts(version, text, path, problem, launchers, ulfm)


def library_of(facts: MpiFacts) -> str:
    """Return the library's name and version; empty if there is none."""
    return short_name(facts.library) if facts.library else ""


def find_launchers() -> list[LauncherFacts]:
    """Return the mpiexec that `mpitasks -n` uses, and that on PATH if it is another."""
    found: list[tuple[Path, str]] = []
    try:
        chosen = find_mpiexec()
    except ConfigurationError:
        return []
    beside = chosen.parent == Path(sys.executable).parent
    found.append((chosen, "beside this Python" if beside else "on PATH"))
    on_path = shutil.which("mpiexec")
    if on_path and Path(on_path).resolve() != chosen.resolve():
        found.append((Path(on_path), "on PATH"))
    return [_look_at_launcher(path, where) for path, where in found]


def try_start(facts: MpiFacts) -> tuple[ProbeFacts, ProbeFacts | None]:
    """Start MPI in a process of its own, and two ranks by the first mpiexec.

    For a doctor that nothing launched: under a launcher a further process would take
    part in a conversation that is not its own.
    """
    python = [sys.executable, *interpreter_options(), "-c", PROBE]
    alone = try_command(python, ALONE_SECONDS)
    if not facts.launchers or alone.code != 0:
        return alone, None
    launcher = facts.launchers[0]
    words = [launcher.path, "-n", "2"]
    if launcher.family == "Open MPI":
        words += permissions(2)
    command = [*words, *python]
    return alone, try_command(command, LAUNCH_SECONDS)


def level_of(probe: ProbeFacts) -> str:
    """Return the thread level that a process which started MPI was given."""
    found = re.search(r"^threads (\w+)", probe.out, re.MULTILINE)
    return found[1] if found else ""


def library_file(maps: str = "/proc/self/maps") -> str:
    """Return the file that the MPI library was loaded from, if the system tells."""
    try:
        lines = Path(maps).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        path = line.partition("/")
        whole = path[1] + path[2]
        if _LIBRARY.search(whole):
            return whole
    return ""


def family_of(library: str) -> str:
    """Return which family an MPI library is of: that decides which mpiexec fits."""
    head = library.splitlines()[0].lower() if library else ""
    if head.startswith("open mpi"):
        return "Open MPI"
    known = ("mpich", "intel(r) mpi", "mvapich", "cray mpi")
    return "MPICH" if any(name in head for name in known) else ""


def read_version(text: str) -> tuple[str, str]:
    """Return the family and the version of the mpiexec that said this."""
    if found := re.search(r"\((?:Open MPI|OpenRTE|PRRTE)\)\s+(\S+)", text):
        return "Open MPI", found[1]
    if "HYDRA" in text or "MPICH" in text:
        found = re.search(r"Version:\s+(\S+)", text)
        return "MPICH", found[1] if found else ""
    if found := re.search(r"Intel\(R\) MPI Library.*?Version\s+(.+?)\s+Build", text):
        return "MPICH", f"Intel {found[1]}"
    return "", ""


def _look_at_launcher(path: Path, where: str) -> LauncherFacts:
    answer = try_command([str(path), "--version"], VERSION_SECONDS)
    family, version = read_version(answer.out)
    said = (answer.out.strip() or answer.said).partition("\n")[0]
    return LauncherFacts(str(path), where, family, version, said)
