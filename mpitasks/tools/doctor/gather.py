"""What there is on this host, for this process. Reads and tries; judges nothing."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import mpitasks
from mpitasks.launch.cores import cpu_quota, usable_cores
from mpitasks.launch.threads import VARIABLES
from mpitasks.tools.doctor.facts import CopyFacts, ProbeFacts, RankFacts

__all__ = ["look_here", "look_scope", "try_command", "try_copy"]

COPY_SECONDS = 10.0
SAID_LINES = 6

READ_PARENT = """
import ctypes, os, sys
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
room = ctypes.create_string_buffer(8)
here = Part(ctypes.addressof(room), 8)
there = Part(int(sys.argv[2]), 8)
libc = ctypes.CDLL(None, use_errno=True)
libc.process_vm_readv.restype = ctypes.c_ssize_t
read = libc.process_vm_readv(
    int(sys.argv[1]), ctypes.byref(here), ctypes.c_ulong(1),
    ctypes.byref(there), ctypes.c_ulong(1), ctypes.c_ulong(0))
print("read" if read == 8 else os.strerror(ctypes.get_errno()))
"""


def look_here(rank: int, library: str, *, copies: bool) -> RankFacts:
    """Return the facts of this process and its host.

    Args:
        rank: Its rank.
        library: The MPI library's name and version.
        copies: Whether to try how memory is copied: one process of a host is enough.
    """
    total, free = _shared_memory()
    return RankFacts(
        rank=rank,
        host=socket.gethostname(),
        pid=os.getpid(),
        python=platform.python_version(),
        executable=sys.executable,
        version=mpitasks.__version__,
        library=library,
        cores=sorted(usable_cores()),
        online=os.cpu_count() or 1,
        quota=cpu_quota(),
        threads={n: os.environ[n] for n in VARIABLES if os.environ.get(n)},
        shm_total=total,
        shm_free=free,
        copy=try_copy() if copies else CopyFacts(None),
    )


def try_command(command: Sequence[str], seconds: float) -> ProbeFacts:
    """Run a command to its end, or end it, and return what came of it.

    Lines of its output that begin with "probe" give the size of a world as their last
    word.
    """
    began = time.monotonic()
    shown = " ".join(map(str, command))
    try:
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return ProbeFacts(shown, [], 127, str(error), 0.0)
    code: int | None
    try:
        out, err = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = None
    sizes = [
        int(line.split()[-1]) for line in out.splitlines() if line.startswith("probe ")
    ]
    said = [line.strip() for line in err.splitlines() if line.strip(" -")]
    text = "\n".join(said[:SAID_LINES])
    return ProbeFacts(shown, sizes, code, text, time.monotonic() - began, out)


def look_scope(path: str = "/proc/sys/kernel/yama/ptrace_scope") -> int | None:
    """Return Yama's ptrace_scope, or None where there is no Yama."""
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def try_copy() -> CopyFacts:
    """Let a child process read this one's memory, as ranks read each other's."""
    scope = look_scope()
    xpmem = os.access("/dev/xpmem", os.R_OK | os.W_OK)
    if sys.platform != "linux":
        return CopyFacts(None, "not Linux", scope, xpmem)
    room = ctypes.create_string_buffer(b"mpitasks", 8)
    where = [str(os.getpid()), str(ctypes.addressof(room))]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", READ_PARENT, *where],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COPY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return CopyFacts(None, str(error), scope, xpmem)
    said = done.stdout.strip() or done.stderr.strip()
    return CopyFacts(said == "read", "" if said == "read" else said, scope, xpmem)


def _shared_memory() -> tuple[int | None, int | None]:
    """Return the size of /dev/shm, and what is free of it, in bytes."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None, None
    return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail
