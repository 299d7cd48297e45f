"""Raw mpi4py between rank 0 and one worker: the limit that the engine stands beside.

The worker's part runs as a task, rank 0's part in the script; in between they talk over
the user's world, with a tag of their own. Meanwhile the engine's background thread goes
on, so MPI must grant MPI_THREAD_MULTIPLE, and a trip now and then is longer for it.

mpi4py is imported late: by then the launch has initialised it.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from mpitasks.tools.bench.series import seconds_of

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    import mpitasks

__all__ = ["array_trips", "object_trips", "objection"]

TAG = 30211  # on the user's own world, hence an unlikely number


def objection() -> str | None:
    """Return why there can be no raw MPI in this run, or None if there can."""
    if "mpitasks.wire.mpi_transport" not in sys.modules:
        return "no raw MPI beside it, as there is no MPI here"
    from mpi4py import MPI

    if MPI.COMM_WORLD.Get_size() == 1:
        return "no raw MPI beside it, as there is no other rank"
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        return "no raw MPI beside it, as this MPI does not grant MPI_THREAD_MULTIPLE"
    return None


def object_trips(executor: mpitasks.Executor, trips: int) -> list[float]:
    """Send a small pickled object there and back; return the seconds of each trip."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD

    def trip() -> None:
        comm.send(1, peer, TAG)
        comm.recv(source=peer, tag=TAG)

    future = executor.submit(return_objects, trips + 1)
    peer = _await_peer(future)
    times = [seconds_of(trip) for _ in range(trips + 1)]
    future.result()
    return times[1:]  # the first one opens the connection


def array_trips(
    executor: mpitasks.Executor, array: np.ndarray[Any, Any], trips: int
) -> list[float]:
    """Send an array there and back, into fresh memory; return the seconds of each."""
    import numpy as np
    from mpi4py import MPI

    comm = MPI.COMM_WORLD

    def trip() -> None:
        fresh = np.empty_like(array)
        comm.Send(array, peer, TAG)
        comm.Recv(fresh, peer, TAG)

    future = executor.submit(return_arrays, trips + 1, array.size)
    peer = _await_peer(future)
    times = [seconds_of(trip) for _ in range(trips + 1)]
    future.result()
    return times[1:]


def return_objects(trips: int) -> None:
    """The worker's part of `object_trips`."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    comm.send(None, 0, TAG)
    for _ in range(trips):
        comm.send(comm.recv(source=0, tag=TAG), 0, TAG)


def return_arrays(trips: int, items: int) -> None:
    """The worker's part of `array_trips`."""
    import numpy as np
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    comm.send(None, 0, TAG)
    for _ in range(trips):
        fresh = np.empty(items)
        comm.Recv(fresh, 0, TAG)
        comm.Send(fresh, 0, TAG)


def _await_peer(future: Future[Any]) -> int:
    """Return the rank on which the worker's part has begun.

    Not by a receive: if the task failed instead, that would wait for ever.
    """
    from mpi4py import MPI

    comm, status = MPI.COMM_WORLD, MPI.Status()
    while not comm.Iprobe(MPI.ANY_SOURCE, TAG, status):
        if future.done():
            future.result()  # raises why
        time.sleep(100e-6)
    comm.recv(source=status.Get_source(), tag=TAG)
    return status.Get_source()
