"""How much memory the job may use on this host: for results that workers keep.

The least of what the machine has, what the control groups of this process allow, and
what SLURM has given the job here. Read at every start, so it does without pathlib.
"""

# ruff: noqa: PTH118

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

from mpitasks.launch.cores import group_folders, lines_of

__all__ = ["node_limit"]


def node_limit(environ: Mapping[str, str], root: str = "/") -> int | None:
    """Return the bytes that the job may use on this host; None if nobody tells.

    Args:
        environ: The environment.
        root: Where ``proc`` and ``sys`` are.
    """
    return min((each for each in _limits(environ, root) if each > 0), default=None)


def _limits(environ: Mapping[str, str], root: str) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for line in lines_of(os.path.join(root, "proc/meminfo")):
            found = re.match(r"MemTotal:\s+(\d+) kB", line)
            if found is not None:
                yield int(found[1]) << 10
    for version, folder in group_folders("memory", root):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        with contextlib.suppress(OSError, ValueError, IndexError):
            yield int(lines_of(os.path.join(folder, name))[0])  # "max" is no number
    # In MiB; 0 is all that the node has.
    with contextlib.suppress(KeyError, ValueError):
        yield int(environ["SLURM_MEM_PER_NODE"]) << 20
    with contextlib.suppress(KeyError, ValueError):
        cores = int(environ["SLURM_CPUS_ON_NODE"])
        yield (int(environ["SLURM_MEM_PER_CPU"]) << 20) * cores
