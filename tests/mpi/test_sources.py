"""Where a script comes from: files of all kinds, pipes, code. It runs, or is refused.

Each is compared with what plain Python makes of it.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile

import pytest

from launching import Launch, Mpi, Outcome

SETUP = 78

SCRIPT = """
import json, sys
import mpitasks as mt
import beside

def work(number):
    return beside.square(number)

if __name__ == "__main__":
    with mt.Executor() as ex:
        values = list(ex.map(work, range(4)))
        workers = ex.num_workers
    spec = __spec__ and __spec__.name
    here = [sys.argv, sys.path[0], __name__, globals().get("__file__"), spec]
    print(json.dumps([values, here]))
    print(workers)
"""

BESIDE = "def square(number):\n    return number**2\n"

PIPED = SCRIPT.replace("import beside\n", "").replace(
    "beside.square(number)", "-number"
)


def assert_refused(outcome: Outcome, *words: str) -> None:
    """One line from mpitasks with these words, no traceback, and exit code 78."""
    assert outcome.code == SETUP, str(outcome)
    assert outcome.out == "", str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)
    for word in words:
        assert word in outcome.said[0], str(outcome)


def archive(launch: Launch, name: str, head: bytes = b"") -> str:
    """Write a zip archive with the script, behind some other bytes."""
    with (launch.folder / name).open("wb") as file:
        file.write(head)
        with zipfile.ZipFile(file, "w") as inside:
            inside.writestr("__main__.py", SCRIPT)
            inside.writestr("beside.py", BESIDE)
    return name


def compiled(launch: Launch, mpi: Mpi) -> str:
    """Compile the script, and take its source away."""
    path = launch.script(SCRIPT, "compiled.py")
    launch.script(BESIDE, "beside.py")
    words = ["-c", "import py_compile; py_compile.compile('compiled.py', 'it.pyc')"]
    assert launch([mpi.python, *words]).code == 0
    path.unlink()
    return "it.pyc"


@pytest.mark.parametrize("kind", ["folder", "a.zip", "a.pex", "a.py", "tool", "pyc"])
def test_files_of_all_kinds(mpi: Mpi, launch: Launch, kind: str) -> None:
    if kind == "folder":
        (launch.folder / kind).mkdir()
        launch.script(SCRIPT, "folder/__main__.py")
        launch.script(BESIDE, "folder/beside.py")
        name = kind
    elif kind == "pyc":
        name = compiled(launch, mpi)
    else:
        head = b"#!/usr/bin/env python3\n" if kind == "tool" else b""
        name = archive(launch, kind, head)
    plain = launch([mpi.python, name, "a", "-b"])
    assert plain.code == 0, str(plain)
    for start in (mpi.runner(3), [mpi.bin / "mpitasks", "-n", "3"]):
        outcome = launch([*start, name, "a", "-b"])
        assert (outcome.code, outcome.unforeseen) == (0, ""), str(outcome)
        assert outcome.out.splitlines() == [plain.out.splitlines()[0], "2"]


WAYS = [
    "{start} - a < script.py",
    "cat script.py | {start} - a",
    "{start} /dev/stdin a < script.py",
    "cat script.py | {start} /dev/stdin a",
    "{start} <(cat script.py) a",
    "{start} /dev/fd/7 a 7< script.py",
    "mkfifo pipe; cat script.py > pipe & {start} pipe a",
]


@pytest.mark.parametrize("way", WAYS)
def test_pipes(mpi: Mpi, launch: Launch, way: str) -> None:
    launch.script(PIPED)
    line = way.format(start=f"{mpi.bin}/mpitasks -n 3")
    outcome = launch(["bash", "-c", line])
    assert (outcome.code, outcome.unforeseen) == (0, ""), str(outcome)
    told, workers = map(json.loads, outcome.out.splitlines())
    values, (argv, _, name, _, spec) = told
    assert (values, workers) == ([0, -1, -2, -3], 2)
    assert (argv[1:], name, spec) == (["a"], "__main__", None)


@pytest.mark.parametrize("way", WAYS)
def test_pipes_under_mpiexec(mpi: Mpi, launch: Launch, way: str) -> None:
    """It runs, or it is refused with what runs: never nothing, and never for ever."""
    launch.script(PIPED)
    start = " ".join(mpi.runner(3))
    outcome = launch(["bash", "-c", way.format(start=start)])
    if outcome.code == 0:
        assert json.loads(outcome.out.splitlines()[0])[0] == [0, -1, -2, -3]
    else:
        assert_refused(outcome, " -n ")
    passes_input = mpi.name == "mpich" or "pipe" in way
    passes = passes_input and "/dev/fd" not in way and "<(" not in way
    assert (outcome.code == 0) == passes, str(outcome)


@pytest.mark.parametrize("way", WAYS[:6])
def test_pipes_alone(any_mpi: Mpi, launch: Launch, way: str) -> None:
    launch.script(PIPED)
    line = way.format(start=f"{any_mpi.bin}/mpitasks")
    outcome = launch(["bash", "-c", line])
    assert outcome.code == 0, str(outcome)
    assert json.loads(outcome.out.splitlines()[0])[0] == [0, -1, -2, -3]


def test_a_pipe_is_read_whole(mpi: Mpi, launch: Launch) -> None:
    """More than what Open MPI's mpiexec, or MPICH's, can pass on."""
    text = f"x = '{'0123456789' * 100_000}'\nprint(len(x))\n"
    launch.script(text)
    outcome = launch(["bash", "-c", f"{mpi.bin}/mpitasks -n 2 - < script.py"])
    assert (outcome.code, outcome.out) == (0, "1000000\n"), str(outcome)


def test_a_pipe_may_hold_too_much(any_mpi: Mpi, launch: Launch) -> None:
    (launch.folder / "script.py").write_text(f"x = '{os.urandom(200_000).hex()}'\n")
    outcome = launch(["bash", "-c", f"{any_mpi.bin}/mpitasks -n 2 - < script.py"])
    assert_refused(outcome, "too long", "write it to a file")


def test_an_error_in_a_pipe_shows_its_line(any_mpi: Mpi, launch: Launch) -> None:
    launch.script("\n\n1 / 0\n")
    outcome = launch(
        [
            "bash",
            "-c",
            f"mkfifo pipe; cat script.py > pipe & {any_mpi.bin}/mpitasks pipe",
        ]
    )
    assert outcome.code == 1, str(outcome)
    assert '/pipe>", line 3, in <module>' in outcome.err


CODE = """\
import sys, mpitasks as mt
with mt.Executor() as ex: print(ex.submit(abs, -1).result(), sys.argv)"""


@pytest.mark.parametrize("joined", [False, True])
def test_code(mpi: Mpi, launch: Launch, joined: bool) -> None:
    words = [f"-c{CODE}"] if joined else ["-c", CODE]
    for start in (mpi.runner(2), [mpi.bin / "mpitasks", "-n", "2"]):
        outcome = launch([*start, *words, "a", "-b"])
        assert (outcome.code, outcome.unforeseen) == (0, ""), str(outcome)
        assert outcome.out == "1 ['-c', 'a', '-b']\n"


def test_module_without_a_space(any_mpi: Mpi, launch: Launch) -> None:
    launch.script("import sys; print(sys.argv[1:])")
    outcome = launch(any_mpi.runner(1, "-mscript", "a", "-b"))
    assert (outcome.code, outcome.out) == (0, "['a', '-b']\n"), str(outcome)


def test_archive_without_a_script(mpi: Mpi, launch: Launch) -> None:
    with zipfile.ZipFile(launch.folder / "a.zip", "w") as file:
        file.writestr("other.py", "")
    assert_refused(launch(mpi.runner(2, "a.zip")), "a.zip", "__main__.py")


def test_a_pex_is_refused_with_what_runs_it(mpi: Mpi, launch: Launch) -> None:
    """It executes another process, so here is one that does no more than that."""
    with zipfile.ZipFile(launch.folder / "a.pex", "w") as file:
        file.writestr("PEX-INFO", '{"entry_point": "tool.main:run"}')
        file.writestr("__main__.py", "import os; os.execv('/bin/true', ['true'])")
    outcome = launch(mpi.runner(2, "a.pex", "x y"))
    assert_refused(outcome, "PEX_INTERPRETER=1", "-m tool.main 'x y'")


def test_submit_takes_no_pipe(any_mpi: Mpi, launch: Launch) -> None:
    command = f"{sys.executable} -m mpitasks submit --dry-run <(echo 1)"
    assert_refused(launch(["bash", "-c", command]), "a job starts later")
