"""Which ranks never said hello, and on which hosts they must be.

Loaded only when ranks are missing. What the launcher knows is asked first (PMIx, then
the variables of srun); else it follows from where those are that did say hello.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mpitasks.launch.environment import launch_hint
from mpitasks.subprocesses import LAUNCH
from mpitasks.wire.pmix import hosts_of_ranks

if TYPE_CHECKING:
    from mpitasks.wire.messages import Hello

__all__ = [
    "describe_absent",
    "expand_counts",
    "expand_nodes",
    "place_by_hellos",
    "place_by_srun",
]


def describe_absent(
    size: int, hellos: Sequence[Hello], environ: Mapping[str, str] = LAUNCH
) -> str:
    """Return the missing ranks, with their hosts as far as they are known.

    Args:
        size: How many ranks there are.
        hellos: Who was heard.
        environ: The environment of rank 0.
    """
    heard = {hello.rank for hello in hellos}
    missing = [rank for rank in range(size) if rank not in heard]
    known = hosts_of_ranks(missing, environ)
    if not known:
        known = place_by_srun(environ) or place_by_hellos(hellos)
    by_host: defaultdict[str | None, list[int]] = defaultdict(list)
    for rank in missing:
        by_host[known.get(rank)].append(rank)
    parts = []
    for host, ranks in by_host.items():
        names = f"rank {', '.join(map(str, ranks))}"
        parts.append(f"{names} on {host}" if host else f"{names} on a silent host")
    return "; ".join(parts)


def place_by_hellos(hellos: Sequence[Hello]) -> dict[int, str]:
    """Return the host of each rank that must be beside one that was heard.

    Launchers number the ranks of a host one after the other, or deal ranks to hosts in
    turn. Two ranks of one host tell which; else it is taken for the first, unless two
    hosts would then have the same rank.
    """
    here: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for hello in hellos:
        if hello.place is not None:
            here[hello.host].append((hello.place[0], hello.rank, hello.place[1]))
    steps = {
        (max(places)[1] - min(places)[1]) // (max(places)[0] - min(places)[0])
        for places in here.values()
        if len(places) > 1
    }
    if len(steps) > 1:
        return {}
    step = steps.pop() if steps else 1
    found: dict[int, str] = {}
    for host, places in here.items():
        at, rank, count = places[0]
        for own in range(rank - at * step, rank + (count - at) * step, step):
            if found.setdefault(own, host) != host:
                return {}
    return found


def place_by_srun(environ: Mapping[str, str]) -> dict[int, str]:
    """Return the host of each rank, if srun started them one host after the other."""
    hint = launch_hint(environ)
    if hint is None or hint.launcher != "srun":
        return {}
    if environ.get("SLURM_DISTRIBUTION", "block") not in ("block", "block:block"):
        return {}
    nodes = expand_nodes(environ.get("SLURM_STEP_NODELIST", ""))
    counts = expand_counts(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if len(nodes) != len(counts):
        return {}
    names = [
        node for node, count in zip(nodes, counts, strict=True) for _ in range(count)
    ]
    return dict(enumerate(names))


def expand_nodes(text: str) -> list[str]:
    """Return the names in a list of SLURM's: ``n[1-3,7],login``."""
    names = []
    for prefix, ranges, suffix in re.findall(
        r"([^,\[\]]+)(?:\[([^\]]*)\])?([^,\[\]]*)", text
    ):
        if not ranges:
            names.append(prefix + suffix)
            continue
        for part in ranges.split(","):
            low, _, high = part.partition("-")
            numbers = range(int(low), int(high or low) + 1)
            names += [f"{prefix}{number:0{len(low)}d}{suffix}" for number in numbers]
    return names


def expand_counts(text: str) -> list[int]:
    """Return the numbers in a list of SLURM's: ``2(x3),1``."""
    counts = []
    for number, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(number)] * int(times or 1)
    return counts
