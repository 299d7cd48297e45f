"""How much memory the job may use on a host: the least that anybody says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpitasks.launch.handshake import room_for_results
from mpitasks.launch.node_limit import node_limit
from mpitasks.wire.messages import Hello

MEMINFO = {"proc/meminfo": "MemTotal:       24689660 kB\nMemFree: 1 kB\n"}
TOTAL = 24689660 << 10
V2 = {
    "proc/self/cgroup": "0::/job/step\n",
    "sys/fs/cgroup/job/step/memory.max": "max\n",
    "sys/fs/cgroup/job/memory.max": f"{3 << 30}\n",
}
V1 = {
    "proc/self/cgroup": "9:memory:/job\n3:cpu,cpuacct:/job\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{2 << 30}\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
}


def tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("files", "environ", "limit"),
    [
        ({}, {}, None),
        (MEMINFO, {}, TOTAL),
        ({**MEMINFO, **V2}, {}, 3 << 30),
        ({**MEMINFO, **V1}, {}, 2 << 30),
        (MEMINFO, {"SLURM_MEM_PER_NODE": "4096"}, 4 << 30),
        (MEMINFO, {"SLURM_MEM_PER_NODE": "0"}, TOTAL),
        (MEMINFO, {"SLURM_MEM_PER_NODE": "lots"}, TOTAL),
        (MEMINFO, {"SLURM_MEM_PER_CPU": "512"}, TOTAL),
        (MEMINFO, {"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"}, 2 << 30),
        ({**MEMINFO, **V2}, {"SLURM_MEM_PER_NODE": "1024"}, 1 << 30),
        ({"proc/meminfo": "nonsense\n"}, {}, None),
    ],
)
def test_the_least_counts(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], limit: int | None
) -> None:
    assert node_limit(environ, tree(tmp_path, files)) == limit


def hello(rank: int, host: str, memory: int | None) -> Hello:
    return Hello(rank, host, 1, [0], "3.12", "0", "MPI", memory=memory)


def test_each_host_has_room_of_its_own() -> None:
    hellos = [hello(0, "a", 10), hello(1, "a", 8), hello(2, "b", None)]
    assert room_for_results(hellos, None) == {
        0: ("a", 4),
        1: ("a", 4),
        2: ("b", None),
    }
    assert room_for_results(hellos, 7) == {0: ("a", 7), 1: ("a", 7), 2: ("b", 7)}
