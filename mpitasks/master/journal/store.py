"""The journal's database: SQLite, one writer, rows with checksums.

A table of results in the order in which they came, one of the functions that they are
of, and one number: how many results there are. Nobody searches it: all keys are read
when it is opened. What a row holds is told by its checksum, so that damage is found
when the row is read, and a row can be known among the ruins of a file (`salvage`).

A rollback journal and exclusive locking: no shared memory, which network file systems
lack. Each commit is synced. Not for several threads at once: the recorder sees to that.
"""

from __future__ import annotations

import marshal
import operator
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mpitasks.master.journal.folder import Damaged
from mpitasks.master.journal.walk import digest

__all__ = ["APPLICATION", "FunctionRow", "Row", "Store", "is_environment"]

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

HEADER_BYTES = 100
PAGE_BYTES = 4096


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
    return _sealed(row)[-1]  # type: ignore[no-any-return]


_row_values = operator.attrgetter(*(field.name for field in fields(Row)))
_function_values = operator.attrgetter(*(field.name for field in fields(FunctionRow)))


def _sealed(row: Row | FunctionRow) -> tuple[Any, ...]:
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
        sqlite3.Error: It cannot be opened, or is damaged.
        Damaged: It is no sound journal.
    """

    def __init__(
        self, path: Path, *, locks: bool = True, writable: bool = True
    ) -> None:
        fresh = writable and (not path.exists() or path.stat().st_size == 0)
        if not fresh and not _interrupted(path):
            check_header(path)  # before SQLite acts on what a damaged one says
        words = ["mode=" + ("rwc" if writable else "ro")]
        if not locks:
            words.append("nolock=1")
        uri = f"{path.absolute().as_uri()}?{'&'.join(words)}"
        self.path = path
        self._base = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0.0
        )
        try:
            self._prepare(fresh=fresh, writable=writable)
        except BaseException:
            self._base.close()
            raise

    def _prepare(self, *, fresh: bool, writable: bool) -> None:
        run = self._base.execute
        run(f"PRAGMA page_size={PAGE_BYTES}")
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA cell_size_check=ON")
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
        (version,) = run("PRAGMA user_version").fetchone()
        if version != FORMAT:
            raise Damaged(f"it has format {version}, and this mpitasks knows {FORMAT}")
        self._check_tree()

    def _check_tree(self) -> None:
        """Raise if SQLite finds its own structures damaged."""
        (found,) = self._base.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Damaged(found.splitlines()[-1])
        states = self._base.execute("SELECT rows FROM state").fetchall()
        (count,) = self._base.execute("SELECT count(*) FROM results").fetchone()
        if states != [(count,)]:
            raise Damaged(f"it should have {states} results and has {count}")

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def functions(self) -> dict[int, FunctionRow]:
        """Return the functions that are sound, by number."""
        found = {}
        for number, *values, told in self._base.execute("SELECT * FROM functions"):
            row = FunctionRow(*values)
            if checksum(row) == told:
                found[number] = row
        return found

    def index(self) -> Iterator[tuple[int, bytes, int, int]]:
        """Yield (number, key, function, failed) of each result, oldest first."""
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
        words = "SELECT * FROM results WHERE id=?"
        try:
            found = self._base.execute(words, (number,)).fetchone()
        except sqlite3.Error as error:
            raise Damaged(f"its row cannot be read: {error}") from error
        if found is None:
            raise Damaged("its row is gone")
        row = Row(*found[1:-1])
        if checksum(row) != found[-1]:
            raise Damaged("its row is not what was written")
        return row

    def write(
        self,
        rows: Sequence[Row],
        *,
        replaced: Iterable[int] = (),
        functions: Sequence[tuple[int, FunctionRow]] = (),
    ) -> None:
        """Add results and functions in one commit, and drop those that are replaced.

        Raises:
            sqlite3.Error: Nothing was written.
        """
        base = self._base
        base.execute("BEGIN IMMEDIATE")
        try:
            base.executemany(
                "INSERT INTO functions VALUES (?,?,?,?,?)",
                [(n, *_sealed(row)) for n, row in functions],
            )
            base.executemany(
                "INSERT INTO results VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                map(_sealed, rows),
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


def _interrupted(path: Path) -> bool:
    """Whether a commit may have been cut off, which SQLite will undo."""
    undo = path.with_name(path.name + "-journal")
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
    if int.from_bytes(header[16:18], "big") != PAGE_BYTES:
        raise Damaged("its header is not that of a journal")
    if not whole:
        return
    if int.from_bytes(header[68:72], "big") != APPLICATION:
        raise Damaged("its header is not that of a journal")
    expected = int.from_bytes(header[28:32], "big") * PAGE_BYTES
    size = path.stat().st_size
    if expected > size:
        raise Damaged(f"its end is missing: it has {size} bytes of {expected}")


def is_environment(error: BaseException) -> bool:
    """Whether an error is of the disk or its rights, not of the content."""
    if isinstance(error, OSError):
        return True
    if not isinstance(error, sqlite3.OperationalError):
        return False
    words = ("full", "disk I/O", "locked", "unable to open", "readonly", "large")
    return any(word in str(error) for word in words)
