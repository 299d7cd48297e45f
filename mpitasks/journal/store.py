"""The journal's database: SQLite, one writer, rows with checksums.

A table of results in the order in which they came, one of the functions that they are
of, and one number: how many results there are. Nobody searches it: all keys are read
when it is opened. What a row holds is told by its checksum, so that damage is found
when the row is read, and a row can be known among the ruins of a file (`salvage`).
All else that SQLite would believe is compared with what a journal has.

A rollback journal and exclusive locking: no shared memory, which network file systems
lack. Each commit is synced. Not for several threads at once: the recorder sees to that.
"""

from __future__ import annotations

import functools
import marshal
import operator
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mpitasks.files import create, require_regular
from mpitasks.journal.folder import Damaged
from mpitasks.journal.walk import digest

__all__ = [
    "APPLICATION",
    "MOST_NUMBER",
    "FunctionRow",
    "Row",
    "Store",
    "interrupted",
    "is_environment",
    "sealed",
    "undo_path",
]

APPLICATION = 0x6D74736B  # "mtsk"
FORMAT = 1

SCHEMA = """
CREATE TABLE functions (
    id INTEGER PRIMARY KEY, name TEXT, digest BLOB, parts TEXT, sum BLOB);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, key BLOB, function INTEGER, failed INTEGER, form INTEGER,
    sizes TEXT, body BLOB, file TEXT, sums BLOB, name TEXT, call TEXT, label TEXT,
    at REAL, sum BLOB);
CREATE TABLE state (rows INTEGER);
INSERT INTO state VALUES (0);
"""

_TABLES = [
    ("table", name, name, root, f"CREATE TABLE {name} {words.strip()}")
    for root, (name, words) in enumerate(
        (statement.split(maxsplit=3)[2:] for statement in SCHEMA.split(";")[:3]), 2
    )
]
"""What SQLite itself has noted of these: no triggers, no views, no tables of others."""

HEADER_BYTES = 100
PAGE_BYTES = 4096

MOST_NUMBER = 1 << 60
"""Rows have no greater numbers, so that there is always a next one."""

AHEAD_BYTES = 256 << 10
AHEAD_ROWS = 256
AHEAD_GAP = 16
"""So much is read ahead, where results are asked for about in their order."""

_ENVIRONMENT = frozenset(
    {
        "attempt to write a readonly database",
        "database is locked",
        "database or disk is full",
        "disk I/O error",
        "large file support is disabled",
        "unable to open database file",
    }
)


@dataclass(slots=True)
class Row:
    """A result as it stands in the journal.

    Attributes:
        key: Which call it is of.
        function: The number of its function in the table of functions.
        failed: Whether the call raised an exception.
        form: What the parts are; see `mpitasks.wire.messages`.
        sizes: The sizes of the parts, the frame's first, in bytes, as text.
        body: The parts, if they are not in a file of their own.
        file: The name of that file.
        sums: Its checksums.
        name: The key that the user gave, as text.
        call: The arguments, where they are plain, as text.
        label: The task's label.
        at: When it came, in seconds since 1970.
    """

    key: bytes
    function: int
    failed: int
    form: int
    sizes: str
    body: bytes | None
    file: str | None
    sums: bytes | None
    name: str | None
    call: str | None
    label: str | None
    at: float


@dataclass(slots=True)
class FunctionRow:
    """A function as it stands in the journal: name, identity, parts as JSON."""

    name: str
    digest: bytes
    parts: str


def checksum(row: Row | FunctionRow) -> bytes:
    """Return the checksum that stands in the row."""
    return sealed(row)[-1]  # type: ignore[no-any-return]


BODY = 1 + [field.name for field in fields(Row)].index("body")

_row_values = operator.attrgetter(*(field.name for field in fields(Row)))
_function_values = operator.attrgetter(*(field.name for field in fields(FunctionRow)))


def sealed(row: Row | FunctionRow) -> tuple[Any, ...]:
    """Return what stands in a row, and the checksum of that."""
    values = _row_values(row) if isinstance(row, Row) else _function_values(row)
    return (*values, digest(marshal.dumps(values, 0))[:8])


