"""The journal on disk: killed, cut off, overwritten, in use, no place to write."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import JournalError
from mpitasks.journal import file_lock as locks
from mpitasks.journal.file_lock import Lock, lock_path
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.opening import open_locked
from mpitasks.journal.rows import Entry, Record, decode_row, to_row
from mpitasks.journal.salvage import salvage
from mpitasks.journal.store import FunctionRow, Store, sealed
from mpitasks.journal.walk import digest
from mpitasks.wire.outcomes import Failure, encode_error, encode_result

HERE = Path(__file__).parent
SEED = int(os.environ.get("MPITASKS_TEST_SEED", "20261123"))
KILLS = int(os.environ.get("MPITASKS_TEST_KILLS", "200"))


def seeds(first: int, all_of_them: int) -> list[Any]:
    """Return seeds, of which those after the first ones are for slow runs."""
    rest = range(SEED + first, SEED + all_of_them)
    slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in rest]
    return [*range(SEED, SEED + first), *slow]


def value(number: int) -> Any:
    """Return what stands in the journal under a number."""
    if number % 20 == 19:
        return np.full(150_000, number)  # in a file of its own
    if number % 20 == 18:
        return np.full(30_000, number)  # over many pages
    if number % 20 == 17:
        return "text " * (number * 20)
    return number * 0.5


def record(number: int) -> Record:
    entry = Entry(None, digest(b"%d" % number), 1, args=(number,), label="some label")
    form, payload, buffers = encode_result([value(number)], "here")
    return Record(entry, form, payload, buffers, 1e9 + number)


def fill(path: Path, numbers: range) -> None:
    """Write a journal."""
    lock, store = open_locked(path)
    folder = Folder(path)
    function = FunctionRow("module.task", b"identity", "{}")
    store.write([], functions=[(1, function)] if not store.functions() else [])
    for start in range(numbers.start, numbers.stop, 50):
        some = numbers[start - numbers.start : start - numbers.start + 50]
        rows = [to_row(record(n), folder) for n in some]
        folder.sync()
        store.write([*map(sealed, rows)])
    store.close()
    lock.release()


def check(path: Path) -> tuple[set[int], int]:
    """Open; return the numbers of what is there and right, and how many are damaged."""
    lock, store = open_locked(path)
    folder = Folder(path)
    found, damaged = set(), 0
    try:
        for row_number, *_ in store.index():
            try:
                row = store.read(row_number)
                got = decode_row(row, folder)
            except Damaged:
                damaged += 1
                continue
            assert row.call is not None
            number = int(row.call.strip("(,)"))
            assert row.key == digest(b"%d" % number)
            assert np.array_equal(got, value(number))
            found.add(number)
        store.write([sealed(to_row(record(10_000), folder))])  # and it goes on
    finally:
        store.close()
        lock.release()
    return found, damaged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 200 results, to be damaged in copies."""
    path = tmp_path_factory.mktemp("journal") / "run.db"
    fill(path, range(200))
    return path


def copy(whole: Path, path: Path) -> None:
    shutil.copy(whole, path)
    shutil.copy(lock_path(whole), lock_path(path))
    shutil.copytree(Folder(whole).path, Folder(path).path, copy_function=os.link)


