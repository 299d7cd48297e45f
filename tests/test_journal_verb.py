"""``mpitasks journal``: counts, lists, exports, verifies, compacts."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import JournalError
from mpitasks.journal.file_lock import lock_path
from mpitasks.journal.folder import Folder
from mpitasks.journal.opening import open_locked
from mpitasks.journal.rows import Entry, Record, encode_failure, to_row
from mpitasks.journal.store import FunctionRow, sealed
from mpitasks.journal.walk import digest
from mpitasks.launch.verbs import UsageError
from mpitasks.tools.journal.command import main, parse
from mpitasks.wire.outcomes import encode_result

Shown = pytest.CaptureFixture[str]


@dataclasses.dataclass
class Fit:
    slope: float
    error: Any


VALUES: dict[str, Any] = {
    "one": 1.5,
    "text": "a, b",
    "array": np.arange(6).reshape(2, 3),
    "large": np.arange(200_000),
    "mixed": {"loss": np.float32(0.5), "curve": np.array([1.0, 2.0]), "name": "x"},
    "fit": Fit(2.0, float("nan")),
    "pair": (np.zeros(3), np.ones(2)),
    "bad": ValueError("no"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with a result of each kind, and results of an older function."""
    path = tmp_path / "run.db"
    lock, store = open_locked(path)
    folder = Folder(path)
    old = FunctionRow("module.task", b"old", "{}")
    new = FunctionRow("module.task", b"new", "{}")
    other = FunctionRow("module.other", b"other", "{}")
    store.write([], functions=[(1, old), (2, new), (3, other)])
    rows = []
    for number, (name, value) in enumerate(VALUES.items()):
        entry = Entry(None, digest(name.encode()), 2, args=(number, name), label="lab")
        outcome = (
            encode_failure(value)
            if isinstance(value, Exception)
            else encode_result([value], "here")
        )
        rows.append(to_row(Record(entry, *outcome, at=1e9), folder))
    entry = Entry(None, digest(b"old"), 1, given="('case', 7)")
    rows.append(to_row(Record(entry, *encode_result([1], ""), at=0.0), folder))
    entry = Entry(None, digest(b"other"), 3)
    rows.append(
        to_row(Record(entry, *encode_result([np.ones(300_000)], ""), 0.0), folder)
    )
    folder.sync()
    store.write([*map(sealed, rows)])
    store.close()
    lock.release()
    return path


def run(*words: str | Path) -> int:
    return main(parse([str(word) for word in words]))


def test_counts_by_function(path: Path, capsys: Shown) -> None:
    assert run(path) == 0
    head, titles, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("run.db: 10 results, 1 of them failed, 3.8 MiB")
    assert titles.split() == ["function", "results", "failed", "size", "first", "last"]
    shown = [" ".join(line.split()) for line in lines]
    assert shown[0].startswith("module.task (before it changed) 1 0 5 B 1970-01-01")
    assert shown[1].startswith("module.task 8 1 1.5 MiB 2001-09-09")
    assert shown[2].startswith("module.other 1 0 2.3 MiB 1970-01-01")


def test_lists_what_is_asked_for(path: Path, capsys: Shown) -> None:
    assert run(path, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[1].startswith(digest(b"text").hex()[:12])
    assert lines[1].endswith("module.task(1, 'text')  [lab]")
    for words, count in [
        (["--failed"], 1),
        (["--function", "other"], 1),
        (["--function", "module.task"], 9),
        (["--key", "('case', 7)"], 1),
        (["--key", digest(b"one").hex()[:8], "--key", digest(b"fit").hex()], 2),
        (["--key", "nothing"], 0),
    ]:
        assert run(path, "list", *words) == 0
        assert len(capsys.readouterr().out.splitlines()) == count, words


def test_exports_csv(path: Path, tmp_path: Path, capsys: Shown) -> None:
    assert run(path, "--csv", tmp_path / "out.csv") == 0
    assert "(10 of 10 results)" in capsys.readouterr().out
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows[:3]] == [
        "1.5",
        "a, b",
        "[[0, 1, 2], [3, 4, 5]]",
    ]
    assert rows[7]["state"] == "failed"
    assert rows[7]["value"] == "ValueError('no')"
    assert rows[8]["key"] == "('case', 7)"
    assert rows[0]["call"] == "(0, 'one')"
    assert {row["state"] for row in rows} == {"ok", "failed"}


