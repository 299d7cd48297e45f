"""Judges hosts and ranks: cores, threads, memory. Pure: facts in, findings out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.launch.cores import Place, fair_shares
from mpitasks.launch.threads import OPENMP, asked_threads
from mpitasks.tools.doctor.findings import Finding, error, ok, warning

if TYPE_CHECKING:
    from mpitasks.tools.doctor.facts import RankFacts

__all__ = ["check_hosts", "check_level", "check_ranks", "is_crowded"]

SHM_PER_RANK = 8 << 20
"""MPICH 5 over UCX takes 5.2 MiB of /dev/shm for each rank, Open MPI 5 next to nothing
(both measured, 2026-11-23, up to 8 ranks of a host)."""

HOSTS_SHOWN = 4


def check_ranks(ranks: Sequence[RankFacts], size: int) -> Iterator[Finding]:
    """Judge whether all ranks are there, and alike."""
    by_host = _by_host(ranks)
    counts = [f"{host} {len(here)}" for host, here in by_host.items()]
    more = f" and {len(counts) - HOSTS_SHOWN} more" if len(counts) > HOSTS_SHOWN else ""
    yield ok(
        "hosts, ranks",
        f"{_many(size, 'rank')} on {_many(len(by_host), 'host')}: "
        f"{', '.join(counts[:HOSTS_SHOWN])}{more}",
    )
    for name, values in (
        ("Python", [rank.python.rsplit(".", 1)[0] for rank in ranks]),
        ("mpitasks", [rank.version for rank in ranks]),
        ("MPI library", [rank.library for rank in ranks]),
    ):
        odd = [at for at, value in enumerate(values) if value != values[0]]
        if odd:
            other = ranks[odd[0]]
            yield error(
                "hosts, ranks",
                f"rank 0 has {name} {values[0]}, rank {other.rank} on {other.host} has "
                f"{values[odd[0]]}",
                "start every rank from the same environment",
            )
    yield from check_level(ranks)


def check_level(ranks: Sequence[RankFacts]) -> Iterator[Finding]:
    """Judge what MPI lets threads do, where it was started."""
    levels = {rank.thread_level for rank in ranks if rank.thread_level}
    if levels:
        yield _check_level(levels)


def check_hosts(ranks: Sequence[RankFacts]) -> Iterator[Finding]:
    """Judge cores, threads and memory of each host; one line where all is well."""
    hosts = _by_host(ranks)
    for check, one in (
        ("cores", _check_cores),
        ("BLAS threads", _check_threads),
        ("shared memory", _check_shm),
        ("single copy", _check_copy),
    ):
        found = [one(check, host, here) for host, here in hosts.items()]
        wrong = [finding for finding in found if finding.cure]
        yield from wrong
        if not wrong:
            yield found[0] if len(found) == 1 else _gathered(check, found)


def is_crowded(ranks: Sequence[RankFacts], hosts: Sequence[str]) -> bool:
    """Whether one of these hosts has fewer cores than ranks: MPI spins in each."""
    return any(
        len(here) > len({core for rank in here for core in rank.cores})
        for host, here in _by_host(ranks).items()
        if host in hosts
    )


def _gathered(check: str, found: Sequence[Finding]) -> Finding:
    """Return one finding for many hosts where all is well."""
    first = found[0].why
    if len({finding.why.partition(": ")[2] for finding in found}) == 1:
        return ok(check, f"all {len(found)} hosts: {first.partition(': ')[2]}")
    return ok(check, f"all {len(found)} hosts are well, as {first}")


def _check_level(levels: set[str]) -> Finding:
    if levels == {"multiple"}:
        return ok("MPI threads", "any thread may call MPI (MPI_THREAD_MULTIPLE)")
    lowest = next(
        name
        for name in ("single", "funneled", "serialized", "multiple")
        if name in levels
    )
    lost = "workers give nothing back that waits behind a long task"
    if lowest != "serialized":
        lost += ", and callbacks run only while the script waits"
    return warning(
        "MPI threads",
        f"MPI grants MPI_THREAD_{lowest.upper()} only: {lost}",
        "use an MPI built with MPI_THREAD_MULTIPLE, and unset MPI4PY_RC_THREAD_LEVEL",
    )


def _check_cores(check: str, host: str, here: Sequence[RankFacts]) -> Finding:
    cores = {core for rank in here for core in rank.cores}
    quotas = [rank.quota for rank in here if rank.quota is not None]
    quota = min(quotas) if quotas else None
    room = len(cores) if quota is None else min(float(len(cores)), quota)
    usable = f"{len(cores)} of {here[0].online} cores usable"
    if quota is not None:
        usable += f", a quota of {quota:g} cores' time"
    if len(here) == 1:
        return ok(check, f"{host}: {usable}")
    if _busy(here) > room:
        return warning(
            check,
            f"{host}: {len(here)} ranks take turns on {room:g} cores ({usable})",
            f"start at most {int(room) + 1} ranks there, or give the job more cores",
        )
    lists = [tuple(rank.cores) for rank in here]
    if len(set(lists)) < len(lists) and all(len(cores) == 1 for cores in lists):
        return warning(
            check,
            f"{host}: the launcher has bound several ranks to the same core ({usable})",
            "mpiexec --bind-to none, or OMPI_MCA_hwloc_base_binding_policy=none",
        )
    shares = fair_shares([_place(rank) for rank in here])
    each = f"{min(shares)}" if min(shares) == max(shares) else "1 or more"
    how = "bound" if set(lists) != {lists[0]} else "not bound"
    return ok(check, f"{host}: {len(here)} ranks, {usable}, {each} for each, {how}")


def _check_threads(check: str, host: str, here: Sequence[RankFacts]) -> Finding:
    shares = fair_shares([_place(rank) for rank in here])
    asked = [asked_threads(rank.threads) for rank in here]
    cores = len({core for rank in here for core in rank.cores})
    total = sum(count or 0 for count in asked[-_busy(here) :])
    if total > cores and any(
        (count or 0) > share for count, share in zip(asked, shares, strict=True)
    ):
        most = max(count or 0 for count in asked)
        names = [name for name, value in here[0].threads.items() if value == str(most)]
        name = names[0] if names else OPENMP
        return warning(
            check,
            f"{host}: {name} asks for {most} threads in each of {len(here)} ranks, "
            f"on {cores} cores",
            f"unset {name} (mpitasks sets each rank's share: {min(shares)}), or "
            f"export {name}={min(shares)}",
        )
    told = ", ".join(f"{name}={value}" for name, value in here[0].threads.items())
    if told:
        return ok(check, f"{host}: set by you: {told}")
    if len(here) == 1:
        return ok(check, f"{host}: not limited, one process")
    return ok(check, f"{host}: mpitasks limits each rank to its share, {min(shares)}")


def _check_shm(check: str, host: str, here: Sequence[RankFacts]) -> Finding:
    first = here[0]
    if first.shm_total is None or first.shm_free is None:
        return ok(check, f"{host}: no /dev/shm")
    needed = SHM_PER_RANK * len(here)
    sizes = f"{_mib(first.shm_free)} free of {_mib(first.shm_total)} in /dev/shm"
    if first.shm_free < needed:
        return warning(
            check,
            f"{host}: {sizes}; {_many(len(here), 'rank')} may need {_mib(needed)}, and "
            f"a rank that finds it full dies with a bus error",
            "ls -l /dev/shm, and remove what is left over there; in a container, start "
            "it with docker run --shm-size=1g",
        )
    return ok(check, f"{host}: {sizes}")


def _check_copy(check: str, host: str, here: Sequence[RankFacts]) -> Finding:
    copy = next((rank.copy for rank in here if rank.copy.cma is not None), here[0].copy)
    ways = [name for name, is_here in _ways(copy.cma, copy.xpmem) if is_here]
    if ways:
        return ok(check, f"{host}: {' and '.join(ways)}")
    if copy.cma is None:
        return ok(check, f"{host}: could not be tried ({copy.why or 'not Linux'})")
    if copy.scope:
        return warning(
            check,
            f"{host}: ptrace_scope is {copy.scope}, so ranks cannot read each other's "
            f"memory ({copy.why}); arrays are copied twice on a host",
            "sudo sysctl kernel.yama.ptrace_scope=0",
        )
    return warning(
        check,
        f"{host}: ranks cannot read each other's memory ({copy.why}); arrays are "
        f"copied twice on a host",
        "in a container, start it with: docker run --cap-add=SYS_PTRACE",
    )


def _ways(cma: bool | None, xpmem: bool) -> list[tuple[str, bool]]:
    return [("CMA (process_vm_readv)", bool(cma)), ("XPMEM", xpmem)]


def _busy(here: Sequence[RankFacts]) -> int:
    """Return how many of a host's ranks compute: rank 0 mostly waits."""
    return len(here) - any(rank.rank == 0 for rank in here) if len(here) > 1 else 1


def _place(rank: RankFacts) -> Place:
    return Place(rank.host, rank.cores, rank.quota)


def _by_host(ranks: Sequence[RankFacts]) -> dict[str, list[RankFacts]]:
    hosts: defaultdict[str, list[RankFacts]] = defaultdict(list)
    for rank in ranks:
        hosts[rank.host].append(rank)
    return dict(hosts)


def _mib(size: int) -> str:
    return f"{size >> 20:,} MiB"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
