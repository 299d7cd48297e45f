"""Commands that messages name: each is run as it stands, and does what it should."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from launching import Launch, Mpi, Outcome

SETUP = 78

ROOT = str(Path(__file__).parents[2])

SCRIPT = """
import sys
import mpitasks as mt
with mt.Executor() as ex:
    print(ex.num_workers, list(ex.map(abs, [-1])), sys.argv[1:])
"""


def command_in(outcome: Outcome, before: str) -> str:
    """Return what a message names behind some words."""
    (line,) = [line for line in outcome.said if before in line]
    return line.partition(before)[2]


def run(launch: Launch, command: str) -> Outcome:
    """Type a command as it was printed."""
    return launch(["bash", "-c", command])


@pytest.mark.parametrize(
    "words",
    [
        ["script.py", "one", "t w o"],
        ["-O", "-X", "dev", "script.py"],
        ["-m", "package.inside", "-x"],
        ["-m", "package", "x"],
        ["some where/script.py"],
        ["-c", SCRIPT.strip(), "a"],
        ["-W", "error", "-c", "import mpitasks as m; print(m.Executor().num_workers)"],
        ["-m", "mpitasks", "--retries", "2", "script.py", "a"],
        ["-m", "mpitasks", "-m", "package.inside"],
        ["-m", "mpitasks.futures", "script.py", "a"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_alone(mpi: Mpi, launch: Launch, words: list[str]) -> None:
    for folder in ("package", "some where"):
        (launch.folder / folder).mkdir()
    for name in ("script.py", "package/inside.py", "package/__main__.py"):
        launch.script(SCRIPT, name)
    launch.script(SCRIPT, "some where/script.py")
    launch.script("", "package/__init__.py")
    alone = launch([mpi.python, *words])
    command = command_in(alone, "for workers, start with: ")
    if "FILE.py" in command:
        launch.script(words[words.index("-c") + 1], "FILE.py")
        command = command.partition(" (with")[0]
    outcome = run(launch, command)
    assert outcome.code == 0, str(outcome)
    assert outcome.out == "3" + alone.out[1:], f"{command}\n{outcome}"


@pytest.mark.parametrize("way", ["{python} < script.py", "{python} - < script.py"])
def test_from_standard_input(any_mpi: Mpi, launch: Launch, way: str) -> None:
    launch.script(SCRIPT)
    shutil.copy(launch.folder / "script.py", launch.folder / "FILE.py")
    alone = run(launch, way.format(python=any_mpi.python))
    command = command_in(alone, "for workers, start with: ")
    outcome = run(launch, command.partition(" (with")[0])
    assert (outcome.code, outcome.out[:6]) == (0, "3 [1] "), f"{command}\n{outcome}"


def test_by_its_name_where_that_finds_it(any_mpi: Mpi, launch: Launch) -> None:
    launch.script(SCRIPT)
    environ = {"PATH": f"{any_mpi.bin}:{os.environ['PATH']}"}
    alone = launch(["python", "script.py"], environ=environ)
    assert command_in(alone, "start with: ") == "mpitasks -n 4 script.py"


def test_several_copies(mpi: Mpi, launch: Launch) -> None:
    launch.script(SCRIPT)
    (launch.folder / "a b").mkdir()
    launch.script(SCRIPT, "a b/script.py")
    outcome = launch([*mpi.mpiexec(2), mpi.python, "-O", "a b/script.py", "it's"])
    (line,) = [line for line in outcome.err.splitlines() if "Start it with" in line]
    command = line.partition("Start it with: ")[2].partition("; or call")[0]
    again = run(launch, command)
    assert (again.code, again.out) == (0, '1 [1] ["it\'s"]\n'), str(again)


def test_pipes_under_open_mpi(launch: Launch, mpi: Mpi) -> None:
    if mpi.name == "mpich":
        pytest.skip("there rank 0 reads its standard input to the end")
    launch.script(SCRIPT)
    refused = run(launch, f"{shlex.join(mpi.runner(2, '-'))} < script.py")
    assert refused.code == SETUP, str(refused)
    outcome = run(launch, command_in(refused, "starts the ranks: "))
    assert (outcome.code, outcome.out) == (0, "1 [1] []\n"), str(outcome)


@pytest.mark.parametrize("words", [["-n", "3"], ["a", "-np", "3"], ["--np", "3", "a"]])
def test_ranks_behind_the_script(mpi: Mpi, launch: Launch, words: list[str]) -> None:
    launch.script(SCRIPT)
    alone = launch([mpi.bin / "mpitasks", "script.py", *words])
    assert (alone.code, alone.out) == (0, f"1 [1] {words}\n"), str(alone)
    outcome = run(launch, command_in(alone, "asked for before it: "))
    rest = [word for word in words if word == "a"]
    assert (outcome.code, outcome.out) == (0, f"2 [1] {rest}\n"), str(outcome)


@pytest.mark.parametrize(
    "words", [["-n", "three"], ["-n"], ["-x", "3"], ["--number", "3"], ["-n", "0"]]
)
def test_other_arguments_are_let_alone(
    any_mpi: Mpi, launch: Launch, words: list[str]
) -> None:
    launch.script("import sys; print(sys.argv[1:])")
    outcome = launch([any_mpi.bin / "mpitasks", "script.py", *words])
    assert (outcome.out, outcome.err) == (f"{words}\n", ""), str(outcome)
    under = launch(any_mpi.runner(2, "script.py", "-n", "3"))
    assert (under.out, under.unforeseen) == ("['-n', '3']\n", ""), str(under)


def test_package_without_main(mpi: Mpi, launch: Launch) -> None:
    (launch.folder / "package").mkdir()
    launch.script("", "package/__init__.py")
    launch.script(SCRIPT, "package/inside.py")
    refused = launch(mpi.runner(2, "-m", "package"))
    assert refused.code == SETUP, str(refused)
    assert "Traceback" not in refused.err, str(refused)
    outcome = run(launch, command_in(refused, "in it, as ").rpartition(" (")[0])
    assert (outcome.code, outcome.out) == (0, "1 [1] []\n"), str(outcome)


def test_package_with_nothing_to_run(any_mpi: Mpi, launch: Launch) -> None:
    (launch.folder / "package").mkdir()
    refused = launch(any_mpi.runner(1, "-m", "package"))
    assert refused.code == SETUP, str(refused)
    assert "without a __main__.py" in refused.said[0]


def test_module_that_is_a_script(any_mpi: Mpi, launch: Launch) -> None:
    launch.script("print('I ran')")
    refused = launch(any_mpi.runner(1, "-m", "script.py"))
    assert (refused.code, refused.out) == (SETUP, ""), str(refused)
    assert "leave out -m" in refused.said[0]


def test_notebook(mpi: Mpi, launch: Launch) -> None:
    """An empty one is a valid expression of Python: it ran, with exit code 0."""
    content = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (launch.folder / "a b.ipynb").write_text(json.dumps(content))
    refused = launch(mpi.runner(2, "a b.ipynb"))
    assert refused.code == SETUP, str(refused)
    assert "jupyter nbconvert --to python 'a b.ipynb'" in refused.said[0]
    assert "'a b.py'" in refused.said[0]


def test_in_a_notebook(any_mpi: Mpi, launch: Launch) -> None:
    """As ipykernel starts one: the module is there, the script is ipykernel's."""
    launch.script("", "ipykernel.py")
    launch.script(f"import ipykernel\n{SCRIPT}", "ipykernel_launcher.py")
    command = [any_mpi.python, "-m", "ipykernel_launcher", "-f", "kernel.json"]
    named = command_in(launch(command), "start with: ")
    assert named == "restart the kernel, and begin with ex = mpitasks.start(3)"


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["sumbit", "script.py"], "did you mean submit?"),
        (["docter"], "did you mean doctor?"),
        (["scirpt.py"], "did you mean script.py?"),
        (["--jornal", "a.db", "script.py"], "did you mean --journal?"),
        (["--max-failure=3", "script.py"], "did you mean --max-failures?"),
        (["submit", "--nodse", "2", "script.py"], "did you mean --nodes?"),
        (["journal", "a.db", "--functoin", "f"], "did you mean --function?"),
        (["nothing-like-it.py"], None),
        (["--nothing-like-it", "script.py"], None),
    ],
)
def test_did_you_mean(
    any_mpi: Mpi, launch: Launch, words: list[str], question: str | None
) -> None:
    launch.script(SCRIPT)
    outcome = launch([any_mpi.bin / "mpitasks", *words])
    assert outcome.code in (2, SETUP), str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    if question is None:
        assert "did you mean" not in outcome.err, str(outcome)
    else:
        assert question in outcome.said[0], str(outcome)


