"""Verbs whose output nobody reads, or reads on: they end quietly, as ``ls`` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from journal_session import session
from mpitasks.observe.status import StatusWriter
from mpitasks.scheduler.statistics import Statistics

PIPE = 141


def square(x: int) -> int:
    return x * x


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a journal, a status file and a script."""
    session(tmp_path / "run.db", [(square, (x,)) for x in range(3000)])
    writer = StatusWriter(
        str(tmp_path / "run.status"), lambda: Statistics(0, 1, 0, 0, 0, 0)
    )
    writer.finish(0, "finished")
    (tmp_path / "s.py").write_text("")
    return tmp_path


def into_closed_pipe(
    folder: Path, *words: str, lines: int = 0, errors: bool = False
) -> tuple[int, str]:
    """Run a verb, read so many lines of what it prints, and close the pipe.

    Returns:
        Its exit code, and what it said elsewhere.
    """
    # The pipe is closed before the verb has printed anything, or it blocks first.
    process = subprocess.Popen(
        [sys.executable, "-m", "mpitasks", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(lines):
        assert process.stdout.readline()
    process.stdout.close()
    if errors:
        process.stderr.close()
        return process.wait(60), ""
    with process.stderr as stream:
        said = stream.read()
    return process.wait(60), said


@pytest.mark.parametrize(
    "words",
    [
        ["journal", "run.db"],
        ["journal", "run.db", "list"],
        ["journal", "run.db", "verify"],
        ["journal", "run.db", "export", "--csv", "-"],
        ["journal", "run.db", "export", "--json", "-"],
        ["status", "run.status"],
        ["status", "run.status", "--json"],
        ["doctor", "--json"],
        ["doctor"],
        ["submit", "--dry-run", "-n", "2", "--launcher", "srun", "s.py"],
    ],
    ids=" ".join,
)
def test_nobody_reads(folder: Path, words: list[str]) -> None:
    assert into_closed_pipe(folder, *words) == (PIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["journal", "--help"], ["submit", "--help"]]
)
def test_nobody_reads_help(
    folder: Path, words: list[str], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code, said = into_closed_pipe(folder, *words)
    assert said == ""
    assert code in (0, PIPE)  # argparse itself ignores that nobody reads


@pytest.mark.parametrize(
    "words", [["list"], ["export", "--csv", "-"], ["export", "--json", "-"]]
)
def test_nobody_reads_on(folder: Path, words: list[str]) -> None:
    found = into_closed_pipe(folder, "journal", "run.db", *words, lines=1)
    assert found == (PIPE, "")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status", "none"], 2),
        (["status", "s.py"], 78),
        (["journal", "s.py"], 78),
        (["journal", "run.db", "nonsense"], 2),
        (["--nonsense"], 78),
        (["status", "run.status"], PIPE),
    ],
)
def test_nobody_reads_what_is_wrong(folder: Path, words: list[str], code: int) -> None:
    found, _ = into_closed_pipe(folder, *words, errors=True)
    assert found in (code, PIPE)


def test_what_is_read_ends_well(folder: Path) -> None:
    words = ["journal", "run.db", "list"]
    assert into_closed_pipe(folder, *words, lines=3000) == (0, "")


def test_a_terminal_that_shows_ascii_only(folder: Path) -> None:
    session(folder / "run.db", [(square, ("é\u20ac",))])
    status = folder / "run.status"
    status.write_text(status.read_text().replace('"script": "', '"script": "é\u20ac'))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environ |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for words in (["status", "run.status"], ["journal", "run.db", "list", "--failed"]):
        done = subprocess.run(
            [sys.executable, "-m", "mpitasks", *words],
            cwd=folder,
            env=environ,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert rb"\xe9\u20ac" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["journal", "run.db", "list"],
        ["journal", "run.db", "export", "--csv", "-"],
        ["status", "run.status"],
        ["submit", "--help"],
        ["submit", "--dry-run", "-n", "2", "s.py"],
        ["bench", "--help"],
    ],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_one_line(
    folder: Path, words: list[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "mpitasks", *words],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
            timeout=60,
        )
    (line,) = process.stderr.splitlines()
    assert line.startswith("mpitasks: ")
    assert line.endswith("No space left on device")
    assert process.returncode in (1, 78)
