"""Beside an mpiexec of Open MPI's: sees to it that the run ends, and ends as it should.

Open MPI's mpiexec ends all ranks within half a second of a signal, whatever they would
still do; so signals come here and go on to rank 0, as other launchers do it. And where
ranks may die (``--survive``), mpiexec returns what suits it once one has died, or waits
for ever: for a rank that does not end, in MPI_Init for one that never came. So
``mpitasks -n N`` stays its parent. Rank 0 says who it is and, at the end, its exit
code, over a pipe that nobody else can open (`mpitasks.wire.pipes`).
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from mpitasks import exit_codes
from mpitasks.launch.exit import SUPERVISOR
from mpitasks.launch.start_guard import MISSING_LOOKS, RANK_DIED, lacks_ranks, ranks_of
from mpitasks.wire.pipes import make_pipe
from mpitasks.wire.processes import frozen, parent, pending

__all__ = ["run_supervised"]

GONE_SECONDS = 5.0
"""Seconds for mpiexec to end after rank 0 is gone."""

LEAVING_SECONDS = 10.0
"""With rank 0 in MPI_Finalize, or in MPI_Abort."""

TERM_SECONDS = 3.0
"""Seconds for it to end once it is told to; then it is killed with its ranks."""

TWICE_SECONDS = 1.0
"""A second signal means it, but not within this time (`mpitasks.launch.early_stop`)."""

LOOK_SECONDS = 0.2

FROZEN_LOOKS = 40
"""So many looks in a row at a frozen mpiexec. Not seconds: who freezes and thaws both
of them, as a shell's Ctrl-Z does, must not be misunderstood."""

LINE_BYTES = 64
"""No line of rank 0 is longer."""

"""A rank died without a word, or mpiexec gave up."""

_STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
_TERMINALS = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to mpiexec as well, which must not hear it."""

_PR_SET_PDEATHSIG = 1


def run_supervised(line: Sequence[str], *, survives: bool, grace: float) -> NoReturn:
    """Run mpiexec, and exit with the script's code.

    Args:
        line: Its command line.
        survives: Whether the run goes on when a rank dies.
        grace: Seconds that running tasks get after SIGTERM.
    """
    reader, writer = make_pipe()
    numbers = (*_STOPS, *_PASSED_ON)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    own = os.getpid()

    def prepare() -> None:
        _die_with(own)
        signal.pthread_sigmask(signal.SIG_SETMASK, {*mask, *_TERMINALS})

    mpiexec = subprocess.Popen(
        line,
        env={**os.environ, SUPERVISOR: f"{own}/{writer}"},
        preexec_fn=prepare,
    )
    supervisor = _Supervisor(mpiexec, reader, survives=survives, grace=grace)
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, supervisor.take_signal)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sys.exit(supervisor.watch())


def _die_with(parent: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(exit_codes.LOST)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"mpitasks: {text}\n".encode())


class _Supervisor:
    """Waits for the end of one mpiexec."""

    def __init__(
        self,
        mpiexec: subprocess.Popen[bytes],
        reader: int,
        *,
        survives: bool,
        grace: float,
    ) -> None:
        self._mpiexec = mpiexec
        self._reader = reader
        self._survives = survives
        self._grace = grace
        self._heard = b""  # the beginning of a line
        self._stopped = False  # and that was said
        self._code: int | None = None  # rank 0's
        self._rank_0: int | None = None  # its process id
        self._life: int | None = None  # a pidfd of it, while it lives
        self._near = False  # rank 0 is on this host
        self._met = False
        self._deadline = math.inf
        self._pushed = False  # mpiexec was told to end
        self._fate: int | None = None  # the exit code, if the run did not end by itself
        self._asked: dict[int, float] = {}  # when which signal came first
        self._frozen = self._missing = 0  # looks in a row

    # In a signal's handler, which runs between two steps of the next part.

    def take_signal(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to rank 0, if that can do something about it."""
        led = self._met and self._life is not None
        if number in _PASSED_ON:
            if not (led and self._signal_rank_0(number)):
                self._mpiexec.send_signal(number)
            return
        now = time.monotonic()
        again = now - self._asked.setdefault(number, now) > TWICE_SECONDS
        if led and self._signal_rank_0(number):
            # The tasks have the grace, and then the script; what is caught by the
            # script may take any time.
            first = {signal.SIGTERM: 2 * self._grace, signal.SIGINT: math.inf}
            seconds = 0.0 if again else first.get(signal.Signals(number), 0.0)
            self._limit(seconds + GONE_SECONDS)
        else:
            self._stop(number)

    def _signal_rank_0(self, number: int) -> bool:
        with contextlib.suppress(OSError):
            if self._life is not None:
                signal.pidfd_send_signal(self._life, number)
                return True
        return False

    # Else.

    def watch(self) -> int:
        """Wait for the end; return the exit code."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while self._mpiexec.poll() is None:
            poll.poll(LOOK_SECONDS * 1e3)
            self._listen()
            self._look()
        self._listen()
        return self._verdict()

    def _listen(self) -> None:
        """Take in what rank 0 has said."""
        while True:
            try:
                self._heard += os.read(self._reader, 4096)
            except BlockingIOError:
                return
            *lines, rest = self._heard.split(b"\n")
            self._heard = rest[-LINE_BYTES:]
            for line in lines:
                self._take_in(line)

    def _take_in(self, line: bytes) -> None:
        """Take in one line; what rank 0 of this run has not said is nothing."""
        pid, _, text = line.partition(b" ")
        word, _, number = text.partition(b" ")
        if not pid.isdigit():
            return
        if self._rank_0 is None:
            self._follow(int(pid))
        if int(pid) != self._rank_0:
            return
        if word == b"met":
            self._met = True
        elif word == b"leaving":
            if self._survives:
                self._limit(LEAVING_SECONDS)
        elif word == b"code" and number.isdigit():
            self._code = int(number)
        elif word == b"fell" and number.isdigit():
            self._stop(int(number))

    def _follow(self, pid: int) -> None:
        """The first one below mpiexec that speaks is rank 0: no user code has run."""
        ancestor: int | None = pid
        while ancestor is not None and ancestor != self._mpiexec.pid:
            ancestor = parent(ancestor)
        if ancestor is not None:
            with contextlib.suppress(OSError):
                self._life = os.pidfd_open(pid)
                self._rank_0 = pid

    def _look(self) -> None:
        """See what has become of mpiexec and of the ranks; act upon it."""
        for number in _TERMINALS:
            if number not in self._asked and number in pending(self._mpiexec.pid):
                self.take_signal(number, None)  # somebody sent it to mpiexec alone
        if self._life is not None and select.select([self._life], [], [], 0)[0]:
            os.close(self._life)
            self._life = None
            if self._survives:
                self._limit(GONE_SECONDS)
        self._frozen = self._frozen + 1 if frozen(self._mpiexec.pid) else 0
        if self._frozen == FROZEN_LOOKS:
            seconds = FROZEN_LOOKS * LOOK_SECONDS
            self._end(
                f"mpiexec (pid {self._mpiexec.pid}) was frozen by a signal (SIGSTOP) "
                f"and did not go on for {seconds:g} s; the run ends. kill -CONT would "
                f"have had it go on"
            )
            self._kill()
        if self._survives and not self._met and self._fate is None:
            lacks = self._hears_rank_0() and lacks_ranks(self._mpiexec.pid)
            self._missing = self._missing + 1 if lacks else 0
            if self._missing == MISSING_LOOKS:
                self._end(RANK_DIED)
                self._push()
        if time.monotonic() > self._deadline:
            self._push()

    def _hears_rank_0(self) -> bool:
        """Whether rank 0 is on this host, so that it would say that the run begins."""
        for rank in ranks_of(self._mpiexec.pid).values():
            size = rank.get("OMPI_COMM_WORLD_SIZE")
            all_here = size == rank.get("OMPI_COMM_WORLD_LOCAL_SIZE")
            if all_here or rank.get("OMPI_COMM_WORLD_RANK") == "0":
                self._near = True
        return self._near

    def _limit(self, seconds: float) -> None:
        """Give mpiexec at most this many seconds to end by itself."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def _push(self) -> None:
        """Have mpiexec end; kill it, if it was told before."""
        if self._pushed and time.monotonic() > self._deadline:
            self._kill()
        elif not self._pushed:
            self._pushed = True
            self._mpiexec.terminate()
            self._deadline = time.monotonic() + TERM_SECONDS

    def _kill(self) -> None:
        """Kill mpiexec, and the ranks, which might not notice."""
        ranks = ranks_of(self._mpiexec.pid)
        for pid in (self._mpiexec.pid, *ranks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._deadline = time.monotonic() + TERM_SECONDS

    def _end(self, why: str) -> None:
        self._fate = exit_codes.LOST
        _say(why)

    def _stop(self, number: int) -> None:
        """A signal ends the run: say so, once, and have mpiexec end."""
        if not self._stopped:
            self._stopped = True
            self._fate = exit_codes.SIGNAL + number
            with contextlib.suppress(ValueError):
                _say(f"stopped by {signal.Signals(number).name}")
        self._push()

    def _verdict(self) -> int:
        if self._fate is not None:
            return self._fate
        if self._survives and self._code is not None:
            return self._code
        code = self._mpiexec.returncode
        if code < 0:
            return exit_codes.SIGNAL - code
        if code == 0 and self._code is None and (self._met or self._near):
            _say(
                "mpiexec gave the run up, or rank 0 died; its exit code 0 means nothing"
            )
            return exit_codes.LOST
        return code