def test_what_was_written_is_read(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(path, range(100))
    fill(path, range(100, 200))
    assert check(path) == (set(range(200)), 0)
    assert capsys.readouterr().err == ""


def test_arrays_come_back_writable_and_errors_as_failures(path: Path) -> None:
    folder = Folder(path)
    for number in (18, 19):
        array = decode_row(to_row(record(number), folder), folder)
        array += 1
        assert array[0] == number + 1
    form, payload, buffers = encode_error(ValueError("no"), "rank 1")
    row = to_row(Record(record(0).entry, form, payload, buffers, 0.0), folder)
    failure = decode_row(row, folder)
    assert isinstance(failure, Failure)
    assert repr(failure.error) == "ValueError('no')"
    assert "rank 1" in str(failure.error.__cause__)


def test_replaced_rows_are_gone_and_counted(path: Path) -> None:
    fill(path, range(3))
    lock, store = open_locked(path)
    first, *_ = store.numbers()
    store.write([sealed(to_row(record(7), Folder(path)))], replaced=[first, 999])
    store.close()
    lock.release()
    assert check(path) == ({1, 2, 7}, 0)


def test_a_commit_that_fails_leaves_nothing(path: Path) -> None:
    fill(path, range(3))
    lock, store = open_locked(path)
    row = to_row(record(7), Folder(path))
    broken = to_row(record(8), Folder(path))
    broken.body = object()  # type: ignore[assignment]
    with pytest.raises((sqlite3.Error, ValueError)):
        store.write([*map(sealed, [row, broken])])
    store.write([sealed(row)])
    store.close()
    lock.release()
    assert check(path) == ({0, 1, 2, 7}, 0)


def test_killed_at_random_instants_it_opens_clean(tmp_path: Path) -> None:
    command = [sys.executable, HERE / "journal_killer.py", tmp_path, KILLS, SEED]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"seed {SEED}\n{done.stderr}"
    print(json.loads(done.stdout))  # the age of the oldest result lost, and the median


@pytest.mark.parametrize("seed", seeds(12, 40))
def test_cut_off_it_opens(
    whole: Path, path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(seed)
    copy(whole, path)
    size = draw.choice(
        [draw.randrange(1, 5000), draw.randrange(1, path.stat().st_size)]
    )
    os.truncate(path, size)
    found, damaged = check(path)
    assert found <= set(range(200))
    assert not damaged
    said = capsys.readouterr().err
    assert f"{len(found)} results were saved" in said
    assert check(path) == (found | {10_000}, 0)  # mended for good
    assert (path.parent / "run.db.damaged-1").stat().st_size == size


@pytest.mark.parametrize("seed", seeds(24, 80))
def test_overwritten_somewhere_it_opens(
    whole: Path, path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(seed)
    copy(whole, path)
    with path.open("r+b") as file:
        for _ in range(draw.choice([1, 1, 5, 50])):
            # The first pages hold more structure than the rest.
            most = draw.choice([200, 12_000, path.stat().st_size])
            file.seek(draw.randrange(most))
            file.write(draw.randbytes(draw.choice([1, 4, 100, 5000])))
    found, damaged = check(path)
    said = capsys.readouterr().err
    missing = set(range(200)) - found
    # What is lost is told: when the file is opened, or when the row is read.
    assert len(missing) <= damaged or "was damaged" in said
    again, damaged_still = check(path)
    assert again == found | {10_000}
    assert damaged_still == damaged


def test_most_of_a_file_with_a_bad_page_is_saved(
    whole: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(whole, path)
    with path.open("r+b") as file:  # the root of the tree, and the header
        file.write(bytes(3 * 4096))
    found, _ = check(path)
    assert len(found) >= 190
    assert "the damaged file is kept as" in capsys.readouterr().err


def test_a_rollback_journal_in_the_way_of_a_damaged_file(
    whole: Path, path: Path
) -> None:
    copy(whole, path)
    for name in ("run.db-journal", "run.db-wal"):
        path.with_name(name).write_bytes(random.Random(SEED).randbytes(8192))
    found, _ = check(path)
    assert found <= set(range(200))


@pytest.mark.parametrize("how", ["gone", "shorter", "longer", "other"])
def test_a_damaged_file_of_a_large_result_is_noticed(
    whole: Path, path: Path, how: str
) -> None:
    copy(whole, path)
    file = sorted(Folder(path).path.glob("*/*"))[0]
    content = file.read_bytes()
    file.unlink()  # it is a link to the one of all tests
    file.write_bytes(content)
    if how == "gone":
        file.unlink()
    elif how == "shorter":
        os.truncate(file, 1000)
    elif how == "longer":
        file.write_bytes(file.read_bytes() + b"x")
    else:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    found, damaged = check(path)
    assert damaged == 1
    assert len(found) == 199


def test_salvage_finds_every_row_of_a_sound_file(whole: Path) -> None:
    functions, results = salvage(whole)
    assert [row.name for row in functions.values()] == ["module.task"]
    assert {row.key for row in results} == {digest(b"%d" % n) for n in range(200)}
    assert all(row.function == 1 for row in results)


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b"x" * 10_000, b"SQLite format 3\0"]
)
def test_files_of_others_are_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(JournalError, match="is no journal of mpitasks"):
            open_locked(path)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == content


def test_databases_of_others_are_left_alone(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE results (id INTEGER)")
    base.commit()
    base.close()
    content = path.read_bytes()
    with pytest.raises(JournalError, match="is no journal of mpitasks"):
        open_locked(path)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    assert check(path) == (set(), 0)


def test_folders_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is a folder"):
        open_locked(tmp_path)
    with pytest.raises(JournalError, match="No such file or directory"):
        open_locked(tmp_path / "no" / "run.db")


# Who holds it.

HOLD = """
    import sys, time
    from pathlib import Path
    from mpitasks.journal.opening import open_locked
    held = open_locked(Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the journal."""
    environ = {**os.environ, "SLURM_JOB_ID": "4711"}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), path],
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_it(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(JournalError) as caught:
        open_locked(path)
    message = str(caught.value)
    for word in (
        f"pid {holder.pid}",
        os.uname().nodename,
        "SLURM job 4711",
        "scancel 4711",
    ):
        assert word in message


def test_a_kill_lets_go_of_it(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert "4711" in lock_path(path).read_text()  # stale, and harmless
    assert check(path) == (set(), 0)


def test_a_second_opening_in_one_process_is_refused(path: Path) -> None:
    lock, store = open_locked(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    for same in (path, link):
        with pytest.raises(JournalError, match="open in this process already"):
            open_locked(same)
    store.close()
    lock.release()
    open_locked(path)[0].release()


def test_without_locks_it_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lockf(*words: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    assert check(path) == (set(), 0)
    assert "has no locks" in capsys.readouterr().err


def test_the_lock_of_a_closed_journal_can_be_released_again(path: Path) -> None:
    lock = Lock(path)
    lock.release()
    lock.release()


def test_a_store_can_be_read_without_rights_to_write(whole: Path) -> None:
    store = Store(whole, writable=False)
    assert len(store.numbers()) == 200
    store.close()
