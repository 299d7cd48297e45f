"""What of an interpreter's command line goes on to those that it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mpitasks.subprocesses import interpreter_options, split_command


@pytest.mark.parametrize(
    ("words", "options", "program"),
    [
        ("", "", ""),
        ("script.py -O", "", "script.py -O"),
        ("-O script.py", "-O", "script.py"),
        ("-OBu -m mpitasks -n 2", "-O -B -u", "-m mpitasks -n 2"),
        ("-Im mpitasks x", "-I", "-m mpitasks x"),
        ("-mmpitasks -O", "", "-m mpitasks -O"),
        ("-W error -Wdefault script.py", "-W error -W default", "script.py"),
        ("-Xdev -X utf8=0 -c code a", "-X dev -X utf8=0", "-c code a"),
        ("-EsP -", "-E -s -P", "-"),
        ("-OO -i -x script.py", "-O -O", "script.py"),
        (
            "--check-hash-based-pycs always -d script.py",
            "--check-hash-based-pycs always -d",
            "script.py",
        ),
    ],
)
def test_split(words: str, options: str, program: str) -> None:
    line = ["python", *words.split()]
    assert split_command(line) == (options.split(), program.split())


@pytest.mark.parametrize(
    "words", ["", "-O", "-OO -X dev -X mine=3", "-W error -X utf8", "-IB", "-Esu"]
)
def test_passed_on_they_make_the_same_interpreter(words: str) -> None:
    show = "import sys; print(sys.flags, sys.warnoptions, sys._xoptions)"
    code = (
        f"import subprocess, sys; sys.path[:] = {sys.path!r}\n"
        "from mpitasks.subprocesses import interpreter_options\n"
        f"{show}; sys.stdout.flush()\n"
        f"subprocess.run([sys.executable, *interpreter_options(), '-c', {show!r}])"
    )
    command = [sys.executable, *words.split(), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == second


def test_an_interpreter_that_runs_something_else_has_none() -> None:
    line, sys.orig_argv = sys.orig_argv, []
    try:
        assert interpreter_options() == []
    finally:
        sys.orig_argv = line
