"""A rank dies where the MPI does not survive that: the run ends at once, and says why.

And nobody outlives rank 0, where the MPI survives as well.
"""

from __future__ import annotations

import os
import signal

import pytest

from launching import Job, Launch, Mpi, Outcome

DIE = """
import ctypes, os, signal, time
import mpitasks as mt

def work(n):
    time.sleep(0.005)

def die(how):
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
    elif how.startswith("C"):
        ctypes.CDLL(None)._exit(int(how[1:]))  # unlike Python's own, which we see
    os._exit(int(how))

if __name__ == "__main__":
    with mt.Executor() as ex:
        futures = [ex.submit(work, n) for n in range(50)]
        ex.with_options(label="the bad one").submit(die, HOW).result()
    print("never")
"""

LOUD = ["SIGSEGV", "SIGABRT"]
"""Deaths that print the Python traceback of the dying rank."""


def die(mpi: Mpi, launch: Launch, how: str, *extra: str) -> Outcome:
    """Let a worker die in a task."""
    launch.script(DIE.replace("HOW", repr(how)))
    mpiexec, *sizes = mpi.mpiexec(3)
    command = [mpiexec, *extra, *sizes, mpi.python, "-m", "mpitasks", "script.py"]
    outcome = launch(command, seconds=40)
    assert "never" not in outcome.out, str(outcome)
    return outcome


def told(outcome: Outcome) -> str:
    """Return what rank 0 said of the loss."""
    lines = [line for line in outcome.said if "the run ends with it" in line]
    assert len(lines) == 1, str(outcome)
    return lines[0]


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGABRT", "0", "3"])
def test_a_worker_dies(mpi: Mpi, launch: Launch, how: str) -> None:
    """MPICH's mpiexec kills rank 0 as well, mostly before it can say anything."""
    outcome = die(mpi, launch, how)
    assert outcome.code != 0, str(outcome)
    if mpi.name == "openmpi":
        assert "'the bad one': die" in told(outcome), str(outcome)
        assert "rank" in told(outcome)
    if how in LOUD:
        assert "in die" in outcome.err, str(outcome)
    if how in ("0", "3"):
        assert f"a task called os._exit({how})" in outcome.err, str(outcome)


@pytest.mark.parametrize("how", ["C3", "C1"])
def test_a_worker_ends_by_itself(mpi: Mpi, launch: Launch, how: str) -> None:
    assert die(mpi, launch, how).code != 0


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "0", "C3", "C0"])
def test_mpich_without_its_cleanup(launch: Launch, mpich: Mpi, how: str) -> None:
    """Its mpiexec still ends the run some 0.1 s after a death by a signal."""
    outcome = die(mpich, launch, how, "-disable-auto-cleanup")
    number = getattr(signal, how if how.startswith("SIG") else "SIGKILL")
    # With 255 Hydra itself has failed: its proxy could not write to the dead rank.
    assert outcome.code in (69, number, 255), str(outcome)
    # Rank 0 has said so before it ended, but Hydra may end without forwarding it.
    if outcome.said and how.startswith("C"):
        assert "'the bad one': die" in told(outcome), str(outcome)


BUSY = """
import os, pathlib, time
import mpitasks as mt

def sleep(n):
    pathlib.Path(f"busy-{n}").touch()
    time.sleep(600)

def compute(n):
    pathlib.Path(f"busy-{n}").touch()
    sum(range(10**13))  # in C code that keeps Python's global lock

if __name__ == "__main__":
    ex = mt.Executor()
    futures = [ex.submit(WORK, n) for n in range(ex.num_workers)]
    while len(list(pathlib.Path().glob("busy-*"))) < len(futures):
        time.sleep(0.01)
    print(os.getpid(), flush=True)
    time.sleep(600)
"""

IDLE = """
import os, time
import mpitasks as mt

if __name__ == "__main__":
    ex = mt.Executor()
    ex.submit(abs, 1).result()
    print(os.getpid(), flush=True)
    time.sleep(600)
"""

SCRIPTS = {
    "sleep": BUSY.replace("WORK", "sleep"),
    "compute": BUSY.replace("WORK", "compute"),
    "idle": IDLE,
}


def kill_rank_0(job: Job, number: signal.Signals) -> Outcome:
    """Kill rank 0, once the workers are as they should be; all must end soon."""
    job.until(lambda: "\n" in job.output()[0], "the workers are ready")
    os.kill(int(job.output()[0]), number)
    outcome = job.finish()
    assert outcome.code != 0, str(outcome)
    assert not outcome.left, f"{outcome.left}\n{outcome}"
    return outcome


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("work", SCRIPTS)
def test_rank_0_dies(
    mpi: Mpi, launch: Launch, work: str, number: signal.Signals
) -> None:
    launch.script(SCRIPTS[work])
    kill_rank_0(launch.start(mpi.runner(3, "script.py")), number)


@pytest.mark.parametrize("work", SCRIPTS)
@pytest.mark.parametrize("by", ["mpiexec", "mpitasks"])
def test_rank_0_dies_where_ranks_may(
    openmpi: Mpi, launch: Launch, by: str, work: str
) -> None:
    launch.script(SCRIPTS[work])
    python = [openmpi.python, "-m", "mpitasks"]
    if by == "mpitasks":
        command = [*python, "-n", "3", "--survive", "script.py"]
    else:
        command = [*openmpi.mpiexec(3), "--with-ft", "ulfm", *python, "script.py"]
    kill_rank_0(launch.start(command), signal.SIGKILL)


@pytest.mark.parametrize("work", ["sleep", "idle"])
def test_rank_0_dies_and_mpich_leaves_the_others(
    launch: Launch, mpich: Mpi, work: str
) -> None:
    launch.script(SCRIPTS[work])
    mpiexec, *sizes = mpich.mpiexec(3)
    python = [mpich.python, "-m", "mpitasks", "script.py"]
    job = launch.start([mpiexec, "-disable-auto-cleanup", *sizes, *python])
    kill_rank_0(job, signal.SIGKILL)


def test_rank_0_leaves_by_os_exit(mpi: Mpi, launch: Launch) -> None:
    text = SCRIPTS["sleep"]
    at = text.rindex("time.sleep(600)")
    launch.script(text[:at] + "os._exit(5)\n")
    outcome = launch(mpi.runner(3, "script.py"))
    assert outcome.code != 0, str(outcome)
