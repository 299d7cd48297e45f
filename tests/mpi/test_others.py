"""Other users of the machine, and files that are not ours, in real runs."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from launching import Launch, Mpi

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root makes files of others")

BOMB = """
import os, sys
import mpitasks as mt
import numpy as np

class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.path.abspath("it went off"),)

def make(x):
    return Bomb()

def large(n):
    return np.ones(n)

trust = {"trust": True} if "trust" in sys.argv else {}
own = {"journal": "run.db", **trust} if "own" in sys.argv else {}
with mt.Executor(**own) as executor:
    assert executor.submit(large, 300_000).result().sum() == 300_000
    try:
        executor.submit(make, 1).result()
    except mt.SerializationError:
        print("unpickled again")
"""


def verb(*words: str) -> list[str]:
    return [sys.executable, "-m", "mpitasks", *words]


@as_root
def test_a_journal_of_another_user_is_not_unpickled(
    launch: Launch, any_mpi: Mpi
) -> None:
    script = launch.script(BOMB)
    journal = launch.folder / "run.db"
    target = launch.folder / "it went off"
    command = any_mpi.runner(2, "--journal", "run.db", script)
    trusting = any_mpi.runner(2, "--trust", "--journal", "run.db", script)
    assert launch(command).code == 0
    target.rmdir()
    os.chown(journal, NOBODY, NOBODY)
    outcome = launch(command)
    assert outcome.code == 78, str(outcome)
    (said,) = outcome.said
    assert "the journal run.db is not used: " in said or f"{journal} is not" in said
    for word in (f"(uid {NOBODY}) owns it", "mpitasks --trust"):
        assert word in said
    assert not target.exists()
    outcome = launch(trusting)
    assert outcome.code == 0, str(outcome)
    assert target.is_dir()


@as_root
def test_the_journal_of_an_executor_too(launch: Launch, any_mpi: Mpi) -> None:
    script = launch.script(BOMB)
    target = launch.folder / "it went off"
    assert launch(any_mpi.runner(2, script, "own")).code == 0
    target.rmdir()
    os.chown(launch.folder / "run.db", NOBODY, NOBODY)
    outcome = launch(any_mpi.runner(2, script, "own"))
    assert outcome.code == 1, str(outcome)
    assert "JournalError: the journal " in outcome.err
    assert not target.exists()
    assert launch(any_mpi.runner(2, script, "own", "trust")).code == 0
    assert target.is_dir()


def test_all_that_holds_results_is_private(launch: Launch, any_mpi: Mpi) -> None:
    script = launch.script(BOMB)
    words = any_mpi.runner(2, "--journal", "run.db", "--status", "run.status", script)
    before = os.umask(0)
    try:
        assert launch(words).code == 0
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in launch.folder.glob("run.*")
    }
    assert modes == {
        "run.db": 0o600,
        "run.db.lock": 0o600,
        "run.db.d": 0o700,
        "run.status": 0o644,
    }
    (large,) = (launch.folder / "run.db.d").glob("*/*")
    assert stat.S_IMODE(large.stat().st_mode) == 0o600
    assert stat.S_IMODE(large.parent.stat().st_mode) == 0o700


@as_root
def test_submit_obeys_no_table_of_another_user(launch: Launch) -> None:
    shared = launch.folder / "shared"
    (shared / "mine").mkdir(parents=True)
    shared.chmod(0o1777)
    launch.script("print(1)", "shared/mine/s.py")
    table = launch.script(
        "[tool.mpitasks.slurm]\nsetup = ['echo owned']\n", "shared/mpitasks.toml"
    )
    os.chown(table, NOBODY, NOBODY)
    folder = shared / "mine"
    words = ["submit", "-n", "2", "--launcher", "srun", "--dry-run"]
    outcome = launch(verb(*words, "s.py"), folder=folder)
    assert outcome.code == 0, str(outcome)
    assert "owned" not in outcome.out
    (said,) = outcome.said
    assert f"{table} is not obeyed" in said
    trusting = launch(verb(*words, "--trust", "s.py"), folder=folder)
    assert "\necho owned\n" in trusting.out
    assert "--trust" in trusting.out
    assert trusting.said == []


@pytest.mark.parametrize("name", ["pipe", "data.csv", "link", "device"])
def test_a_status_replaces_nothing_of_others(
    launch: Launch, any_mpi: Mpi, name: str
) -> None:
    folder = launch.folder
    os.mkfifo(folder / "pipe")
    (folder / "data.csv").write_text("precious\n")
    (folder / "link").symlink_to("data.csv")
    (folder / "device").symlink_to("/dev/full")
    before = (folder / name).lstat()
    outcome = launch(any_mpi.runner(2, "--status", name, launch.script("")))
    assert outcome.code == 0, str(outcome)
    (said,) = outcome.said
    assert said.startswith("mpitasks: no status file: ")
    assert "left as it is" in said
    assert os.path.samestat((folder / name).lstat(), before)
    assert (folder / "data.csv").read_text() == "precious\n"


def test_a_status_on_the_null_device_is_none(launch: Launch, any_mpi: Mpi) -> None:
    words = ["--status", os.devnull, launch.script("print('here')")]
    outcome = launch(any_mpi.runner(2, *words))
    assert (outcome.code, outcome.out, outcome.said) == (0, "here\n", [])
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("name", ["pipe", "folder", "socket", "/dev/zero", "/dev/tty"])
def test_a_status_of_what_is_no_file(launch: Launch, name: str) -> None:
    os.mkfifo(launch.folder / "pipe")
    (launch.folder / "folder").mkdir()
    here = os.open(launch.folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    for words in (["status", name], ["status", "--json", name], ["journal", name]):
        outcome = launch(verb(*words), seconds=20)
        assert outcome.code == 78, str(outcome)
        assert (len(outcome.said), outcome.err.count("\n")) == (1, 1), str(outcome)
