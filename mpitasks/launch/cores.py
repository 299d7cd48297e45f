"""Which cores this process may use, and what share of them each rank has.

Read at every start, so it does without pathlib, which is slow to import.
"""

# ruff: noqa: PTH118, PTH120, PTH123

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from mpitasks.records import dataclass

__all__ = [
    "Place",
    "cpu_quota",
    "fair_shares",
    "group_folders",
    "lines_of",
    "usable_cores",
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank runs.

    Attributes:
        host: The name of its host.
        cores: The cores that it may use.
        quota: How many cores' time its control group has; None if not limited.
    """

    host: str
    cores: Sequence[int]
    quota: float | None = None


def usable_cores() -> set[int]:
    """Return the cores that this process may use: its affinity, where there is one."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def fair_shares(places: Sequence[Place]) -> list[int]:
    """Return how many cores each rank may keep busy, at least 1.

    A core that several ranks of a host may use is divided among them. So it comes to
    the same whether a launcher binds each rank to cores of its own or none at all.
    """
    users = Counter((place.host, core) for place in places for core in place.cores)
    ranks = Counter(place.host for place in places)
    shares = []
    for place in places:
        share = sum(1 / users[place.host, core] for core in place.cores)
        if place.quota is not None:
            share = min(share, place.quota / ranks[place.host])
        shares.append(max(int(share + 1e-9), 1))
    return shares


def cpu_quota(root: str = "/") -> float | None:
    """Return how many cores' time the control groups of this process give it.

    None if they do not limit it: the usual case outside of containers.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    limits = [
        _limit_v2(folder) if version == 2 else _limit_v1(folder)
        for version, folder in group_folders("cpu", root)
    ]
    return min((limit for limit in limits if limit), default=None)


def group_folders(controller: str, root: str = "/") -> Iterator[tuple[int, str]]:
    """Give the control groups of this process, as their version and their folder.

    Args:
        controller: What they control, as "cpu".
        root: Where ``proc`` and ``sys`` are.
    """
    with contextlib.suppress(OSError):
        for line in lines_of(os.path.join(root, "proc/self/cgroup")):
            _, controllers, path = line.split(":", 2)
            mount = os.path.join(root, "sys/fs/cgroup")
            if not controllers:
                for folder in _upwards(mount, path):
                    yield 2, folder
            elif controller in controllers.split(","):
                for folder in _upwards(os.path.join(mount, controller), path):
                    yield 1, folder


def _upwards(mount: str, path: str) -> Iterator[str]:
    """Give the folder of a control group and those above it, which limit it too.

    In a container the path may be one of the host's, which is not there; then the
    mount itself is the container's group.
    """
    path = path.strip("/")
    while path:
        yield os.path.join(mount, path)
        path = os.path.dirname(path)
    yield mount


def _limit_v2(folder: str) -> float | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        quota, period = lines_of(os.path.join(folder, "cpu.max"))[0].split()
        return int(quota) / int(period)  # "max" is no number: no limit
    return None


def _limit_v1(folder: str) -> float | None:
    with contextlib.suppress(OSError, ValueError, IndexError, ZeroDivisionError):
        quota = int(lines_of(os.path.join(folder, "cpu.cfs_quota_us"))[0])
        period = int(lines_of(os.path.join(folder, "cpu.cfs_period_us"))[0])
        return quota / period if quota > 0 else None
    return None


def lines_of(path: str) -> list[str]:
    """Return the lines of a file of the kernel's."""
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read().splitlines()
