"""A process beside a rank while MPI starts: it does what the rank cannot do any more.

In MPI_Init a rank waits for the others, in C code, and dies of a signal. Two things are
left then that nobody else sees to. MPICH and UCX leave files in /dev/shm. And the other
ranks wait for a dead one for ever, if the launcher lets them: MPICH's does for one that
ended with an exit code, Open MPI's with ``--with-ft ulfm``. A guard is forked before
MPI starts, and is gone before any user code runs.
"""

# ruff: noqa: PTH108, PTH208  (pathlib is slow to import)

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
import warnings

from mpitasks.wire.processes import children, environment

__all__ = ["MISSING_LOOKS", "RANK_DIED", "Guard", "lacks_ranks", "ranks_of"]

LOOK_SECONDS = 0.2

LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
"""The variables by which launchers tell a rank how many they start on this host."""

MISSING_LOOKS = 15
"""So many looks in a row with fewer ranks than the launcher has started."""

RANK_DIED = (
    "a rank died before the run began, and the others would wait for it for ever; "
    "start the run again"
)

UNUSED_SECONDS = 5.0
"""Seconds for the last ranks that have a file to die."""

FOLDER = "/dev/shm"
FILES = ("mpich_shm_", "ucx_shm_posix_")
"""How the names begin of what MPICH and UCX put there."""


class Guard:
    """A rank's guard, from before MPI starts until all ranks have met.

    Args:
        ends_launcher: Whether it is to end the launcher if a rank is missing, and not
            its own rank, after which the launcher ends the others.
        place: Which of its host's ranks this is, if that is known. Two of them look
            whether one is missing, lest the first be the one.
    """

    def __init__(self, *, ends_launcher: bool, place: int | None) -> None:
        inner, self._pipe = os.pipe()
        launcher = os.getppid()
        victim = launcher if ends_launcher else os.getpid()
        looks = None
        if place in (0, 1) and not is_rank(environment(launcher)):
            looks = MISSING_LOOKS + 5 * place
        with warnings.catch_warnings():
            # Threads of a BLAS library, which knows how to be forked.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            try:
                _serve(inner, launcher, victim, looks)
            finally:
                os._exit(0)
        os.close(inner)

    def dismiss(self) -> None:
        """The ranks have met: nothing is left to guard."""
        with contextlib.suppress(OSError):  # it may have been killed
            os.write(self._pipe, b".")
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _serve(pipe: int, launcher: int, victim: int, looks: int | None) -> None:
    before = _files()
    os.setsid()  # launchers kill groups
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # Of the output only what is needed: the launcher waits for its end.
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2) if looks is None else (0, 1):
        os.dup2(null, fd)
    pipe = os.dup2(pipe, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    missing = 0
    timeout = None if looks is None else LOOK_SECONDS
    while not select.select([pipe], [], [], timeout)[0]:
        missing = missing + 1 if lacks_ranks(launcher) else 0
        if missing == looks:
            os.write(2, f"mpitasks: {RANK_DIED}\n".encode())
            time.sleep(LOOK_SECONDS)  # the launcher forwards nothing afterwards
            os.kill(victim, signal.SIGTERM if victim == launcher else signal.SIGKILL)
            if victim == launcher:
                return
            os.dup2(null, 2)
    if not os.read(pipe, 1):  # the rank has died
        _remove(_files() - before)


def lacks_ranks(launcher: int) -> bool:
    """Whether fewer ranks are on this host than the launcher has started."""
    ranks = ranks_of(launcher).values()
    sizes = [rank[name] for rank in ranks for name in LOCAL_SIZES if name in rank]
    return any(size.isdigit() and len(ranks) < int(size) for size in sizes)


def ranks_of(launcher: int) -> dict[int, dict[str, str]]:
    """Return the environment of each of the launcher's ranks, by process id."""
    found = {pid: environment(pid) for pid in children(launcher)}
    return {pid: environ for pid, environ in found.items() if is_rank(environ)}


def is_rank(environ: dict[str, str]) -> bool:
    """Whether this is a rank's environment; a script around a rank has it as well."""
    return any(name in environ for name in LOCAL_SIZES)


def _files() -> set[str]:
    """Return the files there that are this user's."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(FOLDER):
            if name.startswith(FILES):
                path = f"{FOLDER}/{name}"
                with contextlib.suppress(OSError):
                    if os.lstat(path).st_uid == os.getuid():
                        found.add(path)
    return found


def _remove(paths: set[str]) -> None:
    """Remove files once nobody has them: another run may have made them meanwhile."""
    end = time.monotonic() + UNUSED_SECONDS
    while paths and time.monotonic() < end:
        used = _used()
        for path in paths - used:
            with contextlib.suppress(OSError):
                os.unlink(path)
        paths = paths & used
        time.sleep(LOOK_SECONDS if paths else 0.0)


def _used() -> set[str]:
    """Return the paths of what any process has open or mapped."""
    found: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/maps", errors="replace") as maps:  # noqa: PTH123
                found |= {line.split(None, 5)[-1].rstrip("\n") for line in maps}
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))  # noqa: PTH115
    return found
