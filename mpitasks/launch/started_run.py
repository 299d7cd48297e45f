"""The run that `mpitasks.start` has started: from the meeting of the ranks to its end.

It waits until rank 0 calls back (`mpitasks.wire.rendezvous`), and becomes the master of
the workers that this tells of, as rank 0 of any other run does (`mpitasks.launch.run`).
It sees to it that the death of a rank, or of mpiexec, is an error of what waits, and
that nothing of the job is left. What the user calls is in `mpitasks.launch.outside`.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks import forks, randomness
from mpitasks.api import session as sessions
from mpitasks.errors import ExecutorClosedError, LaunchError, MpiTasksError
from mpitasks.journal import open_journals
from mpitasks.launch.exit import at_end_of_script
from mpitasks.launch.handshake import near_ranks, own_hello, room_for_results
from mpitasks.launch.interruptible import InterruptibleLoop
from mpitasks.launch.mpi_job import MpiJob
from mpitasks.master.failure_detector import FailureDetector
from mpitasks.subprocesses import interpreter_options
from mpitasks.wire.messages import Hello, Welcome
from mpitasks.wire.rendezvous import Meeting, read_greeting
from mpitasks.wire.socket_transport import SocketTransport

if TYPE_CHECKING:
    from mpitasks.settings import Settings

__all__ = ["StartedRun"]

GOODBYE_SECONDS = 30.0
"""How long workers, which have nothing to do any more, get to say goodbye."""

LEAVING_SECONDS = 10.0
"""How long the ranks get to leave MPI after that."""

MARGIN_SECONDS = 30.0
"""How much longer than rank 0 for the others we wait for rank 0."""

RELAY_SECONDS = 0.3
"""When rank 0 dies, another death may be the cause; so long it has to become known."""

ENDED = "the run is over: its ranks were ended. mpitasks.start(...) starts others"


class StartedRun:
    """The run that this process has started. There is one at a time.

    Args:
        words: What starts the ranks, without the program that each of them runs.
        environ: Their environment.
        seconds: How long they get to start.

    Raises:
        LaunchError: They did not start.
    """

    def __init__(
        self, words: Sequence[str], environ: Mapping[str, str], seconds: float
    ) -> None:
        self.is_over = False
        self._closing = False
        self._how_ended = ""
        self._lock = threading.Lock()
        meeting = Meeting()
        program = [
            sys.executable,
            *interpreter_options(),
            "-m",
            "mpitasks.launch.relay",
        ]
        line = [*words, *program, meeting.name, socket.gethostname(), str(seconds)]
        self._job = MpiJob(line, environ, self._job_ended)
        self._event_loop: InterruptibleLoop | None = None
        try:
            self._job.start()
            connection = self._meet(meeting, seconds)
            greeting = self._hear(connection)
            self._begin(connection, greeting, sessions.settings())
        except BaseException:
            self._closing = True
            self._job.end(0.0)
            raise
        finally:
            meeting.close()
        self._job.show()
        if self._how_ended:  # before there was anybody to be told
            self._lose(self._how_ended)

    def _meet(self, meeting: Meeting, seconds: float) -> socket.socket:
        """Wait until rank 0 calls.

        Raises:
            LaunchError: The launcher has ended before, or time was up.
        """
        end = time.monotonic() + seconds + MARGIN_SECONDS
        while (left := end - time.monotonic()) > 0:
            connection = meeting.wait(left, [self._job.end_fd])
            if connection is not None:
                connection.settimeout(max(left, 1.0))
                return connection
            if self._job.is_over:
                raise self._no_start("mpiexec ended before the ranks had met")
        raise self._no_start(f"the ranks did not start within {seconds:g} s")

    def _hear(self, connection: socket.socket) -> dict[str, Any]:
        """Return what rank 0 says of the ranks."""
        try:
            return read_greeting(connection)
        except OSError:
            connection.close()
            raise self._no_start("rank 0 ended before the run began") from None

    def _no_start(self, what: str) -> LaunchError:
        said = self._job.last_lines()
        told = f"; it said:\n{said}" if said else " and said nothing"
        return LaunchError(f"{what}{told}")

    def _begin(
        self,
        connection: socket.socket,
        greeting: Mapping[str, Any],
        settings: Settings,
    ) -> None:
        """Become the master of the ranks that rank 0 has told of."""
        hellos = [Hello(**hello) for hello in greeting["hellos"]]
        answer = Welcome(**greeting["welcome"])
        relay, workers = hellos[0], hellos[1:]
        own = own_hello(0, relay.library)  # whose memory the workers attach
        here = [hello for hello in hellos if hello.host == own.host]
        cores = {core for hello in here for core in hello.cores}
        spare = answer.spare_cores and len(here) < len(cores)  # one for this, too
        transport = SocketTransport(connection, spare_cores=spare)
        self._transport = transport
        event_loop = InterruptibleLoop(
            transport,
            [hello.rank for hello in workers],
            near=near_ranks([own, *workers]),
            max_failures=settings.max_failures,
        )
        self._event_loop = event_loop
        event_loop.functions.workers_differ()
        room = room_for_results([own, *workers], settings.node_memory)
        event_loop.engine.kept.bound(room)
        if relay.machine == own.machine:
            self._job.know_ranks(
                [hello.pid for hello in hellos if hello.machine == own.machine]
            )
            where = (
                f"rank 0 on {relay.host} (pid {relay.pid}), which hands messages on,"
            )
            self._job.watch(relay.pid, lambda: self._lose_soon(f"{where} died"))
        detector = FailureDetector(
            event_loop,
            [own, *workers],
            self._lose_rank,
            lambda text: print(f"mpitasks: {text}", file=sys.stderr, flush=True),
            listens=greeting["listens"],
        )
        event_loop.on_close = self._detector_stop = detector.stop
        event_loop.loses_rank = detector.untold
        forks.begin()
        forks.in_child(transport.disown)
        hosts = {hello.rank: hello.host for hello in workers}
        self._session = sessions.Session(event_loop, hosts=hosts)
        self._session.ending = self
        at_end_of_script(self._end_with_script)
        sessions.install(self._session)
        randomness.provide(self._session.draw)
        detector.start()

    # What becomes of it.

    @property
    def is_lost(self) -> bool:
        """Whether ranks have died."""
        return self._event_loop is not None and self._event_loop.error is not None

    def _job_ended(self, how: str) -> None:
        """In the job's thread: mpiexec has ended."""
        self._how_ended = how
        if not self._closing and self._event_loop is not None:
            said = self._job.last_lines()
            self._lose(f"{how}; the last that it said:\n{said}" if said else how)

    def _lose(self, what: str) -> None:
        """From any thread: a rank is gone, and the job with it."""
        with self._lock:
            if self._closing or self._event_loop is None or self.is_lost:
                return
        from mpitasks.errors import WorkerLost

        self._event_loop.abandon(
            WorkerLost(
                f"{what}; the job ends with it. mpitasks.start(...) starts others"
            )
        )
        self._detector_stop()
        threading.Thread(
            target=self._job.end, args=(0.0,), name="mpitasks-end", daemon=True
        ).start()

    def _lose_rank(self, what: str) -> None:
        """A worker is gone. Where that is since mpiexec was killed, the job says so."""
        if not self._job.was_killed:
            self._lose(what)

    def _lose_soon(self, what: str) -> None:
        """The same, unless another reason is found: launchers kill rank 0, too."""
        timer = threading.Timer(RELAY_SECONDS, self._lose, (what,))
        timer.daemon = True
        timer.start()

    def close(self, seconds: float | None = None) -> None:
        """Wait for what is outstanding; then let the ranks go.

        Args:
            seconds: How long to wait for tasks; None for ever.
        """
        event_loop = self._event_loop
        assert event_loop is not None
        try:
            event_loop.finish(seconds)
            with self._lock:
                if self._closing:
                    return
                self._closing = True
            self._session.end()
            event_loop.ignore_failures()
            missing = event_loop.close(GOODBYE_SECONDS)
            self._transport.close()
        except BaseException:
            self.end_now()
            raise
        self._leave(0.0 if missing else LEAVING_SECONDS)

    def end_now(self) -> None:
        """End the ranks, whatever they do; fail what is outstanding."""
        with self._lock:
            if self.is_over:
                return
            self._closing = True
        self._session.end()
        event_loop = self._event_loop
        assert event_loop is not None
        if not event_loop.is_shut:
            event_loop.abandon(ExecutorClosedError(ENDED))
            event_loop.close(0.0)
        self._detector_stop()
        self._transport.close()
        self._leave(0.0)

    def _leave(self, seconds: float) -> None:
        """Wait for mpiexec; then this process is part of no run."""
        self._job.end(seconds)
        self.is_over = True
        self._session.close()
        with contextlib.suppress(MpiTasksError):
            open_journals.settle_journals()
        if sessions.peek() is self._session:
            sessions.uninstall()

    def _end_with_script(self) -> None:
        """Python ends: let what was submitted finish; but nobody waits at a prompt."""
        if self.is_over:
            return
        interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
        if hasattr(sys, "ps1") or interrupted or self.is_lost:
            self.end_now()
        else:
            self.close()
