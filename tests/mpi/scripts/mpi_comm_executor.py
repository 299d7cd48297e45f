"""A program that every rank runs, with an executor for one of them at a time.

Started by plain ``mpiexec -n 4 python mpi_comm_executor.py``. On the original, with
``FUTURES=mpi4py.futures``, it prints the same lines. Each line begins with what is
tried and comes from the rank that has the executor.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from mpi4py import MPI

futures: Any = importlib.import_module(os.environ["FUTURES"])
world = MPI.COMM_WORLD
rank = world.Get_rank()


def rank_of_worker(_: Any = None) -> int:
    """Task: return which rank of the world runs it."""
    return int(MPI.COMM_WORLD.Get_rank())


def meet_others() -> None:
    """Initializer: wait for the other workers."""
    futures.get_comm_workers().Barrier()


def place_among_workers(_: Any = None) -> tuple[int, int]:
    """Task: return the worker's rank among the workers, and how many there are."""
    workers = futures.get_comm_workers()
    return workers.Get_rank(), workers.Get_size()


def uses_global(x: int) -> bool:
    """Task: whether its module has a rank, whichever; it sets a global."""
    global left
    left = x
    return rank >= 0


def say(what: str, *values: Any) -> None:
    """Print a line, whole."""
    os.write(1, f"{what}: {' '.join(map(str, values))}\n".encode())


def try_root(comm: Any, root: int, what: str) -> None:
    """Use an executor on one of the ranks."""
    with futures.MPICommExecutor(comm, root, initializer=meet_others) as executor:
        assert (executor is not None) == (comm.Get_rank() == root)
        if executor is not None:
            ranks = {*executor.map(rank_of_worker, range(200))}
            others = {*range(comm.Get_size())} - {root} or {root}
            if comm is world:
                assert ranks <= others, ranks
            places = {*executor.map(place_among_workers, range(200))}
            assert all(0 <= rank < size for rank, size in places)
            sizes = {size for _, size in places}
            say(what, root, executor.num_workers, sizes)


def main() -> None:
    """Try one communicator after another."""
    with futures.MPICommExecutor() as executor:
        if executor is not None:
            say("default", executor.num_workers, [*executor.map(abs, [-1, -2])])
            assert all(executor.map(uses_global, range(200)))
    assert rank == world.Get_rank()
    for root in range(world.Get_size()):
        try_root(world, root, "world")
    halves = world.Split(world.Get_rank() % 2, world.Get_rank())
    try_root(halves, halves.Get_size() - 1, f"half {world.Get_rank() % 2}")
    with futures.MPICommExecutor(MPI.COMM_SELF) as executor:
        seen: list[int] = []
        executor.submit(seen.append, world.Get_rank()).result()
        say("self", world.Get_rank(), executor.num_workers)
    # What is written for the root alone is no error on the other ranks.
    with futures.MPICommExecutor(world) as executor:
        say("careless", executor.submit(abs, -3).result())
    # An exception of the root is the root's, and everybody goes on.
    caught = "nothing"
    try:
        with futures.MPICommExecutor(world) as executor:
            executor.submit(abs, -3)
            raise LookupError("of the root")
    except LookupError as error:
        caught = str(error)
    total = world.allreduce(world.Get_rank())
    say("after", world.Get_rank(), total, caught)


if __name__ == "__main__":
    main()
