"""What a run sees of its journal: any text, any exception, any way to the file."""

from __future__ import annotations

import functools
import json
import os
import pickle
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from journal_session import call, opened, session
from mpitasks.errors import JournalError
from mpitasks.journal import recorder, rows
from mpitasks.journal.file_lock import Lock, lock_path, resolve
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.opening import open_locked
from mpitasks.journal.row_text import call_text, fit, key_name
from mpitasks.journal.rows import decode_row, encode_failure
from mpitasks.journal.store import Store
from mpitasks.options import TaskOptions
from mpitasks.text import printable
from mpitasks.tools.journal.command import main, parse
from mpitasks.wire.diagnose import describe
from mpitasks.wire.outcomes import Failure, decode_outcome

Shown = pytest.CaptureFixture[str]

NASTY = "a\0b\x1b[31m\n\r\x9b \udc80 é 😀"
HUGE = 10**6000
BASES = [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def same(*args: Any) -> Any:
    return args


def stored(path: Path) -> list[Any]:
    store = Store(path)
    try:
        return [store.read(number) for number in store.numbers()]
    finally:
        store.close()


# Text and numbers.


@pytest.mark.parametrize(
    "value",
    [NASTY, NASTY.encode("utf-8", "replace"), HUGE, -HUGE, "\udfff", "\0", 1j],
    ids=["text", "bytes", "huge", "-huge", "surrogate", "nul", "complex"],
)
def test_any_argument_and_result_is_kept(path: Path, value: Any, capsys: Shown) -> None:
    calls = [(same, (value,)), (same, (value, value)), (same, ([value],))]
    first, ran = session(path, calls)
    assert ran == 3
    assert session(path, calls) == (first, 0)
    assert first[0] == (value,)
    assert "not kept" not in capsys.readouterr().err


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit(3)

    encode = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "options",
    [
        {"label": NASTY},
        {"label": Loud("a label")},
        {"label": "long" * 10**6},
        {"key": NASTY},
        {"key": HUGE},
        {"key": (1, (HUGE, NASTY))},
        {"key": lambda *_: Loud("a key")},
        {"key": lambda *_: np.float64(0.5)},
        {"key": lambda *_: [HUGE]},
    ],
    ids=range(9),
)
def test_any_label_and_key_is_kept(path: Path, options: dict[str, Any]) -> None:
    for ran in (1, 0):
        journal = opened(path)
        call(journal, same, (7,), TaskOptions(**options))
        assert journal.close()
        assert (journal.summary.ran, journal.summary.came_back) == (ran, 1 - ran)
    [row] = stored(path)
    assert len(row.label or "") <= 1000
    assert len(row.name or "") <= 200
    assert (row.name is None) == ("key" not in options)


def test_any_function_name_is_kept(path: Path, capsys: Shown) -> None:
    def function() -> int:
        return 1

    function.__qualname__ = NASTY
    assert session(path, [(function, ())]) == ([1], 1)
    assert session(path, [(function, ())]) == ([1], 0)
    capsys.readouterr()
    for words in (["count"], ["list"], ["verify"], ["--csv", "-"], ["--json", "-"]):
        assert main(parse([str(path), *words])) == 0
        shown = capsys.readouterr()
        for text in (shown.out, shown.err):
            assert not set("\x1b\x9b\0\udc80") & set(text)


def test_the_verb_shows_any_text(path: Path, tmp_path: Path, capsys: Shown) -> None:
    journal = opened(path)
    for value in (NASTY, HUGE, {NASTY: NASTY, HUGE: HUGE}, [HUGE, NASTY]):
        call(journal, same, (value,), TaskOptions(label=NASTY, key=(NASTY, HUGE)))
    assert journal.close()
    capsys.readouterr()
    words = ["list"], ["count"], ["verify"], ["--csv", "-"], ["--json", "-"]
    for action in words:
        assert main(parse([str(path), *action])) == 0
        shown = capsys.readouterr()
        assert not set("\x1b\x9b\0\udc80") & set(shown.out + shown.err)
    for kind in ("csv", "json", "npz"):
        target = tmp_path / f"out.{kind}"
        assert main(parse([str(path), f"--{kind}", str(target)])) == 0
    told_values = json.loads((tmp_path / "out.json").read_text())
    assert [entry["value"] for entry in told_values][1] == [hex(HUGE)]
    assert told_values[0]["label"] == fit(NASTY)


