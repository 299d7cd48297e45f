"""Which run this process is part of, and in which role. One run a process.

The launcher installs the session: on rank 0 with a pump, on other ranks as a
worker's. A script that was started without a launch gets one in its own process,
when it makes its first Executor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpitasks import forks
from mpitasks.errors import ConfigurationError, ExecutorClosedError
from mpitasks.master import journals
from mpitasks.randomness import Draw, refuse_thread
from mpitasks.settings import Settings

if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from mpitasks.master.journal.recorder import Journal
    from mpitasks.master.logs import Logs
    from mpitasks.master.pump import Pump
    from mpitasks.terms import Origin

    class Closable(Protocol):
        """Something of the launcher's that ends with the script."""

        def close(self) -> None:
            """The script is over."""


__all__ = [
    "Lease",
    "Session",
    "configure",
    "current",
    "end",
    "install",
    "install_worker",
    "installed",
    "peek",
    "refuse_submit",
    "settings",
    "uninstall",
]


class Lease:
    """An Executor's hold on the session; its views share it.

    Attributes:
        pump: The session's pump.
        closed: Whether the Executor was shut down.
        journal: Where its results are kept, if anywhere.
        owns: Whether the journal is the Executor's own.
        origin: Its seed, and from where on its calls are numbered; None until it is
            fully open.
    """

    __slots__ = ("closed", "journal", "origin", "owns", "pump", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pump = session.pump
        self.closed = False
        self.journal: Journal | None = journals.run_journal()
        self.owns = False
        self.origin: Origin | None = None

    def close_journal(self) -> None:
        """Close the Executor's own journal, when all of its calls are done.

        Raises:
            JournalError: It could not be written.
        """
        if self.owns and self.journal is not None:
            self.owns = False
            journals.close_journal(self.journal)


class Session:
    """Rank 0's part of a run.

    Args:
        pump: Drives it.
        runs_tasks_here: Tells whether the calling thread is one that runs tasks, as
            in the size-1 mode, where they run in this process.

    Attributes:
        ending: Watches over the end of the run; closed when the script is over.
        current: Tells which task runs in the calling thread, if one does: number and
            label.
    """

    def __init__(
        self, pump: Pump, runs_tasks_here: Callable[[], bool] = lambda: False
    ) -> None:
        self.pump = pump
        self.runs_tasks_here = runs_tasks_here
        self.ending: Closable | None = None
        self._lease: Lease | None = None
        self._over = False
        self._lock = threading.Lock()
        self._numbered = 0  # Executors that draw from the run's own seed
        self._entropy: int | None = None
        self.current: Callable[[], tuple[int | None, str | None]] = lambda: (None, None)
        self._logs: Logs | None = None  # made when they are asked for
        forks.in_child(self._disown)

    def open(
        self,
        max_workers: int | None = None,
        open_journal: Callable[[], Journal | None] | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        seed: int | None = None,
        logging: bool = False,
    ) -> Lease:
        """Let an Executor use the session, and so many of its workers.

        Args:
            max_workers: How many; None for all.
            open_journal: Opens the Executor's own journal, if it has one.
            initializer: What every process that runs tasks calls first, if anything.
            initargs: Its arguments.
            seed: The Executor's own seed, if it has one.
            logging: Whether log records of its tasks are wanted here.

        Raises:
            ConfigurationError: Another one does, or the caller is a task.
            JournalError: The journal cannot be opened.
            SerializationError: The initializer cannot be pickled.
        """
        if self.runs_tasks_here():
            raise ConfigurationError(IN_TASK)
        if self._over:
            raise ExecutorClosedError(OVER)
        with self._lock:
            if self._lease is not None and not self._lease.closed:
                raise ConfigurationError(
                    "an Executor is open already, and a run has one at a time: pass "
                    "that one along, or shut it down before you make another"
                )
            last, self._lease = self._lease, Lease(self)
        lease = self._lease
        try:
            if last is not None and last.owns:  # it was shut down without waiting
                self.pump.finish()
                last.close_journal()
            if open_journal is not None:
                lease.journal = open_journal()
                lease.owns = True
            if lease.journal is not None:
                lease.journal.attach(self.pump, initializer, initargs)
            self.pump.functions.open(initializer, initargs)
            logs = self._log().setup() if logging else None
            lease.origin = self.pump.open(*self._seed(lease, seed), logs)
        except BaseException:
            lease.closed = True
            raise
        self.pump.limit_workers(max_workers)
        return lease

    def draw(self) -> Draw | None:
        """Return where the script has its random numbers from, if it may ask.

        Raises:
            ConfigurationError: This is not the main thread.
        """
        lease = self._lease
        if lease is None or lease.closed or lease.origin is None:
            return None
        main = threading.main_thread().ident
        assert main is not None
        refuse_thread(main)
        origin = lease.origin
        return Draw("script", lease, origin.entropy, (origin.executor,))

    def settle_logs(self) -> None:
        """Wait until the log records that have come were handled."""
        if self._logs is not None:
            self._logs.settle()

    def _log(self) -> Logs:
        if self._logs is None:
            from mpitasks.master.logs import Logs

            self._logs = Logs(self.pump.call_back, lambda: self.current())
            self.pump.engine.on_logged = self._logs.take
        return self._logs

    def _seed(self, lease: Lease, seed: int | None) -> tuple[int, int]:
        """Return what an Executor's random numbers come from: its seed, its number.

        A seed of its own, or a fresh one of its own journal, starts anew with each
        Executor, so that the next one draws the same. The run's goes on.
        """
        own = seed is not None
        if seed is None:
            seed = settings().seed
        journal = lease.journal
        if journal is not None and seed is None:
            own = lease.owns
            seed = journal.seed
        if seed is None:
            if own or self._entropy is None:
                fresh = int.from_bytes(os.urandom(16), "little")
                self._entropy = self._entropy if own else fresh
            seed = fresh if own else self._entropy
        assert seed is not None
        if journal is not None and (lease.owns or not own):
            journal.note_seed(seed)
        if own:
            return seed, 0
        number, self._numbered = self._numbered, self._numbered + 1
        return seed, number

    def end(self) -> None:
        """The script is over: no Executor takes calls any more."""
        self._over = True
        if self._lease is not None:
            self._lease.closed = True

    def close(self) -> None:
        """The workers have left: what still waits in a thread of the script, fails."""
        self.end()
        self.pump.shut(_refuse)

    def _disown(self) -> None:
        """In a forked child: nothing of the run is to be reached from there."""
        self.end()
        self.pump.shut(forks.refuse)


def refuse_submit() -> NoReturn:
    """Say why an Executor that is closed takes no calls.

    Raises:
        ExecutorClosedError: It was shut down, or the run is over.
        ConfigurationError: This is a forked child.
    """
    if forks.forked():
        forks.refuse()
    raise ExecutorClosedError("cannot schedule new futures after shutdown")


IN_TASK = (
    "an Executor cannot be used inside a task, only in the script on rank 0: return "
    "what is to be done next from the task, and submit it from the script"
)

OVER = (
    "the run is over: an Executor takes no calls once the script has ended, so not in "
    "a function that atexit calls"
)


def _refuse() -> NoReturn:
    raise ExecutorClosedError(OVER)


_current: Session | None = None
_over = False
_worker_rank: int | None = None
_settings = Settings()
_lock = threading.Lock()


def configure(settings: Settings) -> None:
    """Say what the command line asks of the run."""
    global _settings
    _settings = settings


def settings() -> Settings:
    """Return what the command line asks of the run."""
    return _settings


def install(session: Session) -> None:
    """Make this process rank 0 of a run."""
    global _current
    _current = session


def install_worker(rank: int) -> None:
    """Make this process a worker of a run."""
    global _worker_rank
    _worker_rank = rank


def uninstall() -> None:
    """Make this process part of no run."""
    global _current, _worker_rank
    _current = _worker_rank = None


def end() -> None:
    """The script is over, and nothing in this process starts a run any more."""
    global _over
    _over = True


def installed() -> bool:
    """Whether this process is rank 0 of a run already."""
    return _current is not None


def peek() -> Session | None:
    """Return the session of this process, if there is one."""
    return _current


def current() -> Session:
    """Return the session of this process; start one in it if it was not launched.

    Raises:
        ConfigurationError: This process is a worker, or was launched in a way that
            leaves nobody to be one.
        ExecutorClosedError: The run is over.
    """
    if _worker_rank is not None:
        raise ConfigurationError(IN_TASK)
    if forks.forked():
        forks.refuse()
    with _lock:
        if _current is None:
            if _over:
                raise ExecutorClosedError(OVER)
            # The one import upwards: only the launcher may wire master and worker.
            from mpitasks.launch.local import start_local

            install(start_local())
    assert _current is not None
    return _current
