"""Worker ranks die and the run goes on: Open MPI with its fault tolerance on."""

from __future__ import annotations

import pytest

from launching import Launch, Mpi, Outcome

SCRIPT = """
import os, signal, sys, time
import mpitasks as mt

def square(n):
    time.sleep(0.005)
    return n * n

def die(how):
    if how == "SIGSTOP":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
    else:
        os._exit(int(how))

def outcomes(futures):
    lost = []
    for future in futures:
        try:
            future.result()
        except mt.WorkerLost as error:
            lost.append(str(error))
    return lost

if __name__ == "__main__":
    with mt.Executor() as ex:
        CASE
"""


def survive(
    openmpi: Mpi, launch: Launch, case: str, ranks: int = 4, seconds: float = 60.0
) -> Outcome:
    """Run a case inside an Executor, on a run that goes on when ranks die."""
    body = case.strip().replace("\n", "\n        ")
    launch.script(SCRIPT.replace("CASE", body))
    words = ["-m", "mpitasks", "-n", str(ranks), "--survive", "script.py"]
    return launch([openmpi.python, *words], seconds=seconds)


WORK = """
options = ex.with_options(max_crashes=1)
futures = [ex.submit(square, n) for n in range(50)]
doomed = [options.submit(die, how) for how in HOW]
futures += [ex.submit(square, n) for n in range(50, 200)]
print(sum(future.result() for future in futures) == sum(n * n for n in range(200)))
lost = outcomes(doomed)
print(len(lost), ex.num_workers)
print(lost, file=sys.stderr)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGABRT", "0", "3", "SIGSTOP"])
def test_a_worker_dies_in_a_task(openmpi: Mpi, launch: Launch, how: str) -> None:
    outcome = survive(openmpi, launch, WORK.replace("HOW", repr([how])))
    assert outcome.out == "True\n1 2\n", str(outcome)
    assert outcome.code == 0, str(outcome)


@pytest.mark.parametrize("how", ["SIGKILL", "0", "3"])
def test_the_exit_code_is_the_scripts(openmpi: Mpi, launch: Launch, how: str) -> None:
    case = WORK.replace("HOW", repr([how])) + "sys.exit(7)"
    outcome = survive(openmpi, launch, case)
    assert outcome.out == "True\n1 2\n", str(outcome)
    assert outcome.code == 7, str(outcome)


def test_down_to_one_worker(openmpi: Mpi, launch: Launch) -> None:
    case = WORK.replace("HOW", "['SIGKILL', 'SIGSEGV']")
    outcome = survive(openmpi, launch, case)
    assert outcome.out == "True\n2 1\n", str(outcome)
    assert outcome.code == 0, str(outcome)
