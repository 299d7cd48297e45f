"""Reading a journal without changing it, also one that is damaged."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mpitasks.errors import JournalError
from mpitasks.master.journal.folder import Damaged, Folder
from mpitasks.master.journal.lock import Lock, resolve
from mpitasks.master.journal.opening import check_ours, open_sound, sources
from mpitasks.master.journal.records import decode_row
from mpitasks.master.journal.salvage import salvage
from mpitasks.master.journal.store import (
    FunctionRow,
    Row,
    Store,
    interrupted,
    is_environment,
)
from mpitasks.master.journal.text import printable

__all__ = ["Reader"]


class Reader:
    """An open journal, to be read.

    Args:
        file: The journal.

    Attributes:
        path: The journal.
        folder: Its large results.
        functions: Its functions, by number.
        damage: What is wrong with the file, if that hides results; then those that
            are sound are read all the same.
        damaged: Results that were found damaged so far, and why.

    Raises:
        JournalError: It is not there, is no journal, or is in use.
    """

    def __init__(self, file: str) -> None:
        self.path = resolve(Path(file))
        if not self.path.exists():
            raise JournalError(f"there is no journal {file}")
        self.folder = Folder(self.path)
        self.damage: str | None = None
        self.damaged: list[str] = []
        self._lock: Lock | None = None
        self._store: Store | None = None
        self._saved: list[Row] = []
        writable = os.access(self.path, os.W_OK) and os.access(
            self.path.parent, os.W_OK
        )
        if writable:
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
        except (sqlite3.Error, MemoryError, Damaged) as error:
            if is_environment(error):
                raise JournalError(f"{self.path} cannot be read: {error}") from error
            self.damage = printable(str(error))
            self.functions, self._saved = salvage(*sources(self.path))
            print(
                f"mpitasks: the journal {self.path} is damaged ({self.damage}); "
                f"{len(self._saved)} results can be read all the same",
                file=sys.stderr,
            )

    def _look(self, store: Store) -> None:
        self.functions = store.functions()
        self._numbers = store.numbers()

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
        try:
            return decode_row(row, self.folder)
        except Damaged as error:
            self.damaged.append(f"result {key_text(row)}: {error}")
            raise


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
