"""The status file: what is in it, how it is replaced, and what a reader makes of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpitasks.errors import ConfigurationError
from mpitasks.observe.status import (
    Meter,
    Status,
    StatusWriter,
    describe,
    is_stale,
    read,
    write,
)
from mpitasks.records import as_dict, replace
from mpitasks.scheduler.statistics import Statistics
from mpitasks.slurm import show


def counts(done: int, queued: int = 0, **others: int) -> Statistics:
    fields = {"workers": 3, "assigned": 0, "failed": 0, "cancelled": 0, **others}
    return Statistics(succeeded=done, queued=queued, **fields)


def meter() -> Meter:
    return Meter(
        script="fit.py",
        host="node1",
        pid=7,
        job="12",
        end=4000.0,
        started=0.0,
        period=2.0,
    )


def status() -> Status:
    running = meter()
    running.take(counts(0, 100), 0.0, state="running")
    return running.take(counts(40, 50, assigned=6, failed=10), 10.0, state="running")


def test_rate_and_time_to_go() -> None:
    first = meter()
    assert first.take(counts(0, 100), 0.0, state="running").eta is None
    second = first.take(counts(20, 80), 2.0, state="running")
    assert (second.rate, second.eta) == (10.0, 8.0)
    done = first.take(counts(100), 10.0, state="finished", code=0)
    assert (done.eta, done.over) == (0.0, True)


def test_rate_is_that_of_late() -> None:
    one = meter()
    for second in range(0, 100, 2):
        one.take(counts(second * 10, 1000), float(second), state="running")
    slow = [
        one.take(counts(980 + second, 1000), 98.0 + second, state="running")
        for second in range(2, 42, 2)
    ]
    assert slow[-1].rate == pytest.approx(1.0, rel=0.2)


def test_what_a_human_reads() -> None:
    assert describe(status(), 11.0) == [
        "fit.py: running for 11 s on 3 workers",
        "tasks: 40 done, 6 running, 10 failed, 50 waiting, of 106",
        "rate: 5 tasks/s, 11 s to go, 1:06 h of the job's time left",
    ]
    over = replace(status(), state="stopped", code=75, cancelled=50)
    assert describe(over, 310.0) == [
        "fit.py: stopped with exit code 75, 5:00 min ago",
        "tasks: 40 done, 6 running, 10 failed, 50 waiting, of 106; 50 cancelled",
    ]


def test_without_news_rank_0_is_gone() -> None:
    assert not is_stale(status(), 20.0)
    assert is_stale(status(), 40.0)
    assert not is_stale(replace(status(), code=0), 1e6)
    lines = describe(status(), 40.0)
    assert "gone: rank 0 (pid 7 on node1) has not written since, 30 s ago" in lines[0]
    assert len(lines) == 2


def test_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.status"
    write(str(path), status())
    assert read(str(path)) == status()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.status"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no status file"),
        ('{"mpitasks_status": 1, "state"', "is no status file"),
        ("[1]", "is no status file"),
        ('{"state": "running"}', "is no status file"),
        ('{"mpitasks_status": 99}', "of format 99"),
        ('{"mpitasks_status": 1, "state": "running"}', "is damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.status"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=why):
        read(str(path))


SOUND = {"mpitasks_status": 1, **as_dict(status())}

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text()
    | st.just("\x1b]0;title\x07\x1b[2J\u202e\x9b\x7f\ud800"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def shown(path: Path) -> str:
    """Return what the verb prints of a file, or why it is none."""
    out = io.StringIO()
    for words in ([str(path)], [str(path), "--json"]):
        with contextlib.redirect_stdout(out):
            show.main(show.parse(words))
    return out.getvalue()


@given(name=st.sampled_from(list(SOUND)), value=JUNK)
def test_any_value_is_shown_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    path = tmp_path_factory.mktemp("status") / "a"
    path.write_text(json.dumps({**SOUND, name: value}))
    try:
        text = shown(path)
    except ConfigurationError as error:
        text = str(error)
    assert text.replace("\n", "").isprintable()


@given(
    content=st.binary()
    | JUNK.map(lambda value: json.dumps(value).encode())
    | st.integers(0, 200).map(lambda cut: json.dumps(SOUND).encode()[:cut])
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000])
)
def test_any_content_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("status") / "a"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no status file of mpitasks"):
        shown(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "sparse"])
def test_what_is_no_file_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        path.symlink_to("none")
    with pytest.raises(ConfigurationError, match="no status: "):
        shown(path)


def test_what_a_file_says_does_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a"
    evil = "\x1b]0;title\x07\x1b[2J\r\u202e\x9b\n\ud800"
    path.write_text(json.dumps({**SOUND, "script": evil, "state": evil, "host": evil}))
    text = shown(path)
    assert text.replace("\n", "").isprintable()
    assert r"\x1b]0;title\x07\x1b[2J\r\u202e\x9b\n\ud800: gone: rank 0" in text


def test_a_file_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fit.status"
    path.write_text("converged: yes\n")
    writer = StatusWriter(str(path), lambda: None, period=0.01)
    writer.start()
    writer.finish(0, "finished")
    assert path.read_text() == "converged: yes\n"
    said = capsys.readouterr().err
    assert said.count("mpitasks: no status file: ") == 1
    assert "was not written by mpitasks" in said
    assert list(tmp_path.iterdir()) == [path]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no status: .*none\.status"):
        read(str(tmp_path / "none.status"))


def test_writer_writes_again_and_a_last_time(tmp_path: Path) -> None:
    path = tmp_path / "a.status"
    done = iter(range(1, 1000))
    third = threading.Event()

    def look() -> Statistics:
        number = next(done)
        if number == 3:
            third.set()
        return counts(number, 10)

    writer = StatusWriter(str(path), look, period=0.01, job="5", end=9.0)
    writer.start()
    assert third.wait(120)
    writer.finish(3, "failed")
    assert not writer.is_alive()
    last = read(str(path))
    assert (last.state, last.code, last.job, last.end) == ("failed", 3, "5", 9.0)
    assert last.done > 3
    writer.finish(0, "finished")
    assert read(str(path)) == last


def test_workers_that_left_are_still_told(tmp_path: Path) -> None:
    path = tmp_path / "a.status"
    seen = threading.Event()
    workers = [4]

    def look() -> Statistics:
        seen.set()
        return counts(1, workers=workers[0])

    writer = StatusWriter(str(path), look, period=60.0)
    writer.start()
    assert seen.wait(120)
    workers[0] = 0
    writer.finish(0, "finished")
    assert json.loads(path.read_text())["workers"] == 4


def test_a_run_goes_on_without_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = StatusWriter(
        str(tmp_path / "none" / "a.status"), lambda: None, period=0.01
    )
    writer.start()
    writer.finish(0, "finished")
    said = capsys.readouterr().err
    assert said.count("mpitasks: no status file: ") == 1
    assert list(tmp_path.iterdir()) == []