def test_help_names_the_verbs(any_mpi: Mpi, launch: Launch) -> None:
    from mpitasks.launch.script import VERBS

    outcome = launch([any_mpi.bin / "mpitasks", "--help"])
    for verb in VERBS:
        assert f"\n  {verb} " in outcome.out, str(outcome)


def test_without_mpi(launch: Launch) -> None:
    """What has to be installed comes first."""
    launch.script(SCRIPT)
    launch.script("import sys\nsys.modules['mpi4py'] = None\n", "sitecustomize.py")
    alone = launch.folder / "bin" / "python"
    alone.parent.mkdir()
    alone.symlink_to(os.path.realpath(sys.executable))
    code = f"import sys; sys.path.insert(0, {ROOT!r})\nexec(open('script.py').read())"
    environ = {"PATH": str(alone.parent), "PYTHONPATH": str(launch.folder)}
    told = launch([alone, "-c", code], environ=environ)
    assert told.code == 0, str(told)
    install, _, start = command_in(told, "start with: ").partition(" && ")
    assert install == f"{alone} -m pip install mpi4py mpich"
    assert start.startswith(f"{alone} -m mpitasks -n 4 ")


SHIM = """#!/usr/bin/env bash
# What pyenv makes of each program that one of its Pythons has.
echo "pyenv: mpiexec: command not found" >&2
exit 127
"""


