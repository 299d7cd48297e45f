"""Verifying a journal, and compacting it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from mpitasks.errors import JournalError
from mpitasks.journal.file_lock import resolve
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.opening import cannot_write, open_locked
from mpitasks.text import printable
from mpitasks.tools.journal.reader import Reader, function_versions, key_text
from mpitasks.tools.journal.show import size

if TYPE_CHECKING:
    from mpitasks.journal.store import Store

__all__ = ["compact", "verify"]


def verify(reader: Reader) -> int:
    """Read everything, and print what is damaged; return 1 if anything is."""
    sound = files = nbytes = 0
    wanted = set()
    for _, row in reader.rows():
        if row.file is None:
            sound += 1
            continue
        wanted.add(row.file)
        sizes = json.loads(row.sizes)
        sizes = [sizes] if isinstance(sizes, int) else sizes
        try:
            reader.folder.read(row.file, sizes, row.sums or b"")
            sound += 1
            files += 1
            nbytes += sum(sizes)
        except Damaged as error:
            reader.damaged.append(f"result {key_text(row)}: {error}")
    for what in reader.damaged:
        print(f"damaged: {printable(what)}")
    spare = sum(name not in wanted for name, _ in reader.folder.names())
    if spare:
        print(f"{spare} files belong to no result; compact removes them")
    bad = bool(reader.damaged or reader.damage)
    print(
        f"{printable(reader.path.name)}: {sound} results are sound, with {files} files "
        f"of {size(nbytes)}"
        + ("; the next run mends the rest by computing it again" if bad else "")
    )
    return int(bad)


def compact(file: str, *, failures: bool, changed: bool, trust: bool = False) -> int:
    """Drop what nothing needs, and give its room back; return the exit code.

    Args:
        file: The journal.
        failures: Drop results that are failures, too.
        changed: Drop results of earlier versions of a function, too.
        trust: Whether to do so although another user could have written it.

    Raises:
        JournalError: It is not there, is no journal, in use, or cannot be written.
    """
    path = resolve(Path(file))
    if not path.exists():
        raise JournalError(f"there is no journal {file}")
    how = f"mpitasks journal {file} compact --trust"
    lock, store = open_locked(path, trust=trust, how=how)
    folder = Folder(path, trust=trust)
    before = _disk(path, folder)
    try:
        dropped, wanted = _unwanted(store, failures=failures, changed=changed)
        store.write([], replaced=dropped)
        for name, _ in list(folder.names()):
            if name not in wanted:
                folder.remove(name)
        store.vacuum()
    except (sqlite3.Error, OSError) as error:
        raise cannot_write(path, error) from error
    finally:
        store.close()
        lock.release()
    after = _disk(path, folder)
    print(
        f"{printable(path.name)}: {len(dropped)} results dropped, "
        f"{size(before)} -> {size(after)}"
    )
    return 0


def _unwanted(
    store: Store, *, failures: bool, changed: bool
) -> tuple[list[int], set[str]]:
    """Return the numbers of rows to drop, and the files of the others."""
    latest = function_versions(store.functions())
    sound = {}
    dropped = []
    for number in store.numbers():
        try:
            row = store.read(number)
        except Damaged:
            dropped.append(number)
        else:
            sound[number] = row.key, row.function, row.failed, row.file
    newest = {key: number for number, (key, *_) in sound.items()}
    wanted = set()
    for number, (key, function, failed, name) in sound.items():
        old = newest[key] != number or (changed and not latest.get(function, True))
        if old or (failures and failed):
            dropped.append(number)
        elif name is not None:
            wanted.add(name)
    return dropped, wanted


def _disk(path: Path, folder: Folder) -> int:
    files = [path, *(folder.path / name for name, _ in folder.names())]
    return sum(file.stat().st_size for file in files)