def test_text_for_rows_and_terminals() -> None:
    assert printable("a b é") == "a b é"
    assert printable("\x1b[0m\n\x9b\udc80\0\u202e") == (
        r"\x1b[0m\n\x9b\udc80\x00\u202e"
    )
    assert fit("a\udc80\0") == "a\\udc80\0"
    assert type(fit(Loud("x"))) is str
    assert fit("abc", 2) == "ab"
    assert call_text((1, "a", None)) == "(1, 'a', None)"
    assert call_text((HUGE, 1)) == f"({hex(HUGE)}"[:200]
    assert call_text(("x" * 300,)) == "('" + "x" * 198
    assert key_name("x" * 300) == "x" * 200
    assert key_name(("case", 7)) == "('case', 7)"
    assert key_name(("case",)) == "('case',)"
    assert key_name(()) == "()"
    assert key_name((1, (2.5, b"x"))) == "(1, (2.5, b'x'))"
    assert key_name(HUGE) == hex(HUGE)[:200]
    assert key_name(np.float64(0.5)) == "0.5"
    assert key_name(True) == "True"

    class Mute:
        def __str__(self) -> str:
            raise SystemExit

    assert key_name(Mute()) == "<Mute>"
    assert len(key_name(tuple(range(1000)))) == 200


def test_a_result_that_cannot_stand_in_a_row_is_refused_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    made = rows.to_row

    def to_row(record: Any, folder: Folder) -> Any:
        row = made(record, folder)
        if row.call == "(1)":
            row.name = object()  # type: ignore[assignment]
        return row

    monkeypatch.setattr(recorder, "to_row", to_row)
    journal = opened(path)
    assert [call(journal, same, (n,)) for n in range(3)] == [(0,), (1,), (2,)]
    assert journal.close()
    assert journal.summary.written == 2
    said = capsys.readouterr().err
    assert "a result is not kept in the journal" in said
    assert "3 calls ran; 1 result not kept" in said
    monkeypatch.undo()
    assert session(path, [(same, (n,)) for n in range(3)])[1] == 1


# Exceptions.


class Fragile:
    """Cannot be unpickled while there is an error in `sys`, which keys do not see."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __setstate__(self, state: dict[str, Any]) -> None:
        if hasattr(sys, "fragile"):
            raise sys.fragile
        self.__dict__ = state


class FragileError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __setstate__(self, state: dict[str, Any]) -> None:
        if hasattr(sys, "fragile"):
            raise sys.fragile


pickle.dumps(Fragile(1))  # which leaves its mark on the class, once


def fragile(value: int) -> Fragile:
    return Fragile(value)


def failing(text: str) -> None:
    raise FragileError(text)


class Silent(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)


@pytest.mark.parametrize("error", [*BASES, ValueError, Silent])
def test_what_cannot_be_unpickled_any_more_runs_again(
    path: Path,
    error: type[BaseException],
    capsys: Shown,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = [(fragile, (1,)), (same, (1,)), (failing, ("no",))]
    options = {"keep_failures": True}
    session(path, calls, **options)
    capsys.readouterr()
    monkeypatch.setattr(sys, "fragile", error(), raising=False)
    journal = opened(path, **options)
    fresh = call(journal, fragile, (1,))
    assert fresh.value == 1
    assert call(journal, same, (1,)) == (1,)
    failure = call(journal, failing, ("no",))
    assert "FragileError: no" in f"{type(failure.error).__name__}: {failure.error}"
    assert journal.close()
    said = capsys.readouterr().err
    assert "it cannot be unpickled any more" in said
    assert error is Silent or error.__name__ in said
    assert "2 results came back, 1 call ran" in said
    assert "1 damaged result computed again" in said
    monkeypatch.undo()
    [value, plain, failure], ran = session(path, calls, **options)
    assert (value.value, plain, ran) == (1, (1,), 0)
    assert type(failure) is Failure


def numbered(version: int) -> Any:
    """Return another version of one function."""
    scope: dict[str, Any] = {"__name__": __name__}
    exec(f"def edited(x): return x + {version}", scope)
    return scope["edited"]


def test_a_change_is_told_from_the_latest(path: Path, capsys: Shown) -> None:
    for version, said in [(1, ""), (2, "1 results"), (3, "3 results"), (1, "")]:
        calls = [(numbered(version), (n,)) for n in range(version)]
        assert session(path, calls)[0] == [n + version for n in range(version)]
        shown = capsys.readouterr().err
        assert ("edited changed since its" in shown) == bool(said)
        assert said in shown
    assert len(stored(path)) == 6


def test_a_function_without_an_identity_runs_each_time(
    path: Path, capsys: Shown
) -> None:
    function = functools.partial(same, threading.Lock())
    assert session(path, [(function, ())] * 2)[0] == [(function.args[0],)] * 2
    assert "0 calls ran" in capsys.readouterr().err
    assert stored(path) == []


def test_a_class_that_is_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session(path, [(fragile, (1,)), (failing, ("no",))])
    journal = opened(path, keep_failures=True)
    keys = {number: key for key, number in journal._found.items()}
    with monkeypatch.context() as patch:
        for name in ("Fragile", "FragileError"):
            patch.delattr(sys.modules[__name__], name)
        with pytest.raises(Damaged, match="it cannot be unpickled any more"):
            journal.load(1, keys[1])
        failure = journal.load(2, keys[2])
        assert "FragileError: no" in str(failure.error)
    assert journal.load(1, keys[1]).value == 1
    assert type(journal.load(2, keys[2]).error) is FragileError
    assert journal.close()


def rows_key(journal: Any) -> bytes:
    return next(iter(journal._found))


def test_ctrl_c_is_nobody_s_result(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in the midst of code that raises nothing."""
    session(path, [(fragile, (1,))])
    journal = opened(path)

    def decode(*words: Any) -> None:
        import _thread
        import time

        _thread.interrupt_main()
        while True:
            time.monotonic()

    monkeypatch.setattr(rows, "decode_outcome", decode)
    with pytest.raises(KeyboardInterrupt):
        journal.load(1, rows_key(journal))
    assert journal.close()


