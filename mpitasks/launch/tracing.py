"""The trace and the report of a run: begun before the script, written after it.

They are written once, whatever ends the run, if rank 0 still gets to do so. Loaded on
rank 0 only, and only where one of them is wanted. What is in them is the business of
`mpitasks.observe`.
"""

# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mpitasks
from mpitasks.api import session as sessions
from mpitasks.errors import ConfigurationError
from mpitasks.files import refuse_other
from mpitasks.launch.environment import batch_job
from mpitasks.observe import report, trace
from mpitasks.observe.failures import Failures
from mpitasks.observe.recording import Recording
from mpitasks.observe.summary import summarise

if TYPE_CHECKING:
    from mpitasks.api.session import Session
    from mpitasks.scheduler.events import Action, Event
    from mpitasks.settings import Settings

__all__ = ["finish", "start"]

_tracing: _Tracing | None = None


class _Tracing:
    """Takes a run down, and writes it.

    Args:
        path: Where the trace goes, if anywhere.
        report: Where the report goes, if anywhere.
    """

    def __init__(self, path: str | None, report: str | None) -> None:
        self._path = path
        self._report = report
        self._began = time.time()
        self._program = " ".join(sys.argv)
        self._failures = Failures()
        self._taken: tuple[Session, Recording] | None = None
        self._error: Exception | None = None

    def attach(self, session: Session) -> None:
        """Take down what happens from now on."""
        engine = session.event_loop.engine
        recording = Recording(
            engine.ranks,
            time.monotonic(),
            engine.scheduler.statistics,
            time.process_time,
        )
        engine.listen(self._listen)
        engine.completion.error_listeners.append(self._failures.record)
        self._taken = session, recording

    def _listen(self, now: float, event: Event, actions: Sequence[Action]) -> None:
        """Take an event in; a run is worth more than its trace."""
        assert self._taken is not None
        if self._error is not None:
            return
        try:
            self._taken[1].listen(now, event, actions)
        except Exception as error:
            self._error = error

    def write(self, code: int) -> None:
        """Write what is wanted; say so if that cannot be."""
        if self._taken is None:
            _say("no trace: the script has opened no Executor")
            return
        session, recording = self._taken
        if self._error is not None:
            _say(f"the trace is cut off by an internal error: {self._error!r}")
        hosts = {0: socket.gethostname(), **session.accounts.hosts}
        summary = summarise(
            recording,
            session.statistics(),
            self._failures,
            waited=session.event_loop.argument_memory.waited,
            facts=self._facts(code),
        )
        held = {rank: session.event_loop.held(rank) for rank in recording.workers}
        left = recording.unfinished(held)
        events = [*trace.events_of(recording, hosts, self._program, left)]
        if self._path is not None:
            try:
                trace.write(self._path, events, summary)
            except OSError as error:
                _say(f"no trace: {error}")
        if self._report is not None:
            whole = {"traceEvents": events, "otherData": summary}
            try:
                report.write(self._report, whole)
            except OSError as error:
                _say(f"no report: {error}")

    def _facts(self, code: int) -> dict[str, Any]:
        """Return what is known of the run besides what happened in it."""
        job = batch_job()
        mpi = sys.modules.get("mpitasks.wire.mpi_transport")
        library = ""
        if mpi is not None:
            with contextlib.suppress(Exception):  # MPI may be gone
                library = mpi.library_version().splitlines()[0].strip()
        return {
            "program": self._program,
            "began": self._began,
            "code": code,
            "job": None if job is None else job.id,
            "mpitasks": mpitasks.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "mpi": library,
            "cores": os.cpu_count(),
        }


def start(settings: Settings) -> None:
    """Take down what happens in the run.

    Raises:
        ConfigurationError: A file cannot be written there.
    """
    global _tracing
    path = _checked("--trace", settings.trace, trace.is_trace)
    page = _checked("--report", settings.report, report.is_report)
    _tracing = _Tracing(path, page)
    sessions.when_installed(_tracing.attach)


def _checked(option: str, path: str | None, is_ours: Any) -> str | None:
    """Return where a file goes, if it can be written there."""
    if path is None:
        return None
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    try:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"nothing can be written to {folder}")
        refuse_other(path, is_ours)
    except OSError as error:
        raise ConfigurationError(f"{option}: {error}") from error
    return path


def finish(code: int) -> None:
    """Write the files, once.

    Args:
        code: The exit code of the run.
    """
    global _tracing
    tracing, _tracing = _tracing, None
    if tracing is None:
        return
    try:
        tracing.write(code)
    except Exception as error:  # the end of the run goes on
        _say(f"no trace: {error!r}; please report it")


def _say(text: str) -> None:
    with contextlib.suppress(Exception):  # whatever users put there
        print(f"mpitasks: {text}", file=sys.stderr, flush=True)
