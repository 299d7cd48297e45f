"""A journal that is damaged costs what the damage touches, and never itself.

Each round damages a copy of a sound journal. The next run must return right results,
with few calls run again; the run after that must find all of them, and no damage.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journal_session import Call, session
from mpitasks.journal import rows
from mpitasks.journal.file_lock import lock_path
from mpitasks.journal.folder import Folder
from mpitasks.journal.rows import Entry, Record, to_row
from mpitasks.journal.store import PAGE_BYTES, SCHEMA, Store, sealed
from mpitasks.journal.walk import digest
from mpitasks.wire.outcomes import encode_result

SEED = int(os.environ.get("MPITASKS_TEST_SEED", "20261126"))
SHARE = 8  # so many tests have a share of the rounds each
SHARES = [0, *[pytest.param(n, marks=pytest.mark.slow) for n in range(1, SHARE)]]


def small(number: int) -> Any:
    return number * 0.5


def texts(number: int) -> Any:
    if number % 10 == 9:
        return [f"{number} {n}" for n in range(1200)]  # in a file of its own
    if number % 10 == 8:
        return [f"{number} {n}" for n in range(600)]  # over several pages
    return [number] * number


CALLS: list[Call] = [(small, (n,)) for n in range(60)]
CALLS += [(texts, (n,)) for n in range(40)]
RIGHT = [function(*args) for function, args in CALLS]


@pytest.fixture(scope="module", autouse=True)
def _small_files() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "LARGE_BYTES", 8000)
        yield


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a journal of all calls."""
    folder = tmp_path_factory.mktemp("sound")
    assert session(folder / "run.db", CALLS) == (RIGHT, len(CALLS))
    return folder


