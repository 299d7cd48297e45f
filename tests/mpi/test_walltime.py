"""Runs that end before their time: by the walltime, SIGTERM, SIGUSR1. Code 75."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from launching import Job, Launch, Mpi, Outcome

STOPPED = 75

SCRIPT = """
import concurrent.futures, hashlib, os, pathlib, signal, sys, threading, time
import mpitasks as mt

def work(number, seconds=0.1):
    time.sleep(seconds)
    pathlib.Path(f"done-{number}").touch()
    return number

def other(number):
    return number

def hold(number):
    pathlib.Path(f"busy-{number}").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return number

def occupy(ex):
    futures = [ex.submit(hold, n) for n in range(ex.num_workers + 20)]
    while len(list(pathlib.Path().glob("busy-*"))) < ex.num_workers:
        time.sleep(0.01)
    print("busy", os.getpid(), flush=True)
    return futures

def main():
    BODY

if __name__ == "__main__":
    try:
        main()
    finally:
        print("finally", mt.stopping(), flush=True)
"""


def write(launch: Launch, body: str) -> None:
    lines = body.strip("\n").splitlines()
    launch.script(SCRIPT.replace("BODY", "\n    ".join(lines)))


def batch_job(seconds: int) -> dict[str, str]:
    """Return what SLURM tells a job that may run for so long."""
    end = int(time.time()) + seconds
    return {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(end)}


def done(launch: Launch) -> int:
    return len(list(launch.folder.glob("done-*")))


def assert_stopped(outcome: Outcome, *words: str) -> None:
    """It ended with code 75, `finally` ran, and the last line says these words."""
    assert outcome.code == STOPPED, str(outcome)
    assert "finally True" in outcome.out.splitlines(), str(outcome)
    assert outcome.said[-1].startswith("mpitasks: stopped: "), str(outcome)
    for word in words:
        assert word in outcome.said[-1], str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)
    assert not outcome.left, str(outcome.left)


WAITS = {
    "map": "for y in ex.map(work, range(400), chunksize=1): print(y)",
    "result": "for f in [ex.submit(work, n) for n in range(400)]: print(f.result())",
    "as_completed": (
        "for f in concurrent.futures.as_completed(\n"
        "    [ex.submit(work, n) for n in range(400)]):\n"
        "    print(f.result())"
    ),
    "shutdown": "[ex.submit(work, n) for n in range(400)]",
}


@pytest.mark.parametrize("wait", WAITS)
def test_the_time_limit_ends_a_run(mpi: Mpi, launch: Launch, wait: str) -> None:
    body = "\n    ".join(WAITS[wait].splitlines())
    write(launch, f"with mt.Executor() as ex:\n    {body}")
    # Forty seconds of work, of which there is time for less than half.
    command = mpi.runner(2, "--time-limit", "0:20", "--margin", "5", "script.py")
    outcome = launch(command)
    assert_stopped(outcome, " s of walltime left", f"; {done(launch)} tasks done, ")
    assert 0 < done(launch) < 400
    if wait != "shutdown":
        assert len(outcome.out.split()) - 2 == done(launch)  # no result was lost
    assert len(outcome.said) <= 2, str(outcome)


def test_tasks_that_cannot_finish_are_not_started(mpi: Mpi, launch: Launch) -> None:
    write(
        launch,
        """
with mt.Executor() as ex:
    futures = [ex.with_options(timeout=3600).submit(work, n) for n in range(4)]
    short = [ex.with_options(timeout=1).submit(other, n) for n in range(10, 15)]
    print(sum(f.result() for f in short), mt.time_left() > 100, flush=True)
    futures[0].result()
""",
    )
    outcome = launch(mpi.runner(2, "--time-limit", "10:00", "script.py"))
    assert_stopped(outcome, "of walltime left", "5 tasks done, 4 not started")
    assert outcome.out.startswith("60 True\n")


def test_the_batch_system_tells_the_end(mpi: Mpi, launch: Launch) -> None:
    write(
        launch,
        """