def interrupted(*words: Any) -> Any:
    import _thread
    import time

    _thread.interrupt_main()
    while True:
        time.monotonic()


def test_ctrl_c_is_no_key_and_no_text(path: Path) -> None:
    journal = opened(path)
    with pytest.raises(KeyboardInterrupt):
        call(journal, same, (1,), TaskOptions(key=interrupted))
    assert journal.close()
    error = type("Slow", (Exception,), {"__str__": interrupted})()
    with pytest.raises(KeyboardInterrupt):
        describe(error)


def test_errors_are_told_whatever_they_do() -> None:
    assert describe(ValueError("x")) == "ValueError: x"
    assert describe(Silent()) == "Silent"


@pytest.mark.parametrize("error", [*BASES, ValueError])
def test_a_key_function_that_raises_fails_its_call(
    path: Path, error: type[BaseException]
) -> None:
    def key(number: int) -> int:
        if number == 1:
            raise error("no")
        return number

    journal = opened(path)
    options = TaskOptions(key=key)
    outcomes = [call(journal, same, (n,), options) for n in range(3)]
    assert journal.close()
    assert (outcomes[0], outcomes[2]) == ((0,), (2,))
    assert type(outcomes[1]) is Failure
    assert type(outcomes[1].error) is error
    assert len(stored(path)) == 2


class Unsendable(Exception):
    def __init__(self, error: BaseException) -> None:
        super().__init__("text of it")
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [*BASES, ValueError])
def test_a_failure_that_cannot_be_pickled_is_kept_as_text(
    error: type[BaseException],
) -> None:
    form, payload, buffers = encode_failure(Unsendable(error("unfit")))
    failure = decode_outcome(form, payload, buffers)
    assert type(failure) is Failure
    assert "Unsendable" in repr(failure.error)
    assert "text of it" in str(failure.error)


class Curious:
    def __getstate__(self) -> dict[str, Any]:
        sys.curious()  # type: ignore[attr-defined]
        return {"x": 1}


CURIOUS = Curious()


def nosy() -> bool:
    return CURIOUS is None


