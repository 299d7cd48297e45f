"""`mpitasks.futures` over every MPI, beside the `mpi4py.futures` whose names it has.

The checks are in scripts/mpi4py_futures.py and scripts/mpi_comm_executor.py. Both run
on the original as well, so what they ask is what mpi4py does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from launching import SCRIPTS, Launch, Mpi, Outcome

CHECKS = SCRIPTS / "mpi4py_futures.py"
PROGRAM = SCRIPTS / "mpi_comm_executor.py"
OURS = {"FUTURES": "mpitasks.futures"}
THEIRS = {"FUTURES": "mpi4py.futures"}
MODULES = {"mpitasks": OURS, "mpitasks.futures": OURS, "mpi4py.futures": THEIRS}
ONE_PROCESS = "mpitasks: one process"


def assert_all_passed(outcome: Outcome) -> None:
    """Every check ran and passed."""
    assert outcome.code == 0, str(outcome)
    assert "checks: 16 passed, 0 failed" in outcome.out, str(outcome)


@pytest.mark.parametrize("module", MODULES)
def test_the_documented_behaviour(mpi: Mpi, module: str, launch: Launch) -> None:
    command = [*mpi.mpiexec(3), mpi.python, "-m", module, CHECKS]
    assert_all_passed(launch(command, environ=MODULES[module], seconds=60))


def test_in_one_process(launch: Launch) -> None:
    outcome = launch([sys.executable, CHECKS], environ=OURS)
    assert_all_passed(outcome)
    assert ONE_PROCESS in outcome.err


def test_isolated(any_mpi: Mpi, launch: Launch) -> None:
    # No communicator reaches the child process.
    command = any_mpi.runner(2, "--isolate", CHECKS, "check_initializer")
    outcome = launch(command, environ=OURS)
    assert "checks: 2 passed, 0 failed" in outcome.out, str(outcome)


def lines_of(outcome: Outcome) -> Sequence[str]:
    """Return what the program has printed, in an order of our own."""
    assert outcome.code == 0, str(outcome)
    return sorted(outcome.out.splitlines())


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_program_that_every_rank_runs(mpi: Mpi, ranks: int, launch: Launch) -> None:
    command = [*mpi.mpiexec(ranks), mpi.python, PROGRAM]
    ours = lines_of(launch(command, environ=OURS))
    assert ours == lines_of(launch(command, environ=THEIRS))
    assert sum(line.startswith("after") for line in ours) == ranks
    assert sum(line.startswith("world") for line in ours) == ranks


def test_such_a_program_in_one_process(any_mpi: Mpi, launch: Launch) -> None:
    outcome = launch([any_mpi.python, PROGRAM], environ=OURS)
    assert "after: 0 0 of the root" in lines_of(outcome)


COPIES = """
from mpitasks.futures import MPIPoolExecutor

with MPIPoolExecutor() as executor:
    print(executor.submit(abs, -1).result())
"""


def test_a_pool_in_every_copy_is_refused(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(COPIES)
    outcome = launch([*mpi.mpiexec(2), mpi.python, script])
    assert outcome.code == 1, str(outcome)
    assert f"-n 2 {mpi.python} -m mpitasks {script}" in outcome.err, str(outcome)


WRONG = """
from mpi4py import MPI
from mpitasks.futures import MPICommExecutor

for keywords in {"no_such": 1}, {"max_workers": 0}, {"initializer": 7}:
    for comm in MPI.COMM_WORLD, MPI.COMM_SELF:
        try:
            with MPICommExecutor(comm, **keywords):
                pass
        except (TypeError, ValueError):
            continue
        raise SystemExit("no error")
"""


def test_wrong_keywords_leave_nobody_waiting(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(WRONG)
    outcome = launch([*mpi.mpiexec(2), mpi.python, script])
    assert outcome.code == 0, str(outcome)


INTERRUPTED = """
import os, signal, time
from mpitasks.futures import MPICommExecutor

def hold():
    open("busy", "w").close()
    time.sleep(600)

if __name__ == "__main__":
    with MPICommExecutor() as executor:
        if executor is not None:
            executor.submit(hold)
            while not os.path.exists("busy"):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(600)
"""


def test_an_interrupted_root_ends_all(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(INTERRUPTED)
    outcome = launch([*mpi.mpiexec(2), mpi.python, script])
    assert outcome.code != 0
    assert "KeyboardInterrupt" in outcome.err, str(outcome)


IN_TASKS = """
import mpitasks as mt
from mpitasks.futures import MPICommExecutor, MPIPoolExecutor

unused = MPIPoolExecutor()  # is no harm

def use_one():
    return MPIPoolExecutor().submit(abs, -1).result()

def use_communicator():
    with MPICommExecutor() as executor:
        return executor.submit(abs, -1)

def use(executor):
    return executor.submit(abs, -1)

def run():
    return mt.run(print)

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        for call in (use_one,), (use_communicator,), (use, executor), (run,):
            future = executor.submit(*call)
            error = future.exception()
            print(future.result() if error is None else type(error).__name__)
"""


def test_a_task_has_an_executor_of_its_own(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(IN_TASKS)
    outcome = launch(mpi.runner(2, script))
    assert outcome.out.split() == ["1", *["ConfigurationError"] * 3], str(outcome)


def test_and_so_it_has_in_one_process(launch: Launch) -> None:
    outcome = launch([sys.executable, launch.script(IN_TASKS)])
    assert outcome.out.split() == ["1", *["ConfigurationError"] * 3], str(outcome)
