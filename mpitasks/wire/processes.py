"""Other processes of this machine: whether they live, and how they died.

A thread of its own sleeps until one of them dies, so that it costs nothing meanwhile:
the kernel wakes it (pidfd, Linux 5.3). It needs neither MPI nor the process's help, so
it also finds what no MPI library reports. Elsewhere it looks once a second.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from os import write  # a task may patch the module

__all__ = [
    "Watch",
    "children",
    "environment",
    "frozen",
    "machine",
    "parent",
    "pending",
]

LOOK_SECONDS = 1.0
"""Between two looks, where the kernel cannot wake us."""


def machine() -> str:
    """Return what two processes have in common that see each other's process ids.

    Containers of one machine may have the same boot, but their own process ids; hosts
    that share those may be meant as hosts of their own, by their names.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 (slow to load)
        parts.append(_read("/proc/sys/kernel/random/boot_id").strip())
    return " ".join(parts)


def frozen(pid: int) -> bool:
    """Return whether the process was stopped by a signal and does not run."""
    return _stat(pid)[:1] == ["T"]


def parent(pid: int) -> int | None:
    """Return the process that has started this one; None if there is none."""
    ids = _stat(pid)[1:2]
    return int(ids[0]) if ids and ids != ["0"] else None


def children(pid: int) -> list[int]:
    """Return the processes that this one has started; none if nobody tells."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            text = _read_all(f"/proc/{pid}/task/{task}/children")
            found += [int(word) for word in text.split()]
    return found


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with, if it can be read."""
    try:
        words = _read_all(f"/proc/{pid}/environ").split("\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def pending(pid: int) -> set[int]:
    """Return the signals that wait at a process, which has blocked them."""
    found = set()
    with contextlib.suppress(OSError):
        for line in _read_all(f"/proc/{pid}/status").splitlines():
            name, _, mask = line.partition(":")
            if name in ("SigPnd", "ShdPnd"):
                bits = int(mask, 16)
                found |= {n for n in range(1, 65) if bits >> (n - 1) & 1}
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of the process's state, from the third on, if it has one."""
    try:
        return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return []


def _read(path: str) -> str:
    """Return a file's text. Without pathlib, which would be slow to load at start."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode(errors="replace")
    finally:
        os.close(fd)


def _read_all(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read()


def _death(pid: int) -> str:
    """Return how a process died, as far as that can still be seen."""
    state = _stat(pid)
    # The last field of a process that its parent has not buried yet: as of wait(2).
    if state[:1] != ["Z"] or not state[-1].isdigit():
        return "died"
    status = int(state[-1])
    number = os.WTERMSIG(status)
    if not number:
        return f"ended with exit code {os.WEXITSTATUS(status)}"
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"was killed by signal {number}"


class Watch(threading.Thread):
    """Tells when processes die.

    Args:
        pids: The processes, by any name.
        died: Called in the thread, with the name and how it died.
        look: Called in the thread every so often, if `period` is given.
        period: Seconds between two such calls.
    """

    def __init__(
        self,
        pids: Mapping[int, int],
        died: Callable[[int, str], None],
        look: Callable[[], None] | None = None,
        period: float | None = None,
    ) -> None:
        super().__init__(name="mpitasks-watch", daemon=True)
        self._pids = dict(pids)
        self._died = died
        self._look = look
        self._period = period
        self._stopped = threading.Event()
        self._pipe: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Tell of no more deaths. Does not wait for the thread."""
        self._stopped.set()
        with self._lock:
            if self._pipe is not None:
                with contextlib.suppress(OSError):  # a task has closed it
                    write(self._pipe[1], b".")

    def untold(self) -> bool:
        """Whether a process is dead of which it has not been told yet."""
        if self._stopped.is_set():
            return False
        return any(not _lives(pid) for pid in list(self._pids.values()))

    def run(self) -> None:
        if hasattr(os, "pidfd_open"):
            try:
                self._run_woken()
                return
            except OSError:  # an old kernel, or no more open files
                pass
        self._run_looking()

    def _run_woken(self) -> None:
        """Sleep until the kernel tells of a death."""
        names: dict[int, int] = {}
        poll = select.poll()
        with self._lock:
            self._pipe = os.pipe()
        poll.register(self._pipe[0], select.POLLIN)
        try:
            for name, pid in list(self._pids.items()):
                try:
                    fd = os.pidfd_open(pid)
                except ProcessLookupError:
                    self._tell(name)
                    continue
                names[fd] = name
                poll.register(fd, select.POLLIN)
            timeout = None if self._period is None else self._period * 1e3
            while not self._stopped.is_set():
                for fd, _ in poll.poll(timeout):
                    if fd in names:
                        poll.unregister(fd)
                        os.close(fd)
                        self._tell(names.pop(fd))
                if self._look is not None and not self._stopped.is_set():
                    self._look()
        finally:
            for fd in names:
                os.close(fd)
            with self._lock:
                pipe, self._pipe = self._pipe, None
            for fd in pipe:
                os.close(fd)

    def _run_looking(self) -> None:
        """Look again and again."""
        while not self._stopped.wait(self._period or LOOK_SECONDS):
            for name, pid in list(self._pids.items()):
                if not _lives(pid):
                    self._tell(name)
            if self._look is not None:
                self._look()

    def _tell(self, name: int) -> None:
        if not self._stopped.is_set():
            self._died(name, _death(self._pids[name]))
        del self._pids[name]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat(pid)[:1] not in (["Z"], ["X"])
