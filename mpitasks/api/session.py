"""The session: which run this process is part of, and in which role.

A process is part of one run. The launcher installs the session: on rank 0 with an event
loop, on other ranks as a worker's. A script that was started without a launcher gets a
session in its own process when it makes its first Executor.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mpitasks import forks
from mpitasks.errors import ConfigurationError, ExecutorClosedError
from mpitasks.journal import open_journals
from mpitasks.observe.accounts import Accounts
from mpitasks.randomness import Draw, refuse_thread
from mpitasks.settings import Settings

if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from mpitasks.journal.recorder import Journal
    from mpitasks.master.event_loop import EventLoop
    from mpitasks.master.log_records import Logs
    from mpitasks.observe.accounts import RunStatistics
    from mpitasks.observe.calls import CallCounter
    from mpitasks.observe.display import Display
    from mpitasks.task_spec import Origin

    class Closable(Protocol):
        """Something of the launcher's that ends with the script."""

        def close(self) -> None:
            """The script is over."""


__all__ = [
    "NO_HANDLE",
    "ExecutorHandle",
    "Session",
    "answer_tasks",
    "configure",
    "current",
    "end",
    "install",
    "install_worker",
    "installed",
    "is_task",
    "peek",
    "refuse_after_end",
    "refuse_copy",
    "refuse_in_task",
    "refuse_submit",
    "settings",
    "settings_here",
    "uninstall",
    "when_installed",
]


class _Hold:
    """Lives as long as an Executor, or a view of it, does."""

    __slots__ = ("__weakref__",)


class ExecutorHandle:
    """An Executor's hold on the session; its views share it.

    Attributes:
        session: The session.
        event_loop: The session's event loop.
        max_workers: How many workers it wants; None for all.
        logging: Whether log records of its tasks are wanted here.
        closed: Whether the Executor was shut down.
        journal: Where its results are kept, if anywhere.
        label_path: What the labels of its tasks begin with: that of the task that has
            opened it, if that has one.
        owns: Whether the journal is the Executor's own.
        keyed_by: What its initializer is to keys of the journal.
        set_up: What its functions need first.
        origin: Its seed, and from where on its calls are numbered; None until it is
            fully open.
        ids: Where its calls and maps get their ids from.
    """

    __slots__ = (
        "_calls",
        "_hold",
        "closed",
        "event_loop",
        "ids",
        "journal",
        "keyed_by",
        "label_path",
        "logging",
        "max_workers",
        "origin",
        "owns",
        "session",
        "set_up",
    )

    def __init__(
        self, session: Session, max_workers: int | None = None, *, logging: bool = False
    ) -> None:
        self.session = session
        self.event_loop = session.event_loop
        self.max_workers = max_workers
        self.logging = logging
        self.ids: Iterator[int] = iter(())
        self.keyed_by: Any = None
        self.label_path: str | None = None
        self.set_up = self.event_loop.functions.plain
        self.closed = False
        self.journal: Journal | None = open_journals.run_journal()
        self.owns = False
        self.origin: Origin | None = None
        self._hold: weakref.ref[_Hold] | None = None
        self._calls: CallCounter | None = None

    def show_calls(self) -> None:
        """Show how far the calls are that ask for it; once is enough."""
        if self._calls is not None:
            return
        from mpitasks.observe.calls import CallCounter

        session = self.session
        self._calls = CallCounter(self, session.accounts)
        self.event_loop.engine.listen(self._calls.listen)
        listeners = self.event_loop.engine.completion.failure_listeners
        listeners.append(self._calls.note_failure)
        session.display.add(self._calls)

    def end_calls(self) -> None:
        """All calls are done: show the last of them."""
        if self._calls is not None:
            self.session.display.end(self._calls)

    def hold(self) -> _Hold:
        """Return what the Executor keeps, and its views, as long as they live."""
        hold = _Hold()
        self._hold = weakref.ref(hold)
        return hold

    @property
    def open(self) -> bool:
        """Whether an Executor can still submit by it."""
        dropped = self._hold is not None and self._hold() is None
        return not (self.closed or dropped)

    def close(self) -> None:
        """Take no more calls; let the other Executors have their number of workers."""
        self.closed = True
        self.session.limit_workers()

    def close_journal(self) -> None:
        """Close the Executor's own journal, when all of its calls are done.

        Raises:
            JournalError: It could not be written.
        """
        if self.owns and self.journal is not None:
            self.owns = False
            open_journals.close_journal(self.journal)


