"""`mpitasks.start`: a run that a notebook, a REPL or a plain script starts itself.

The script's process stays outside of MPI. It starts mpiexec as a child
(`mpitasks.launch.mpi_job`), waits until rank 0 calls back (`mpitasks.wire.rendezvous`),
and drives the run as rank 0 of any other run does; that rank only hands the messages on
(`mpitasks.launch.relay`). What is different is how the run ends: no death of a rank,
and no interrupt, is the end of the script.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks import forks, randomness
from mpitasks.api import session as sessions
from mpitasks.api.executor import INTERRUPTS, Executor
from mpitasks.errors import (
    ConfigurationError,
    ExecutorClosedError,
    LaunchError,
    MpiTasksError,
)
from mpitasks.journal import open_journals
from mpitasks.launch.capacity import job_ranks, whole_cores
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.exit import at_end_of_script
from mpitasks.launch.handshake import near_ranks, own_hello, room_for_results
from mpitasks.launch.interruptible import InterruptibleLoop
from mpitasks.launch.mpi_job import MpiJob
from mpitasks.launch.mpiexec import find_mpiexec, is_open_mpi, permissions
from mpitasks.master.failure_detector import FailureDetector
from mpitasks.master.lost_tasks import SHUTDOWN_SECONDS
from mpitasks.subprocesses import interpreter_options, subprocess_environment
from mpitasks.values import integer
from mpitasks.wire.messages import Hello, Welcome
from mpitasks.wire.rendezvous import Meeting, read_greeting
from mpitasks.wire.socket_transport import SocketTransport

if TYPE_CHECKING:
    from mpitasks.settings import Settings

__all__ = ["StartedExecutor", "start"]

GOODBYE_SECONDS = 30.0
"""How long workers, which have nothing to do any more, get to say goodbye."""

LEAVING_SECONDS = 10.0
"""How long the ranks get to leave MPI after that."""

MARGIN_SECONDS = 30.0
"""How much longer than rank 0 for the others we wait for rank 0."""

RELAY_SECONDS = 0.3
"""When rank 0 dies, another death may be the cause; so long it has to become known."""

ENDED = "the run is over: its ranks were ended. mpitasks.start(...) starts others"


def start(
    workers: int | None = None,
    *,
    mpiexec_args: Sequence[str] = (),
    mpiexec: str | os.PathLike[str] | None = None,
    slurm: bool | None = None,
    env: Mapping[str, str] | None = None,
    start_timeout: float = 60.0,
    **options: Any,
) -> StartedExecutor:
    """Start `mpiexec` with workers, from a notebook, a REPL or a plain script.

    The process that calls this stays outside of MPI. It becomes the master of the run;
    `mpiexec` is its child, with one rank more than there are workers, which hands
    messages on. What the ranks print appears here. If a rank or `mpiexec` dies, what
    waits raises `WorkerLost`, and `start` may be called again. An interrupt of a wait
    cancels what was not sent to a worker yet, and what runs isolated.

    Args:
        workers: How many workers; None for as many as there are cores, or tasks of the
            SLURM job.
        mpiexec_args: Further words for the launcher.
        mpiexec: The launcher; None for the one that belongs to this Python, else the
            one on PATH.
        slurm: Whether `srun` is the launcher. `mpiexec_args` tell it how to start the
            MPI library, ``["--mpi=pmi2"]`` say, where its default is another. None is
            the same as False: an `mpiexec` in an allocation finds its nodes.
        env: Environment variables of the ranks, beside those of this process.
        start_timeout: How long the ranks get to start, in seconds.
        **options: As `mpitasks.Executor` takes them.

    Returns:
        An Executor, whose shutdown ends the ranks. Other Executors that are opened
        meanwhile share its workers.

    Raises:
        LaunchError: The ranks did not start: with what the launcher said.
        ConfigurationError: There is no launcher; or this process is a rank or a task;
            or it has a run already.
        OptionError: An option has a value that it cannot have.

    Example:
        >>> executor = mpitasks.start(8)
        >>> sum(executor.map(simulate, range(1000)))
    """
    refuse_start()
    if workers is None:
        workers = job_ranks(os.environ) or whole_cores()
    workers = integer("workers", workers, 1)
    words = _launcher(workers + 1, mpiexec, list(mpiexec_args), slurm=bool(slurm))
    run = _Run(words, {**subprocess_environment(), **(env or {})}, start_timeout)
    try:
        executor = StartedExecutor(**options)
    except BaseException:
        run.end_now()
        raise
    executor._run = run
    return executor


def refuse_start() -> None:
    """Raise where no run can be started; end one that is broken.

    Raises:
        ConfigurationError: This is a rank, or a task, or there is a run.
    """
    if forks.forked():
        forks.refuse()
    if sessions.is_task():
        raise ConfigurationError(
            "mpitasks.start is for the script: a task runs on a worker of a run already"
        )
    sessions.refuse_after_end()
    hint = launch_hint()
    if hint is not None:
        raise ConfigurationError(
            f"mpitasks.start starts an mpiexec, but {hint.launcher} already started "
            f"this process: use mpitasks.Executor() in a script that is started with "
            f"mpiexec -n {hint.size or 4} python -m mpitasks, or start the script "
            f"without mpiexec"
        )
    session = sessions.peek()
    run = None if session is None else session.ending
    if isinstance(run, _Run) and run.is_lost:
        run.end_now()
    elif isinstance(run, _Run):
        raise ConfigurationError(
            "mpitasks.start was called before, and its workers are there: open an "
            "mpitasks.Executor(), which shares them, or call shutdown() of the "
            "Executor that it returned"
        )
    elif session is not None:
        raise ConfigurationError(
            "an Executor was opened before mpitasks.start, so tasks run in this "
            "process: call mpitasks.start first; in a notebook, restart the kernel"
        )


def _launcher(
    ranks: int,
    mpiexec: str | os.PathLike[str] | None,
    extra: list[str],
    *,
    slurm: bool,
) -> list[str]:
    """Return the words that start so many ranks.

    Raises:
        ConfigurationError: There is no such launcher.
    """
    if slurm:
        srun = shutil.which("srun")
        if srun is None or "SLURM_JOB_ID" not in os.environ:
            raise ConfigurationError(
                "slurm=True starts the ranks by srun, which needs an allocation: type "
                "salloc first, or leave out slurm=True"
            )
        return [srun, "-n", str(ranks), "--kill-on-bad-exit=1", *extra]
    path = find_mpiexec() if mpiexec is None else None
    if path is None:
        found = shutil.which(os.fspath(mpiexec or ""))
        if found is None:
            raise ConfigurationError(
                f"there is no program {os.fspath(mpiexec or '')!r} to start the ranks; "
                f"leave out mpiexec=, and the one of this Python is used"
            )
        from pathlib import Path

        path = Path(found)
    allowed = permissions(ranks, extra) if is_open_mpi(path) else []
    return [str(path), "-n", str(ranks), *extra, *allowed]


class StartedExecutor(Executor):
    """An Executor whose shutdown ends the ranks that were started for it."""

    _run: _Run | None = None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; end the ranks once every call is done.

        Args:
            wait: Return only then.
            cancel_futures: Cancel the calls that were not sent to a worker yet, and end
                those that run isolated. Others that run get 30 s; then their futures
                fail with `ExecutorClosedError`.
        """
        super().shutdown(wait, cancel_futures=cancel_futures)
        run = self._run
        if run is None or run.is_over:
            return
        if wait:
            run.close()
        else:
            seconds = SHUTDOWN_SECONDS if cancel_futures else None
            threading.Thread(
                target=run.close, args=(seconds,), name="mpitasks-close", daemon=True
            ).start()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Shut down, waiting for what is outstanding; if interrupted, end all now."""
        if kind is not None and issubclass(kind, INTERRUPTS):
            if self._run is not None:
                self._run.end_now()
            return
        super().__exit__(kind, error, trace)


class _Run:
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
        transport = SocketTransport(connection, spare_cores=answer.spare_cores)
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
            here = [hello.pid for hello in hellos if hello.machine == own.machine]
            self._job.know_ranks(here)
            where = (
                f"rank 0 on {relay.host} (pid {relay.pid}), which hands messages on,"
            )
            self._job.watch(relay.pid, lambda: self._lose_soon(f"{where} died"))
        detector = FailureDetector(
            event_loop,
            [own, *workers],
            self._lose,
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
