"""Worker ranks die and the run goes on: Open MPI with its fault tolerance on."""

from __future__ import annotations

import os
import signal

import pytest

from launching import SCRIPTS, Launch, Mpi, Outcome

SCRIPT = """
import ctypes, os, signal, sys, time
import mpitasks as mt

def square(n):
    time.sleep(0.005)
    return n * n

def who(_):
    time.sleep(0.05)
    return os.getpid()

def double(array):
    return array * 2

def die(how):
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
    elif how == "exit3":
        ctypes.CDLL(None)._exit(3)  # unlike Python's own, which we see
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


def script(case: str) -> str:
    """Return a script that runs a case inside an Executor."""
    return SCRIPT.replace("CASE", case.strip().replace("\n", "\n        "))


def survive(
    openmpi: Mpi, launch: Launch, case: str, ranks: int = 4, seconds: float = 60.0
) -> Outcome:
    """Run a case inside an Executor, on a run that goes on when ranks die."""
    launch.script(script(case))
    words = ["-m", "mpitasks", "-n", str(ranks), "--survive", "script.py"]
    return launch([openmpi.python, *words], seconds=seconds)


WORK = """
doomed_view = ex.with_options(max_crashes=1)
futures = [ex.submit(square, n) for n in range(50)]
doomed = [doomed_view.submit(die, how) for how in HOW]
futures += [ex.submit(square, n) for n in range(50, 200)]
print(sum(future.result() for future in futures) == sum(n * n for n in range(200)))
lost = outcomes(doomed)
print(len(lost), ex.num_workers)
print(lost, file=sys.stderr)
"""

DEATHS = ["SIGKILL", "SIGSEGV", "SIGABRT", "0", "3", "exit3", "SIGSTOP"]


@pytest.mark.parametrize("how", DEATHS)
def test_a_worker_dies_in_a_task(openmpi: Mpi, launch: Launch, how: str) -> None:
    outcome = survive(openmpi, launch, WORK.replace("HOW", repr([how])))
    assert outcome.out == "True\n1 2\n", str(outcome)
    assert outcome.code == 0, str(outcome)
    told = [line for line in outcome.said if line.endswith("; workers left: 2")]
    assert len(told) == 1, str(outcome)


@pytest.mark.parametrize("how", ["SIGKILL", "3", "exit3"])
def test_the_exit_code_is_the_scripts(openmpi: Mpi, launch: Launch, how: str) -> None:
    case = WORK.replace("HOW", repr([how])) + "sys.exit(7)"
    outcome = survive(openmpi, launch, case)
    assert outcome.out == "True\n1 2\n", str(outcome)
    assert outcome.code == 7, str(outcome)


def test_an_exception_after_a_loss(openmpi: Mpi, launch: Launch) -> None:
    case = WORK.replace("HOW", "['SIGKILL']") + "raise LookupError('at last')"
    outcome = survive(openmpi, launch, case)
    assert outcome.code == 1, str(outcome)
    assert "LookupError: at last" in outcome.err, str(outcome)


def test_plain_mpiexec(openmpi: Mpi, launch: Launch) -> None:
    launch.script(script(WORK.replace("HOW", "['SIGKILL']") + "sys.exit(CODE)"))
    mpiexec = [*openmpi.mpiexec(4), "--with-ft", "ulfm", openmpi.python]
    for code in (0, 7):
        text = (launch.folder / "script.py").read_text().replace("CODE", str(code))
        launch.script(text, f"script{code}.py")
        outcome = launch([*mpiexec, "-m", "mpitasks", f"script{code}.py"])
        assert (outcome.code, outcome.out) == (code, "True\n1 2\n"), str(outcome)


def test_down_to_one_worker(openmpi: Mpi, launch: Launch) -> None:
    case = WORK.replace("HOW", "['SIGKILL', 'SIGSEGV']")
    outcome = survive(openmpi, launch, case)
    assert outcome.out == "True\n2 1\n", str(outcome)
    assert outcome.code == 0, str(outcome)


def test_the_only_worker_dies(openmpi: Mpi, launch: Launch) -> None:
    case = """