class _NoHandle:
    """What an Executor has in the place of its handle where it was unpickled."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)  # the interpreter, or a pickler, asks
        refuse_copy("an Executor")


NO_HANDLE: Any = _NoHandle()


class Session:
    """Rank 0's part of a run.

    Args:
        event_loop: Drives it.
        runs_tasks_here: Tells whether the calling thread is one that runs tasks, as
            in the size-1 mode, where they run in this process.
        hosts: Where the workers are, by rank.

    Attributes:
        accounts: What the run has done so far.
        hosts: Where the workers are, by rank.
        actors: What keeps the actors that tasks may call, by their numbers.
        ending: Watches over the end of the run; closed when the script is over.
        current: Tells which task runs in the calling thread, if one does: number and
            label.
        is_nested: Whether it is that of a task which has tasks of its own.
    """

    def __init__(
        self,
        event_loop: EventLoop,
        runs_tasks_here: Callable[[], bool] = lambda: False,
        *,
        hosts: Mapping[int, str] | None = None,
    ) -> None:
        self.event_loop = event_loop
        engine = event_loop.engine
        self.hosts = {} if hosts is None else dict(hosts)
        engine.actors.hosts = self.hosts
        self.actors: dict[int, Any] = {}
        self.accounts = Accounts(engine.ranks, time.monotonic(), hosts)
        engine.listen(self.accounts.listen)
        engine.on_overhead = self.accounts.note_overhead
        engine.completion.failure_listeners.append(self.accounts.note_failure)
        self._display: Display | None = None  # made when there is something to show
        self.runs_tasks_here = runs_tasks_here
        self.is_nested = False
        self.ending: Closable | None = None
        self._handles: list[ExecutorHandle] = []  # the latest last
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
    ) -> ExecutorHandle:
        """Let an Executor use the session and its workers.

        Args:
            max_workers: How many workers; None for all.
            open_journal: Opens the Executor's own journal, if it has one.
            initializer: What every process that runs tasks calls first, if anything.
            initargs: Its arguments.
            seed: The Executor's own seed, if it has one.
            logging: Whether log records of its tasks are wanted here.

        Raises:
            ConfigurationError: The caller is a task.
            JournalError: The journal cannot be opened.
            SerializationError: The initializer cannot be pickled.
        """
        if self.runs_tasks_here():
            raise ConfigurationError(IN_TASK)
        if self._over:
            raise ExecutorClosedError(OVER)
        self._end_dropped()
        handle = ExecutorHandle(self, max_workers, logging=logging)
        with self._lock:
            others = [each for each in self._handles if each.open]
            self._handles = [*others, handle]
        try:
            if open_journal is not None:
                handle.journal = open_journal()
                handle.owns = True
            journal = handle.journal
            if journal is not None:
                handle.keyed_by = journal.attach(self.event_loop, initializer, initargs)
            handle.set_up = self.event_loop.functions.open(initializer, initargs)
            logging = logging or any(each.logging for each in others)
            logs = self._log().setup() if logging else None
            handle.origin, handle.ids = self.event_loop.open(
                *self._seed(handle, seed), logs, others=[h.origin for h in others]
            )
        except BaseException:
            handle.closed = True
            raise
        self.limit_workers()
        return handle

    def keep_actor(self, hold: Any) -> None:
        """Keep an actor until its Executor is shut down: a task may call it."""
        self.actors[hold.number] = hold

    def end_actors(self, owner: ExecutorHandle) -> None:
        """Let go of those actors of an Executor that tasks might have called."""
        for number, hold in [*self.actors.items()]:
            if hold.actor.owner is owner:
                del self.actors[number]
                hold.close()

    def limit_workers(self) -> None:
        """Use as many workers as one of the open Executors wants; else as before."""
        wanted = [handle.max_workers for handle in self._handles if handle.open]
        if wanted:
            limit = None if None in wanted else max(count for count in wanted if count)
            self.event_loop.limit_workers(limit)

    def _end_dropped(self) -> None:
        """Close the journals of Executors that nobody shut down, or without waiting."""
        if any(handle.owns and handle.open for handle in self._handles):
            gc.collect()  # nobody may refer to one but itself
        for handle in self._handles:
            if handle.owns and not handle.open:
                handle.closed = True
                self.event_loop.finish(owner=handle)
                handle.close_journal()

    def statistics(self) -> RunStatistics:
        """Return what the run has done so far."""
        return self.accounts.statistics(
            self.event_loop.statistics(),
            time.monotonic(),
            self.event_loop.engine.data_statistics(),
        )

    @property
    def display(self) -> Display:
        """What shows progress."""
        if self._display is None:
            from mpitasks.observe.display import Display

            self._display = Display(lambda: self.event_loop.num_workers)
        return self._display

    def draw(self) -> Draw | None:
        """Return where the script has its random numbers from, if it may ask.

        Raises:
            ConfigurationError: This is not the main thread.
        """
        opened = [h for h in self._handles if h.open and h.origin is not None]
        if not opened:
            return None
        main = threading.main_thread().ident
        assert main is not None
        refuse_thread(main)
        origin = opened[-1].origin
        assert origin is not None
        return Draw("script", opened[-1], origin.entropy, origin.path)

    def _log(self) -> Logs:
        if self._logs is None:
            from mpitasks.master.log_records import Logs

            self._logs = Logs(self.event_loop.call_back, lambda: self.current())
            self.event_loop.engine.on_logged = self._logs.take
            self.event_loop.settle_logs = self._logs.settle
        return self._logs

    def _seed(
        self, handle: ExecutorHandle, seed: int | None
    ) -> tuple[int, tuple[int, ...]]:
        """Return what an Executor's random numbers come from: its seed, its number.

        A seed of its own, or a fresh one of its own journal, starts anew with each
        Executor, so that the next one draws the same. The run's goes on.
        """
        own = seed is not None
        if seed is None:
            seed = settings().seed
        journal = handle.journal
        if journal is not None and seed is None:
            own = handle.owns
            seed = journal.seed
        if seed is None:
            if own or self._entropy is None:
                fresh = int.from_bytes(os.urandom(16), "little")
                self._entropy = self._entropy if own else fresh
            seed = fresh if own else self._entropy
        assert seed is not None
        if journal is not None and (handle.owns or not own):
            journal.note_seed(seed)
        if own:
            return seed, (0,)
        number, self._numbered = self._numbered, self._numbered + 1
        return seed, (number,)

    def end(self) -> None:
        """The script is over: let no Executor take calls any more."""
        self._over = True
        for handle in self._handles:
            handle.closed = True

    def close(self) -> None:
        """The workers have left: refuse threads of the script that still wait."""
        if self._display is not None:
            self._display.close()
        self.end()
        self.event_loop.shut(_refuse)

    def _disown(self) -> None:
        """In a forked child: nothing of the run is to be reached from there."""
        if self._display is not None:
            self._display.disown()
        self.end()
        self.event_loop.shut(forks.refuse)


def refuse_submit() -> NoReturn:
    """Say why an Executor that is closed takes no calls.

    Raises:
        ExecutorClosedError: It was shut down, or the run is over.
        ConfigurationError: This is a forked child.
    """
    if forks.forked():
        forks.refuse()
    raise ExecutorClosedError("cannot schedule new futures after shutdown")


def refuse_copy(of: str) -> NoReturn:
    """Say why what was unpickled, in a task or afterwards, is of no use.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(f"this is a copy of {of}: {IN_TASK}")


