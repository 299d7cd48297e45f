"""The command line: what is refused, how a script is run, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from launching import Launch, Mpi, Outcome

SETUP = 78

ROOT = str(Path(__file__).parents[2])
SCRIPTS = Path(__file__).parent / "scripts"

HELLO = """
import mpitasks as mt
with mt.Executor() as ex:
    print("workers", ex.num_workers, sum(ex.map(abs, range(-9, 1))))
"""

SHOW = """
import json, sys
import mpitasks
if __name__ == "__main__":
    main = sys.modules["__main__"]
    here = [sys.argv, sys.path[0], __name__, __file__, main.__dict__ is globals()]
    print(json.dumps(here))
"""


def assert_refused(outcome: Outcome, *words: str) -> None:
    """One line from mpitasks with these words, no traceback, and exit code 78."""
    assert outcome.code == SETUP, str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)
    for word in words:
        assert word in outcome.said[0], str(outcome)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["no-such-script.py"], "no-such-script.py"),
        (["."], "__main__.py"),
        ([], "which script"),
        (["--no-such-option", "script.py"], "--no-such-option"),
        (["-m"], "name of a module"),
        (["--start-timeout", "soon", "script.py"], "soon"),
        (["--max-failures", "-1", "script.py"], "--max-failures"),
        (["--retries", "-1", "script.py"], "--retries"),
        (["--timeout", "0", "script.py"], "--timeout"),
        (["--memory-limit", "much", "script.py"], "much"),
    ],
)
def test_wrong_words(launch: Launch, mpi: Mpi, words: list[str], named: str) -> None:
    launch.script(HELLO)
    assert_refused(launch(mpi.runner(3, *words)), named)
    assert_refused(launch([mpi.python, "-m", "mpitasks", *words]), named)


@pytest.mark.parametrize("ranks", ["0", "-2", "two"])
def test_wrong_number_of_ranks(launch: Launch, any_mpi: Mpi, ranks: str) -> None:
    launch.script(HELLO)
    command = [any_mpi.bin / "mpitasks", "-n", ranks, "script.py"]
    assert_refused(launch(command), "-n", ranks)


def test_n_under_mpiexec(launch: Launch, mpi: Mpi) -> None:
    launch.script(HELLO)
    assert_refused(launch(mpi.runner(2, "-n", "2", "script.py")), "-n", "mpiexec")


def test_n_looks_for_the_script_first(launch: Launch, any_mpi: Mpi) -> None:
    command = [any_mpi.bin / "mpitasks", "-n", "2", "nowhere.py"]
    assert_refused(launch(command), "nowhere.py")


def test_n_starts_the_mpiexec_beside(launch: Launch, mpi: Mpi) -> None:
    launch.script(HELLO)
    command = [mpi.bin / "mpitasks", "-n", "3", "script.py"]
    outcome = launch(command, environ={"PATH": "/usr/bin:/bin"})
    assert outcome.code == 0, str(outcome)
    assert outcome.out == "workers 2 45\n"
    assert outcome.unforeseen == "", str(outcome)


def test_n_without_any_mpiexec(launch: Launch) -> None:
    launch.script(HELLO)
    alone = launch.folder / "bin" / "python"
    alone.parent.mkdir()
    alone.symlink_to(os.path.realpath(sys.executable))
    # Not the packages of this environment: an MPI among them is found.
    command = f"import sys; sys.path.insert(0, {ROOT!r})\n" + (
        "from mpitasks.launch.cli import main; main(['-n', '2', 'script.py'])"
    )
    outcome = launch([alone, "-c", command], environ={"PATH": str(alone.parent)})
    assert_refused(outcome, "no mpiexec", "pip install")


def test_mpiexec_args(launch: Launch, mpi: Mpi) -> None:
    launch.script("import os; print(os.environ['COLOUR'])")
    words = {"mpich": "-genv COLOUR red", "openmpi": "-x COLOUR=red"}[mpi.name]
    command = [mpi.bin / "mpitasks", "-n", "2", "--mpiexec-args", words, "script.py"]
    assert launch(command).out == "red\n"


def test_mpiexec_args_is_one_word_with_a_dash(launch: Launch, mpi: Mpi) -> None:
    launch.script("import sys; print(sys.argv[1:])")
    word = {"mpich": "-prepend-rank", "openmpi": "--tag-output"}[mpi.name]
    options = ["-n", "1", "--mpiexec-args", word]
    rest = ["script.py", "--mpiexec-args", "-x"]
    outcome = launch([mpi.bin / "mpitasks", *options, *rest])
    assert outcome.code == 0, str(outcome)
    assert outcome.out.startswith("["), str(outcome)  # the rank, by mpiexec
    assert outcome.out.endswith("['--mpiexec-args', '-x']\n"), str(outcome)
    assert not outcome.out.startswith("['"), str(outcome)


def test_mpiexec_args_without_end(launch: Launch, any_mpi: Mpi) -> None:
    launch.script(HELLO)
    options = ["-n", "2", "--mpiexec-args", "-x 'COLOUR"]
    outcome = launch([any_mpi.bin / "mpitasks", *options, "script.py"])
    assert_refused(outcome, "--mpiexec-args", "quot")


def test_version(launch: Launch, any_mpi: Mpi) -> None:
    outcome = launch([any_mpi.bin / "mpitasks", "--version"])
    assert outcome.code == 0
    assert re.fullmatch(r"mpitasks \d+\.\d+\S*\n", outcome.out)


def test_script_sees_what_python_shows_it(launch: Launch, mpi: Mpi) -> None:
    folder = launch.folder / "some where"
    folder.mkdir()
    launch.script(SHOW, "some where/script.py")
    words = ["some where/script.py", "one", "-n", "--two", "-m"]
    plain = launch([mpi.python, *words])
    assert json.loads(plain.out)[0] == words
    for command in (mpi.runner(2, *words), [mpi.python, "-m", "mpitasks", *words]):
        outcome = launch(command)
        assert outcome.code == 0, str(outcome)
        assert outcome.out == plain.out, str(outcome)


def test_module_sees_what_python_shows_it(launch: Launch, mpi: Mpi) -> None:
    folder = launch.folder / "package"
    folder.mkdir()
    launch.script("", "package/__init__.py")
    launch.script(SHOW, "package/module.py")
    launch.script(SHOW, "package/__main__.py")
    for name in ("package.module", "package"):
        words = ["-m", name, "one", "-n", "--two"]
        plain = launch([mpi.python, *words])
        outcome = launch(mpi.runner(2, *words))
        assert outcome.code == 0, str(outcome)
        assert outcome.out == plain.out, str(outcome)


def test_no_such_module(launch: Launch, mpi: Mpi) -> None:
    outcome = launch(mpi.runner(2, "-m", "no.such.module"))
    assert_refused(outcome, "no.such.module")


EXITS = [
    ("", 0, ""),
    ("sys.exit()", 0, ""),
    ("sys.exit(0)", 0, ""),
    ("sys.exit(3)", 3, ""),
    ("sys.exit('said')", 1, "said"),
    ("raise SystemExit(4)", 4, ""),
]


@pytest.mark.parametrize(("statement", "code", "text"), EXITS)
def test_exit_codes(
    launch: Launch, mpi: Mpi, statement: str, code: int, text: str
) -> None:
    launch.script(f"import sys\n{HELLO}\n{statement}\n")
    outcome = launch(mpi.runner(3, "script.py"))
    assert outcome.code == code, str(outcome)
    assert outcome.out == "workers 2 45\n"
    assert text in outcome.err
    assert "Traceback" not in outcome.err


FAILS = """
def helper():
    return 1 / 0

