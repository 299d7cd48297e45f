"""Reading a journal without changing it, also one that is damaged."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mpitasks.errors import JournalError
from mpitasks.journal.file_lock import Lock, resolve
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.opening import (
    check_ours,
    find_doubt,
    open_sound,
    sources,
    untrusted,
)
from mpitasks.journal.rows import NO_KEY, decode_row
from mpitasks.journal.salvage import salvage
from mpitasks.journal.store import (
    FunctionRow,
    Row,
    Store,
    interrupted,
    is_environment,
)
from mpitasks.text import printable

__all__ = ["Reader"]

_SIZES = re.compile(r"\d{1,18}|\[\d{1,18}(, \d{1,18})*\]", re.ASCII)
_FILE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}-[0-9a-f]{8}")


class Reader:
    """An open journal, to be read.

    Args:
        file: The journal.
        trust: Whether its results may be unpickled although another user could have
            written them.

    Attributes:
        path: The journal.
        folder: Its large results.
        functions: Its functions, by number.
        damage: What is wrong with the file, if that hides results; then those that
            are sound are read all the same.
        damaged: Results that were found damaged so far, and why.
        doubt: Why another user could have written it; then nothing of it is unpickled,
            and nothing is made or changed beside it.

    Raises:
        JournalError: It is not there, is no journal, or is in use.
    """

    def __init__(self, file: str, *, trust: bool = False) -> None:
        self.path = resolve(Path(file))
        if not self.path.exists():
            raise JournalError(f"there is no journal {file}")
        self.doubt = None if trust else find_doubt(Path(file))
        self.folder = Folder(self.path, trust=trust or self.doubt is not None)
        self.damage: str | None = None
        self.damaged: list[str] = []
        self._lock: Lock | None = None
        self._store: Store | None = None
        self._saved: list[Row] = []
        writable = all(os.access(p, os.W_OK) for p in (self.path, self.path.parent))
        if writable and self.doubt is None:
            self._lock = Lock(self.path)
        try:
            check_ours(self.path, self._lock)
            if self._lock is not None:
                self._lock.claim()
            self._open()
        except BaseException:
            self._release()
            raise

    def _open(self) -> None:
        try:
            if self._lock is not None:
                self._store = open_sound(self.path, self._lock, self._look)
            elif interrupted(self.path):
                raise Damaged("its last commit was cut off; a run undoes that")
            else:
                self._store = Store(self.path, writable=False)
                self._look(self._store)
        except (sqlite3.Error, OSError, MemoryError, Damaged) as error:
            if is_environment(error):
                raise JournalError(f"{self.path} cannot be read: {error}") from error
            self.damage = printable(str(error))
            functions, self._saved = salvage(*sources(self.path))
            self._name(functions)
            print(
                f"mpitasks: the journal {self.path} is damaged ({self.damage}); "
                f"{len(self._saved)} results can be read all the same",
                file=sys.stderr,
            )

    def _look(self, store: Store) -> None:
        self._name(store.functions())
        self._numbers = store.numbers()

    def _name(self, functions: dict[int, FunctionRow]) -> None:
        """Take the functions, but none that has no name."""
        self.functions = {n: row for n, row in functions.items() if _has_name(row)}

    def refuse_doubt(self, how: str) -> None:
        """Raise if nothing of it may be unpickled.

        Raises:
            JournalError: Another user could have written it, and `how` says so.
        """
        if self.doubt is not None:
            raise untrusted(self.path, self.doubt, how)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._store is not None:
            self._store.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the results that are sound, oldest first, with their numbers."""
        for number, row in self._found():
            if is_sound(row):
                yield number, row
            else:
                self.damaged.append(f"result {number}: it is none of mpitasks")

    def _found(self) -> Iterator[tuple[int, Row]]:
        if self._store is None:
            yield from enumerate(self._saved, 1)
            return
        for number in self._numbers:
            try:
                yield number, self._store.read(number)
            except Damaged as error:
                self.damaged.append(f"result {number}: {error}")

    def select(
        self, function: str | None, keys: Sequence[str] | None, *, failed: bool
    ) -> Iterator[Row]:
        """Yield the rows that are asked for.

        Args:
            function: Of this function, with or without its module; None for any.
            keys: Of one of these keys; None for any.
            failed: Only those that failed.
        """
        for _, row in self.rows():
            name = self.name(row)
            if function is not None and function not in (name, name.rpartition(".")[2]):
                continue
            if keys and not any(_matches(row, key) for key in keys):
                continue
            if failed and not row.failed:
                continue
            yield row

    def name(self, row: Row) -> str:
        """Return the name of a row's function."""
        function = self.functions.get(row.function)
        return "unknown" if function is None else function.name

    def value(self, row: Row) -> Any:
        """Return what is in a row: a value, or the `Failure` that it was.

        Raises:
            Damaged: It cannot be read, or not be unpickled.
        """
        assert self.doubt is None
        try:
            return decode_row(row, self.folder)
        except Damaged as error:
            self.damaged.append(f"result {key_text(row)}: {error}")
            raise


def is_sound(row: Row) -> bool:
    """Whether each column of a row holds what a journal has there.

    A checksum does not say so: who writes a file can write checksums.
    """
    texts = (row.name, row.call, row.label)
    return (
        isinstance(row.key, bytes)
        and len(row.key) == len(NO_KEY)
        and isinstance(row.function, int)
        and row.failed in (0, 1)
        and isinstance(row.form, int)
        and isinstance(row.sizes, str)
        and _SIZES.fullmatch(row.sizes) is not None
        and isinstance(row.body, (bytes, type(None)))
        and isinstance(row.sums, (bytes, type(None)))
        and all(isinstance(text, (str, type(None))) for text in texts)
        and isinstance(row.at, float)
        and (row.file is None or _is_file_name(row.file))
    )


def _is_file_name(file: object) -> bool:
    return isinstance(file, str) and _FILE.fullmatch(file) is not None


def _has_name(row: FunctionRow) -> bool:
    return isinstance(row.name, str)


def key_text(row: Row) -> str:
    """Return the key that the user gave, or ours."""
    return row.key.hex() if row.name is None else row.name


def _matches(row: Row, key: str) -> bool:
    return row.name == key or (len(key) >= 4 and row.key.hex().startswith(key))


def total_bytes(row: Row) -> int:
    """Return the size of a result."""
    return sum(int(part) for part in row.sizes.strip("[]").split(","))


def function_versions(functions: dict[int, FunctionRow]) -> dict[int, bool]:
    """Return for each function whether it is the latest of its name."""
    latest = {row.name: number for number, row in sorted(functions.items())}
    return {number: latest[row.name] == number for number, row in functions.items()}
