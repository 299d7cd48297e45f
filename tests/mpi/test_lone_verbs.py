"""Verbs that are programs of one process: they meet nobody and load no MPI."""

from __future__ import annotations

import sys

import pytest

from launching import Launch, Mpi, Outcome

VERB = """
import argparse, sys
from mpitasks.errors import ConfigurationError
from mpitasks.launch import cli, script, verbs

def parse(words):
    parser = verbs.VerbParser(prog="mpitasks lonely", allow_abbrev=False)
    parser.add_argument("code", type=int)
    return parser.parse_args(words)

def main(options):
    print("lonely", "mpi4py" in sys.modules, "numpy" in sys.modules)
    if options.code == 78:
        raise ConfigurationError("the set-up is wrong")
    return options.code

script.VERBS["lonely"] = "__main__"
script.LONE_VERBS = verbs.LONE_VERBS = frozenset(["lonely"])
cli.main(sys.argv[1:])
"""


def run(launch: Launch, *words: str, before: tuple[str, ...] = ()) -> Outcome:
    command = [*before, sys.executable, launch.script(VERB), *words]
    return launch(command)


@pytest.mark.parametrize("code", [0, 3])
def test_runs_here_and_returns_its_code(launch: Launch, code: int) -> None:
    outcome = run(launch, "lonely", str(code))
    assert (outcome.code, outcome.err) == (code, ""), str(outcome)
    assert outcome.out == "lonely False False\n"


def test_of_several_copies_one_runs(launch: Launch, any_mpi: Mpi) -> None:
    outcome = run(launch, "lonely", "0", before=tuple(any_mpi.mpiexec(3)))
    assert (outcome.code, outcome.out) == (0, "lonely False False\n"), str(outcome)


def test_a_wrong_set_up_is_one_line(launch: Launch) -> None:
    outcome = run(launch, "lonely", "78")
    assert (outcome.code, outcome.err) == (78, "mpitasks: the set-up is wrong\n")


def test_n_before_it_is_refused(launch: Launch) -> None:
    outcome = run(launch, "-n", "4", "lonely", "0")
    assert (outcome.code, outcome.out) == (2, ""), str(outcome)
    assert "leave out -n 4" in outcome.err
