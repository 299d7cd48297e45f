"""A journal that another user could have written: shown with care, never unpickled."""

from __future__ import annotations

import contextlib
import io
import os
import random
import stat
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal_session import opened, session
from mpitasks.errors import JournalError
from mpitasks.journal.file_lock import Lock, lock_path
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.opening import open_locked
from mpitasks.journal.store import FunctionRow, Row, Store, sealed, undo_path
from mpitasks.journal.walk import digest
from mpitasks.tools.journal.command import main, parse
from mpitasks.tools.journal.reader import Reader
from mpitasks.wire.messages import PLAIN

Shown = pytest.CaptureFixture[str]

STRANGER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root makes files of others")

EVIL = "\x1b]0;title\x07\x1b[2J\r\u202e\x9b\n\ud800"


class Bomb:
    """Its pickle makes a file when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def bomb(target: str) -> Bomb:
    return Bomb(Path(target))


def ones(size: int) -> Any:
    return np.ones(size)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "it went off"


@pytest.fixture
def path(tmp_path: Path, target: Path) -> Path:
    """A journal with a result that does harm when it is read, and a large one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "run.db"
    session(path, [(bomb, (str(target),)), (ones, (300_000,))])
    assert not target.exists()
    return path


def run(*words: object) -> int:
    return main(parse([str(word) for word in words]))


def own(path: Path) -> None:
    os.chown(path, STRANGER, 0, follow_symlinks=False)


def junk(path: Path) -> None:
    path.write_bytes(b"")
    own(path)


OTHERS: dict[str, Callable[[Path], object]] = {
    "mode": lambda path: path.chmod(0o606),
    "folder": lambda path: path.parent.chmod(0o777),
    "lock": lambda path: lock_path(path).chmod(0o666),
    "results": lambda path: Folder(path).path.chmod(0o777),
    "owner": own,
    "folder's owner": lambda path: own(path.parent),
    "results' owner": lambda path: own(Folder(path).path),
    "undo's owner": lambda path: junk(undo_path(path)),
    "copy's owner": lambda path: junk(path.with_name("run.db.before")),
}


@pytest.fixture(params=OTHERS)
def doubtful(path: Path, request: pytest.FixtureRequest) -> Path:
    """A journal that others could have written, in one way."""
    if "owner" in request.param and os.geteuid() != 0:
        pytest.skip("root makes files of others")
    OTHERS[request.param](path)
    return path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what is in a folder: modes, and when each thing was changed."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_ctime_ns)
        for path in [folder, *folder.rglob("*")]
    }


ENDINGS = {
    ".lock": ["lock"],
    ".d": ["results", "results' owner"],
    "-journal": ["undo's owner"],
    ".before": ["copy's owner"],
}


def test_a_run_refuses_it(
    doubtful: Path, target: Path, request: pytest.FixtureRequest
) -> None:
    before = listing(doubtful.parent)
    with pytest.raises(JournalError) as refused:
        opened(doubtful)
    told = str(refused.value)
    assert told.startswith(f"the journal {doubtful} is not used: ")
    assert "uid 65534" in told or "everybody may" in told
    for ending in (".lock", ".d", "-journal", ".before"):
        named = f" {doubtful}{ending}. Its results" in told
        assert named == (request.node.callspec.id in ENDINGS[ending])
    assert "mpitasks --trust" in told
    assert "Executor(trust=True)" in told
    assert listing(doubtful.parent) == before


def test_a_run_that_trusts_it_uses_it(doubtful: Path, target: Path) -> None:
    outcomes, ran = session(doubtful, [(bomb, (str(target),))], trust=True)
    assert (len(outcomes), ran) == (1, 0)
    assert target.is_dir()


def test_verbs_show_it_and_unpickle_nothing(
    doubtful: Path, target: Path, capsys: Shown
) -> None:
    before = listing(doubtful.parent)
    for action in ("count", "list", "verify"):
        assert run(doubtful, action) == 0
    assert "2 results are sound" in capsys.readouterr().out
    for action in (["export", "--json", "-"], ["compact"]):
        with pytest.raises(JournalError) as refused:
            run(doubtful, *action)
        assert f"mpitasks journal {doubtful} {action[0]} --trust" in str(refused.value)
    assert capsys.readouterr().out == ""
    assert listing(doubtful.parent) == before
    assert not target.exists()
    assert run(doubtful, "export", "--json", "-", "--trust") == 0
    assert target.is_dir()
    assert run(doubtful, "compact", "--trust") == 0


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o700])
def test_a_place_where_others_cannot_put_another(path: Path, mode: int) -> None:
    path.parent.chmod(mode)
    assert session(path, [(ones, (300_000,))])[1] == 0