ex.submit(square, 3).result()
fatal = ex.with_options(max_crashes=1).submit(die, "SIGKILL")
behind = [ex.submit(square, n) for n in range(5)]
print(len(outcomes([fatal])), len(outcomes(behind)), ex.num_workers)
print(len(outcomes([ex.submit(square, 1)])))
sys.exit(4)
"""
    outcome = survive(openmpi, launch, case, ranks=2)
    assert outcome.out == "1 5 0\n1\n", str(outcome)
    assert outcome.code == 4, str(outcome)


def test_all_workers_die(openmpi: Mpi, launch: Launch) -> None:
    case = """
doomed = [ex.submit(die, "SIGKILL") for _ in range(3)]
print(len(outcomes(doomed)), ex.num_workers)
try:
    list(ex.map(square, range(10)))
except mt.WorkerLost as error:
    print("the script goes on")
"""
    outcome = survive(openmpi, launch, case)
    assert outcome.out == "3 0\nthe script goes on\n", str(outcome)
    assert outcome.code == 0, str(outcome)


def test_an_idle_worker_dies(openmpi: Mpi, launch: Launch) -> None:
    case = """
pids = set(ex.map(who, range(60), chunksize=1))
os.kill(sorted(pids)[0], signal.SIGKILL)
while ex.num_workers > 2:
    time.sleep(0.01)  # nothing is submitted meanwhile
print(len(pids), sum(ex.map(square, range(200))))
"""
    outcome = survive(openmpi, launch, case)
    total = sum(n * n for n in range(200))
    assert outcome.out == f"3 {total}\n", str(outcome)
    assert outcome.code == 0, str(outcome)


def test_deaths_while_arrays_travel(openmpi: Mpi, launch: Launch) -> None:
    case = """
import numpy as np
pids = sorted(set(ex.map(who, range(60), chunksize=1)))
data = [np.full(1 << 21, n, np.float64) for n in range(6)]
futures = [ex.submit(double, data[n % 6]) for n in range(60)]
for n, pid in enumerate(pids[:2]):
    futures[n * 10].result()
    os.kill(pid, signal.SIGKILL)
print(all((f.result() == 2 * (n % 6)).all() for n, f in enumerate(futures)))
print(ex.num_workers)
"""
    outcome = survive(openmpi, launch, case)
    assert outcome.out == "True\n1\n", str(outcome)
    assert outcome.code == 0, str(outcome)


@pytest.mark.parametrize("seed", [1, 2])
def test_deaths_at_random(openmpi: Mpi, launch: Launch, seed: int) -> None:
    case = """
import random
dice = random.Random(SEED)
pids = sorted(set(ex.map(who, range(100), chunksize=1)))
futures = [ex.submit(square, n) for n in range(600)]
jobs = ex.map(square, range(600))
for pid in dice.sample(pids, 4):
    for n in dice.sample(range(600), 3):
        futures[n].result()
    os.kill(pid, dice.choice([signal.SIGKILL, signal.SIGSEGV]))
expected = [n * n for n in range(600)]
print([f.result() for f in futures] == expected, list(jobs) == expected)
print(len(pids), ex.num_workers)
"""
    outcome = survive(openmpi, launch, case.replace("SEED", str(seed)), ranks=6)
    assert outcome.out == "True True\n5 1\n", str(outcome)
    assert outcome.code == 0, str(outcome)


def test_the_memory_of_lost_arrays_is_let_go(openmpi: Mpi, launch: Launch) -> None:
    case = """
import gc, weakref
import numpy as np
pids = sorted(set(ex.map(who, range(60), chunksize=1)))
os.kill(pids[0], signal.SIGSTOP)  # so that what is sent to it stays on its way
arrays = [np.ones(1 << 20) for _ in range(8)]
futures = [ex.submit(double, array) for array in arrays]
known = [weakref.ref(array) for array in arrays]
print(all((future.result() == 2).all() for future in futures), ex.num_workers)
del arrays, futures
end = time.monotonic() + 10
while any(ref() is not None for ref in known) and time.monotonic() < end:
    ex.submit(abs, 1).result()
    gc.collect()