if __name__ == "__main__":
    helper()
"""


@pytest.mark.parametrize("text", [FAILS, "x = 1\nif x\n    pass\n"])
def test_traceback_of_the_script_is_pythons(
    launch: Launch, mpi: Mpi, text: str
) -> None:
    launch.script(text)
    plain = launch([mpi.python, "script.py"])
    assert plain.code == 1
    alone = launch([mpi.python, "-m", "mpitasks", "script.py"])
    assert (alone.code, alone.out) == (1, "")
    assert _without_folder(alone, launch) == _without_folder(plain, launch)
    outcome = launch(mpi.runner(3, "script.py"))
    assert outcome.code == 1, str(outcome)
    if mpi.name == "mpich":
        assert _without_folder(outcome, launch) == _without_folder(plain, launch)
    else:  # its mpiexec adds that a process returned 1
        expected = _without_folder(plain, launch)
        assert _without_folder(outcome, launch).startswith(expected)


def _without_folder(outcome: Outcome, launch: Launch) -> str:
    return outcome.err.replace(f"{launch.folder}/", "")


def test_module_that_fails(launch: Launch, mpi: Mpi) -> None:
    launch.script(FAILS, "failing.py")
    outcome = launch(mpi.runner(2, "-m", "failing"))
    assert outcome.code == 1
    assert "line 3, in helper" in outcome.err
    assert "mpitasks/launch" not in outcome.err, str(outcome)
    assert "runpy" not in outcome.err, str(outcome)


def test_failing_task_ends_the_script(launch: Launch, mpi: Mpi) -> None:
    launch.script(
        "import mpitasks as mt\n"
        "with mt.Executor() as ex:\n"
        "    ex.submit(int, 'seven').result()\n"
    )
    outcome = launch(mpi.runner(3, "script.py"))
    assert outcome.code == 1
    assert "Traceback from rank" in outcome.err
    if mpi.name == "mpich":
        last = outcome.err.rstrip().splitlines()[-1]
        assert last.startswith("ValueError: invalid literal"), str(outcome)


OPTIONS = """
import mpitasks as mt