class Store:
    """An open database.

    Args:
        path: The file; made if it is not there.
        locks: Whether the file system has locks.
        writable: Whether anything will be written.

    Raises:
        sqlite3.Error, OSError: It cannot be opened, or is damaged.
        Damaged: It is no sound journal.
    """

    def __init__(
        self, path: Path, *, locks: bool = True, writable: bool = True
    ) -> None:
        require_regular(str(undo_path(path)))  # SQLite would wait at a pipe
        if writable and not path.exists():
            os.close(create(str(path)))  # SQLite would let others read it
        fresh = writable and path.stat().st_size == 0
        if not fresh and not interrupted(path):
            check_header(path)  # before SQLite acts on what a damaged one says
        words = ["mode=" + ("rwc" if writable else "ro")]
        if not locks:
            words.append("nolock=1")
        uri = f"{path.absolute().as_uri()}?{'&'.join(words)}"
        self.path = path
        self._base = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0.0
        )
        # Damaged text is found by the checksum, not by SQLite's wrapper.
        self._base.text_factory = functools.partial(
            str, encoding="utf-8", errors="surrogateescape"
        )
        self._ahead: dict[int, tuple[Any, ...]] = {}
        self._window = 1
        self._last = 0
        try:
            self._prepare(fresh=fresh, writable=writable)
        except BaseException as error:
            self._base.close()
            if isinstance(error, UnicodeDecodeError):  # of a name in SQLite's message
                raise Damaged("its tables are not those of a journal") from error
            raise

    def _prepare(self, *, fresh: bool, writable: bool) -> None:
        run = self._base.execute
        run(f"PRAGMA page_size={PAGE_BYTES}")
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA cell_size_check=ON")
        run("PRAGMA trusted_schema=OFF")
        run("PRAGMA synchronous=FULL")
        if writable and not fresh:
            run("PRAGMA journal_mode=DELETE")
            # Undoes what a killed run had begun to commit.
            run("SELECT count(*) FROM sqlite_master").fetchall()
            fresh = self.path.stat().st_size == 0  # which was all there was
        if fresh:
            # In one commit: after a kill there is a journal, or nothing.
            self._base.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION};"
                f"PRAGMA user_version={FORMAT}; {SCHEMA} COMMIT;"
            )
            return
        check_header(self.path, whole=True)
        self._check_tables()
        if writable:  # from now on no other process has it, by whatever name
            run("BEGIN EXCLUSIVE")
            run("COMMIT")

    def _check_tables(self) -> None:
        """Raise if SQLite finds its structures damaged, or they are not ours."""
        run = self._base.execute
        words = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master"
        if sorted(run(words)) != sorted(_TABLES):
            raise Damaged("its tables are not those of a journal")
        (found,) = run("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Damaged(found.splitlines()[-1])
        for table in ("functions", "results"):
            words = f"SELECT min(id), max(id) FROM {table}"
            least, most = run(words).fetchone()
            if least is not None and not 0 < least <= most <= MOST_NUMBER:
                raise Damaged(f"its {table} have wrong numbers")
        states = run("SELECT rows FROM state").fetchall()
        (count,) = run("SELECT count(*) FROM results").fetchone()
        if states != [(count,)]:
            raise Damaged(f"it should have {states} results and has {count}")
        for number, *values, told in run("SELECT * FROM functions"):
            if checksum(FunctionRow(*values)) != told:
                raise Damaged(f"function {number} is not what was written")

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def functions(self) -> dict[int, FunctionRow]:
        """Return the functions, by number."""
        found = self._base.execute("SELECT id, name, digest, parts FROM functions")
        return {number: FunctionRow(*values) for number, *values in found}

    def index(self) -> Iterator[tuple[int, bytes, int, int]]:
        """Yield (number, key, function, failed) of each result, oldest first.

        As they stand there; whether a row is sound is known when it is read.
        """
        words = "SELECT id, key, function, failed FROM results ORDER BY id"
        yield from self._base.execute(words)

    def numbers(self) -> list[int]:
        """Return the numbers of all results, oldest first."""
        return [n for (n,) in self._base.execute("SELECT id FROM results ORDER BY id")]

    def read(self, number: int) -> Row:
        """Return a result.

        Raises:
            Damaged: It is not what was written.
        """
        ahead = self._ahead
        found = ahead.pop(number, None)
        if found is None:
            follows = self._last < number <= self._last + AHEAD_GAP
            self._window = min(2 * self._window, AHEAD_ROWS) if follows else 1
            ahead.clear()
            try:
                self._read_ahead(number)
            except (sqlite3.Error, MemoryError, UnicodeDecodeError) as error:
                if number not in ahead:
                    raise Damaged(f"its row cannot be read: {error}") from error
            found = ahead.pop(number, None)
            if found is None:
                raise Damaged("its row is gone")
        self._last = number
        values = found[1:-1]
        if digest(marshal.dumps(values, 0))[:8] != found[-1]:
            raise Damaged("its row is not what was written")
        return Row(*values)

    def _read_ahead(self, number: int) -> None:
        words = "SELECT * FROM results WHERE id >= ? ORDER BY id LIMIT ?"
        size = 0
        for found in self._base.execute(words, (number, self._window)):
            self._ahead[found[0]] = found
            body = found[BODY]
            size += len(body) if type(body) is bytes else 0
            if size > AHEAD_BYTES:
                return

    def write(
        self,
        rows: Sequence[tuple[Any, ...]],
        *,
        replaced: Iterable[int] = (),
        functions: Sequence[tuple[int, FunctionRow]] = (),
    ) -> None:
        """Add results and functions in one commit, and drop those that are replaced.

        Args:
            rows: The results, `sealed`.
            replaced: Numbers of results.
            functions: Functions, with their numbers.

        Raises:
            sqlite3.Error: Nothing was written.
        """
        base = self._base
        self._ahead.clear()
        base.execute("BEGIN IMMEDIATE")
        try:
            base.executemany(
                "INSERT INTO functions VALUES (?,?,?,?,?)",
                [(n, *sealed(row)) for n, row in functions],
            )
            base.executemany(
                "INSERT INTO results VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                rows,
            )
            dropped = 0
            for number in replaced:
                words = "DELETE FROM results WHERE id=?"
                dropped += base.execute(words, (number,)).rowcount
            base.execute("UPDATE state SET rows = rows + ?", (len(rows) - dropped,))
            base.execute("COMMIT")
        except BaseException:
            if base.in_transaction:
                base.execute("ROLLBACK")
            raise

    def vacuum(self) -> None:
        """Give the room of dropped results back to the file system."""
        self._base.execute("VACUUM")


_HEADER = {
    44: 4,  # how the tables are told
    52: 0,  # no pages move by themselves
    56: 1,  # text is UTF-8
    64: 0,
    68: APPLICATION,
}
"""Numbers in the header of a journal, which SQLite would take for what they are."""


def undo_path(path: Path) -> Path:
    """Return where SQLite keeps the pages that a commit changes."""
    return path.with_name(path.name + "-journal")


def interrupted(path: Path) -> bool:
    """Whether a commit may have been cut off, which SQLite will undo."""
    undo = undo_path(path)
    return undo.exists() and undo.stat().st_size > 0


def check_header(path: Path, *, whole: bool = False) -> None:
    """Look at what SQLite would take on trust.

    Args:
        path: The file.
        whole: Whether nothing is in the middle of a commit, and the size counts too.

    Raises:
        Damaged: The header is no header of a journal.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES or header[:16] != b"SQLite format 3\0":
        raise Damaged("it does not begin as a database does")
    if header[18:24] != bytes([1, 1, 0, 64, 32, 32]):
        raise Damaged("its header is not sound")
    if _number(header, 16, 2) != PAGE_BYTES:
        raise Damaged("its header is not that of a journal")
    if not whole:
        return
    for at, value in _HEADER.items():
        if _number(header, at, 4) != value:
            raise Damaged("its header is not that of a journal")
    if _number(header, 60, 4) != FORMAT:
        raise Damaged(
            f"it has format {_number(header, 60, 4)}, and this mpitasks knows {FORMAT}"
        )
    expected = _number(header, 28, 4) * PAGE_BYTES
    size = path.stat().st_size
    if expected > size:
        raise Damaged(f"its end is missing: it has {size} bytes of {expected}")


def is_environment(error: BaseException) -> bool:
    """Whether an error is of the disk or its rights, not of the content."""
    if isinstance(error, OSError):
        return True
    if not isinstance(error, sqlite3.OperationalError):
        return False
    return str(error) in _ENVIRONMENT


def _number(header: bytes, at: int, length: int) -> int:
    return int.from_bytes(header[at : at + length], "big")
