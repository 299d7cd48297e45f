"""Opening a journal, whatever state it is in: take the lock, mend what is damaged.

A file that is not ours is refused, never touched. One that is ours and damaged is put
aside, and what is sound in it goes into a new one. One that cannot be written, because
of the disk or of its rights, is an error that says so.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

from mpitasks.errors import JournalError
from mpitasks.master.journal.folder import Damaged
from mpitasks.master.journal.lock import Lock
from mpitasks.master.journal.salvage import salvage
from mpitasks.master.journal.store import (
    APPLICATION,
    FunctionRow,
    Row,
    Store,
    is_environment,
)

__all__ = ["cannot_write", "check_ours", "open_locked", "rebuild"]

ROWS_AT_ONCE = 1000


def open_locked(path: Path) -> tuple[Lock, Store]:
    """Take the lock of a journal and open it; make it if it is not there.

    Raises:
        JournalError: Another run has it, it is another kind of file, or the disk does
            not let us.
    """
    if path.is_dir():
        raise JournalError(f"{path} is a folder; a journal is a file")
    lock = Lock(path)
    try:
        check_ours(path, known=lock.known)
        lock.claim()
        return lock, _open(path, lock)
    except BaseException:
        lock.release()
        raise


def cannot_write(path: Path, error: BaseException) -> JournalError:
    """Return the error that says why a journal cannot be written, and what to do."""
    told = JournalError(
        f"the journal {path} cannot be written: {error}. What it holds is sound: free "
        f"some space or mend the rights, and run the same command again; "
        f"--journal-errors continue goes on without a journal"
    )
    told.unwritable = True
    return told


def _open(path: Path, lock: Lock) -> Store:
    try:
        return Store(path, locks=lock.works)
    except (sqlite3.Error, OSError, Damaged) as error:
        if _is_rights(path, error):
            raise cannot_write(path, error) from error
        why = str(error)
    try:
        kept, sound = rebuild(path, salvage_from=path)
    except (sqlite3.Error, OSError) as error:
        raise cannot_write(path, error) from error
    print(
        f"mpitasks: the journal {path} was damaged ({why}): {sound} results were "
        f"saved from it, the damaged file is kept as {kept}",
        file=sys.stderr,
    )
    return Store(path, locks=lock.works)


def _is_rights(path: Path, error: BaseException) -> bool:
    """Whether an error is for who runs this to mend, not for us."""
    if not is_environment(error):
        return False
    # A damaged header can make SQLite think that it may not write.
    allowed = os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK)
    return not (allowed and "readonly" in str(error))


def check_ours(path: Path, *, known: bool) -> None:
    """Refuse a file that was no journal of ours before it was damaged.

    Args:
        path: The file.
        known: Whether its lock says that it was.

    Raises:
        JournalError: It was none.
    """
    if known or not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        header = file.read(72)
    ours = int.from_bytes(header[68:72], "big") == APPLICATION
    if not (header.startswith(b"SQLite format 3\0") and ours):
        raise JournalError(
            f"{path} is no journal of mpitasks, and is left as it is: take another "
            f"name for the journal"
        )


def rebuild(
    path: Path, *, salvage_from: Path | None = None, drop: frozenset[int] = frozenset()
) -> tuple[Path, int]:
    """Make a journal anew from the sound rows of a file, and put it in its place.

    Args:
        path: The journal.
        salvage_from: Where the rows are.
        drop: Numbers of results to leave out.

    Returns:
        Where the old file is now, and how many results there are.
    """
    functions, results = salvage(salvage_from or path)
    fresh = path.with_name(path.name + ".new")
    _remove(fresh)
    store = Store(fresh)
    try:
        _fill(store, functions, {n: r for n, r in results.items() if n not in drop})
    finally:
        store.close()
    kept = _aside(path)
    # A link keeps the damaged file, and then one step replaces it: a kill between
    # the two leaves both. Where links are unknown, a copy of its name must do.
    try:
        os.link(path, kept)
    except OSError:
        path.rename(kept)
    for ending in ("-journal", "-wal", "-shm"):
        _remove(path.with_name(path.name + ending), only=True)
    fresh.replace(path)
    _remove(fresh)
    return kept, len(results) - len(drop & results.keys())


def _fill(
    store: Store, functions: Mapping[int, FunctionRow], results: Mapping[int, Row]
) -> None:
    known = dict(functions)
    for row in results.values():
        if row.function not in known:
            known[row.function] = FunctionRow(f"unknown-{row.function}", b"", "[]")
    store.write([], functions=list(known.items()))
    rows = [results[number] for number in sorted(results)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        store.write(rows[start : start + ROWS_AT_ONCE])


def _aside(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept


def _remove(path: Path, *, only: bool = False) -> None:
    """Remove a database file, and what SQLite puts beside it."""
    for ending in [""] if only else ["", "-journal", "-wal", "-shm"]:
        path.with_name(path.name + ending).unlink(missing_ok=True)