def test_a_key_that_submits_calls_does_not_hang(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(path)
    submit = functools.partial(call, journal, same, (5,))
    monkeypatch.setattr(sys, "curious", submit, raising=False)
    done = []

    def run() -> None:
        done.append(call(journal, len, ([CURIOUS],)))
        done.append(call(journal, nosy, ()))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(120)
    assert done == [1, False]
    assert journal.close()


# Wrong results.


def test_a_result_is_of_its_key_only(path: Path) -> None:
    session(path, [(same, (n,)) for n in range(3)])
    journal = opened(path)
    keys = {number: key for key, number in journal._found.items()}
    assert journal.load(1, keys[1]) == (0,)
    with pytest.raises(Damaged, match="of another call"):
        journal.load(1, keys[2])
    with pytest.raises(Damaged, match="its row is gone"):
        journal.load(9, keys[2])
    assert journal.load(3, keys[3]) == (2,)
    assert journal.close()


def test_results_are_read_in_any_order(path: Path) -> None:
    calls = [(same, (n, "x" * (n % 7 * 9000))) for n in range(600)]
    session(path, calls)
    for order in (calls, calls[::-1], calls[::3] + calls[1::3], calls[::20]):
        right = [function(*args) for function, args in order]
        assert session(path, order) == (right, 0)


def test_what_is_written_meanwhile_is_read_right(path: Path) -> None:
    session(path, [(same, (n,)) for n in range(50)])
    journal = opened(path)
    for n in range(50):
        assert call(journal, same, (n,)) == (n,)
        assert call(journal, same, (100 + n,)) == (100 + n,)
        if n % 10 == 0:
            assert journal.flush()
    assert journal.close()
    assert len(stored(path)) == 100


# Ways to the file.


def test_a_symbolic_link_leads_to_the_one_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setattr(rows, "LARGE_BYTES", 1000)
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    (tmp_path / "folder").symlink_to(home)
    link = other / "link.db"
    link.symlink_to(home / "run.db")  # which is not there yet
    calls = [(same, (f"{n} " * 1000,)) for n in range(3)]
    right = [args for _, args in calls]
    assert session(link, calls) == (right, 3)
    monkeypatch.chdir(other)
    ways = [home / "run.db", link, tmp_path / "folder" / "run.db"]
    for way in [*ways, Path("link.db"), Path("../home/run.db")]:
        assert resolve(way) == home / "run.db"
        assert session(way, calls) == (right, 0)
        assert main(parse([str(way), "verify"])) == 0
        assert main(parse([str(way), "compact"])) == 0
    assert list(other.iterdir()) == [link]
    assert link.is_symlink()
    names = {"run.db", "run.db.lock", "run.db.d"}
    assert {file.name for file in home.iterdir()} == names
    (home / "run.db").write_bytes(b"x" * 5000)  # and it is mended there
    assert session(link, calls) == (right, 3)
    assert list(other.iterdir()) == [link]
    assert {f.name for f in home.iterdir()} == names | {"run.db.damaged-1"}
    capsys.readouterr()


def test_one_lock_for_all_ways(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to("run.db")
    journal = opened(tmp_path / "run.db")
    for way in (link, tmp_path / "." / "run.db"):
        with pytest.raises(JournalError, match="open in this process already"):
            opened(way)
    assert journal.close()
    assert opened(link).close()


def test_the_lock_is_known_by_any_name(tmp_path: Path) -> None:
    """As where a folder is mounted in two places."""
    (tmp_path / "a").mkdir()
    lock = Lock(tmp_path / "a" / "run.db")
    lock.claim()
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(JournalError, match="open in this process already"):
        Lock(tmp_path / "b" / "run.db")
    lock.release()
    again = Lock(tmp_path / "b" / "run.db")
    assert again.known
    again.release()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: p.symlink_to(p.name), "cannot be a journal"),
        (lambda p: p.symlink_to("no/run.db"), "No such file or directory"),
        (lambda p: p.mkdir(), "is a folder"),
        (os.mkfifo, "is a device or a pipe"),
        (lambda p: p.symlink_to(os.devnull), "is a device or a pipe"),
    ],
)
def test_what_no_journal_can_be(path: Path, make: Any, why: str) -> None:
    make(path)
    with pytest.raises(JournalError, match=why):
        opened(path)
    assert list(path.parent.iterdir()) == [path]


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be a journal"):
        opened(tmp_path / "a\0b")


def test_names_of_any_characters(tmp_path: Path, capsys: Shown) -> None:
    name = tmp_path / os.fsdecode(b"a ?#%41\x1b\xff\n.db")
    assert session(name, [(same, (1,))]) == ([(1,)], 1)
    assert session(name, [(same, (1,))]) == ([(1,)], 0)
    assert main(parse([str(name)])) == 0
    assert main(parse([str(name), "compact"])) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


