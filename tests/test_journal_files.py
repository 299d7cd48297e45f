"""The parts of a journal's files, each alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from journal_session import call, opened, session
from mpitasks.errors import JournalError
from mpitasks.journal import file_lock as locks
from mpitasks.journal import folder as folders
from mpitasks.journal import opening, rows, store
from mpitasks.journal.file_lock import Lock, lock_path
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.opening import cannot_write, open_locked
from mpitasks.journal.rows import (
    NO_KEY,
    Entry,
    Record,
    Records,
    copied,
    decode_row,
    plain_items,
    to_row,
)
from mpitasks.journal.salvage import salvage
from mpitasks.journal.store import (
    PAGE_BYTES,
    FunctionRow,
    Row,
    Store,
    check_header,
    is_environment,
    sealed,
)
from mpitasks.journal.summary import Summary
from mpitasks.journal.walk import digest
from mpitasks.journal.writer import LARGE_BYTES, JournalWriter
from mpitasks.options import DEFAULTS
from mpitasks.tools.journal.reader import Reader
from mpitasks.wire import codec
from mpitasks.wire.messages import PLAIN, VALUE
from mpitasks.wire.outcomes import encode_result

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def row(number: int, body: bytes | None = b"", **changes: Any) -> Row:
    values = {
        "key": digest(b"%d" % number),
        "function": 1,
        "failed": 0,
        "form": PLAIN,
        "sizes": str(len(body or b"")),
        "body": body,
        "file": None,
        "sums": None,
        "name": None,
        "call": f"({number})",
        "label": None,
        "at": 1e9 + number,
    }
    return Row(**{**values, **changes})


def made(path: Path, rows: list[Row], functions: int = 1) -> None:
    base = Store(path)
    names = [
        (n, FunctionRow(f"f{n}", digest(b"%d" % n), "{}"))
        for n in range(1, functions + 1)
    ]
    base.write([*map(sealed, rows)], functions=names)
    base.close()


# The header.


@pytest.mark.parametrize(
    ("at", "content", "why"),
    [
        (0, b"s", "does not begin"),
        (16, b"\x20\0", "not that of a journal"),
        (16, b"\x10\1", "not that of a journal"),
        (18, b"\2", "not sound"),
        (19, b"\2", "not sound"),
        (20, b"\x08", "not sound"),
        (21, b"\x41", "not sound"),
        (22, b"\x21", "not sound"),
        (23, b"\x21", "not sound"),
        (28, b"\0\0\0\xff", "its end is missing: it has"),
        (44, b"\0\0\0\1", "not that of a journal"),
        (52, b"\0\0\0\1", "not that of a journal"),
        (56, b"\0\0\0\2", "not that of a journal"),
        (60, b"\0\0\0\2", "format 2, and this mpitasks knows 1"),
        (64, b"\0\0\0\1", "not that of a journal"),
        (68, b"m", None),
        (68, b"n", "not that of a journal"),
        (71, b"j", "not that of a journal"),
    ],
)
def test_a_header_is_looked_at(
    path: Path, at: int, content: bytes, why: str | None
) -> None:
    made(path, [row(1)])
    check_header(path, whole=True)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    if why is None:
        check_header(path, whole=True)
        return
    with pytest.raises(Damaged, match=why):
        check_header(path, whole=True)
    if at > 23:
        check_header(path)  # a commit may have been cut off in the midst of it
    with pytest.raises((Damaged, sqlite3.Error)):
        Store(path)
    lock, base = open_locked(path)
    assert base.read(1) == row(1)
    base.close()
    lock.release()


def test_a_table_whose_name_is_no_text(path: Path) -> None:
    made(path, [row(1)])
    content = bytearray(path.read_bytes())
    content[content.index(b"tableresults") + 5] ^= 0x80  # which SQLite's message tells
    path.write_bytes(content)
    with pytest.raises(Damaged, match="tables are not those"):
        Store(path)
    lock, base = open_locked(path)
    assert base.read(1) == row(1)
    base.close()
    lock.release()


def test_a_header_that_is_cut_off(path: Path) -> None:
    made(path, [])
    os.truncate(path, 99)
    with pytest.raises(Damaged, match="does not begin"):
        check_header(path)


def test_a_page_too_many_is_no_damage(path: Path) -> None:
    made(path, [row(1)])
    with path.open("ab") as file:
        file.write(bytes(PAGE_BYTES))
    check_header(path, whole=True)


# The store.


def test_a_new_store_is_what_it_says(path: Path) -> None:
    made(path, [])
    base = sqlite3.connect(path)
    for words, value in [
        ("application_id", 0x6D74736B),
        ("user_version", 1),
        ("page_size", 4096),
        ("journal_mode", "delete"),
        ("encoding", "UTF-8"),
    ]:
        assert base.execute(f"PRAGMA {words}").fetchone() == (value,)
    assert base.execute("SELECT * FROM state").fetchall() == [(0,)]
    base.close()


def test_commits_are_synced_and_nobody_else_gets_in(path: Path) -> None:
    base = Store(path)
    assert base._base.execute("PRAGMA synchronous").fetchone() == (2,)
    assert base._base.execute("PRAGMA locking_mode").fetchone() == ("exclusive",)
    base.close()
    base = Store(path)
    other = sqlite3.connect(path, timeout=0.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM results").fetchall()
    other.close()
    base.close()


def test_a_store_that_may_only_be_read(path: Path) -> None:
    made(path, [row(1)])
    before = path.read_bytes()
    base = Store(path, writable=False)
    assert base.read(1) == row(1)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        base.write([sealed(row(2))])
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        base.vacuum()
    assert base.numbers() == [1]
    base.close()
    assert path.read_bytes() == before
    empty = path.with_name("empty.db")
    empty.touch()
    with pytest.raises(Damaged):
        Store(empty, writable=False)
    with pytest.raises((sqlite3.OperationalError, OSError)):
        Store(path.with_name("missing.db"), writable=False)
    assert not path.with_name("missing.db").exists()


def test_two_may_read_at_a_time(path: Path) -> None:
    made(path, [row(1)])
    one, two = Store(path, writable=False), Store(path, writable=False)
    assert one.read(1) == two.read(1)
    one.close()
    two.close()


def test_rows_ahead_are_bounded(path: Path) -> None:
    made(path, [row(n, b"x" * 50_000) for n in range(1, 101)])
    base = Store(path)
    most = 0
    for number in range(1, 101):
        assert base.read(number) == row(number, b"x" * 50_000)
        most = max(most, len(base._ahead))
    assert 2 < most <= store.AHEAD_BYTES // 50_000
    for number in (90, 10, 50):
        assert base.read(number) == row(number, b"x" * 50_000)
        assert base._ahead == {}  # who jumps pays for one row
    base.close()


def test_small_rows_ahead_are_bounded_too(path: Path) -> None:
    made(path, [row(n) for n in range(1, 1001)])
    base = Store(path)
    most = 0
    for number in range(1, 1001):
        assert base.read(number) == row(number)
        most = max(most, len(base._ahead))
    assert most == store.AHEAD_ROWS - 1
    base.close()


def test_what_is_dropped_is_not_read_from_memory(path: Path) -> None:
    made(path, [row(n) for n in range(1, 30)])
    base = Store(path)
    for number in (1, 2, 3, 4):
        base.read(number)
    assert 6 in base._ahead
    base.write([], replaced=[6])
    with pytest.raises(Damaged, match="its row is gone"):
        base.read(6)
    base.close()


def test_room_is_given_back(path: Path) -> None:
    made(path, [row(n, b"x" * 5000) for n in range(1, 101)])
    size = path.stat().st_size
    base = Store(path)
    base.write([], replaced=range(2, 101))
    base.vacuum()
    base.close()
    assert path.stat().st_size < size / 10
    base = Store(path)
    assert base.read(1) == row(1, b"x" * 5000)
    base.close()


@pytest.mark.parametrize(
    ("error", "environment"),
    [
        (OSError(errno.EACCES, "no"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (sqlite3.OperationalError("disk I/O error"), True),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("unable to open database file"), True),
        (sqlite3.OperationalError("attempt to write a readonly database"), True),
        (sqlite3.OperationalError("no such table: full"), False),
        (sqlite3.DatabaseError("database or disk is full"), False),
        (ValueError("database is locked"), False),
    ],
)
def test_whose_fault_it_is(error: BaseException, environment: bool) -> None:
    assert is_environment(error) == environment


# Salvage.


def test_salvage_yields_all_that_is_sound(path: Path) -> None:
    """Each row as it was written, for bodies of every length that matters."""
    sizes = [*range(0, 140), *range(3850, 4100, 7), 8000, 8192, 12_300, 70_000, 900_000]
    draw = random.Random(1)
    rows = [row(n, draw.randbytes(size)) for n, size in enumerate(sizes, 1)]
    rows += [
        row(1001, b"x", name="é" * 200, label="\0" * 900, call="", failed=1, form=3),
        row(1002, None, file="ab/cd", sums=b"\1\2\3\4" * 60, sizes="[1, 2]"),
        row(1003, b"x", function=130, at=0.5),
        row(1004, b"x", function=2**40, at=-1.0),
        row(1006, b"x", function=2**15, form=2**23),
        row(1007, b"x", function=2**31, form=-(2**23)),
        row(1008, b"x", function=2**50, form=-1, at=3.0),
        row(1009, b"x", function=0, form=1),
        row(1005, b"x", call=None, sizes="1" * 200, at=1e300),
    ]
    made(path, rows, 40)
    functions, results = salvage(path)
    assert results == sorted(rows, key=lambda row: row.at)
    assert {n: f.name for n, f in functions.items()} == {
        n: f"f{n}" for n in range(1, 41)
    }
    base = Store(path)
    written = [base.read(number) for number in base.numbers()]
    base.close()
    assert written == rows


@pytest.mark.parametrize("name", ["f", "n" * 50, "n" * 3000, "n" * 9000, "n" * 70_000])
@pytest.mark.parametrize("parts", ["{}", '{"a": 1}' * 60, " " * 20_000])
def test_salvage_of_functions_of_any_length(path: Path, name: str, parts: str) -> None:
    base = Store(path)
    wanted = {
        n: FunctionRow(f"{name}{n}", bytes([n % 256]) * 16, parts) for n in (1, 2, 300)
    }
    base.write([], functions=list(wanted.items()))
    base.close()
    assert salvage(path) == (wanted, [])


def test_salvage_needs_no_order_of_pages(path: Path) -> None:
    rows = [row(n, bytes([n]) * 300) for n in range(1, 101)]
    made(path, rows)
    content = path.read_bytes()
    pages = [content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES)]
    random.Random(2).shuffle(pages)
    wiped = [bytes(8) + page[8:] for page in pages]  # no page says what it is
    path.write_bytes(b"".join(wiped))
    functions, results = salvage(path)
    assert results == rows
    assert [f.name for f in functions.values()] == ["f1"]
    path.write_bytes(b"".join(wiped)[: 5 * PAGE_BYTES + 100])
    assert 20 < len(salvage(path)[1]) < 100


def test_salvage_of_functions_with_large_numbers(path: Path) -> None:
    numbers = [(1 << 55) + 3, 1 << 49, 1 << 48, 200, 1]
    rows = {n: FunctionRow(f"f{n}", digest(b"%d" % n), "{}") for n in numbers}
    base = Store(path)
    base.write([], functions=list(rows.items()))
    base.close()
    assert salvage(path) == (rows, [])


def test_salvage_leaves_a_row_without_a_time(path: Path) -> None:
    made(path, [row(1), row(2, at="soon"), row(3, at=None), row(4, at=7.0)])
    assert [r.key for r in salvage(path)[1]] == [digest(b"4"), digest(b"1")]


def test_salvage_takes_the_latest_of_a_call(tmp_path: Path) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    made(one, [row(1, b"old", at=5.0), row(2, b"new", at=7.0)])
    made(two, [row(1, b"new", at=6.0), row(2, b"old", at=6.5)])
    for order in ((one, two), (two, one)):
        _, results = salvage(*order)
        assert [(r.body, r.at) for r in results] == [(b"new", 6.0), (b"new", 7.0)]
    assert salvage() == ({}, [])


def test_salvage_numbers_functions_anew_only_where_it_must(path: Path) -> None:
    made(path, [row(1, function=2), row(2, function=9)], 3)
    content = bytearray(path.read_bytes())
    at = content.index(b"f2") - 7  # the number of f2, before the head of its row
    assert content[at] == 2
    content[at] = 3  # which is that of f3
    path.write_bytes(content)
    functions, results = salvage(path)
    assert len(results) == 2
    assert functions[1].name == "f1"
    assert {functions[3].name, functions[10].name} == {"f2", "f3"}  # 9 is taken
    assert len(functions) == 3


def test_salvage_gives_a_number_to_the_function_that_surely_has_it(path: Path) -> None:
    rows = {n: FunctionRow(f"f{n}", digest(b"%d" % n), "x" * 150) for n in (1, 2, 3)}
    base = Store(path)
    base.write([], functions=list(rows.items()))
    base.close()
    sound = path.read_bytes()
    at = sound.index(b"f3" + rows[3].digest) - 8  # its number; before that, its size
    assert (sound[at], sound[at - 2] >> 7) == (3, 1)
    for number in (2, 0):  # that of another one, and none at all
        content = bytearray(sound)
        content[at] = number
        content[at - 1] ^= 1
        path.write_bytes(content)
        functions, _ = salvage(path)
        names = {number: function.name for number, function in functions.items()}
        assert names == {1: "f1", 2: "f2", 3: "f3"}


def test_nothing_is_saved_from_noise(path: Path) -> None:
    path.write_bytes(random.Random(3).randbytes(200_000))
    assert salvage(path) == ({}, [])
    path.write_bytes(b"\x10\0\x2c" * 30_000)
    assert salvage(path) == ({}, [])
    path.write_bytes(b"\x06\0\x0d\x2c\x0d\x1c" * 10_000)
    assert salvage(path) == ({}, [])
    path.touch()
    path.write_bytes(b"")
    assert salvage(path) == ({}, [])


def test_chains_that_lead_nowhere(path: Path) -> None:
    body = random.Random(4).randbytes(15_000)
    made(path, [row(1, body)])
    content = path.read_bytes()
    page = content.index(body[5000:5100]) // PAGE_BYTES  # one of its overflow pages
    assert page > 3
    for follows in (0, 1, 2, page + 1, 2**31, 2**32 - 1):
        damaged = bytearray(content)
        damaged[page * PAGE_BYTES : page * PAGE_BYTES + 4] = follows.to_bytes(4, "big")
        path.write_bytes(damaged)
        if damaged != content:
            assert salvage(path)[1] == []


# Files of large results.


def test_a_frame_of_one_mebibyte_without_buffers(path: Path) -> None:
    folder = Folder(path)
    for size in (LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1):
        frame = codec.encode_plain(["x" * (size - 20)])
        frame = codec.encode_plain(["x" * (size - 20 + size - len(frame))])
        assert len(frame) == size
        kept = to_row(Record(Entry(None, b"k" * 16, 1), VALUE, frame, (), 0.0), folder)
        assert (kept.body is None) == (kept.file is not None) == (size >= LARGE_BYTES)
        assert decode_row(kept, folder) == codec.decode(frame)


def test_buffers_count_for_a_file_too(path: Path) -> None:
    folder = Folder(path)
    for count, file in ((LARGE_BYTES // 8 - 100, False), (LARGE_BYTES // 8, True)):
        array = np.arange(count)
        outcome = encode_result([[array, array + 1]], "")
        assert len(outcome[2]) == 2
        record = Record(Entry(None, b"k" * 16, 1), *outcome, 0.0)
        assert record.nbytes() == sum(map(len, [outcome[1], *outcome[2]])) + 300
        kept = to_row(record, folder)
        if not file:
            array = np.arange(count // 4)
            outcome = encode_result([[array, array + 1]], "")
            kept = to_row(Record(Entry(None, b"k" * 16, 1), *outcome, 0.0), folder)
            assert kept.file is None
        got = decode_row(kept, folder)
        assert np.array_equal(got[0], array)
        assert np.array_equal(got[1], array + 1)
        got[0][0] = got[1][0] = 7


def test_files_of_several_segments(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SEGMENT_BYTES", 1000)
    folder = Folder(path)
    parts = [b"a" * 2500, b"", b"b" * 1000, b"c"]
    name, sums = folder.write(b"k" * 16, parts)
    assert name.startswith("6b/" + "6b" * 15 + "-")
    assert len(sums) == 4 * (3 + 1 + 1)
    assert [
        bytes(part) for part in folder.read(name, [2500, 0, 1000, 1], sums)
    ] == parts
    assert list(folder.names()) == [(name, False)]
    file = folder.path / name
    for at in (0, 999, 1000, 2499, 2500, 3500):
        content = bytearray(file.read_bytes())
        content[at] ^= 1
        file.write_bytes(content)
        with pytest.raises(Damaged, match="changed"):
            folder.read(name, [2500, 0, 1000, 1], sums)
        content[at] ^= 1
        file.write_bytes(content)
    for wrong in (sums[:-4], b"", sums[4:]):
        with pytest.raises(Damaged, match="changed"):
            folder.read(name, [2500, 0, 1000, 1], wrong)
    with pytest.raises(Damaged, match="has 3501 bytes, not 3500"):
        folder.read(name, [2500, 0, 1000], sums)
    again, _ = folder.write(b"k" * 16, parts)
    assert again != name
    folder.remove(name)
    folder.remove(name)
    assert [n for n, _ in folder.names()] == [again]


def test_a_file_that_cannot_be_written_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(path)

    def write(*words: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(folders.os, "write", write)
    with pytest.raises(OSError, match="full"):
        folder.write(b"k" * 16, [b"x"])
    assert list(folder.names()) == []


def test_short_writes_and_reads_go_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, readv = os.write, os.readv
    monkeypatch.setattr(folders.os, "write", lambda f, data: write(f, data[:7]))
    monkeypatch.setattr(folders.os, "readv", lambda f, into: readv(f, [into[0][:5]]))
    folder = Folder(path)
    name, sums = folder.write(b"k" * 16, [b"0123456789" * 3])
    assert bytes(folder.read(name, [30], sums)[0]) == b"0123456789" * 3


@pytest.mark.parametrize(
    ("answer", "why"),
    [(0, "ended too early"), (OSError(errno.EIO, "no disk"), "cannot be read: .*disk")],
)
def test_a_file_that_cannot_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, why: str
) -> None:
    folder = Folder(path)
    name, sums = folder.write(b"k" * 16, [b"abc"])

    def readv(*words: Any) -> int:
        if isinstance(answer, OSError):
            raise answer
        return answer

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "readv", readv)
        with pytest.raises(Damaged, match=why):
            folder.read(name, [3], sums)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert bytes(folder.read(name, [3], sums)[0]) == b"abc"
    with pytest.raises(Damaged, match="cannot be read"):
        folder.read("00/missing", [3], sums)


def test_a_pipe_in_the_place_of_a_file(path: Path) -> None:
    folder = Folder(path)
    folder.path.mkdir()
    os.mkfifo(folder.path / "pipe")
    with pytest.raises(Damaged, match="is a pipe, not a file"):
        folder.read("pipe", [5], b"1234")
    (folder.path / "folder").mkdir()
    with pytest.raises(Damaged):
        folder.read("folder", [5], b"1234")


def test_folders_are_synced_once_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def noted(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink())
        fsync(file)

    monkeypatch.setattr(folders.os, "fsync", noted)
    folder = Folder(path)
    name, _ = folder.write(b"k" * 16, [b"x"])
    assert [file.suffix for file in synced] == [".part"]
    synced.clear()
    folder.sync()
    # The file's own folder, the one of that, and the one of the journal.
    assert set(synced) >= {folder.path, (folder.path / name).parent}
    synced.clear()
    folder.sync()
    assert synced == []


# Records.


def test_records_of_a_chunk_singly() -> None:
    keys = [digest(b"0"), NO_KEY, digest(b"2"), digest(b"3")]
    special = Entry("journal", keys[2], 8, replaces=5, given="own")
    common = Entry("journal", b"", 4, label="lab")
    frame = codec.encode_plain([10, 11, 12, 13])
    chunk = Records(common, b"".join(keys), [1, 2, 3, (4, 5)], frame, 9.0, {2: special})
    zero, two, three = chunk.singly()
    assert [r.payload for r in (zero, two, three)] == [10, 12, 13]
    assert zero.entry == Entry("journal", keys[0], 4, args=(1,), label="lab")
    assert two.entry is special
    assert three.entry.args == (4, 5)
    assert {(r.form, r.at, r.nbytes()) for r in (zero, two, three)} == {
        (PLAIN, 9.0, 300)
    }
    chunk.items = None
    assert next(chunk.singly()).entry.args is None


def test_which_items_are_plain() -> None:
    assert plain_items(range(5))
    assert plain_items([1, "a", (1, "b")])
    assert not plain_items([1, [2]])
    assert not plain_items([1, (1, [2])])


def test_copies_are_copies() -> None:
    array = bytearray(b"abc" * 1000)
    [copy] = copied([array])
    array[:] = bytes(3000)
    assert bytes(copy) == b"abc" * 1000
    assert copied([]) == []


def test_arrays_may_be_changed_before_they_are_written(path: Path) -> None:
    journal = opened(path)
    entry, _ = journal.find(np.zeros, None, (20_000,), {}, DEFAULTS)
    form, payload, buffers = encode_result([np.zeros(20_000)], "")
    array = np.frombuffer(buffers[0], np.float64)
    assert entry is not None
    journal.note(entry, form, payload, buffers)
    np.asarray(buffers[0]).view(np.float64)[:] = 7
    assert array[0] == 7
    assert journal.close()
    [outcome], ran = session(path, [(np.zeros, (20_000,))])
    assert (ran, outcome.sum()) == (0, 0)


# The lock.


def test_a_lock_tells_who_holds_it(path: Path) -> None:
    lock = Lock(path)
    assert not lock.known
    assert not lock.foreign
    assert lock.works
    lock.claim()
    told = json.loads(lock_path(path).read_bytes())
    assert told["what"] == "mpitasks journal"
    assert told["pid"] == os.getpid()
    assert told["host"] == os.uname().nodename
    lock.release()
    assert lock_path(path).exists()
    again = Lock(path)
    assert again.known
    again.release()
    assert lock_path(path).exists()


def test_a_lock_that_was_not_claimed_leaves_no_file(path: Path) -> None:
    lock = Lock(path)
    assert lock_path(path).exists()
    lock.release()
    assert not lock_path(path).exists()


def test_a_shorter_claim_leaves_nothing_of_a_longer_one(path: Path) -> None:
    lock_path(path).write_text(
        '{"what": "mpitasks journal", "host": "%s"}' % ("h" * 900)
    )
    lock = Lock(path)
    lock.claim()
    assert json.loads(lock_path(path).read_bytes())["pid"] == os.getpid()
    lock.release()


@pytest.mark.parametrize("number", locks._NO_LOCKS)
def test_file_systems_without_locks(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    def lockf(*words: Any) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    assert session(path, [(abs, (1,))]) == ([1], 1)
    assert session(path, [(abs, (1,))]) == ([1], 0)
    assert capsys.readouterr().err.count("has no locks") == 2


def test_a_lock_that_cannot_be_had(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def lockf(*words: Any) -> None:
        tries.append(words)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(JournalError, match="cannot be written") as caught:
        Lock(path)
    assert caught.value.unwritable
    assert len(tries) == 1
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_run_on_its_way_out_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps = []
    answers = iter([errno.EACCES, errno.EAGAIN, None])

    def lockf(*words: Any) -> None:
        if (number := next(answers)) is not None:
            raise OSError(number, "held")

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    monkeypatch.setattr(locks.time, "sleep", naps.append)
    Lock(path).release()
    assert naps == [0.04, 0.04]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is in use by another run"]),
        (b"[1]", ["is in use by another run"]),
        (
            b'{"pid": 7, "host": "a\\u001bb", "since": "then"}',
            ["pid 7 on host a\\x1bb"],
        ),
        (b'{"pid": 7, "job": "12"}', ["pid 7 of SLURM job 12", "(scancel 12)"]),
        (b'{"pid": 7, "job": null}', ["(kill 7)"]),
    ],
)
def test_what_a_second_run_is_told(
    path: Path, content: bytes, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_path(path).write_bytes(content)

    def lockf(*words: Any) -> None:
        raise OSError(errno.EAGAIN, "held")

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", -1.0)
    with pytest.raises(JournalError) as caught:
        Lock(path)
    assert not caught.value.unwritable
    for word in words:
        assert word in str(caught.value)
    assert lock_path(path).read_bytes() == content


# Opening.


def test_a_full_disk_at_the_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path, [row(1)])

    def full(*words: Any, **more: Any) -> Any:
        monkeypatch.undo()  # the next one would do
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(opening, "Store", full)
    with pytest.raises(JournalError, match="free some space") as caught:
        open_locked(path)
    assert caught.value.unwritable
    assert not path.with_name("run.db.damaged-1").exists()
    lock, base = open_locked(path)  # it was let go of
    assert base.numbers() == [1]
    base.close()
    lock.release()
    assert cannot_write(path, ValueError("x")).unwritable


def test_a_new_file_in_the_way(path: Path) -> None:
    """The damaged one stays, if none can be made from it."""
    session(path, [(abs, (-1,))])
    path.write_bytes(b"x" * 50 + path.read_bytes()[50:])
    content = path.read_bytes()
    way = path.with_name("run.db.new")
    way.mkdir()
    with pytest.raises(JournalError, match="cannot be written") as caught:
        open_locked(path)
    assert caught.value.unwritable
    assert path.read_bytes() == content
    way.rmdir()
    assert session(path, [(abs, (-1,))]) == ([1], 0)


def test_an_empty_journal_that_is_damaged_is_ours(path: Path) -> None:
    made(path, [], 0)
    content = path.read_bytes()
    for damaged in (content[:20], content[:500], content[:18] + b"\x09" + content[19:]):
        path.write_bytes(damaged)
        if len(damaged) < 72:
            with pytest.raises(JournalError, match="no journal of mpitasks"):
                open_locked(path)
            assert path.read_bytes() == damaged
            continue
        lock, base = open_locked(path)
        assert base.numbers() == []
        base.close()
        lock.release()
        lock_path(path).unlink()


def test_a_reader_that_fails_lets_go(path: Path) -> None:
    made(path, [row(1)])

    def read(base: Store) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        open_locked(path, read)
    lock, base = open_locked(path)
    assert base.read(1) == row(1)
    base.close()
    lock.release()


def test_what_was_begun_is_undone_without_a_copy_too(path: Path, capsys: Shown) -> None:
    made(path, [row(1)])
    way = path.with_name("run.db.before.part")
    way.mkdir()
    path.with_name("run.db-journal").write_bytes(b"x" * 600)
    lock, base = open_locked(path)
    assert base.read(1) == row(1)
    base.close()
    lock.release()
    assert capsys.readouterr().err == ""
    assert way.is_dir()
    assert not path.with_name("run.db.before").exists()


def test_damaged_files_are_kept_each(path: Path, capsys: Shown) -> None:
    for number in (1, 2, 3):
        made_now = not path.exists()
        if made_now:
            session(path, [(abs, (1,))])
        with path.open("r+b") as file:
            file.write(bytes([number]) * 50)
        content = path.read_bytes()
        assert session(path, [(abs, (1,))]) == ([1], 0)
        assert path.with_name(f"run.db.damaged-{number}").read_bytes() == content
    assert "1 results were saved from it" in capsys.readouterr().err
    assert not path.with_name("run.db.new").exists()


def test_where_there_are_no_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session(path, [(abs, (1,))])
    with path.open("r+b") as file:
        file.write(bytes(50))

    def link(*words: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(opening.os, "link", link)
    assert session(path, [(abs, (1,))]) == ([1], 0)
    assert path.with_name("run.db.damaged-1").exists()


def test_a_reader_without_rights(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    session(path, [(abs, (-n,)) for n in range(5)])
    lock_path(path).unlink()
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda *words: False)  # root may do anything
    with Reader(str(path)) as reader:
        assert [r.call for _, r in reader.rows()] == [f"({-n})" for n in range(5)]
        assert reader.damage is None
    path.with_name("run.db-journal").write_bytes(b"x" * 600)
    with Reader(str(path)) as reader:
        assert len(list(reader.rows())) == 5
        assert reader.damage == "its last commit was cut off; a run undoes that"
    assert path.with_name("run.db-journal").read_bytes() == b"x" * 600
    assert path.read_bytes() == before
    assert not lock_path(path).exists()


# The writer.


class Disk:
    """Writes when it is let, and notes what."""

    def __init__(self) -> None:
        self.written: list[list[Any]] = []
        self.errors: list[Exception] = []
        self.may = threading.Event()
        self.asked = threading.Event()
        self.may.set()

    def write(self, items: list[Any]) -> None:
        self.asked.set()
        assert self.may.wait(120)
        if "bad" in items:
            raise OSError(errno.ENOSPC, "full")
        self.written.append(list(items))


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.may.set()


def writer(disk: Disk, **options: Any) -> JournalWriter:
    started = JournalWriter(disk.write, disk.errors.append, "run.db", **options)
    started.start()
    return started


def test_all_is_written_in_order(disk: Disk) -> None:
    thread = writer(disk)
    for number in range(1000):
        thread.put(number, 300)
    assert thread.flush(60)
    assert [n for items in disk.written for n in items] == list(range(1000))
    thread.put(1000, 300)
    assert thread.stop(60)
    assert disk.written[-1][-1] == 1000
    assert not thread.is_alive()
    thread.put(1001, 300)  # too late
    assert thread.flush(0.0)
    assert disk.written[-1][-1] == 1000


def test_a_flush_that_is_not_done_in_time(disk: Disk) -> None:
    thread = writer(disk)
    disk.may.clear()
    thread.put(1, 300)
    assert not thread.flush(0.0)
    assert disk.asked.wait(120)
    assert not thread.stop(0.01)
    disk.may.set()
    assert thread.flush(60)


def test_large_results_go_in_commits_of_their_own_size(disk: Disk) -> None:
    thread = writer(disk)
    disk.may.clear()
    thread.put("first", 300)
    assert disk.asked.wait(120)
    for number in range(5):
        thread.put(number, 30 << 20)
    thread.put("small", LARGE_BYTES - 1)
    disk.may.set()
    assert thread.flush(60)
    assert disk.written == [["first"], ["small", 0, 1, 2], [3, 4]]
    assert thread.stop(60)


def test_too_much_waits_for_the_disk(disk: Disk, capsys: Shown) -> None:
    thread = writer(disk, limit=1000)
    disk.may.clear()
    thread.put(1, 400)
    thread.put(2, 600)  # that much there may be
    passed = threading.Event()

    def put() -> None:
        thread.put(3, 1)
        passed.set()

    waiting = threading.Thread(target=put)
    waiting.start()
    assert not passed.wait(0.1)
    disk.may.set()
    assert passed.wait(120)
    waiting.join()
    assert thread.stop(60)
    assert [n for items in disk.written for n in items] == [1, 2, 3]
    said = capsys.readouterr().err
    assert said.count("is slower than the results come") == 1
    thread.put(4, 2000)


def test_an_error_ends_the_writing_and_nobody_waits(disk: Disk) -> None:
    thread = writer(disk, limit=1000)
    thread.put("bad", 300)
    assert not thread.flush(60)
    thread.join(120)
    assert [str(e) for e in disk.errors] == ["[Errno 28] full"]
    assert thread.error is disk.errors[0]
    for number in range(10):
        thread.put(number, 900)
    assert not thread.stop(60)
    assert disk.written == []


# The summary.


def test_each_thing_is_said_once_and_counted(capsys: Shown) -> None:
    summary = Summary(Path("run.db"))
    summary.note()
    summary.note(count=5)
    summary.note(failed=True)
    summary.came_back += 1
    for _ in range(2):
        summary.unkeyable("f", "no content")
        summary.damaged("gone")
        summary.refused("odd")
    summary.unkeyable("g", "no content")
    before = {"code": "1", "0 global a": "1", "gone": "1", "same": "1"}
    after = {"code": "2", "0 global a": "2", "new": "1", "same": "1"}
    summary.changed("h", before, after, 3)
    summary.changed("h", {}, {"code": "1"}, 2)
    said = capsys.readouterr().err.splitlines()
    assert sum("calls of f are run" in line for line in said) == 1
    assert sum("is damaged, and is computed again: gone" in line for line in said) == 1
    assert sum("is not kept in the journal run.db: odd" in line for line in said) == 1
    assert "(its code, global a, its new, ...)" in said[-2]
    assert "(its code)" in said[-1]
    summary.written = 4
    summary.print("full")
    line, lost = capsys.readouterr().err.splitlines()
    assert line == (
        "mpitasks: journal run.db: 1 result came back, 7 calls ran, 1 of them failed; "
        "not used, since the function changed: 5 of h; 2 damaged results computed "
        "again; 2 results not kept; 3 without a key, not kept"
    )
    assert lost == "mpitasks: 3 results of this run did not get there: full"


def test_a_short_summary(capsys: Shown) -> None:
    summary = Summary(Path("a\x1b.db"))
    summary.note()
    summary.print(None)
    assert capsys.readouterr().err == (
        "mpitasks: journal a\\x1b.db: 0 results came back, 1 call ran\n"
    )


# The journal.


def test_failures_come_back_only_if_they_are_kept(path: Path) -> None:
    calls = [(int, ("x",)), (int, ("1",))]
    [failure, one], ran = session(path, calls)
    assert (type(failure.error), one, ran) == (ValueError, 1, 2)
    assert session(path, calls)[1] == 1
    [failure, one], ran = session(path, calls, keep_failures=True)
    assert (type(failure.error), one, ran) == (ValueError, 1, 0)
    base = Store(path)
    assert len(base.numbers()) == 2  # the second attempt took the place of the first
    base.close()


def test_a_disk_that_is_full_stops_the_run_or_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    def full(*words: Any, **more: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Store, "write", full)
    for goes_on in (False, True):
        journal = opened(path, goes_on=goes_on)
        stopped: list[Any] = []
        journal._stop = stopped.append
        assert call(journal, abs, (-1,)) == 1
        journal._writer.flush(60)
        journal._writer.join(120)
        assert len(stopped) == (not goes_on)
        if goes_on:
            journal.settle(1.0)
        else:
            with pytest.raises(JournalError, match="disk is full"):
                journal.settle(1.0)
            with pytest.raises(JournalError, match="disk is full"):
                journal.attach(stand_in())
        assert journal.close() == goes_on
        assert journal.close() == (journal.error is None)
        said = capsys.readouterr().err
        assert said.count("goes on WITHOUT it") == goes_on
        assert "1 result of this run did not get there" in said


def stand_in() -> Any:
    import types

    engine = types.SimpleNamespace(listen=lambda *_: None)
    return types.SimpleNamespace(engine=engine, abandon=None)


def test_a_disk_that_does_not_move(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(path)
    may = threading.Event()
    write = Store.write

    def slow(*words: Any, **more: Any) -> None:
        assert may.wait(120)
        write(*words, **more)

    monkeypatch.setattr(Store, "write", slow)
    call(journal, abs, (-1,))
    with pytest.raises(JournalError, match="has not moved for 0 s"):
        journal.settle(0.01)
    may.set()
    assert journal.flush(60)
    journal.close()


def test_a_disk_that_does_not_move_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    journal = opened(path)
    may = threading.Event()
    write = Store.write

    def slow(*words: Any, **more: Any) -> None:
        assert may.wait(60)
        write(*words, **more)

    monkeypatch.setattr(Store, "write", slow)
    call(journal, abs, (-1,))
    assert not journal.close(0.01)
    assert not journal.close(0.01)
    assert "was not written within 0 s" in str(journal.error)
    said = capsys.readouterr().err
    assert "1 result of this run did not get there" in said
    with pytest.raises(JournalError):  # the thread still has it
        Lock(path)
    may.set()
    journal._writer.join(60)
    journal._store.close()
    journal._lock.release()


def test_an_error_that_was_not_said_yet_counts(path: Path) -> None:
    journal = opened(path)
    journal._writer.error = OSError(errno.ENOSPC, "no space left")
    with pytest.raises(JournalError, match="no space left"):
        journal.settle(1.0)
    journal._writer.error = journal.error = None
    assert journal.close()


def test_a_row_that_cannot_be_read_any_more(path: Path) -> None:
    made(path, [row(n, bytes(3000)) for n in range(1, 2001)])
    base = Store(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4 // PAGE_BYTES * PAGE_BYTES)
        file.write(b"\xff" * (size // 2))
    good = 0
    for number in range(1, 2001):
        with contextlib.suppress(Damaged):
            assert base.read(number).key == digest(b"%d" % number)
            good += 1
    assert 400 < good < 1500  # those before the damage, and maybe those behind it
    base.close()


def test_a_lock_that_cannot_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pread(*words: Any) -> bytes:
        raise OSError(errno.EIO, "no disk")

    monkeypatch.setattr(locks.os, "pread", pread)
    lock, base = open_locked(path)
    base.close()
    lock.release()


def test_records_of_more_than_may_wait_are_written_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpitasks.journal import recorder

    monkeypatch.setattr(recorder, "QUEUE_BYTES", 1000)
    monkeypatch.setattr(recorder, "copied", None)  # there is no room for a copy
    journal = opened(path)
    call(journal, np.ones, (20_000,))
    assert journal.summary.written == 1
    assert journal.close()
    [array], ran = session(path, [(np.ones, (20_000,))])
    assert (array.sum(), ran) == (20_000, 0)
    assert rows.LARGE_BYTES == LARGE_BYTES
