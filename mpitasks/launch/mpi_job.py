"""An mpiexec that this process has started and stays beside: its output, its end.

A thread starts it, hands on what the ranks print, line by line, to what `sys.stdout`
and `sys.stderr` are here (in a notebook, no files), and tells when mpiexec or rank 0 is
gone. What the job is for is not known here (`mpitasks.launch.outside`).

mpiexec gets a session of its own, so that Ctrl-C in a terminal is for the script alone,
and dies with this process (PR_SET_PDEATHSIG, prctl(2)). The kernel takes the death of
the thread that started it for that of the process, so that thread stays.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpitasks.wire.processes import children

__all__ = ["MpiJob"]

TERM_SECONDS = 1.0
"""For mpiexec to end the ranks after SIGTERM; then all are killed."""

LAST_LINES = 20
"""Of what was printed, for the message that says why a job did not start."""

LONGEST_LINE = 1 << 20
"""A longer line is handed on in pieces."""

LOOK_SECONDS = 0.2
"""Between two looks, where the kernel cannot tell of a process's end."""

_TETHER = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or os._exit(69)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""
"""Becomes mpiexec, to be ended by SIGTERM when this process dies. An interpreter of its
own does that: where there are threads, little may be done between fork and exec."""


class MpiJob:
    """One mpiexec, and all that it has started.

    Args:
        line: Its command line.
        environ: Its environment.
        ended: Called in the thread when mpiexec has ended, with what is to be said of
            that: "mpiexec ended with exit code 1".
    """

    def __init__(
        self,
        line: Sequence[str],
        environ: Mapping[str, str],
        ended: Callable[[str], None],
    ) -> None:
        self._line = line
        self._environ = environ
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._held: list[tuple[str, str]] | None = []  # what was printed, until shown
        self._last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self._watched: dict[int, Callable[[], None]] = {}  # by pidfd
        self._ranks: list[int] = []  # pidfds of those on this host
        self._is_silent = False
        self._lock = threading.Lock()
        self._begun = threading.Event()
        self._over = threading.Event()
        self._wakers = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._end = os.pipe2(os.O_CLOEXEC)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name="mpitasks-job", daemon=True
        )

    # For the thread that has started the job.

    def start(self) -> None:
        """Start mpiexec.

        Raises:
            OSError: That is not possible.
        """
        self._thread.start()
        self._begun.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def is_over(self) -> bool:
        """Whether mpiexec has ended, and what it printed was handed on."""
        return self._over.is_set()

    @property
    def end_fd(self) -> int:
        """A descriptor that can be read from once the job is over."""
        return self._end[0]

    def show(self) -> None:
        """Hand on what was printed since the start, and from now on at once."""
        with self._lock:
            held, self._held = self._held or [], None
            for name, text in held:
                _print(name, text)

    def last_lines(self) -> str:
        """Return the last lines that were printed."""
        return "\n".join(self._last)

    @property
    def was_killed(self) -> bool:
        """Whether mpiexec was killed by a signal: its ranks die after it."""
        code = None if self._process is None else self._process.poll()
        return code is not None and code < 0

    def watch(self, pid: int, died: Callable[[], None]) -> None:
        """Have `died` called in the job's thread when a process of this host dies."""
        with contextlib.suppress(OSError):
            self._watched[os.pidfd_open(pid)] = died
            self._wake()

    def know_ranks(self, pids: Sequence[int]) -> None:
        """Take note of ranks of this host, to end them where mpiexec does not."""
        for pid in pids:
            with contextlib.suppress(OSError):
                self._ranks.append(os.pidfd_open(pid))

    def end(self, seconds: float) -> bool:
        """Wait for mpiexec to end by itself; then end it, with all it has started.

        Args:
            seconds: How long to wait; 0 to end it now.

        Returns:
            Whether it has ended by itself.
        """
        by_itself = self._over.wait(seconds)
        process = self._process
        if not by_itself and process is not None:
            self._is_silent = True  # what launchers say of being killed is no news
            below = _pidfds_below(process.pid)
            with contextlib.suppress(OSError):
                process.terminate()
            self._over.wait(TERM_SECONDS)
            with contextlib.suppress(OSError):
                process.kill()
            _kill(below)
        with self._lock:
            ranks, self._ranks = self._ranks, []
        _kill(ranks)
        self._over.wait(TERM_SECONDS)
        return by_itself

    # In the job's thread.

    def _run(self) -> None:
        tether = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                [*tether, *self._line],
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException as error:
            self._failure = error
            self._finish()
            return
        finally:
            self._begun.set()
        try:
            self._follow(self._process)
        finally:
            code = self._process.wait()
            self._finish()
            self._ended(_how(code))

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        """Hand on what is printed until mpiexec has ended."""
        assert process.stdout is not None
        assert process.stderr is not None
        pipes = {process.stdout.fileno(): "stdout", process.stderr.fileno(): "stderr"}
        rests = dict.fromkeys(pipes, b"")
        for fd in pipes:
            os.set_blocking(fd, False)
        life = -1
        with contextlib.suppress(OSError):
            life = os.pidfd_open(process.pid)
        poll = select.poll()
        for fd in (*pipes, self._wakers[0], *([life] if life >= 0 else [])):
            poll.register(fd, select.POLLIN)
        limit = None if life >= 0 else LOOK_SECONDS * 1e3
        followed: set[int] = set()
        while process.poll() is None:
            for fd in [*self._watched]:
                if fd not in followed:
                    followed.add(fd)
                    poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll(limit):
                if fd in rests:
                    if not self._read(fd, pipes[fd], rests):
                        poll.unregister(fd)
                elif fd in self._watched:
                    poll.unregister(fd)
                    self._watched.pop(fd)()
                    os.close(fd)
                elif fd == self._wakers[0]:
                    os.read(fd, 4096)
        for fd, name in pipes.items():  # what a process of a task prints later is lost
            self._read(fd, name, rests)
            if rests[fd]:
                self._hand_on(name, rests[fd] + b"\n")
        process.stdout.close()
        process.stderr.close()
        if life >= 0:
            os.close(life)

    def _read(self, fd: int, name: str, rests: dict[int, bytes]) -> bool:
        """Hand on the lines that came; return whether more may come."""
        while True:
            try:
                text = os.read(fd, 65536)
            except BlockingIOError:
                return True
            if not text:
                return False
            lines, newline, rest = (rests[fd] + text).rpartition(b"\n")
            if len(rest) > LONGEST_LINE:
                lines, newline, rest = lines + newline + rest, b"", b""
            rests[fd] = rest
            if lines or newline:
                self._hand_on(name, lines + newline)

    def _hand_on(self, name: str, text: bytes) -> None:
        words = text.decode(errors="replace")
        if self._is_silent:
            return
        self._last.extend(words.splitlines())
        with self._lock:
            if self._held is not None:
                self._held.append((name, words))
                return
        _print(name, words)

    def _finish(self) -> None:
        """Say that it is over; let go of what tells so."""
        for fd in self._watched:
            os.close(fd)
        self._watched.clear()
        self._over.set()
        os.close(self._end[1])

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wakers[1], b".")

    def __del__(self) -> None:
        for fd in (*self._wakers, self._end[0], *self._ranks):
            with contextlib.suppress(OSError):
                os.close(fd)


def _print(name: str, text: str) -> None:
    """Write to what is `sys.stdout` or `sys.stderr` now; the user may have put it."""
    stream: Any = getattr(sys, name, None)
    with contextlib.suppress(BaseException):
        stream.write(text)
        stream.flush()


def _how(code: int) -> str:
    if code >= 0:
        return f"mpiexec ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"mpiexec was killed by {signal.Signals(-code).name}"
    return f"mpiexec was killed by signal {-code}"


def _pidfds_below(pid: int) -> list[int]:
    """Return a pidfd of every process that this one has started, and they in turn."""
    found, queue = [], [pid]
    while queue:
        for child in children(queue.pop()):
            queue.append(child)
            with contextlib.suppress(OSError):
                found.append(os.pidfd_open(child))
    return found


def _kill(pidfds: Sequence[int]) -> None:
    for fd in pidfds:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)