ex = mt.Executor()
left = [mt.time_left(), *ex.map(lambda n: mt.time_left(), range(2))]
print(all(390 < seconds <= 400 for seconds in left), mt.stopping(), flush=True)
ex.with_options(timeout=3600).submit(work, 1).result()
""",
    )
    environ = batch_job(400)
    outcome = launch(mpi.runner(2, "script.py"), environ=environ)
    assert_stopped(outcome, "min of walltime left")
    assert outcome.out.startswith("True False\n")


def squeue(launch: Launch, shell: str) -> dict[str, str]:
    """Return the environment of job 7 whose squeue is this line of shell."""
    program = launch.folder / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncd {launch.folder}\n{shell}\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"SLURM_JOB_ID": "7", "PATH": path}


@pytest.mark.parametrize("stale", [{}, {"SLURM_JOB_END_TIME": "1700000000"}])
def test_a_batch_system_that_does_not_answer(
    any_mpi: Mpi, launch: Launch, stale: dict[str, str]
) -> None:
    write(
        launch,
        "with mt.Executor() as ex:\n"
        "    print(sum(ex.map(work, range(8), chunksize=1)), mt.time_left())",
    )
    environ = {**squeue(launch, "exit 1"), **stale}
    outcome = launch([any_mpi.python, "-m", "mpitasks", "script.py"], environ=environ)
    assert outcome.code == 0, str(outcome)
    assert outcome.out.startswith("28 inf\n"), str(outcome)


def test_an_extended_walltime_is_used(mpi: Mpi, launch: Launch) -> None:
    write(
        launch,
        """
with mt.Executor() as ex:
    print(sum(ex.map(work, range(60), chunksize=1)))
    while True:  # workers know it as well
        if ex.submit(mt.time_left).result() > 3600 and mt.time_left() > 3600:
            break
    print(mt.stopping(), ex.submit(mt.stopping).result())
    ex.with_options(timeout=9000).submit(other, 100).result()
""",
    )
    extended = (
        "if [ -e done-5 ]; then echo 7 RUNNING 2:00:00; else echo 7 RUNNING 0:05; fi"
    )
    outcome = launch(mpi.runner(2, "script.py"), environ=squeue(launch, extended))
    # What still does not fit is not started.
    assert_stopped(outcome, "min of walltime left", " 1 not started")
    assert outcome.out.startswith("1770\nFalse False\n"), str(outcome)
    changed = "mpitasks: the job's walltime was changed: 120 min left"
    assert outcome.said.count(changed) == 1, str(outcome)


def test_a_walltime_that_is_cut(mpi: Mpi, launch: Launch) -> None:
    """The script gets a moment all the same."""
    write(launch, "mt.Executor().map(hold, range(9))\ntime.sleep(60)")
    cut = "if [ -e busy-0 ]; then echo 7 RUNNING 0:00; else echo 7 RUNNING 2:00:00; fi"
    outcome = launch(mpi.runner(2, "script.py"), environ=squeue(launch, cut))
    assert_stopped(outcome, "s of walltime left", "0 tasks done, ")
    assert "mpitasks: the job's walltime was changed: 3 s left" in outcome.said


def test_without_the_runner(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import mpitasks as mt, time\n"
        "def main(ex):\n"
        "    print(ex.submit(abs, -1).result(), flush=True)\n"
        "    ex.with_options(timeout=3600).submit(time.sleep, 0).result()\n"
        "mt.run(main)\n"
    )
    environ = batch_job(400)
    outcome = launch([*mpi.mpiexec(2), mpi.python, "script.py"], environ=environ)
    assert (outcome.code, outcome.out) == (STOPPED, "1\n"), str(outcome)
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "words", [["-m", "mpitasks", "--time-limit", "200"], []], ids=["runner", "plain"]
)
def test_in_one_process(any_mpi: Mpi, launch: Launch, words: list[str]) -> None:
    write(launch, "ex = mt.Executor()\nex.with_options(timeout=3600).submit(work, 1)")
    environ = batch_job(400)
    outcome = launch([any_mpi.python, *words, "script.py"], environ=environ)
    assert outcome.code == STOPPED, str(outcome)
    assert "Traceback" not in outcome.err
    assert "0 tasks done, 1 not started" in outcome.said[-1], str(outcome)


@pytest.mark.parametrize("journal", [[], ["--journal", "kept.journal"]])
def test_requeue_without_a_journal(
    any_mpi: Mpi, launch: Launch, journal: list[str]
) -> None:
    write(launch, "pass")
    words = ["-m", "mpitasks", "--requeue", *journal, "script.py"]
    outcome = launch([any_mpi.python, *words])
    assert outcome.code == 0, str(outcome)
    warned = "warning: --requeue without --journal FILE" in outcome.err
    assert warned == (not journal), str(outcome)


def start_busy(mpi: Mpi, launch: Launch, end: str, *words: str) -> tuple[Job, int]:
    """Start a job whose workers are busy; return it and rank 0's process id."""
    write(launch, f"ex = mt.Executor()\nfutures = occupy(ex)\n{end}")
    job = launch.start(mpi.runner(3, *words, "script.py"))
    job.until(lambda: "busy" in job.output()[0], "all workers are busy")
    return job, int(job.output()[0].split()[1])


