"""Pools, forks, threads and programs of users, in tasks and in the script."""

from __future__ import annotations

import sys

import pytest

from launching import SCRIPTS, Launch, Mpi, Outcome

SCRIPT = SCRIPTS / "processes.py"
PLACES = ("plain", "isolated", "script")

GROUPS = {
    "pools": ["fork", "spawn", "forkserver", "terminated", "place"],
    "libraries": ["with_joblib", "with_scipy"],
    # The last ones leave their threads and processes to the end of the run. A forked
    # child that ends meanwhile must not end them.
    "forks and what is left": [
        "left_pool",
        "left_threads",
        "left_processes",
        "in_executor",
        "fork-return",
        "fork-exit",
        "fork-words",
        "fork-raise",
        "fork-interrupt",
        "fork-executor",
    ],
    "programs": ["mpi_programs", "runs_within"],
}


def names_for(group: str, place: str) -> list[str]:
    """Return what the group does there.

    A child that the script forks does not end in the middle of it; and an isolated task
    has no place among the ranks.
    """
    absent = {"plain": (), "script": ("fork-",), "isolated": ("place",)}[place]
    return [name for name in GROUPS[group] if not name.startswith(absent)]


def check(outcome: Outcome, names: list[str]) -> None:
    assert outcome.code == 0, outcome
    assert outcome.out.split() == [*names, "ok"], outcome


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("group", GROUPS)
def test_processes_of_users(mpi: Mpi, launch: Launch, group: str, place: str) -> None:
    names = names_for(group, place)
    command = mpi.runner(2, SCRIPT, place, *names)
    environ = {"TEST_RANKS": "2", "PYTHONWARNINGS": "ignore"}
    check(launch(command, environ=environ, seconds=100), names)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("group", ["pools", "libraries", "forks and what is left"])
def test_processes_of_users_alone(launch: Launch, group: str, place: str) -> None:
    names = names_for(group, place)
    command = [sys.executable, SCRIPT, place, *names]
    check(launch(command, environ={"PYTHONWARNINGS": "ignore"}, seconds=100), names)


def test_input_of_workers_is_empty(mpi: Mpi, launch: Launch) -> None:
    check(launch(mpi.runner(2, SCRIPT, "plain", "reads_input")), ["reads_input"])


FORKS = """
import atexit, os, sys, time
from concurrent import futures
import mpitasks as mt


def held_by(file):
    while not os.path.exists(file):
        time.sleep(0.01)
    return 1


def print(*words, print=print, flush=True):
    if not isinstance(words[0], futures.Future):
        print(*words, flush=True)


how = sys.argv[1]
executor = mt.Executor()
future = executor.submit(abs, -1)
values = executor.map(held_by, 3 * ["go"])
held, watched = (executor.submit(held_by, "go") for _ in range(2))
watched.add_done_callback(print)
if not os.fork():
    atexit.register(print, "exit function", flush=True)
    if how == "raise":
        raise ValueError("of the child")
    if how == "with":
        with executor:
            sys.exit(4)
    if how == "use":
        uses = [
            lambda: executor.submit(abs, 1),
            lambda: executor.map(abs, [1]),
            lambda: list(values),
            lambda: mt.run(print),
            mt.Executor,
            held.result,
            watched.exception,
            lambda: futures.wait([future, held]),
            lambda: futures.wait([watched]),
            lambda: list(futures.as_completed([held])),
            lambda: held.add_done_callback(print),
        ]
        assert "abandoned" in repr(held)
        for use in uses:
            try:
                use()
            except mt.ConfigurationError as error:
                assert "was forked" in str(error), error
            else:
                raise AssertionError(uses.index(use))
        executor.shutdown()
        sys.exit(5)
else:
    code = os.waitstatus_to_exitcode(os.wait()[1])
    open("go", "w").close()
    print(code, future.result(), sum(values), flush=True)
    executor.shutdown()
"""


@pytest.mark.parametrize(
    ("how", "code"), [("end", 0), ("raise", 1), ("with", 4), ("use", 5)]
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_child_of_the_script_is_no_part_of_the_run(
    mpi: Mpi, launch: Launch, ranks: int, how: str, code: int
) -> None:
    script = launch.script(FORKS)
    if ranks == 1:
        outcome = launch([mpi.python, script, how])
    else:
        outcome = launch(mpi.runner(ranks, script, how))
    assert outcome.code == 0, outcome
    assert outcome.out == f"exit function\n{code} 1 3\n"
    assert ("ValueError: of the child" in outcome.err) == (how == "raise")
    assert "mpitasks/" not in outcome.err


FINALIZE = """
import sys
from mpi4py import MPI
import mpitasks as mt

with mt.Executor() as executor:
    future = executor.submit(MPI.Finalize)
    print(type(future.exception()).__name__, executor.submit(abs, -1).result())
MPI.Finalize()
sys.exit(3)
"""


def test_finalize_of_the_script_is_left_to_the_end(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(2, launch.script(FINALIZE)))
    assert outcome.out == "ConfigurationError 1\n"
    assert "MPI.Finalize() in the script does nothing" in outcome.err
    assert outcome.code == 3 or mpi.name == "openmpi", outcome


FINALIZE_AFTER = """
from mpi4py import MPI
import mpitasks as mt

mt.run(lambda executor: print(executor.submit(abs, -1).result(), flush=True))
MPI.Finalize()
assert MPI.Is_finalized()
"""


def test_who_called_run_may_end_mpi(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(FINALIZE_AFTER)
    outcome = launch([*mpi.mpiexec(2), mpi.python, script])
    assert (outcome.code, outcome.out) == (0, "1\n"), outcome


AT_EXIT = """
import atexit
import mpitasks as mt


def late():
    submit, map = lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1])
    for use in (submit, map, mt.Executor, lambda: mt.run(print)):
        try:
            use()
        except mt.ExecutorClosedError as error:
            print("closed", flush=True)
    executor.shutdown()


atexit.register(late)
executor = mt.Executor()
atexit.register(late)
future = executor.submit(abs, -1)
print(future.result(), flush=True)
"""


@pytest.mark.parametrize("ranks", [0, 1, 2])
def test_an_executor_is_closed_at_exit(mpi: Mpi, launch: Launch, ranks: int) -> None:
    script = launch.script(AT_EXIT)
    python = [mpi.python, script]
    outcome = launch(mpi.runner(ranks, script) if ranks else python)
    assert (outcome.code, outcome.out) == (0, "1\n" + 8 * "closed\n"), outcome


EXIT_FUNCTIONS = """
import atexit
from mpi4py import MPI
import mpitasks as mt


def register():
    def last():
        print("rank", MPI.COMM_WORLD.rank, MPI.Is_finalized(), flush=True)

    atexit.register(last)


with mt.Executor() as executor:
    executor.submit(register).result()
register()
"""


def test_exit_functions_run_before_mpi_ends(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(2, launch.script(EXIT_FUNCTIONS)))
    assert outcome.code == 0, outcome
    assert sorted(outcome.out.splitlines()) == ["rank 0 False", "rank 1 False"]


NO_STDOUT = """
import sys
import mpitasks as mt


class NoFlush:
    write = len


def silence():
    sys.stdout, sys.stderr = None, NoFlush()


with mt.Executor() as executor:
    executor.submit(silence).result()
    assert executor.submit(abs, -1).result() == 1
silence()
sys.exit(4)
"""


def test_standard_streams_may_be_anything(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(2, launch.script(NO_STDOUT)))
    assert outcome.unforeseen == "" or mpi.name == "openmpi", outcome
    assert outcome.code == 4, outcome