IN_TASK = (
    "what the script on rank 0 has opened cannot be used inside a task; a task that "
    "has tasks of its own opens an Executor itself: with mpitasks.Executor() as ex"
)

OVER = (
    "the run is over: an Executor takes no calls once the script has ended, so not in "
    "a function that atexit calls"
)


def _refuse() -> NoReturn:
    raise ExecutorClosedError(OVER)


_current: Session | None = None
_waiting: list[Callable[[Session], None]] = []
_over = False
_worker_rank: int | None = None
_of_task: Callable[[], Session] | None = None
_settings = Settings()
_NO_SETTINGS = Settings()
_lock = threading.Lock()


def configure(settings: Settings) -> None:
    """Say what the command line asks of the run."""
    global _settings
    _settings = settings


def settings() -> Settings:
    """Return what the command line asks of the run."""
    return _settings


def settings_here() -> Settings:
    """Return the same for the script; tasks do not take after the script in this."""
    return _NO_SETTINGS if is_task() else _settings


def install(session: Session) -> None:
    """Make this process rank 0 of a run."""
    global _current
    _current = session
    while _waiting:
        _waiting.pop(0)(session)


def when_installed(watcher: Callable[[Session], None]) -> None:
    """Have somebody told of the session of this process, now or once there is one."""
    if _current is not None:
        watcher(_current)
    else:
        _waiting.append(watcher)


def install_worker(rank: int) -> None:
    """Make this process a worker of a run."""
    global _worker_rank
    _worker_rank = rank


def answer_tasks(of_task: Callable[[], Session] | None) -> None:
    """Say how to find the session of a task that opens an Executor in this process."""
    global _of_task
    _of_task = of_task


def uninstall() -> None:
    """Make this process part of no run."""
    global _current, _worker_rank
    _current = _worker_rank = None


def end() -> None:
    """The script is over, and nothing in this process starts a run any more."""
    global _over
    _over = True


def refuse_in_task() -> None:
    """Let no run begin in a task, which is part of one.

    Raises:
        ConfigurationError: The caller is a task.
    """
    if is_task():
        raise ConfigurationError(IN_TASK)


def is_task() -> bool:
    """Whether the caller is a task, which cannot have others."""
    here = _current is not None and _current.runs_tasks_here()
    return here or _worker_rank is not None


def refuse_after_end() -> None:
    """Let no run begin after the script.

    Raises:
        ExecutorClosedError: The script is over.
    """
    if _over:
        raise ExecutorClosedError(OVER)


def installed() -> bool:
    """Whether this process is rank 0 of a run already."""
    return _current is not None


def peek() -> Session | None:
    """Return the session of this process, if there is one."""
    return _current


def current(workers: int | None = None) -> Session:
    """Return the session of this process; start one in it if it was not launched.

    Args:
        workers: How many workers are wanted, for the line that says how to get them.

    Raises:
        ConfigurationError: The process was launched in a way that leaves nobody to be a
            worker; or the caller is a thread that a task has started.
        ExecutorClosedError: The run is over.
        RecursionError: The caller is a task, and tasks are nested too deep.
    """
    if forks.forked():
        forks.refuse()
    if is_task():
        if _of_task is None:
            raise ConfigurationError(IN_TASK)
        return _of_task()
    with _lock:
        if _current is None:
            refuse_after_end()
            # The one import upwards: only the launcher may wire master and worker.
            from mpitasks.launch.local import start_local

            install(start_local(workers))
    assert _current is not None
    return _current