def test_exports_json(path: Path, capsys: Shown) -> None:
    assert run(path, "export", "--json", "-", "--function", "task") == 0
    told = {row["call"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    assert told["(2, 'array')"] == [[0, 1, 2], [3, 4, 5]]
    assert told["(3, 'large')"] == {"array": "int64", "shape": [200_000]}
    assert told["(4, 'mixed')"] == {"loss": 0.5, "curve": [1.0, 2.0], "name": "x"}
    assert told["(5, 'fit')"] == {"slope": 2.0, "error": "nan"}


def test_exports_arrays(path: Path, tmp_path: Path, capsys: Shown) -> None:
    assert run(path, "--npz", tmp_path / "out.npz") == 0
    keys = {name: digest(name.encode()).hex() for name in VALUES}
    with np.load(tmp_path / "out.npz") as arrays:
        found = dict(arrays.items())
    assert np.array_equal(found[keys["large"]], VALUES["large"])
    assert found[keys["one"]] == 1.5
    assert found[keys["mixed"] + "/curve"].tolist() == [1.0, 2.0]
    assert found[keys["pair"] + "/1"].tolist() == [1.0, 1.0]
    assert found["('case', 7)"] == 1
    assert keys["bad"] not in found
    assert keys["fit"] not in found


@pytest.mark.parametrize("kind", ["csv", "json", "npz"])
def test_an_export_replaces_an_export_and_nothing_else(
    path: Path, tmp_path: Path, kind: str, capsys: Shown
) -> None:
    target = tmp_path / f"out.{kind}"
    assert run(path, f"--{kind}", target, "--key", "nothing") == 0
    empty = target.read_bytes()
    assert run(path, f"--{kind}", target) == 0
    whole = target.read_bytes()
    assert run(path, f"--{kind}", target) == 0
    assert target.read_bytes() == whole != empty
    target.write_text("precious")
    with pytest.raises(JournalError, match=r"was not written by mpitasks.*another"):
        run(path, f"--{kind}", target)
    assert target.read_text() == "precious"
    target.rename(tmp_path / "precious")
    target.symlink_to("precious")
    with pytest.raises(JournalError, match="is a link, and is left as it is"):
        run(path, f"--{kind}", target)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize("kind", ["csv", "json", "npz"])
def test_an_export_to_a_device_or_a_pipe(
    path: Path, tmp_path: Path, kind: str, capsys: Shown
) -> None:
    assert run(path, f"--{kind}", os.devnull) == 0
    with pytest.raises(JournalError, match=r"/dev/full cannot be written: .*No space"):
        run(path, f"--{kind}", "/dev/full")
    for device in (os.devnull, "/dev/full"):
        assert Path(device).is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(JournalError, match=r"cannot be written: .*No such device"):
        run(path, f"--{kind}", pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    key = digest(b"one").hex()
    assert run(path, f"--{kind}", pipe, "--key", key) == 0
    assert key.encode() in os.read(reader, 1 << 16)
    os.close(reader)
    assert pipe.is_fifo()


def test_verifies(path: Path, capsys: Shown) -> None:
    assert run(path, "verify") == 0
    assert "10 results are sound, with 2 files of 3.8 MiB" in capsys.readouterr().out
    file = next(Folder(path).path.glob("*/*"))
    file.write_bytes(file.read_bytes()[:-1])
    assert run(path, "verify") == 1
    out = capsys.readouterr().out
    assert "9 results are sound, with 1 files" in out
    assert "damaged: result" in out
    assert run(path, "--csv", "-") == 1


def test_reads_what_is_sound_in_a_damaged_file(path: Path, capsys: Shown) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4096))
    before = path.read_bytes()
    assert run(path, "verify") == 1
    captured = capsys.readouterr()
    assert "10 results can be read all the same" in captured.err
    assert "the next run mends" in captured.out
    assert run(path, "--json", "-") == 1
    assert len(json.loads(capsys.readouterr().out)) == 10
    assert path.read_bytes() == before


def test_compacts(path: Path, capsys: Shown) -> None:
    folder = Folder(path)
    stray = folder.path / "00" / "stray-1"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x" * 1000)
    part = folder.path / "00" / "stray-2.part"
    part.write_bytes(b"x" * 1000)
    assert run(path, "compact") == 0
    assert "0 results dropped" in capsys.readouterr().out
    assert not stray.exists()
    assert not part.exists()
    assert run(path, "compact", "--drop-failures", "--drop-changed") == 0
    assert "2 results dropped" in capsys.readouterr().out
    assert run(path, "verify") == 0
    assert "8 results are sound" in capsys.readouterr().out


def test_a_journal_in_use_is_not_touched(path: Path) -> None:
    lock, store = open_locked(path)
    for action in ("count", "compact"):
        with pytest.raises(JournalError, match="open in this process already"):
            run(path, action)
    store.close()
    lock.release()


def test_a_folder_that_is_read_only(
    path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_path(path).unlink()
    monkeypatch.setattr(os, "access", lambda *words: False)  # root may do anything
    assert run(path) == 0
    assert "10 results" in capsys.readouterr().out
    assert not lock_path(path).exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        run(tmp_path / "missing.db")
    other = tmp_path / "data.csv"
    other.write_text("a,b\n")
    for action in ("count", "verify", "compact"):
        with pytest.raises(JournalError, match="is no journal of mpitasks"):
            run(other, action)
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run.db", "nonsense"],
        ["run.db", "export"],
        ["run.db", "list", "--csv", "x"],
    ],
)
def test_words_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)


def test_npz_is_not_for_the_terminal(path: Path) -> None:
    with pytest.raises(JournalError, match="needs a file"):
        run(path, "--npz", "-")


def test_no_place_for_the_export(path: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be written"):
        run(path, "--csv", tmp_path / "no" / "out.csv")