ENDS = [
    "futures[-1].result()",
    "concurrent.futures.wait(futures)",
    "list(concurrent.futures.as_completed(futures))",
    "ex.shutdown()",
    "list(ex.map(work, range(100)))",
]


def _sleeps(pid: int) -> bool:
    """Whether the main thread of a process sleeps."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("end", ENDS)
def test_a_signal_lets_running_tasks_finish(
    mpi: Mpi, launch: Launch, end: str, number: signal.Signals
) -> None:
    job, pid = start_busy(mpi, launch, end, "--grace", "60")
    # On its way into a lock, a thread of CPython misses a signal until it wakes.
    job.until(lambda: _sleeps(pid), "the script waits")
    os.kill(pid, number)
    job.until(lambda: "stopping:" in job.output()[1], "it drains")
    (launch.folder / "go").touch()
    outcome = job.finish()
    assert_stopped(outcome, number.name, "2 tasks done, ", "not started")
    assert "cut off" not in outcome.err
    assert len(outcome.said) == 2, str(outcome)


def test_a_signal_after_the_script(mpi: Mpi, launch: Launch) -> None:
    job, pid = start_busy(mpi, launch, "", "--grace", "60")
    job.until(lambda: "finally" in job.output()[0], "the script is over")
    os.kill(pid, signal.SIGTERM)
    job.until(lambda: "stopping:" in job.output()[1], "it drains")
    (launch.folder / "go").touch()
    outcome = job.finish()
    assert outcome.code == STOPPED, str(outcome)
    assert "2 tasks done, 20 not started" in outcome.said[-1], str(outcome)
    assert not outcome.left


@pytest.mark.parametrize("end", [ENDS[0], ENDS[1], "time.sleep(600)"])
def test_the_grace_is_short(mpi: Mpi, launch: Launch, end: str) -> None:
    job, pid = start_busy(mpi, launch, end, "--grace", "0.5")
    os.kill(pid, signal.SIGTERM)
    assert_stopped(job.finish(), "0 tasks done, 2 cut off, 20 not started")


def test_signals_to_mpiexec(mpi: Mpi, launch: Launch) -> None:
    """Open MPI's kills the ranks after half a second when it gets SIGTERM."""
    number = signal.SIGTERM if mpi.name == "mpich" else signal.SIGUSR1
    job, _ = start_busy(mpi, launch, ENDS[0], "--grace", "60")
    job.process.send_signal(number)
    job.until(lambda: "stopping:" in job.output()[1], "it drains")
    (launch.folder / "go").touch()
    assert_stopped(job.finish(), number.name, "2 tasks done, 20 not started")


def test_tasks_are_told_as_well(mpi: Mpi, launch: Launch) -> None:
    write(
        launch,
        """
def improve(number):
    pathlib.Path(f"busy-{number}").touch()
    # Rank 0 gets the signal at another moment, and then has no next task for us.
    while not (mt.stopping() and pathlib.Path("go").exists()):
        time.sleep(0.01)
    return "cut short"

ex = mt.Executor()
future = ex.submit(improve, 0)
later = ex.submit(work, 1)
while not pathlib.Path("busy-0").exists():
    time.sleep(0.01)
print("busy", flush=True)
print(future.result(), flush=True)
later.result()
""",
    )
    job = launch.start(mpi.runner(2, "--grace", "60", "script.py"))
    job.until(lambda: "busy" in job.output()[0], "the task runs")
    job.process.send_signal(signal.SIGUSR1)
    job.until(lambda: "stopping:" in job.output()[1], "it drains")
    (launch.folder / "go").touch()
    outcome = job.finish()
    assert_stopped(outcome, "1 tasks done, 1 not started")
    assert "cut short" in outcome.out


