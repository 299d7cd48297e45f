"""The MPI library: loaded without being started, looked at, then started.

mpi4py starts MPI when it is imported, and an MPI that does not fit its launcher may end
the process there. So the import and the start are two steps here; between them the
library can already say what it is. Messages are sent elsewhere (`mpitasks.wire.mpi`).

This can be imported without mpi4py, to say that it is missing.
"""

from __future__ import annotations

from mpitasks import forks

__all__ = ["initialize", "load", "name", "thread_level", "version", "why_not"]

MISSING = "No such file or directory"

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

    own = mpi4py.rc.initialize, mpi4py.rc.finalize
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = bool(mpi4py.rc.finalize)
    try:
        from mpi4py import MPI  # noqa: F401
    finally:
        mpi4py.rc.initialize, mpi4py.rc.finalize = own


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


def initialize() -> None:
    """Start MPI, unless the user did; with the threads that `mpi4py.rc` asks for.

    At the exit of Python it is ended, unless ranks were lost: Open MPI's mpiexec may
    lose the exit code of a rank that says farewell to dead ones.
    """
    import mpi4py
    from mpi4py import MPI

    if MPI.Is_initialized():
        return
    if mpi4py.rc.threads:
        MPI.Init_thread(_levels()[_LEVELS.index(mpi4py.rc.thread_level)])
    else:
        MPI.Init()
    if mpi4py.rc.finalize is None:
        from mpitasks.wire import world

        forks.at_exit(world.finalize)


def thread_level() -> str:
    """Return what MPI, which was started, allows threads to do."""
    from mpi4py import MPI

    return _LEVELS[_levels().index(MPI.Query_thread())]


def _levels() -> list[int]:
    from mpi4py import MPI

    return [getattr(MPI, f"THREAD_{name.upper()}") for name in _LEVELS]
