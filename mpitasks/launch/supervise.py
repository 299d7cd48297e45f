"""Beside an mpiexec that lets ranks die: sees to it that the exit code is the script's.

Open MPI's mpiexec with ULFM returns what suits it once a rank has died: the code of a
worker that ended by itself, or 0 where it gave up itself, and it may wait for a rank
that does not end. So ``mpitasks -n N --survive`` stays its parent. Rank 0 says who it
is and, at the end, its exit code, over a local socket with an abstract name (Linux).
That code counts; and what is left once rank 0 is gone is ended.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from mpitasks.launch.parting import SUPERVISOR

__all__ = ["run_supervised"]

END_SECONDS = 10.0
"""With rank 0's last word, or with rank 0 gone, mpiexec gets so long to end."""

TERM_SECONDS = 5.0
"""Told to end, it gets so long again; then it is killed."""

LOOK_SECONDS = 0.2

EXIT_LOST = 69
"""Rank 0 died without a word, or mpiexec gave up."""

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1


def run_supervised(line: Sequence[str]) -> NoReturn:
    """Run mpiexec, and exit with the script's code.

    Args:
        line: Its command line.
    """
    name = f"mpitasks-{os.urandom(16).hex()}-supervisor"
    ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ears.bind(f"\0{name}")
    ears.setblocking(False)
    mpiexec = subprocess.Popen(
        line, env={**os.environ, SUPERVISOR: name}, preexec_fn=_die_with_parent
    )
    for number in _PASSED_ON:
        signal.signal(number, lambda number, frame: mpiexec.send_signal(number))
    # A terminal sends it to mpiexec as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ears:
        sys.exit(_Supervisor(mpiexec, ears).watch())


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class _Supervisor:
    """Waits for the end of one mpiexec."""

    def __init__(self, mpiexec: subprocess.Popen[bytes], ears: socket.socket) -> None:
        self._mpiexec = mpiexec
        self._ears = ears
        self._code: int | None = None  # rank 0's
        self._rank_0: int | None = None  # a pidfd, while it lives
        self._met = False
        self._end: float | None = None

    def watch(self) -> int:
        """Wait for the end; return the exit code."""
        poll = select.poll()
        poll.register(self._ears, select.POLLIN)
        told_to_end = False
        while self._mpiexec.poll() is None:
            poll.poll(LOOK_SECONDS * 1e3)
            self._listen()
            if self._end is None and (self._code is not None or self._is_orphaned()):
                self._end = time.monotonic() + END_SECONDS
            if self._end is not None and time.monotonic() > self._end:
                self._end = time.monotonic() + TERM_SECONDS
                if told_to_end:
                    self._mpiexec.kill()
                else:
                    self._mpiexec.terminate()
                told_to_end = True
        self._listen()
        return self._verdict()

    def _listen(self) -> None:
        """Take in what rank 0 has said: its process id, and at the end its code."""
        while True:
            try:
                word, _, number = self._ears.recv(64).partition(b" ")
            except BlockingIOError:
                return
            if word == b"code":
                self._code = int(number)
            elif word == b"pid":
                self._met = True
                try:
                    self._rank_0 = os.pidfd_open(int(number))
                except ProcessLookupError:
                    self._rank_0 = None

    def _is_orphaned(self) -> bool:
        """Whether rank 0 was there and is gone."""
        if self._rank_0 is not None and select.select([self._rank_0], [], [], 0)[0]:
            os.close(self._rank_0)
            self._rank_0 = None
        return self._met and self._rank_0 is None

    def _verdict(self) -> int:
        if self._code is not None:
            return self._code
        code = self._mpiexec.returncode
        if code < 0:
            return 128 - code
        if code == 0 and self._met:
            print(
                "mpitasks: mpiexec gave the run up, or rank 0 died; its exit code 0 "
                "means nothing",
                file=sys.stderr,
            )
            return EXIT_LOST
        return code
