"""The world of ranks: who is there, how it starts, how it ends.

Hellos go over the user's own world, point to point and as plain dicts: a collective
call would wait for a missing rank for ever, and a rank of another version has other
classes. What is sent while tasks run is in `mpitasks.wire.mpi_transport`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from mpi4py import MPI

from mpitasks import forks
from mpitasks.errors import LaunchError
from mpitasks.records import as_dict, names_of
from mpitasks.wire.backoff import Backoff
from mpitasks.wire.messages import Hello, Welcome

__all__ = [
    "abort",
    "bound_farewell",
    "degraded",
    "finalize",
    "gather_hellos",
    "hold_finalize",
    "itself",
    "led_by",
    "let_finalize",
    "library_version",
    "must_abort",
    "note_gone",
    "private",
    "say_hello",
    "threads_allowed",
    "threads_may_overlap",
    "welcome",
    "workers_of",
    "world",
]

TAG_HELLO = 30201  # on the user's own world, hence an unlikely number
TAG_WORKERS = 30202  # likewise


def world() -> MPI.Intracomm:
    """Return the communicator of all ranks that were started."""
    return MPI.COMM_WORLD


def itself() -> MPI.Intracomm:
    """Return the communicator of this process alone."""
    return MPI.COMM_SELF


def led_by(comm: MPI.Intracomm, root: int) -> MPI.Intracomm:
    """Return a communicator of the same ranks in which one of them is rank 0.

    The others keep their order. Collective, unless `root` is rank 0.
    """
    if root == 0:
        return comm
    key = (comm.Get_rank() - root) % comm.Get_size()
    return comm.Split(0, key)  # type: ignore[return-value]  # the stubs say Comm


_workers: MPI.Intracomm | None = None
"""Of the world: one for all runs in it, since MPI does not have many."""


def workers_of(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Return a communicator of all ranks but rank 0. Collective among these."""
    global _workers
    is_world = comm == MPI.COMM_WORLD
    if is_world and _workers is not None:
        return _workers
    every = comm.Get_group()
    others = every.Excl([0])
    made = comm.Create_group(others, TAG_WORKERS)
    every.Free()
    others.Free()
    if is_world:
        _workers = made
    return made


def library_version() -> str:
    """Return the MPI library's name and version in one line."""
    return MPI.Get_library_version().splitlines()[0].strip("\0 ,")


def threads_allowed() -> bool:
    """Whether this MPI lets any thread call it, one at a time.

    mpi4py asks for MPI_THREAD_MULTIPLE; SERIALIZED is enough for mpitasks.
    """
    level: int = MPI.Query_thread()
    return level >= MPI.THREAD_SERIALIZED


def threads_may_overlap() -> bool:
    """Whether this MPI lets several threads call it at the same time."""
    level: int = MPI.Query_thread()
    return level >= MPI.THREAD_MULTIPLE


def gather_hellos(comm: MPI.Intracomm, own: Hello, seconds: float) -> list[Hello]:
    """On rank 0: hear every rank say who it is; return those heard in time."""
    size = comm.Get_size()
    hellos = {0: own}
    backoff = Backoff(spare_cores=False)
    end = time.monotonic() + seconds
    status = MPI.Status()
    names = names_of(Hello)
    while len(hellos) < size and time.monotonic() < end:
        if comm.Iprobe(MPI.ANY_SOURCE, TAG_HELLO, status):
            source = status.Get_source()
            said = comm.recv(source=source, tag=TAG_HELLO)
            hellos[source] = Hello(**{name: said.get(name) for name in names})
            backoff.idle_since = 0.0
        else:
            backoff.pause(end - time.monotonic())
    return [hellos[rank] for rank in sorted(hellos)]


def welcome(comm: MPI.Intracomm, welcomes: dict[int, Welcome]) -> None:
    """On rank 0: let the ranks in."""
    requests = [
        comm.isend(as_dict(message), rank, TAG_HELLO)
        for rank, message in welcomes.items()
    ]
    MPI.Request.waitall(requests)


def say_hello(comm: MPI.Intracomm, own: Hello, seconds: float) -> Welcome:
    """On any other rank: say who is there, and wait to be let in.

    Raises:
        LaunchError: Rank 0 did not answer in time.
    """
    sent = comm.isend(as_dict(own), 0, TAG_HELLO)
    backoff = Backoff(spare_cores=False)
    end = time.monotonic() + seconds
    while not comm.Iprobe(0, TAG_HELLO):
        if time.monotonic() > end:
            raise LaunchError(f"rank 0 did not answer rank {own.rank} in {seconds:g} s")
        backoff.pause(end - time.monotonic())
    answer = comm.recv(source=0, tag=TAG_HELLO)
    sent.wait()
    return Welcome(**answer)


def private(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Return a duplicate of the communicator that nobody else uses. Collective."""
    return comm.Dup()


_gone: set[int] = set()
_unreported: set[int] = set()


def note_gone(rank: int, *, reported: bool) -> None:
    """Take note that a rank is dead, and whether MPI knows that, too."""
    _gone.add(rank)
    (_unreported.discard if reported else _unreported.add)(rank)


def degraded() -> bool:
    """Whether ranks are dead: then MPI must be left without its farewell, which all
    ranks would have to take part in."""
    return bool(_gone)


def must_abort() -> bool:
    """Whether only an abort hands on an exit code other than 0.

    Open MPI's mpiexec returns the code of a rank that ended by itself with another, if
    there is one; MPI says nothing of such ranks.
    """
    return bool(_unreported) and len(_gone) < MPI.COMM_WORLD.Get_size() - 1


_finalize = MPI.Finalize
_refuse_finalize: Callable[[], object] | None = None


def hold_finalize(refuse: Callable[[], object]) -> None:
    """Have `refuse` called where user code calls ``MPI.Finalize()``.

    The rank would wait there for the others, which wait for its next message. Once
    `let_finalize` was called, user code may end MPI.
    """
    global _refuse_finalize
    _refuse_finalize = refuse
    MPI.Finalize = _held_finalize


def let_finalize() -> None:
    """The run is over: who called it may end MPI."""
    global _refuse_finalize
    _refuse_finalize = None


def _held_finalize() -> None:
    """Terminate the MPI execution environment, unless a run of mpitasks needs it."""
    if _refuse_finalize is None:
        _finalize()
    elif not forks.forked():
        _refuse_finalize()


FAREWELL_SECONDS = 120
"""After this the farewell is given up: SIGALRM ends rank 0, its launcher the others."""

_bounded = False


def bound_farewell() -> None:
    """On rank 0, where all others do nothing any more but end: do not wait for ever.

    Where a task has taken MPI's own files away, MPI may; and it keeps Python's global
    lock meanwhile, which the kernel's alarm does not need.
    """
    global _bounded
    _bounded = True


def finalize() -> None:
    """End MPI on this rank, once every rank is about to."""
    if degraded() or not MPI.Is_initialized() or MPI.Is_finalized():
        return
    if _bounded:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(FAREWELL_SECONDS)
    _finalize()
    if _bounded:
        signal.alarm(0)


def abort(code: int) -> None:
    """End the whole job at once, with this exit code."""
    if len(_gone) == MPI.COMM_WORLD.Get_size() - 1:
        os._exit(code)  # the launcher would lose the code of an abort
    from mpitasks.wire.lifeline import hold_lifeline

    hold_lifeline()
    world().Abort(code)
