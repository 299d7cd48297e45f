"""Opening a journal, whatever state it is in: take the lock, mend what is damaged.

What a killed run had begun to commit, SQLite undoes with the pages in FILE-journal. If
those are damaged, that does more harm than good: so FILE is copied before.

A file that is no journal, or that another user could have written, is refused, never
touched. One that is ours and damaged is put aside, and what is sound in it goes into a
new one. One that cannot be written, because of the disk or of its rights, is an error
that says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mpitasks.errors import JournalError
from mpitasks.files import Distrust, create, distrust
from mpitasks.journal.file_lock import Lock, lock_path, resolve
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.salvage import salvage
from mpitasks.journal.store import (
    APPLICATION,
    PAGE_BYTES,
    FunctionRow,
    Row,
    Store,
    interrupted,
    is_environment,
    sealed,
    undo_path,
)
from mpitasks.text import printable

__all__ = [
    "cannot_write",
    "check_ours",
    "find_doubt",
    "open_locked",
    "open_sound",
    "sources",
    "untrusted",
]

ROWS_AT_ONCE = 1000


def open_locked(
    path: Path,
    read: Callable[[Store], None] = lambda _: None,
    *,
    trust: bool = False,
    how: str = "mpitasks --trust, or Executor(trust=True)",
) -> tuple[Lock, Store]:
    """Take the lock of a journal and open it; make it if it is not there.

    Args:
        path: The journal, or a symbolic link to it.
        read: Reads what must be readable of it; called again when it was mended.
        trust: Whether to use it although another user could have written it.
        how: What the caller's user types to have it trusted.

    Raises:
        JournalError: Another run has it, it is another kind of file, others could have
            written it, or the disk does not let us.
    """
    doubt = None if trust else find_doubt(path)
    if doubt is not None:
        raise untrusted(path, doubt, how)
    path = resolve(path)
    lock = Lock(path)
    try:
        check_ours(path, lock)
        lock.claim()
        return lock, _open(path, lock, read)
    except BaseException:
        lock.release()
        raise


def find_doubt(path: Path) -> Distrust | None:
    """Return why another user could have written a journal; None if nobody could.

    What is beside it counts as well: SQLite undoes what FILE-journal says.

    Raises:
        JournalError: No journal can be there.
    """
    real = resolve(path)
    beside = [lock_path(real), undo_path(real), _before(real), Folder(real).path]
    for name in (path, real, *filter(os.path.lexists, beside)):
        it = str(name) if name in beside else "it"
        with contextlib.suppress(OSError):  # no folder, say: its opening tells
            found = distrust(str(name), it)
            if found is not None:
                return found
    return None


def untrusted(path: Path, doubt: Distrust, how: str) -> JournalError:
    """Return the error that says why a journal is not used, and what to do."""
    cure = f"type: {doubt.cure}" if doubt.cure else "take a journal of your own"
    return JournalError(
        f"the journal {path} is not used: {doubt.why}. Its results are pickles, and a "
        f"pickle runs any code when it is read. Either {cure}; or, if you trust "
        f"everybody who could write it, say so: {how}"
    )


def cannot_write(path: Path, error: BaseException) -> JournalError:
    """Return the error that says why a journal cannot be written, and what to do."""
    told = JournalError(
        f"the journal {path} cannot be written: {error}. What it holds is sound: free "
        f"some space or mend the rights, and run the same command again; "
        f"--journal-errors continue goes on without a journal"
    )
    told.unwritable = True
    return told


def open_sound(
    path: Path, lock: Lock, read: Callable[[Store], None] = lambda _: None
) -> Store:
    """Open a journal that is locked, if it is sound.

    Raises:
        sqlite3.Error, OSError, MemoryError: It cannot be opened, or is damaged.
        Damaged: It is damaged; `sources` has what is left.
    """
    _keep_before(path)
    store = Store(path, locks=lock.works)
    try:
        read(store)
        _before(path).unlink(missing_ok=True)
    except BaseException:
        store.close()
        raise
    return store


def _open(path: Path, lock: Lock, read: Callable[[Store], None]) -> Store:
    try:
        return open_sound(path, lock, read)
    except (sqlite3.Error, OSError, MemoryError, Damaged) as error:
        if _is_rights(path, error):
            raise cannot_write(path, error) from error
        why = printable(str(error))
    try:
        kept, sound = _rebuild(path)
        store = open_sound(path, lock, read)
    except (sqlite3.Error, OSError, Damaged) as error:
        raise cannot_write(path, error) from error
    print(
        f"mpitasks: the journal {path} was damaged ({why}): {sound} results were "
        f"saved from it, the damaged file is kept as {kept}",
        file=sys.stderr,
    )
    return store


def _before(path: Path) -> Path:
    return path.with_name(path.name + ".before")


def _keep_before(path: Path) -> None:
    """Copy the file and FILE-journal, if SQLite is going to undo what was begun."""
    before = _before(path)
    if before.exists() or not path.exists() or not interrupted(path):
        return  # a copy that is there is of a run that was killed while it undid
    partial = before.with_name(before.name + ".part")
    try:
        partial.unlink(missing_ok=True)  # of a run that was killed
        with os.fdopen(create(str(partial)), "wb") as file:
            for part in (path, undo_path(path)):
                file.seek(-(-file.tell() // PAGE_BYTES) * PAGE_BYTES)
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
        partial.replace(before)
    except OSError:  # a full disk: what is in FILE-journal will be sound, most likely
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def sources(path: Path) -> list[Path]:
    """Return the files in which results of a damaged journal may be."""
    return [file for file in (path, _before(path)) if file.is_file()]


def _is_rights(path: Path, error: BaseException) -> bool:
    """Whether an error is for who runs this to mend, not for us."""
    if not is_environment(error):
        return False
    # A damaged header can make SQLite think that it may not write.
    allowed = os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK)
    return not (allowed and "readonly" in str(error))


def check_ours(path: Path, lock: Lock | None) -> None:
    """Refuse a file that was no journal of ours before it was damaged.

    Args:
        path: The file.
        lock: Its lock, which may say that it was.

    Raises:
        JournalError: It was none, or another program has a file of the lock's name.
    """
    if (lock is not None and lock.known) or _is_ours(path):
        return
    if path.exists() and path.stat().st_size > 0:
        raise JournalError(
            f"{path} is no journal of mpitasks, and is left as it is: take another "
            f"name for the journal"
        )
    if lock is not None and lock.foreign:
        raise JournalError(
            f"{lock_path(path)} is a file of something else, and is left as it is: "
            f"take another name for the journal"
        )


def _is_ours(path: Path) -> bool:
    """Whether the header, or any row, can only be a journal's."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        header = file.read(72)
    ours = int.from_bytes(header[68:72], "big") == APPLICATION
    if header.startswith(b"SQLite format 3\0") and ours:
        return True
    return any(map(len, salvage(path)))


def _rebuild(path: Path) -> tuple[Path, int]:
    """Make a journal anew from the sound rows of a file, and put it in its place.

    Returns:
        Where the old file is now, and how many results there are.
    """
    functions, results = salvage(*sources(path))
    fresh = path.with_name(path.name + ".new")
    _remove(fresh)
    store = Store(fresh)
    try:
        _fill(store, functions, results)
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
        path.with_name(path.name + ending).unlink(missing_ok=True)
    fresh.replace(path)
    _before(path).unlink(missing_ok=True)
    return kept, len(results)


def _fill(
    store: Store, functions: Mapping[int, FunctionRow], results: Sequence[Row]
) -> None:
    known = dict(functions)
    for row in results:
        if row.function not in known:
            known[row.function] = FunctionRow(f"unknown-{row.function}", b"", "{}")
    store.write([], functions=list(known.items()))
    for start in range(0, len(results), ROWS_AT_ONCE):
        store.write(list(map(sealed, results[start : start + ROWS_AT_ONCE])))


def _aside(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept


def _remove(path: Path) -> None:
    """Remove a database file, and what SQLite puts beside it."""
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
