"""What ranks tell each other when they meet, and what rank 0 makes of it.

Hellos in; refusals, warnings and each rank's welcome out. Pure, except `own_hello`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import mpitasks
from mpitasks import walltime
from mpitasks.errors import LaunchError
from mpitasks.launch.cores import Place, cpu_quota, fair_shares, usable_cores
from mpitasks.launch.environment import local_place
from mpitasks.launch.node_limit import node_limit
from mpitasks.launch.threads import asked_threads, loaded_threads
from mpitasks.wire.messages import Hello, Welcome
from mpitasks.wire.node_memory import is_attachable
from mpitasks.wire.processes import machine
from mpitasks.wire.wakeup import SECRET_BYTES

__all__ = [
    "check_hellos",
    "near_ranks",
    "own_hello",
    "room_for_results",
    "warnings_of",
    "welcomes_of",
]


def own_hello(rank: int, library: str) -> Hello:
    """Return what this process says of itself."""
    cores = sorted(usable_cores())
    return Hello(
        rank=rank,
        host=socket.gethostname(),
        pid=os.getpid(),
        cores=cores,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        version=mpitasks.__version__,
        library=library,
        machine=machine(),
        quota=cpu_quota(),
        threads=asked_threads(os.environ) or loaded_threads(len(cores)),
        memory=node_limit(os.environ),
        place=local_place(),
    )


def check_hellos(hellos: Sequence[Hello], size: int, seconds: float) -> None:
    """Refuse a world whose ranks are not all there, or do not understand each other.

    Args:
        hellos: Who was heard, rank 0 first.
        size: How many ranks there are.
        seconds: How long they had.

    Raises:
        LaunchError: Ranks are missing, or have other versions than rank 0.
    """
    if len(hellos) < size:
        from mpitasks.launch.absent_ranks import describe_absent

        raise LaunchError(
            f"{size - len(hellos)} of {size} ranks did not start within {seconds:g} s: "
            f"{describe_absent(size, hellos)}. Is the host up, and the same Python "
            f"there? mpiexec -n {size} hostname tells; --start-timeout gives more time"
        )
    own = hellos[0]
    for what in ("version", "python"):
        expected: Any = getattr(own, what)
        others = [h for h in hellos if getattr(h, what) != expected]
        if others:
            name = "mpitasks" if what == "version" else "Python"
            odd = others[0]
            raise LaunchError(
                f"all ranks need the same {name}: rank 0 on {own.host} has {expected}, "
                f"rank {odd.rank} on {odd.host} has {getattr(odd, what)}"
                + (f", and {len(others) - 1} more differ" if len(others) > 1 else "")
                + "; start every rank from the same environment"
            )


def welcomes_of(hellos: Sequence[Hello]) -> list[Welcome]:
    """Tell each rank whether its host has a core for each rank there, and its share.

    Launchers may bind each rank to cores of its own, so a host has the cores that
    any of its ranks may use.
    """
    own = hellos[0]
    run, secret = os.urandom(16).hex(), os.urandom(SECRET_BYTES)
    spare = {host: len(here) <= len(_cores_of(here)) for host, here in _by_host(hellos)}
    shares = _shares(hellos)
    return [
        Welcome(
            size=len(hellos),
            spare_cores=spare[hello.host],
            alone=len(spare) == 1,
            run=run,
            secret=secret,
            master=own.pid if hello.machine == own.machine else None,
            peers=_peers_of(hello, hellos),
            share=share,
            seconds_left=walltime.time_left(),
            margin=walltime.margin(),
        )
        for hello, share in zip(hellos, shares, strict=True)
    ]


def _peers_of(own: Hello, hellos: Sequence[Hello]) -> list[tuple[int, int]]:
    """Return whom a worker watches over: the next two of its machine, in a ring."""
    if own.machine == hellos[0].machine:
        return []  # rank 0 does
    ring = [(hello.rank, hello.pid) for hello in hellos if hello.machine == own.machine]
    at = ring.index((own.rank, own.pid))
    return (ring[at + 1 :] + ring[:at])[:2]


def room_for_results(
    hellos: Sequence[Hello], limit: int | None
) -> dict[int, tuple[str, int | None]]:
    """Return on which host each rank is, and how much the ranks there may keep.

    Args:
        hellos: Who was heard.
        limit: Bytes for each host; None for half of what the job may use there.
    """
    least: dict[str, int | None] = {}
    for host, here in _by_host(hellos):
        known = [hello.memory for hello in here if hello.memory is not None]
        half = min(known) // 2 if known else None
        least[host] = half if limit is None else limit
    return {hello.rank: (hello.host, least[hello.host]) for hello in hellos}


def warnings_of(hellos: Sequence[Hello]) -> list[str]:
    """Return what will make the run slow, one line a kind, about the worst host."""
    shares = dict(zip((hello.rank for hello in hellos), _shares(hellos), strict=True))
    crowded: list[tuple[float, str]] = []
    storms: list[tuple[float, str]] = []
    for host, here in _by_host(hellos):
        cores = _room_of(here)
        # Rank 0 mostly waits: one rank more than cores is no harm.
        busy = [hello for hello in here if hello.rank] or here
        if len(busy) > cores:
            line = (
                f"{len(here)} ranks on {host} take turns on {cores:g} "
                f"{'core' if cores == 1 else 'cores'}; start fewer ranks, or give the "
                f"job more cores"
            )
            crowded.append((len(busy) / cores, line))
        asked = [hello for hello in busy if (hello.threads or 0) > shares[hello.rank]]
        total = sum(hello.threads or 1 for hello in busy)
        if asked and total > cores:
            line = (
                f"BLAS and OpenMP may start {asked[0].threads} threads in each of "
                f"{len(here)} ranks on {host}, which has {cores:g} cores; unset "
                f"OMP_NUM_THREADS and its like, and each rank gets its share "
                f"({shares[asked[0].rank]})"
            )
            storms.append((total / cores, line))
    return [max(lines)[1] for lines in (crowded, storms) if lines]


def _shares(hellos: Sequence[Hello]) -> list[int]:
    return fair_shares([Place(h.host, h.cores, h.quota) for h in hellos])


def _by_host(hellos: Sequence[Hello]) -> list[tuple[str, list[Hello]]]:
    hosts: defaultdict[str, list[Hello]] = defaultdict(list)
    for hello in hellos:
        hosts[hello.host].append(hello)
    return list(hosts.items())


def _cores_of(here: Sequence[Hello]) -> set[int]:
    return {core for hello in here for core in hello.cores}


def _room_of(here: Sequence[Hello]) -> float:
    """Return how many ranks of a host can compute at the same time."""
    cores = len(_cores_of(here))
    quotas = [hello.quota for hello in here if hello.quota is not None]
    return min([cores, *quotas]) if quotas else cores


def near_ranks(hellos: Sequence[Hello]) -> list[int]:
    """Return the workers that can attach the memory of rank 0."""
    own = hellos[0].machine
    return [
        hello.rank
        for hello in hellos[1:]
        if hello.machine == own and is_attachable(hello.pid)
    ]
