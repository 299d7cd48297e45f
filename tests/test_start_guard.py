"""The guard of a rank: it removes files that nobody has, and is dismissed."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpitasks.launch import start_guard
from mpitasks.launch.start_guard import Guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

RANK = """
import os, signal, sys
from pathlib import Path
from mpitasks.launch import start_guard
start_guard.FOLDER = sys.argv[1]
start_guard.UNUSED_SECONDS = 1.0
guarding = start_guard.Guard(ends_launcher=False, place=None)
sys.stdin.readline()
Path(sys.argv[1], "mpich_shm_1_0").touch()
Path(sys.argv[1], "ucx_shm_posix_1").touch()
Path(sys.argv[1], "mine").touch()
if sys.argv[2] == "met":
    guarding.dismiss()
print(guarding._pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("end", ["met", "killed"])
def test_it_removes_what_a_killed_rank_leaves(tmp_path: Path, end: str) -> None:
    (tmp_path / "mpich_shm_0_0").touch()  # of another run, which has begun before
    with subprocess.Popen(
        [sys.executable, "-c", RANK, str(tmp_path), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as rank:
        # It has looked what is there once it waits, with nothing but its pipe.
        assert rank.stdin is not None
        assert rank.stdout is not None
        children = Path(f"/proc/{rank.pid}/task/{rank.pid}/children")
        while not _waits((children.read_text().split() or [""])[0]):
            assert rank.poll() is None
        rank.stdin.write(b"\n")
        rank.stdin.close()
        pid = int(rank.stdout.readline())
    if end == "killed":
        watched = os.pidfd_open(pid) if Path(f"/proc/{pid}").exists() else None
        if watched is not None:
            import select

            assert select.select([watched], [], [], 30)[0]
            os.close(watched)
    left = {path.name for path in tmp_path.iterdir()}
    kept = {"mpich_shm_0_0", "mine"}
    files = {"mpich_shm_1_0", "ucx_shm_posix_1"}
    assert left == (kept if end == "killed" else kept | files)


def _waits(pid: str) -> bool:
    """Whether the process has closed all but its pipe, and sleeps in a system call."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
        call = Path(f"/proc/{pid}/syscall").read_text()
    except OSError:
        return False
    return set(numbers) == {"0", "1", "2", "3"} and not call.startswith("running")


def test_files_that_somebody_has_are_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(start_guard, "UNUSED_SECONDS", 0.0)
    monkeypatch.setattr(start_guard, "FOLDER", str(tmp_path))
    open_one, mapped, unused = (tmp_path / f"mpich_shm_{n}_0" for n in range(3))
    for path in (open_one, mapped, unused):
        path.write_bytes(bytes(4096))
    assert start_guard._files() == {str(open_one), str(mapped), str(unused)}
    with mapped.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 4096)
    with open_one.open("rb"):
        used = start_guard._used()
        assert {str(open_one), str(mapped)} <= used
        assert str(unused) not in used
    memory.close()


def test_a_guard_is_dismissed() -> None:
    guarding = Guard(ends_launcher=False, place=None)
    guarding.dismiss()
    with pytest.raises(ChildProcessError):
        os.waitpid(guarding._pid, 0)


def test_a_guard_that_was_killed_is_no_loss() -> None:
    guarding = Guard(ends_launcher=False, place=None)
    os.kill(guarding._pid, signal.SIGKILL)
    guarding.dismiss()
