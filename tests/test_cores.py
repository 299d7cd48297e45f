"""Cores, quotas of control groups, and the share of each rank."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpitasks.launch.cores import Place, cpu_quota, fair_shares, usable_cores


def unbound(ranks: int, cores: int, quota: float | None = None) -> list[Place]:
    return [Place("a", range(cores), quota)] * ranks


@pytest.mark.parametrize(
    ("places", "shares"),
    [
        ([], []),
        (unbound(1, 8), [8]),
        (unbound(2, 8), [4, 4]),
        (unbound(3, 8), [2, 2, 2]),
        (unbound(6, 12), [2] * 6),  # 12 * (1 / 6) is less than 2 in floating point
        (unbound(9, 8), [1] * 9),
        (unbound(4, 8, 4.0), [1] * 4),
        (unbound(2, 8, 4.5), [2, 2]),
        (unbound(2, 2, 64.0), [1, 1]),
        # Bound to cores of their own, of unlike number.
        ([Place("a", [0, 1, 2]), Place("a", [3])], [3, 1]),
        # Bound, but two of them to the same cores.
        ([Place("a", [0, 1, 2, 3])] * 2 + [Place("a", [4, 5])], [2, 2, 2]),
        # The same numbers on two hosts are not the same cores.
        ([Place("a", range(4)), Place("b", range(4))], [4, 4]),
    ],
)
def test_fair_shares(places: list[Place], shares: list[int]) -> None:
    assert fair_shares(places) == shares


@pytest.mark.parametrize("ranks", range(1, 65))
def test_shares_use_all_cores_that_divide(ranks: int) -> None:
    assert fair_shares(unbound(ranks, ranks * 3)) == [3] * ranks


def test_usable_cores_are_those_of_the_affinity() -> None:
    own = os.sched_getaffinity(0)
    assert usable_cores() == own
    try:
        os.sched_setaffinity(0, {min(own)})
        assert usable_cores() == {min(own)}
    finally:
        os.sched_setaffinity(0, own)


def tree(root: Path, files: dict[str, str]) -> str:
    """Write files as the kernel shows them; return the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


V1 = "9:name=systemd:/\n3:cpuset:/\n2:cpu,cpuacct:/slurm/job_7/step_0\n0::/\n"
CPU = "sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": ""}, None),
        ({"proc/self/cgroup": "0::/a/b\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
            },
            1.5,
        ),
        (  # the group above is the tighter one
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        (  # in a container, the mount is the group itself
            {
                "proc/self/cgroup": "0::/docker/abc\n",
                "sys/fs/cgroup/cpu.max": "50000 100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{CPU}/slurm/job_7/step_0/cpu.cfs_quota_us": "-1\n",
                f"{CPU}/slurm/job_7/step_0/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{CPU}/slurm/job_7/cpu.cfs_quota_us": "300000\n",
                f"{CPU}/slurm/job_7/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{CPU}/cpu.cfs_quota_us": "nonsense\n",
                f"{CPU}/cpu.cfs_period_us": "0\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": ""}, None),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(tree(tmp_path, files)) == quota


def test_the_quota_of_a_real_group_is_found() -> None:
    """As root, a group of version 1 or 2 is made and entered by a child."""
    mounts = [Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")]
    mount = next((path for path in mounts if (path / "cgroup.procs").exists()), None)
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root, and a control group to make another in")
    group = mount / f"mpitasks-test-{os.getpid()}"
    try:
        group.mkdir()
        if mount.name == "cpu":
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("150000")
        else:
            (group / "cpu.max").write_text("150000 100000")
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"this system gives no control groups: {error}")
    try:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                (group / "cgroup.procs").write_text(str(os.getpid()))
                code = 0 if cpu_quota() == 1.5 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        group.rmdir()
