"""Which journals are open in this run, and seeing them safely to their end.

The launcher opens the one of the command line before the script starts; an Executor
may bring its own. Every end of a run calls `end_journals`; `flush_journals` makes sure
of the disk before that. `mpitasks.journal.recorder` is loaded only if there is a
journal.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mpitasks import forks
from mpitasks.errors import JournalError, OptionError

if TYPE_CHECKING:
    from mpitasks.journal.recorder import Journal
    from mpitasks.settings import Settings

__all__ = [
    "close_journal",
    "end_journals",
    "flush_journals",
    "keeps_results",
    "open_journal",
    "run_journal",
    "settle_journals",
    "start",
]

END_SECONDS = 60.0
"""So long the end of a run waits for the disk, before it says what is lost."""

_open: list[Journal] = []
_kept = False
_of_run: Journal | None = None


def start(settings: Settings) -> None:
    """Open the journal that the command line asks for, if it does.

    Raises:
        JournalError: It cannot be opened.
    """
    global _of_run
    if settings.journal is not None:
        _of_run = open_journal(
            settings.journal,
            keep_failures=settings.keep_failures,
            errors=settings.journal_errors,
            trust=settings.trust,
        )


def run_journal() -> Journal | None:
    """Return the journal of the command line, if there is one."""
    return _of_run


def keeps_results() -> bool:
    """Return whether there was a journal, so that another run may go on from here."""
    return _kept


def open_journal(
    path: str | os.PathLike[str], *, keep_failures: bool, errors: str, trust: bool
) -> Journal | None:
    """Open a journal.

    Args:
        path: Its file.
        keep_failures: Whether calls that failed in an earlier run stay failed.
        errors: What to do when it cannot be written: "stop", or "continue" without.
        trust: Whether to use a file that another user could have written.

    Returns:
        The journal; None if it cannot be written, and the run is to go on then.

    Raises:
        JournalError: It cannot be opened.
        OptionError: `errors` is neither "stop" nor "continue".
    """
    global _kept
    if errors not in ("stop", "continue"):
        raise OptionError(
            f"journal_errors must be 'stop' or 'continue', not {errors!r}"
        )
    from pathlib import Path

    from mpitasks.journal.recorder import Journal

    if not _open:
        forks.at_exit(_end_at_exit)
        forks.in_child(_let_be)
    goes_on = errors == "continue"
    try:
        journal = Journal(
            Path(path), keep_failures=keep_failures, goes_on=goes_on, trust=trust
        )
    except JournalError as error:
        if not (goes_on and error.unwritable):
            raise
        print(
            f"mpitasks: {error}; the run goes on WITHOUT it, as --journal-errors "
            f"continue asks",
            file=sys.stderr,
            flush=True,
        )
        return None
    _open.append(journal)
    _kept = True
    return journal


def close_journal(journal: Journal) -> None:
    """Close an Executor's journal.

    Raises:
        JournalError: It could not be written, and the run was to stop then.
    """
    if journal in _open:
        _open.remove(journal)
    try:
        journal.settle(END_SECONDS)
    finally:
        journal.close(END_SECONDS)


def flush_journals(seconds: float = END_SECONDS) -> bool:
    """Have all that was recorded on disk; return whether it is, within that time."""
    flushed = [journal.flush(seconds) for journal in _open]  # each of them
    return all(flushed)


def settle_journals() -> None:
    """At the end of a script that went well: have everything on disk, however slow.

    Raises:
        JournalError: A journal could not be written, and the run was to stop then; or
            its disk has not moved for a minute.
    """
    for journal in _open:
        journal.settle(END_SECONDS)


def end_journals(seconds: float = END_SECONDS) -> bool:
    """Write what is left, close the journals and print their summaries.

    May be called again, and at any time: after an exception, in a signal handler's
    wake. Results that come later are not kept.

    Returns:
        Whether all results are on disk that should be.
    """
    global _of_run
    _of_run = None
    well = True
    while _open:
        well = _open.pop().close(seconds) and well
    return well


def _let_be() -> None:
    """In a forked child: never close the files, whose database another process writes.

    SQLite would take back what that has begun.
    """
    import ctypes

    for journal in _open:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(journal))
    _open.clear()


def _end_at_exit() -> None:
    """The end of a process that nobody else ended: without a launch, say."""
    session = sys.modules.get("mpitasks.api.session")
    if session is None or not session.installed():
        end_journals()