@as_root
def test_a_link_of_another_user(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    assert session(link, [(ones, (300_000,))])[1] == 0
    own(link)
    with pytest.raises(JournalError, match="owns it"):
        opened(link)


def test_a_new_one_too(tmp_path: Path) -> None:
    # Else the next run would refuse what this one has computed.
    tmp_path.chmod(0o777)
    with pytest.raises(JournalError, match=f"type: chmod go-w {tmp_path}"):
        opened(tmp_path / "new.db")
    assert list(tmp_path.iterdir()) == []


@as_root
def test_a_large_result_of_another_user(path: Path, capsys: Shown) -> None:
    (file,) = Folder(path).path.glob("*/*")
    own(file)
    before = file.read_bytes()
    outcomes, ran = session(path, [(ones, (300_000,))])
    assert (len(outcomes[0]), ran) == (300_000, 1)
    assert "(uid 65534) owns it" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_results_are_private(path: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        calls = [(ones, (300_000 + n,)) for n in range(3)]
        session(tmp_path / "new.db", calls)
        for kind in ("csv", "json", "npz"):
            run(tmp_path / "new.db", "export", f"--{kind}", tmp_path / f"out.{kind}")
    finally:
        os.umask(before)
    made = [p for p in tmp_path.rglob("*") if p.name.startswith(("new", "out"))]
    made += (tmp_path / "new.db.d").rglob("*")
    assert len(made) > 10
    modes = {(p.is_dir(), stat.S_IMODE(p.stat().st_mode)) for p in made}
    assert modes == {(True, 0o700), (False, 0o600)}


def test_a_damaged_one_stays_private(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(bytes(100))
    lock, store = open_locked(path)
    store.close()
    lock.release()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_made_through_a_link(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("run.db.lock", "run.db.before.part", "run.db.new"):
        link = path.with_name(name)
        link.unlink(missing_ok=True)
        link.symlink_to(precious)
    with pytest.raises(JournalError, match="cannot be written"):
        opened(path)
    lock_path(path).unlink()
    with path.open("r+b") as file:
        file.write(bytes(100))
    undo_path(path).write_bytes(b"x" * 600)
    lock, store = open_locked(path)
    store.close()
    lock.release()
    assert precious.read_text() == "precious"


def test_a_lock_of_two_names_is_left_alone(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    lock_path(path).unlink()
    os.link(precious, lock_path(path))
    for _ in range(2):
        with pytest.raises(JournalError, match=r"has more than one name"):
            Lock(path)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("name", ["run.db.lock", "run.db-journal", "run.db.before"])
def test_a_pipe_beside_it_hangs_nobody(path: Path, name: str, capsys: Shown) -> None:
    path.with_name(name).unlink(missing_ok=True)
    os.mkfifo(path.with_name(name))
    if name == "run.db.before":
        opened(path).close(10)
        return
    with pytest.raises(JournalError, match=f"{name} is a pipe, not a file"):
        opened(path)
    with pytest.raises(JournalError, match=f"{name} is a pipe, not a file"):
        run(path, "list")


# Rows that only somebody else writes.


def row(**changes: Any) -> Row:
    values = {
        "key": digest(b"1"),
        "function": 1,
        "failed": 0,
        "form": PLAIN,
        "sizes": "3",
        "body": b"abc",
        "file": None,
        "sums": None,
        "name": None,
        "call": "(1)",
        "label": None,
        "at": 1e9,
    }
    return Row(**{**values, **changes})


ODD: list[dict[str, Any]] = [
    {"key": "text"},
    {"key": b"short"},
    {"function": "text"},
    {"failed": 7},
    {"failed": "text"},
    {"form": b"bytes"},
    {"sizes": "3 apples"},
    {"sizes": "[]"},
    {"sizes": "9" * 400},
    {"sizes": "[[1]]"},
    {"sizes": "٣"},
    {"body": "text"},
    {"file": "../../etc/passwd"},
    {"file": "/etc/passwd"},
    {"file": b"00/" + b"0" * 30 + b"-00000000"},
    {"sums": 3},
    {"name": 3},
    {"name": b"bytes"},
    {"call": b"bytes"},
    {"label": 3.5},
    {"at": "yesterday"},
    {"at": None},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("spoilt", [False, True])
def test_odd_rows_are_damaged_and_no_more(
    tmp_path: Path, odd: dict[str, Any], spoilt: bool, capsys: Shown
) -> None:
    path = tmp_path / "run.db"
    store = Store(path)
    rows = [row(), row(key=digest(b"2"), **odd) if "key" not in odd else row(**odd)]
    functions = [(1, FunctionRow("f", b"1", "{}")), (2, FunctionRow(b"b", b"2", "{}"))]  # type: ignore[arg-type]
    store.write([*map(sealed, rows)], functions=functions)
    store.close()
    if spoilt:  # so that it is read without SQLite
        with path.open("r+b") as file:
            file.write(b"S")
        lock_path(path).write_text("mpitasks journal")
    for action in ("count", "list", "verify"):
        run(path, action)
    out = capsys.readouterr().out
    assert "1 results" in out
    assert out.replace("\n", "").isprintable()


def test_text_of_a_row_does_not_reach_the_terminal(
    tmp_path: Path, capsys: Shown
) -> None:
    path = tmp_path / "run.db"
    store = Store(path)
    evil = EVIL.encode("utf-8", "backslashreplace").decode()
    odd = row(name=evil, call=evil, label=evil, at=float("inf"))
    store.write([sealed(odd)], functions=[(1, FunctionRow(evil, b"1", "{}"))])
    store.close()
    for action in ("count", "list", "verify"):
        assert run(path, action) == 0
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert text.replace("\n", "").isprintable()


# Junk.


@contextlib.contextmanager
def captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def show(path: Path) -> None:
    """Have each verb show a file: it does, or says in an error of ours why not."""
    for words in (["count"], ["list"], ["verify"], ["export", "--csv", "-"]):
        for trust in ([], ["--trust"]):
            with captured() as streams, contextlib.suppress(JournalError):
                run(path, *words, *trust)
            for stream in streams:
                text = stream.getvalue()
                assert text.translate({10: "", 13: ""}).isprintable()


@given(content=st.binary(max_size=300), known=st.booleans(), foreign=st.booleans())
def test_any_content(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    known: bool,
    foreign: bool,
) -> None:
    path = tmp_path_factory.mktemp("junk") / "run.db"
    path.write_bytes(content)
    path.chmod(0o666 if foreign else 0o600)
    if known:
        lock_path(path).write_text("mpitasks journal")
    show(path)


@pytest.mark.parametrize("share", range(8))
def test_any_damage(path: Path, share: int, target: Path) -> None:
    session(path, [(abs, (n,)) for n in range(30)])
    sound = path.read_bytes()
    draw = random.Random(20261126 + share)
    for _ in range(12):
        content = bytearray(sound)
        for _ in range(draw.choice([1, 3, 30])):
            content[draw.randrange(draw.choice([100, len(content)]))] = draw.randrange(
                256
            )
        path.write_bytes(content[: draw.choice([len(content), draw.randrange(9000)])])
        path.chmod(draw.choice([0o600, 0o666]))
        for name in ("run.db.before", "run.db-journal"):
            path.with_name(name).unlink(missing_ok=True)
        if draw.random() < 0.5:
            undo_path(path).write_bytes(draw.randbytes(600))
        show(path)
        if target.exists():
            target.rmdir()


def test_every_column_is_looked_at() -> None:
    assert {name for odd in ODD for name in odd} == {f.name for f in fields(Row)}


def test_values_of_a_doubtful_one_are_not_to_be_had(path: Path) -> None:
    path.chmod(0o666)
    with Reader(str(path)) as reader:
        found = [row for _, row in reader.rows()]
        assert len(found) == 2
        with pytest.raises(AssertionError):
            reader.value(found[0])


def test_a_file_of_a_doubtful_result_is_only_read_by_who_trusts(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "run.db")
    name, sums = folder.write(b"k" * 16, [b"x"])
    (folder.path / name).chmod(0o666)
    with pytest.raises(Damaged, match="is not read: everybody may write it"):
        folder.read(name, [1], sums)
    trusting = Folder(tmp_path / "run.db", trust=True)
    assert bytes(trusting.read(name, [1], sums)[0]) == b"x"
