"""The limits: what mpi4py itself does between two ranks, and loops with no scheduler.

Each function is called on every rank; rank 0 gets the values. Only ranks 0 and 1 talk
to each other, the rest return at once. Arrays are received into fresh memory, as a
program must that does not know what comes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bench import quiet_barrier, timed

if TYPE_CHECKING:
    from mpi4py import MPI


def object_trips(comm: MPI.Intracomm, count: int) -> list[float]:
    """Return the seconds of so many trips of a pickled object to rank 1 and back."""
    if comm.rank > 1:
        return []
    peer = 1 - comm.rank

    def trip() -> None:
        if comm.rank == 0:
            comm.send(1, peer)
            comm.recv(source=peer)
        else:
            comm.send(comm.recv(source=peer), peer)

    for _ in range(20):
        trip()
    return [timed(trip) for _ in range(count)]


def array_trip(comm: MPI.Intracomm, nbytes: int, count: int) -> float:
    """Return the median seconds of an array's trip to rank 1 and back."""
    import numpy as np

    if comm.rank > 1:
        return 0.0
    peer = 1 - comm.rank
    array = np.ones(nbytes // 8)

    def trip() -> None:
        fresh = np.empty_like(array)
        if comm.rank == 0:
            comm.Send(array, peer)
            comm.Recv(fresh, peer)
        else:
            comm.Recv(fresh, peer)
            comm.Send(fresh, peer)

    return statistics.median(timed(trip) for _ in range(count))


def touch_memory(comm: MPI.Intracomm, nbytes: int) -> None:
    """Use so much memory on ranks 0 and 1, and give it back.

    A virtual machine gets memory from its host when it is first written to, at a
    hundred times the usual cost. This is to be nobody's loss.
    """
    import numpy as np

    if comm.rank < 2:
        np.ones(nbytes // 8)


def collect(comm: MPI.Intracomm, nbytes: int, count: int) -> float:
    """Return the seconds until rank 0 has so many arrays of rank 1, all kept."""
    import numpy as np

    if comm.rank == 1:
        comm.recv(source=0)
        array = np.ones(nbytes // 8)
        comm.send(None, 0)
        for _ in range(count):
            comm.Send(array, 0)
    if comm.rank:
        return 0.0
    comm.send(None, 1)
    comm.recv(source=1)
    start = time.perf_counter()
    kept = []
    for _ in range(count):
        fresh = np.empty(nbytes // 8)
        comm.Recv(fresh, 1)
        kept.append(fresh)
    return time.perf_counter() - start


def deal(comm: MPI.Intracomm, nbytes: int, count: int) -> float:
    """Return the seconds to send an array so often, each answered by an object."""
    import numpy as np

    if comm.rank > 1:
        return 0.0
    array = np.ones(nbytes // 8)

    def once() -> None:
        if comm.rank == 0:
            comm.Send(array, 1)
            comm.recv(source=1)
        else:
            fresh = np.empty_like(array)
            comm.Recv(fresh, 0)
            comm.send(fresh.nbytes, 0)

    start = time.perf_counter()
    for _ in range(count):
        once()
    return time.perf_counter() - start


def plain_loops(
    comm: MPI.Intracomm, work: Callable[[Any], object], shares: Sequence[Sequence[Any]]
) -> float:
    """Return the seconds until all workers are done, each with a plain loop.

    Args:
        comm: The world.
        work: What each item is given to.
        shares: On rank 0, the items of each worker: ranks 1, 2 and so on. The time of
            the slowest counts.
    """
    share = comm.scatter([[], *shares] if comm.rank == 0 else None)
    quiet_barrier(comm)
    start = time.perf_counter()
    for item in share:
        work(item)
    seconds = time.perf_counter() - start
    quiet_barrier(comm)  # rank 0 is to sleep, not to wait in gather
    return max(comm.gather(seconds) or [0.0])
