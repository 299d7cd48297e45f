"""Pipes without a name: opened by number, by the same user, and nothing but pipes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpitasks.wire.pipes import make_pipe, open_pipe

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="without /proc there are none"
)

OTHER = """
import os, sys
from mpitasks.wire.pipes import make_pipe
ends = make_pipe()
print(os.getpid(), *ends, flush=True)
sys.stdin.read()
print(os.read(ends[0], 100).decode(), end="")
"""


def test_another_process_writes_to_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        pid, _, inner = map(int, other.stdout.readline().split())
        end = open_pipe(pid, inner, os.O_RDWR)
        os.write(end, b"word")
        other.stdin.close()
        assert other.stdout.read() == "word"
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.write(end, b"nobody reads this, and nothing happens")
    finally:
        signal.signal(signal.SIGPIPE, before)
    os.close(end)


def test_it_never_blocks() -> None:
    outer, inner = make_pipe()
    with pytest.raises(BlockingIOError):
        os.read(outer, 1)
    os.write(inner, bytes(fcntl.fcntl(inner, fcntl.F_GETPIPE_SZ)))
    with pytest.raises(BlockingIOError):
        os.write(inner, b".")
    again = open_pipe(os.getpid(), inner, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        os.write(again, bytes(4096))
    for fd in (outer, inner, again):
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_what_is_no_pipe_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(OSError, match="is no pipe"):
            open_pipe(os.getpid(), file.fileno(), os.O_RDWR)
        number = file.fileno()
    with pytest.raises(FileNotFoundError):
        open_pipe(os.getpid(), number, os.O_RDWR)