@pytest.fixture(scope="module")
def cut_off(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a commit that was cut off after it had changed many pages."""
    folder = tmp_path_factory.mktemp("cut") / "copy"
    other = folder.with_name("other")
    shutil.copytree(sound, other)
    store = Store(other / "run.db")
    run = store._base.execute
    run("PRAGMA cache_size=1")
    run("BEGIN")
    for number in range(1, 90, 7):
        run("DELETE FROM results WHERE id=?", (number,))
    for number in range(50):
        entry = Entry(None, digest(b"new %d" % number), 1)
        outcome = encode_result([[number] * 900], "here")
        row = to_row(Record(entry, *outcome, at=2e9), Folder(other))
        run(
            f"INSERT INTO results VALUES (NULL{',?' * 13})",
            sealed(row),
        )
    run("UPDATE state SET rows = 1")
    shutil.copytree(other, folder)
    run("ROLLBACK")
    store.close()
    assert (folder / "run.db-journal").stat().st_size > 2 * PAGE_BYTES
    before, now = (sound / "run.db").read_bytes(), (folder / "run.db").read_bytes()
    assert len(now) > len(before)
    assert now[: len(before)] != before
    return folder


def damaged(
    origin: Path, folder: Path, name: str, damage: Callable[[bytearray], Any]
) -> Path:
    """Return a copy of a journal, in which a file is damaged."""
    copy = folder / "copy"
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(origin, copy)
    content = bytearray((copy / name).read_bytes())
    damage(content)
    (copy / name).write_bytes(content)
    return copy / "run.db"


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Return how many calls the damage cost."""
    outcomes, ran = session(path, CALLS)
    assert outcomes == RIGHT
    said = capsys.readouterr().err
    assert session(path, CALLS) == (RIGHT, 0), said
    said = capsys.readouterr().err
    assert "damaged" not in said, said
    return ran


def flip(content: bytearray, bit: int) -> None:
    content[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("share", SHARES)
def test_a_bit_of_the_database_costs_one_call(
    sound: Path, tmp_path: Path, share: int, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(SEED + share)
    size = 8 * (sound / "run.db").stat().st_size
    header = list(range(share, 8 * 130, SHARE))
    for bit in draw.sample(header, 12) + [draw.randrange(size) for _ in range(24)]:
        path = damaged(sound, tmp_path, "run.db", lambda c: flip(c, bit))  # noqa: B023
        assert check(path, capsys) <= 1, bit


def places(content: bytes) -> dict[str, range]:
    """Return where the bytes of each part of the database are."""
    function = content.index(b"test_journal_damage.small") - 8
    row = content.index(b"(17)") - 80
    return {
        "a function": range(function, function + 90),
        "a row": range(row, row + 120),
        "tables": range(PAGE_BYTES - 500, PAGE_BYTES),
        "the root of functions": range(PAGE_BYTES, PAGE_BYTES + 16),
        "the root of results": range(2 * PAGE_BYTES, 2 * PAGE_BYTES + 40),
        "the state": range(3 * PAGE_BYTES, 3 * PAGE_BYTES + 12),
        "the number of results": range(4 * PAGE_BYTES - 6, 4 * PAGE_BYTES),
        "a leaf": range(4 * PAGE_BYTES, 4 * PAGE_BYTES + 40),
    }


PLACES = places(bytes(99) + b"test_journal_damage.small(17)")


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("place", PLACES)
def test_bits_that_matter_most(
    sound: Path,
    tmp_path: Path,
    place: str,
    share: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bits of the bytes that hold the structure together."""
    where = places((sound / "run.db").read_bytes())[place]
    draw = random.Random(SEED + share)
    for byte in draw.sample(where, 4):
        bit = 8 * byte + draw.randrange(8)
        path = damaged(sound, tmp_path, "run.db", lambda c: flip(c, bit))  # noqa: B023
        assert check(path, capsys) <= 1, bit


@pytest.mark.parametrize("share", SHARES)
def test_a_bit_of_the_rollback_journal_costs_one_call(
    cut_off: Path, tmp_path: Path, share: int, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(SEED + share)
    size = 8 * (cut_off / "run.db-journal").stat().st_size
    bits = [draw.randrange(8 * 28) for _ in range(8)]  # its header
    bits += [8 * 512 + draw.randrange(32) for _ in range(4)]  # which page is first
    bits += [draw.randrange(size) for _ in range(12)]
    for bit in bits:
        path = damaged(cut_off, tmp_path, "run.db-journal", lambda c: flip(c, bit))  # noqa: B023
        assert check(path, capsys) <= 1, bit


def test_a_commit_that_was_cut_off_costs_nothing(
    cut_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damaged(cut_off, tmp_path, "run.db-journal", lambda _: None)
    assert check(path, capsys) == 0
    assert {p.name for p in path.parent.iterdir()} == {
        "run.db",
        "run.db.d",
        "run.db.lock",
    }


def test_a_bit_of_the_lock_costs_nothing(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = 8 * lock_path(sound / "run.db").stat().st_size
    for bit in random.Random(SEED).sample(range(size), 12):
        path = damaged(sound, tmp_path, "run.db.lock", lambda c: flip(c, bit))  # noqa: B023
        assert check(path, capsys) == 0, bit


def test_a_bit_of_a_large_result_costs_one_call(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(name for name, _ in Folder(sound / "run.db").names())
    assert len(names) == 4
    draw = random.Random(SEED)
    for name in names * 2:
        file = f"run.db.d/{name}"
        bit = draw.randrange(8 * (sound / file).stat().st_size)
        path = damaged(sound, tmp_path, file, lambda c: flip(c, bit))  # noqa: B023
        assert check(path, capsys) == 1, bit


@pytest.mark.parametrize("share", SHARES)
def test_cut_off_anywhere(
    sound: Path, tmp_path: Path, share: int, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(SEED + share)
    size = (sound / "run.db").stat().st_size
    for _ in range(12):
        at = draw.choice([draw.randrange(1, 200), draw.randrange(1, size)])

        def cut(content: bytearray, at: int = at) -> None:
            del content[at:]

        check(damaged(sound, tmp_path, "run.db", cut), capsys)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("what", ["zeros", "noise", "another page", "an older page"])
def test_a_page_that_is_something_else(
    sound: Path,
    tmp_path: Path,
    what: str,
    share: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = (sound / "run.db").stat().st_size // PAGE_BYTES
    draw = random.Random(SEED + share)
    first = range(5)  # they hold more structure than the rest
    for page in first if share == 0 else range(4 + share, pages, SHARE - 1):

        def damage(content: bytearray, page: int = page) -> None:
            other = draw.randrange(pages) * PAGE_BYTES
            with_what = {
                "zeros": bytes(PAGE_BYTES),
                "noise": draw.randbytes(PAGE_BYTES),
                "another page": content[other : other + PAGE_BYTES],
                "an older page": content[page * PAGE_BYTES : page * PAGE_BYTES + 2048]
                + bytes(2048),
            }
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            content[place] = with_what[what]

        check(damaged(sound, tmp_path, "run.db", damage), capsys)


INSERT = f"INSERT INTO results VALUES (?{',?' * 13})"

CHANGES = {
    "a key twice": "UPDATE results SET key = (SELECT key FROM results WHERE id=3) "
    "WHERE id IN (4, 50)",
    "keys of other types": "UPDATE results SET key = CASE id % 4 WHEN 0 THEN NULL "
    "WHEN 1 THEN 7 WHEN 2 THEN 'x' ELSE CAST(x'ff00' AS TEXT) END WHERE id < 9",
    "functions of other types": "UPDATE results SET function = CASE id % 4 WHEN 0 THEN "
    "NULL WHEN 1 THEN 'f' WHEN 2 THEN x'00' ELSE 9e99 END WHERE id < 9",
    "failures of other types": "UPDATE results SET failed = x'01' WHERE id < 9",
    "failures": "UPDATE results SET failed = 1 WHERE id < 9",
    "no times": "UPDATE results SET at = 'now' WHERE id < 9",
    "values of other types": "UPDATE results SET body = 5, sizes = x'00' WHERE id < 9",
    "values of others": "UPDATE results SET body = (SELECT body FROM results WHERE "
    "id = 30), sizes = (SELECT sizes FROM results WHERE id = 30) WHERE id = 8",
    "values of no length": "UPDATE results SET body = zeroblob(0) WHERE id = 8",
    "absurd sizes": "UPDATE results SET sizes = '[99999999999999999999]' WHERE id = 8",
    "no text": "UPDATE results SET call = CAST(x'fffe80' AS TEXT) WHERE id < 9",
    "files elsewhere": "UPDATE results SET file = '../../x' WHERE file IS NOT NULL",
    "a number that is the last": "UPDATE results SET id = 9223372036854775807 WHERE "
    "id = (SELECT max(id) FROM results)",
    "a number below zero": "UPDATE results SET id = -5 WHERE id = 3",
    "number zero": "UPDATE results SET id = 0 WHERE id = 3",
    "a function at the end": "UPDATE functions SET id = 9223372036854775807 WHERE "
    "id = 2",
    "a function of another number": "UPDATE functions SET id = 7 WHERE id = 1",
    "functions that changed places": "UPDATE functions SET id = -id; "
    "UPDATE functions SET id = 3 + id",
    "a function less": "DELETE FROM functions WHERE id = 1",
    "no functions": "DELETE FROM functions",
    "a function of no digest": "UPDATE functions SET digest = NULL, name = x'80'",
    "parts that are none": "UPDATE functions SET parts = '['",
    "no state": "DELETE FROM state",
    "two states": "INSERT INTO state VALUES (100)",
    "a state that is no number": "UPDATE state SET rows = 'many'",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON results BEGIN DELETE FROM results; "
    "END",
    "a trigger that fails": "CREATE TRIGGER t BEFORE INSERT ON results BEGIN "
    "SELECT RAISE(ABORT, 'no'); END",
    "a view": "CREATE VIEW v AS SELECT * FROM results",
    "a view in the place of a table": "ALTER TABLE state RENAME TO s; "
    "CREATE VIEW state AS SELECT rows FROM s",
    "an index": "CREATE UNIQUE INDEX i ON results (key)",
    "another table": "CREATE TABLE other (a)",
    "no table of functions": "DROP TABLE functions",
    "no state at all": "DROP TABLE state",
    "another column": "ALTER TABLE results ADD COLUMN more TEXT",
    "another format": "PRAGMA user_version=7",
    "pages that move": "PRAGMA auto_vacuum=1; VACUUM",
    "an application's number": "PRAGMA application_id=7",
    "a log": "PRAGMA journal_mode=WAL",
    "other pages": "PRAGMA page_size=8192; VACUUM",
    "smaller pages": "PRAGMA page_size=1024; VACUUM",
}

COST = {  # of the calls, where it is not none
    "a key twice": 3,  # of which one is sound, but hidden
    "keys of other types": 8,
    "functions of other types": 8,
    "failures of other types": 8,
    "failures": 8,
    "no times": 8,
    "values of other types": 8,
    "values of others": 1,
    "values of no length": 1,
    "absurd sizes": 1,
    "no text": 8,
    "files elsewhere": 4,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_another_program_has_done(
    sound: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damaged(sound, tmp_path, "run.db", lambda _: None)
    base = sqlite3.connect(path, isolation_level=None)
    base.executescript(CHANGES[name])
    base.close()
    ran = check(path, capsys)
    if name in ("other pages", "smaller pages"):
        return  # rows lie otherwise there: what is over several pages is lost
    assert ran == COST.get(name, 0)


def test_functions_keep_their_names(sound: Path, tmp_path: Path) -> None:
    """Rows of the one that is lost are not given to another one."""
    path = damaged(sound, tmp_path, "run.db", lambda _: None)
    base = sqlite3.connect(path, isolation_level=None)
    base.executescript("UPDATE functions SET parts = '7' WHERE id = 1")
    base.close()
    session(path, [*CALLS, (abs, (-1,))])
    store = Store(path)
    names = {n: row.name.rpartition(".")[2] for n, row in store.functions().items()}
    assert names[1] == "unknown-1"
    assert names[2] == "texts"
    assert set(names.values()) == {"unknown-1", "texts", "abs"} | set(
        list(names.values())[2:]
    )
    owners = {store.read(n).function for n in store.numbers()}
    assert owners == {1, 2, max(names)}
    store.close()


def test_the_tables_are_those_of_the_first_version() -> None:
    assert digest(SCHEMA.encode()).hex() == "2507ccf8df8fcc1e3513bb8793be4512"
