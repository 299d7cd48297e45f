"""What a report says of the machine: hosts, cores, ranks, versions, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mpitasks
from mpitasks.tools.bench.tasks import Place, where

__all__ = ["Host", "Machine", "describe", "group_hosts"]

ROUNDS = 20
PAUSE_SECONDS = 0.02
"""Nobody can send a task to a given worker, so each is asked to wait a little while the
others get theirs; in so many rounds, or not all hosts are named."""

HOSTS_SHOWN = 4


@dataclass(frozen=True)
class Host:
    """One host of the run.

    Attributes:
        name: Its name.
        ranks: How many ranks run on it.
        cores: How many cores they may use, all together.
    """

    name: str
    ranks: int
    cores: int

    def __str__(self) -> str:
        return f"{self.name} ({_many(self.ranks, 'rank')}, {_many(self.cores, 'core')})"


@dataclass(frozen=True)
class Machine:
    """What was measured on, and with what.

    Attributes:
        date: When, with the offset from UTC, in ISO 8601.
        ranks: How many there are; 1 if the tasks run in the process itself.
        workers: How many of them take tasks, or 1.
        hosts: The hosts; rank 0's is the first.
        processor: The processor of rank 0's host.
        system: Its operating system.
        mpi: The MPI library; None without MPI.
        python: Python's version.
        versions: Those of the packages.
    """

    date: str
    ranks: int
    workers: int
    hosts: list[Host]
    processor: str
    system: str
    mpi: str | None
    python: str
    versions: dict[str, str]

    @property
    def alone(self) -> bool:
        """Whether there is no rank but this one."""
        return self.ranks == 1

    def notes(self) -> list[str]:
        """Return what in the machine keeps figures from what they could be."""
        if self.alone or all(host.ranks <= host.cores for host in self.hosts):
            return []
        return ["a host has more ranks than cores, so its ranks take turns"]

    def lines(self) -> list[tuple[str, str]]:
        """Return what the head of a report says, as names and texts."""
        hosts = [str(host) for host in self.hosts[:HOSTS_SHOWN]]
        if len(self.hosts) > HOSTS_SHOWN:
            hosts.append(f"and {len(self.hosts) - HOSTS_SHOWN} more")
        packages = ", ".join(f"{name} {v}" for name, v in self.versions.items())
        none = "none: the tasks run in this process, in one thread"
        return [
            ("date", self.date),
            ("hosts", ", ".join(hosts)),
            ("machine", f"{self.processor}, {self.system}"),
            ("ranks", f"{self.ranks} ({_many(self.workers, 'worker')})"),
            ("MPI", none if self.alone else str(self.mpi)),
            ("Python", f"{self.python}, {packages}"),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, as JSON takes it."""
        return asdict(self)


def describe(executor: mpitasks.Executor) -> Machine:
    """Ask the workers where they are; return what there is to say."""
    here, places = where(), _find_workers(executor)
    alone = here[:2] in {place[:2] for place in places}
    workers = executor.num_workers
    return Machine(
        date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        ranks=1 if alone else workers + 1,
        workers=workers,
        hosts=group_hosts(places if alone else [here, *places]),
        processor=_processor(),
        system=f"{platform.system()} {platform.release()}",
        mpi=_mpi_library(),
        python=platform.python_version(),
        versions={
            "mpitasks": mpitasks.__version__,
            "mpi4py": _version("mpi4py"),
            "numpy": _version("numpy"),
        },
    )


def group_hosts(places: Iterable[Place]) -> list[Host]:
    """Return the hosts of the processes, in the order in which they come."""
    ranks: dict[str, int] = {}
    cores: dict[str, set[int]] = {}
    for name, _, usable in places:
        ranks[name] = ranks.get(name, 0) + 1
        cores.setdefault(name, set()).update(usable)  # launchers may bind each rank
    return [Host(name, count, len(cores[name])) for name, count in ranks.items()]


def _find_workers(executor: mpitasks.Executor) -> list[Place]:
    found: dict[tuple[str, int], Place] = {}
    for _ in range(ROUNDS):
        calls = [
            executor.submit(where, PAUSE_SECONDS) for _ in range(executor.num_workers)
        ]
        for call in calls:
            place: Place = call.result()
            found[place[:2]] = place
        if len(found) == executor.num_workers:
            break
    return list(found.values())


def _mpi_library() -> str | None:
    """Return the MPI library's name and version, if one is loaded."""
    if "mpitasks.wire.mpi_transport" not in sys.modules:
        return None
    from mpitasks.wire import mpi_transport

    words = mpi_transport.library_version().split(",")[0].split()
    return " ".join(word for word in words if word != "Version:")


def _processor() -> str:
    """Return the processor's architecture, and its name where Linux tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return f"{platform.machine()} {value.strip()}"
    return platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