print(sum(ref() is not None for ref in known))
"""
    outcome = survive(openmpi, launch, case)
    assert outcome.out == "True 2\n0\n", str(outcome)
    assert outcome.code == 0, str(outcome)


def test_the_executors_contract(openmpi: Mpi, launch: Launch) -> None:
    words = ["-m", "mpitasks", "-n", "3", "--survive", SCRIPTS / "contract.py", "2"]
    outcome = launch([openmpi.python, *words], seconds=110)
    assert outcome.code == 0, str(outcome)
    assert " passed, 0 failed" in outcome.out, str(outcome)


def test_an_mpiexec_that_is_killed(openmpi: Mpi, launch: Launch) -> None:
    launch.script(script("print(os.getppid(), flush=True)\ntime.sleep(600)"))
    words = ["-m", "mpitasks", "-n", "3", "--survive", "script.py"]
    job = launch.start([openmpi.python, *words])
    job.until(lambda: job.output()[0].endswith("\n"), "the script runs")
    os.kill(int(job.output()[0]), signal.SIGKILL)
    outcome = job.finish()
    assert outcome.code == 128 + signal.SIGKILL, str(outcome)
    assert not outcome.left, str(outcome.left)


def test_signals_reach_the_script(openmpi: Mpi, launch: Launch) -> None:
    launch.script(
        script(
            "signal.signal(signal.SIGUSR2, lambda n, f: sys.exit(9))\n"
            "print('ready', flush=True)\nwhile True:\n    time.sleep(0.01)"
        )
    )
    words = ["-m", "mpitasks", "-n", "3", "--survive", "script.py"]
    job = launch.start([openmpi.python, *words])
    job.until(lambda: "ready" in job.output()[0], "the script runs")
    job.process.send_signal(signal.SIGUSR2)
    outcome = job.finish()
    assert outcome.code == 9, str(outcome)
    assert not outcome.left, str(outcome.left)


def test_other_mpis_are_refused(mpi: Mpi, launch: Launch) -> None:
    launch.script("print('never')")
    words = ["-m", "mpitasks", "--survive", "script.py"]
    outcome = launch([*mpi.mpiexec(2), mpi.python, *words])
    assert (outcome.code, outcome.out) == (78, ""), str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "--with-ft ulfm" in outcome.said[0], str(outcome)
    if mpi.name == "mpich":
        outcome = launch([mpi.python, "-m", "mpitasks", "-n", "2", *words[2:]])
        assert (outcome.code, outcome.out) == (78, ""), str(outcome)
        assert "Open MPI 5" in outcome.said[0], str(outcome)


RUN = """
import ctypes, os, signal, sys
import mpitasks as mt

def die(how):
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    ctypes.CDLL(None)._exit(3)

def main(ex):
    doomed = ex.with_options(max_crashes=1).submit(die, HOW)
    print(isinstance(doomed.exception(), mt.WorkerLost), ex.num_workers)
    return sum(ex.map(abs, range(-100, 0)))

total = mt.run(main)
if total is not None:
    print(total, flush=True)
    sys.exit(5)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "exit3"])
def test_a_script_without_the_runner(openmpi: Mpi, launch: Launch, how: str) -> None:
    """It ends, and is never taken for a success."""
    launch.script(RUN.replace("HOW", repr(how)))
    mpiexec, *sizes = openmpi.mpiexec(4)
    command = [mpiexec, "--with-ft", "ulfm", *sizes, openmpi.python, "script.py"]
    outcome = launch(command, seconds=40)
    assert outcome.out == "True 2\n5050\n", str(outcome)
    # Open MPI's mpiexec returns the code of a rank that ended by itself, or ours.
    assert outcome.code in ((5,) if how == "SIGKILL" else (3, 5)), str(outcome)


NESTED = """
import tempfile
folder = tempfile.mkdtemp()
futures = [ex.submit(parent, folder, n) for n in range(20)]
print(sum(future.result() for future in futures), ex.num_workers)
"""

FAMILY = """
def parent(folder, n):
    with mt.Executor() as own:
        return own.submit(child, folder, n).result() + own.submit(square, 0).result()

def child(folder, n):
    if n == 7:
        try:
            os.mkdir(os.path.join(folder, "died"))
        except FileExistsError:
            return n
        os.kill(os.getpid(), signal.SIGKILL)
    return n
"""


def test_a_child_dies_with_its_parent_which_runs_again(
    openmpi: Mpi, launch: Launch
) -> None:
    text = script(NESTED).replace("if __name__", FAMILY + "\nif __name__", 1)
    launch.script(text)
    words = ["-m", "mpitasks", "-n", "4", "--survive", "script.py"]
    outcome = launch([openmpi.python, *words])
    assert outcome.out == f"{sum(range(20))} 2\n", str(outcome)
    assert outcome.code == 0, str(outcome)