def where():
    return mt.current_task().attempt, __import__("os").getpid()

def unlucky():
    if where()[0] < 3:
        raise OSError
    return where()[0]

with mt.Executor() as ex:
    print(ex.submit(unlucky).result(), ex.options.timeout, ex.options.memory_limit)
    plain = ex.with_options(isolate=False)
    print(ex.submit(where).result() == plain.submit(where).result())
"""


@pytest.mark.parametrize("starts", [False, True])
def test_options_of_tasks(launch: Launch, mpi: Mpi, starts: bool) -> None:
    launch.script(OPTIONS)
    words = ["--retries", "2", "--timeout", "1:30", "--memory-limit", "1G", "script.py"]
    command = [mpi.bin / "mpitasks", "-n", "2"] if starts else mpi.runner(2)
    outcome = launch([*command, *words])
    assert outcome.code == 0, str(outcome)
    assert outcome.out == "3 90.0 1073741824\nFalse\n"


PICKY = (SCRIPTS / "many_failures.py").read_text()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], None),
        (["--max-failures", "10"], None),
        (["--max-failures", "3"], "--max-failures 3 stops the run"),
        (["--fail-fast"], "--max-failures 0 stops the run"),
    ],
)
def test_the_run_stops_at_too_many_failures(
    launch: Launch, mpi: Mpi, ranks: int, words: list[str], why: str | None
) -> None:
    launch.script(PICKY)
    outcome = launch(mpi.runner(ranks, *words, "script.py", "100"))
    if why is None:
        assert (outcome.code, outcome.out) == (0, "10 failed\n"), str(outcome)
    else:
        assert (outcome.code, outcome.out) == (1, ""), str(outcome)
        told = [line for line in outcome.err.splitlines() if "TooManyFailures" in line]
        assert len(told) == 1, str(outcome)
        assert f"TooManyFailures: {why}" in told[0]