def test_a_shim_of_pyenv_is_no_mpiexec(launch: Launch) -> None:
    """One that leads nowhere with this Python: it would be started, and fail."""
    launch.script(SCRIPT)
    shims = launch.folder / "pyenv" / "shims"
    shims.mkdir(parents=True)
    for name in ("mpiexec", "ompi_info", "pyenv"):
        path = shims / name
        path.write_text(SHIM)
        path.chmod(0o755)
    alone = launch.folder / "bin" / "python"
    alone.parent.mkdir()
    alone.symlink_to(os.path.realpath(sys.executable))
    code = f"import sys; sys.path.insert(0, {ROOT!r})\n" + (
        "from mpitasks.launch.cli import main; main(['-n', '2', 'script.py'])"
    )
    environ = {"PATH": f"{shims}:/usr/bin:/bin"}
    if shutil.which("mpiexec", path="/usr/bin:/bin"):
        pytest.skip("an mpiexec is installed here")
    outcome = launch([alone, "-c", code], environ=environ)
    assert outcome.code == SETUP, str(outcome)
    assert "no mpiexec" in outcome.said[0], str(outcome)


def test_a_shim_of_pyenv_that_leads_to_one(any_mpi: Mpi, launch: Launch) -> None:
    launch.script(SCRIPT)
    shims = launch.folder / "pyenv" / "shims"
    shims.mkdir(parents=True)
    (shims / "mpiexec").write_text(SHIM)
    real = Path(any_mpi.bin) / "mpiexec"
    answer = f'[ "$*" = "which mpiexec" ] && echo {real}'
    (shims / "pyenv").write_text(f"#!/bin/sh\n{answer}\n")
    for name in ("mpiexec", "pyenv"):
        (shims / name).chmod(0o755)
    code = (
        "import sys; from mpitasks.launch.mpiexec import find_mpiexec\n"
        "sys.executable = '/nowhere/python'; print(find_mpiexec())"
    )
    environ = {"PATH": f"{shims}:/usr/bin:/bin"}
    outcome = launch([any_mpi.python, "-c", code], environ=environ)
    assert outcome.out == f"{real}\n", str(outcome)
