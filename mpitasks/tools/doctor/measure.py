"""Meeting the other ranks and measuring between hosts, over raw mpi4py.

Not the engine: this must work, or say why not, where the engine does not start. Rank 0
leads: it hears every rank, then tells two ranks at a time to measure, so that no pair
disturbs another. Each wait has an end.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mpitasks.errors import LaunchError
from mpitasks.tools.doctor.facts import CopyFacts, PairFacts, RankFacts

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["choose_pairs", "follow", "gather_ranks", "measure_pairs", "send_facts"]

TAG_FACTS = 30221  # on the user's world, hence unlikely numbers
TAG_ORDER = 30222
TAG_DATA = 30223

PAIR_SECONDS = 30.0
"""How long one rank waits for the next message of another."""

ALL_PAIRS_HOSTS = 12
"""Up to this many hosts each pair is measured; else rank 0's host with each other."""

SMALL_BYTES = 64
LARGE_BYTES = 4 << 20
TRIPS_SECONDS = 0.05
TRIPS_MOST = 2000
BURST = 100
BURSTS = 10
LARGE_COUNT = 8
SPINS = 100

POLL_SECONDS = 1e-3


def send_facts(comm: MPI.Intracomm, own: RankFacts) -> None:
    """On another rank than 0: say who is there."""
    comm.send(asdict(own), 0, TAG_FACTS)


def gather_ranks(
    comm: MPI.Intracomm, own: RankFacts, seconds: float
) -> tuple[list[RankFacts], list[int]]:
    """On rank 0: hear each rank; return who was heard, and the ranks that were not."""
    found = {0: own}
    end = time.monotonic() + seconds
    while len(found) < comm.Get_size() and time.monotonic() < end:
        if comm.Iprobe(tag=TAG_FACTS):
            said: dict[str, Any] = comm.recv(tag=TAG_FACTS)
            said["copy"] = CopyFacts(**said["copy"])
            found[said["rank"]] = RankFacts(**said)
        else:
            time.sleep(POLL_SECONDS)
    missing = [rank for rank in range(comm.Get_size()) if rank not in found]
    return [found[rank] for rank in sorted(found)], missing


def choose_pairs(hosts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Give the pairs of ranks to measure: one within each host, one for two hosts.

    Args:
        hosts: The host of each rank.
    """
    ranks: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        ranks.setdefault(host, []).append(rank)
    for here in ranks.values():
        if len(here) > 1:
            yield here[0], here[1]
    firsts = [here[0] for here in ranks.values()]
    leaders = firsts if len(firsts) <= ALL_PAIRS_HOSTS else firsts[:1]
    for at, one in enumerate(leaders):
        for other in firsts[at + 1 :]:
            yield one, other


def measure_pairs(comm: MPI.Intracomm, hosts: Sequence[str]) -> Iterator[PairFacts]:
    """On rank 0: have each chosen pair measure, and give the results one by one.

    Raises:
        LaunchError: A rank did not answer in time.
    """
    for one, other in choose_pairs(hosts):
        comm.send(("answer", one), other, TAG_ORDER)
        if one == 0:
            figures = _lead(comm, other)
        else:
            comm.send(("lead", other), one, TAG_ORDER)
            _await(comm, one, TAG_ORDER, 4 * PAIR_SECONDS)
            figures = comm.recv(source=one, tag=TAG_ORDER)
        yield PairFacts((one, other), (hosts[one], hosts[other]), *figures)
    for rank in range(1, comm.Get_size()):
        comm.send(("end", 0), rank, TAG_ORDER)


def follow(comm: MPI.Intracomm, seconds: float) -> None:
    """On another rank than 0: do as rank 0 says until it says that it is over.

    Args:
        comm: The world.
        seconds: How long rank 0 may be silent.

    Raises:
        LaunchError: Rank 0, or the other rank of a pair, was silent for too long.
    """
    while True:
        _await(comm, 0, TAG_ORDER, seconds)
        what, other = comm.recv(source=0, tag=TAG_ORDER)
        if what == "end":
            return
        if what == "lead":
            comm.send(_lead(comm, other), 0, TAG_ORDER)
        else:
            _answer(comm, other)


def _lead(comm: MPI.Intracomm, other: int) -> tuple[float, float, float]:
    """Measure with a rank that is in `_answer`."""
    small, large = bytearray(SMALL_BYTES), bytearray(LARGE_BYTES)
    first = [_trip(comm, other, small) for _ in range(6)][1:]
    trips = int(TRIPS_SECONDS / max(statistics.median(first), 1e-9))
    trips = max(min(trips, TRIPS_MOST), 10)
    comm.send(trips, other, TAG_DATA)
    round_trip = statistics.median(_trip(comm, other, small) for _ in range(trips))
    began = time.perf_counter()
    for _ in range(BURSTS):
        _wait_all([comm.Isend(small, other, TAG_DATA) for _ in range(BURST)], other)
    _receive(comm, small, other)
    rate = BURSTS * BURST / (time.perf_counter() - began)
    _push(comm, other, large, small)  # touches the memory, opens the way
    began = time.perf_counter()
    for _ in range(LARGE_COUNT):
        _push(comm, other, large, small)
    seconds = time.perf_counter() - began
    return round_trip, rate, LARGE_COUNT * LARGE_BYTES / seconds


def _answer(comm: MPI.Intracomm, other: int) -> None:
    """The other side of `_lead`."""
    small, large = bytearray(SMALL_BYTES), bytearray(LARGE_BYTES)
    for _ in range(6):
        _return(comm, other, small)
    _await(comm, other, TAG_DATA, PAIR_SECONDS)
    for _ in range(comm.recv(source=other, tag=TAG_DATA)):
        _return(comm, other, small)
    for _ in range(BURSTS * BURST):
        _receive(comm, small, other)
    comm.Send(small, other, TAG_DATA)
    for _ in range(1 + LARGE_COUNT):
        _receive(comm, large, other)
        comm.Send(small, other, TAG_DATA)


def _trip(comm: MPI.Intracomm, other: int, room: bytearray) -> float:
    began = time.perf_counter()
    comm.Send(room, other, TAG_DATA)
    _receive(comm, room, other)
    return time.perf_counter() - began


def _return(comm: MPI.Intracomm, other: int, room: bytearray) -> None:
    _receive(comm, room, other)
    comm.Send(room, other, TAG_DATA)


def _push(comm: MPI.Intracomm, other: int, large: bytearray, small: bytearray) -> None:
    _wait_all([comm.Isend(large, other, TAG_DATA)], other)
    _receive(comm, small, other)


def _receive(comm: MPI.Intracomm, room: bytearray, source: int) -> None:
    _wait_all([comm.Irecv(room, source, TAG_DATA)], source)


def _wait_all(requests: list[MPI.Request], other: int) -> None:
    """Wait for transfers: spin as MPI itself would, then let others have the core."""
    end = time.monotonic() + PAIR_SECONDS
    for request in requests:
        for _ in range(SPINS):
            if request.Test():
                break
        else:
            while not request.Test():
                if time.monotonic() > end:
                    raise LaunchError(f"rank {other} was silent for {PAIR_SECONDS:g} s")
                os.sched_yield()


def _await(comm: MPI.Intracomm, source: int, tag: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not comm.Iprobe(source, tag):
        if time.monotonic() > end:
            raise LaunchError(f"rank {source} was silent for {seconds:g} s")
        time.sleep(POLL_SECONDS)