def test_sigterm_twice_ends_at_once(mpi: Mpi, launch: Launch) -> None:
    job, pid = start_busy(mpi, launch, ENDS[0], "--grace", "1000")
    os.kill(pid, signal.SIGTERM)
    job.until(lambda: "stopping:" in job.output()[1], "it drains")
    os.kill(pid, signal.SIGTERM)  # mpiexec passes on what rank 0 has got itself

    def again() -> bool:
        ended = job.process.poll() is not None
        if not ended and "stopped by" not in job.output()[1]:
            os.kill(pid, signal.SIGTERM)
        return ended

    job.until(again, "it ends")
    outcome = job.finish()
    assert outcome.code == 128 + signal.SIGTERM, str(outcome)
    assert outcome.said[-1] == "mpitasks: stopped by SIGTERM", str(outcome)
    assert not outcome.left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_nothing_is_left_to_do(
    mpi: Mpi, launch: Launch, number: signal.Signals
) -> None:
    write(
        launch,
        """
ex = mt.Executor()
print(*ex.map(work, range(2)), flush=True)
print("busy", os.getpid(), flush=True)
time.sleep(600)
""",
    )
    job = launch.start(mpi.runner(2, "script.py"))
    job.until(lambda: "busy" in job.output()[0], "the script sleeps")
    os.kill(int(job.output()[0].split()[3]), number)
    assert_stopped(job.finish(), number.name, "2 tasks done, 0 not started")


def test_a_script_in_code_of_its_own(mpi: Mpi, launch: Launch) -> None:
    """Python code is interrupted at the end, and `finally` blocks run."""
    write(
        launch,
        """
ex = mt.Executor()
print(os.getpid(), *ex.map(work, range(2)), flush=True)
while True:
    pass
""",
    )
    job = launch.start(mpi.runner(2, "--grace", "1", "script.py"))
    job.until(lambda: job.output()[0].endswith("\n"), "the tasks are done")
    os.kill(int(job.output()[0].split()[0]), signal.SIGTERM)
    assert_stopped(job.finish(), "2 tasks done, 0 not started")


@pytest.mark.parametrize("left", ["", "ex.submit(work, 3, 600)"])
def test_a_script_in_c_code(mpi: Mpi, launch: Launch, left: str) -> None:
    """No signal interrupts that: the job is aborted, with the same code.

    Code that keeps the GIL as well would keep us from it, and is left to the batch
    system.
    """
    write(
        launch,
        f"""
ex = mt.Executor()
print(*ex.map(work, range(2)), flush=True)
{left}
hashlib.pbkdf2_hmac("sha1", b"", b"", 2**31 - 1)
""",
    )
    command = mpi.runner(2, "--time-limit", "24", "--margin", "4", "script.py")
    outcome = launch(command)
    assert outcome.code == STOPPED, str(outcome)
    assert "finally" not in outcome.out
    assert outcome.said[-1].startswith("mpitasks: stopped: "), str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)


def test_a_script_that_goes_on_all_the_same(mpi: Mpi, launch: Launch) -> None:
    write(
        launch,
        """
ex = mt.Executor()
futures = occupy(ex)
while True:
    try:
        futures[-1].result()
    except BaseException as stop:
        print(type(stop).__name__, flush=True)
        time.sleep(0.1)
""",
    )
    job = launch.start(mpi.runner(3, "--grace", "1", "script.py"))
    job.until(lambda: "busy" in job.output()[0], "all workers are busy")
    os.kill(int(job.output()[0].split()[1]), signal.SIGTERM)
    outcome = job.finish()
    assert outcome.code == STOPPED, str(outcome)
    assert "Stopped" in outcome.out


def test_a_script_with_handlers_of_its_own(mpi: Mpi, launch: Launch) -> None:
    write(
        launch,
        """
signal.signal(signal.SIGTERM, lambda number, frame: os.write(1, b"mine\\n"))
ex = mt.Executor()
futures = occupy(ex)
print(sum(future.result() for future in futures), flush=True)
""",
    )
    job = launch.start(mpi.runner(3, "script.py"))
    job.until(lambda: "busy" in job.output()[0], "all workers are busy")
    os.kill(int(job.output()[0].split()[1]), signal.SIGTERM)
    job.until(lambda: "mine" in job.output()[0], "the script's handler ran")
    (launch.folder / "go").touch()
    outcome = job.finish()
    assert outcome.code == 0, str(outcome)
    assert outcome.out.endswith(f"{sum(range(22))}\nfinally False\n"), str(outcome)