def test_hard_links_are_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "run.db", tmp_path / "other.db"
    session(path, [(same, (1,))])
    other.hardlink_to(path)
    content = path.read_bytes()
    for way in (path, other):
        with pytest.raises(JournalError, match="has 2 names"):
            opened(way)
        with pytest.raises(JournalError, match="has 2 names"):
            main(parse([str(way)]))
    assert path.read_bytes() == content
    other.unlink()
    assert session(path, [(same, (1,))]) == ([(1,)], 0)
    # But a link that a mending has left which was cut off.
    path.with_name("run.db.damaged-1").hardlink_to(path)
    assert session(path, [(same, (1,))]) == ([(1,)], 0)


def test_files_of_other_programs_beside_it_are_left_alone(path: Path) -> None:
    lock_path(path).write_text('{"default": {"six": "1.16"}}')
    with pytest.raises(JournalError, match="is a file of something else"):
        opened(path)
    path.write_text("[packages]")
    with pytest.raises(JournalError, match="is no journal of mpitasks"):
        opened(path)
    assert lock_path(path).read_text() == '{"default": {"six": "1.16"}}'
    assert path.read_text() == "[packages]"
    assert sorted(path.parent.iterdir()) == [path, lock_path(path)]


@pytest.mark.parametrize("content", [b"", bytes(100), b"noise", b'{"what": "mpit'])
def test_a_lock_that_says_nothing_costs_nothing(path: Path, content: bytes) -> None:
    session(path, [(same, (1,))])
    lock_path(path).write_bytes(content)
    assert session(path, [(same, (1,))]) == ([(1,)], 0)
    assert json.loads(lock_path(path).read_text())["pid"] == os.getpid()


def test_a_journal_is_known_by_its_rows_alone(path: Path) -> None:
    session(path, [(same, (1,))])
    lock_path(path).unlink()
    with path.open("r+b") as file:
        file.write(bytes(4096))
    assert session(path, [(same, (1,))]) == ([(1,)], 0)


# Journals of earlier versions.

OLD = Path(__file__).parent / "data" / "journal-7a26e60.tar.gz"
"""What 7a26e60 wrote: `half` of 0 to 49, two `table`s, a `large`, `odd` of 0 to 3 (two
of which failed), and one call with a key of its own."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "old.db"


def look(path: Path, capsys: Shown) -> list[tuple[str, str, Any]]:
    """Return function, arguments and value of each result."""
    lock, store = open_locked(path)
    names = {n: row.name for n, row in store.functions().items()}
    found = []
    for number in store.numbers():
        row = store.read(number)
        value = decode_row(row, Folder(path))
        found.append((names[row.function], row.call or "", value))
    store.close()
    lock.release()
    assert capsys.readouterr().err == ""
    return found


def check_old(found: list[tuple[str, str, Any]]) -> None:
    values = {(name.rpartition(".")[2], args): value for name, args, value in found}
    assert len(found) == 58
    assert [values["half", f"({n})"] for n in range(50)] == [n / 2 for n in range(50)]
    for n in (3, 3000):
        table = values["table", f"({n})"]
        assert np.array_equal(table.pop("array"), np.arange(n))
        assert table == {"n": n, "text": "x" * n}
    assert np.array_equal(values["large", "(7)"], np.full(200_000, 7))
    assert [values["odd", f"({n})"] for n in (1, 3)] == [1, 3]
    for n in (0, 2):
        failure = values["odd", f"({n})"]
        assert repr(failure.error) == f"ValueError('{n} is even')"
        assert "in odd" in str(failure.error.__cause__)


def test_a_journal_of_an_earlier_version(old: Path, capsys: Shown) -> None:
    check_old(look(old, capsys))
    assert main(parse([str(old), "verify"])) == 0
    assert main(parse([str(old), "compact"])) == 0
    capsys.readouterr()
    check_old(look(old, capsys))


def test_a_journal_of_an_earlier_version_that_is_damaged(
    old: Path, capsys: Shown
) -> None:
    with old.open("r+b") as file:
        file.write(bytes(4096))
    lock, store = open_locked(old)
    store.close()
    lock.release()
    assert "58 results were saved" in capsys.readouterr().err
    check_old(look(old, capsys))


def test_a_run_goes_on_with_it(old: Path, capsys: Shown) -> None:
    assert session(old, [(same, (1,))]) == ([(1,)], 1)
    assert session(old, [(same, (1,))]) == ([(1,)], 0)
    assert "damaged" not in capsys.readouterr().err
