"""docs/slurm.md shows what is printed: its console blocks are run, and compared.

Numbers and durations may differ; everything else may not. The tasks are shorter than
those shown.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from launching import Mpi, Outcome
from login import Login

PAGE = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text()
SCRIPT = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
SHORTER = {"0.5": "0.2", "0.01": "0.006"}
SHORTEST = {"0.5": "0.01"}  # where nobody looks meanwhile
MASKS = [
    (r"\d+(\.\d+)? s\b|\d+:\d\d (min|h)\b", "TIME"),
    (r"\S*/bin/python", "PYTHON"),
    (r"\d+(\.\d+)*", "N"),
]


def masked(text: str) -> list[str]:
    """Return the lines of an output without what differs from run to run."""
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    # The virtual nodes are one machine, and the news of a job come as they come.
    apart = ("mpitasks: warning", "mpitasks: job N")
    return [line for line in text.splitlines() if not line.startswith(apart)]


def shorter(text: str) -> str:
    """Return a command with less to wait for."""
    for long, short in (SHORTEST if " --wait " in text else SHORTER).items():
        text = text.replace(f" {long}", f" {short}")
    return text


def blocks() -> list[list[tuple[str, str]]]:
    """Return the commands of each block with what they print."""
    return [
        [(command[1], command[2]) for command in COMMAND.finditer(block[1])]
        for block in CONSOLE.finditer(PAGE)
    ]


class Reader:
    """Does what a reader of the page would do.

    Args:
        login: Where.
        mpi: With which MPI.
    """

    def __init__(self, login: Login, mpi: Mpi) -> None:
        self._login = login
        self._mpi = mpi
        self._jobs: dict[str, str] = {}  # by the id that the page shows
        self._code = 0

    def follow(self, command: str, shown: str) -> None:
        """Run a command of the page; it must print what the page shows."""
        for there, here in self._jobs.items():
            command = re.sub(rf"\b{there}(?![0-9])", here, command)
        if command == "echo $?":
            assert shown == f"{self._code}\n"
            return
        if command.startswith("cat "):
            outcome = self._login.run("bash", "-c", command)
        else:
            words = shlex.split(shorter(command))
            assert words.pop(0) == "mpitasks"
            if words[0] == "status":
                outcome = self._awaited(words, shown)
            else:
                outcome = self._login.mpitasks(self._mpi, *words)
        self._code = outcome.code
        assert outcome.code == 0, str(outcome)
        assert masked(outcome.out) == masked(shown), str(outcome)
        there, here = (re.match(r"job (\d+): ", text) for text in (shown, outcome.out))
        if there is not None and here is not None:
            self._jobs[there[1]] = here[1]

    def _awaited(self, words: list[str], shown: str) -> Outcome:
        """Ask for the status until the job is where the page shows it."""
        outcomes = []

        def tells() -> bool:
            outcomes.append(self._login.mpitasks(self._mpi, *words))
            return masked(outcomes[-1].out) == masked(shown)

        with contextlib.suppress(AssertionError):  # what is different, is shown then
            self._login.until(tells, "the job is there")
        return outcomes[-1]


@pytest.mark.timeout(180)
def test_the_page_shows_what_is_printed(login: Login, mpich: Mpi) -> None:
    for script in SCRIPT.finditer(PAGE):
        login.script(script[2], script[1])
    reader = Reader(login, mpich)
    commands = [pair for block in blocks() for pair in block]
    assert len(commands) >= 9
    for command, shown in commands:
        reader.follow(command, shown)
