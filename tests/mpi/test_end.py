"""How a run ends: after errors, with work left, by signals. Nothing stays behind."""

from __future__ import annotations

import signal

import pytest

from launching import Job, Launch, Mpi

BUSY = """
import os, pathlib, sys, threading, time
import mpitasks as mt

def sleep(number):
    pathlib.Path(f"busy-{number}").touch()
    time.sleep(600)

def compute(number):
    pathlib.Path(f"busy-{number}").touch()
    sum(range(10**13))  # in C code, which no signal interrupts

def occupy(work):
    ex = mt.Executor()
    futures = [ex.submit(work, n) for n in range(ex.num_workers)]
    while len(list(pathlib.Path().glob("busy-*"))) < ex.num_workers:
        time.sleep(0.01)
    return ex, futures

if __name__ == "__main__":
    ex, futures = occupy(WORK)
    END
"""


def busy(launch: Launch, end: str, work: str = "sleep") -> None:
    """Write a script that makes all workers busy for long, and then ends so."""
    launch.script(BUSY.replace("WORK", work).replace("END", end))


@pytest.mark.parametrize("work", ["sleep", "compute"])
def test_exception_while_workers_are_busy(mpi: Mpi, launch: Launch, work: str) -> None:
    busy(launch, "raise LookupError('lost')", work)
    outcome = launch(mpi.runner(3, "script.py"))
    assert outcome.code == 1, str(outcome)
    assert outcome.err.count("Traceback") == 1, str(outcome)
    own = [line for line in outcome.err.splitlines() if not line.startswith("Abort(")]
    if mpi.name == "mpich":
        assert own[-1] == "LookupError: lost", str(outcome)
    else:
        assert "LookupError: lost" in own, str(outcome)


def test_exit_code_while_workers_are_busy(mpi: Mpi, launch: Launch) -> None:
    busy(launch, "sys.exit(5)")
    outcome = launch(mpi.runner(3, "script.py"))
    assert outcome.code == 5, str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)


def test_threads_that_go_on_after_the_script(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import threading\n"
        "import mpitasks as mt\n"
        "ended = threading.Event()\n"
        "def work(n):\n"
        "    return n * factor\n"
        "def later():\n"
        "    ended.wait()\n"
        "    print(sum(ex.map(work, range(100))), ex.submit(work, 2).result())\n"
        "factor = 2\n"
        "ex = mt.Executor()\n"
        "threading.Thread(target=later).start()\n"
        "ended.set()\n"
    )
    for command in (mpi.runner(3, "script.py"), [mpi.python, "script.py"]):
        outcome = launch(command)
        assert (outcome.code, outcome.out) == (0, "9900 4\n"), str(outcome)


def test_work_left_at_the_end_is_done(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import pathlib\n"
        "import mpitasks as mt\n"
        "def work(n):\n"
        "    pathlib.Path(f'done-{n}').touch()\n"
        "ex = mt.Executor()\n"
        "futures = [ex.submit(work, n) for n in range(30)]\n"
        "futures[-1].add_done_callback(lambda f: print('called', flush=True))\n"
    )
    for command in (mpi.runner(3, "script.py"), [mpi.python, "script.py"]):
        outcome = launch(command)
        assert (outcome.code, outcome.out) == (0, "called\n"), str(outcome)
        done = list(launch.folder.glob("done-*"))
        assert len(done) == 30
        for path in done:
            path.unlink()


def test_script_without_any_executor(mpi: Mpi, launch: Launch) -> None:
    launch.script("print('nothing to do')")
    outcome = launch(mpi.runner(2, "script.py"))
    assert (outcome.code, outcome.out) == (0, "nothing to do\n"), str(outcome)
    assert outcome.unforeseen == ""


def start_busy(
    mpi: Mpi, launch: Launch, where: str, work: str, *words: str
) -> tuple[Job, int]:
    """Start a job whose workers are busy; return it and rank 0's process id."""
    busy(launch, f"print('busy', os.getpid(), flush=True); {where}", work)
    job = launch.start(mpi.runner(3, *words, "script.py"))
    job.until(lambda: "\n" in job.output()[0], "all workers are busy")
    return job, int(job.output()[0].split()[1])


def assert_stopped(job: Job, name: str, mpi: Mpi) -> None:
    """It ends with one line from mpitasks, and leaves nothing behind.

    Open MPI's mpiexec forwards no output any more once it was interrupted itself; it
    sends SIGTERM to the ranks then, and takes them down half a second later.
    """
    outcome = job.finish()
    if mpi.name == "openmpi" and name == "SIGINT":
        assert all("SIGTERM" in line for line in outcome.said), str(outcome)
    else:
        assert outcome.said == [f"mpitasks: stopped by {name}"], str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)
    assert outcome.code != 0, str(outcome)
    assert not outcome.left, str(outcome.left)


WAITS = ["futures[0].result()", "time.sleep(600)", "threading.Event().wait()"]


@pytest.mark.parametrize("where", WAITS)
def test_interrupt_while_the_script_waits(mpi: Mpi, launch: Launch, where: str) -> None:
    job, _ = start_busy(mpi, launch, where, "sleep")
    job.signal_group(signal.SIGINT)
    assert_stopped(job, "SIGINT", mpi)


def test_interrupt_while_workers_compute(mpi: Mpi, launch: Launch) -> None:
    where = "list(ex.map(compute, [7]))"
    job, _ = start_busy(mpi, launch, where, "compute")
    job.signal_group(signal.SIGINT)
    assert_stopped(job, "SIGINT", mpi)


def test_interrupt_inside_with(mpi: Mpi, launch: Launch) -> None:
    where = "ex.__enter__(); ex.submit(sleep, 99)\n    with ex: futures[0].result()"
    job, _ = start_busy(mpi, launch, where, "sleep")
    job.signal_group(signal.SIGINT)
    assert_stopped(job, "SIGINT", mpi)


def test_terminate_mpiexec(mpi: Mpi, launch: Launch) -> None:
    job, _ = start_busy(mpi, launch, "futures[0].result()", "sleep", "--grace", "1")
    job.process.terminate()
    outcome = job.finish()
    assert "Traceback" not in outcome.err, str(outcome)
    assert outcome.code != 0, str(outcome)
    assert not outcome.left, str(outcome.left)


def test_interrupt_of_idle_workers(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import mpitasks as mt, time\n"
        "ex = mt.Executor()\n"
        "print(ex.submit(abs, -1).result(), flush=True)\n"
        "time.sleep(600)\n"
    )
    job = launch.start(mpi.runner(3, "script.py"))
    job.until(lambda: "1\n" in job.output()[0], "the script waits")
    job.signal_group(signal.SIGINT)
    assert_stopped(job, "SIGINT", mpi)


def test_script_may_handle_the_interrupt(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import mpitasks as mt, os, signal, time\n"
        "with mt.Executor() as ex:\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n"
        "        print('caught', ex.submit(abs, -1).result())\n"
    )
    outcome = launch(mpi.runner(3, "script.py"))
    assert (outcome.code, outcome.out) == (0, "caught 1\n"), str(outcome)


def test_interrupt_in_one_process(any_mpi: Mpi, launch: Launch) -> None:
    busy(launch, "print('busy', flush=True); futures[0].result()")
    job = launch.start([any_mpi.python, "-m", "mpitasks", "script.py"])
    job.until(lambda: "busy" in job.output()[0], "the task runs")
    job.signal_group(signal.SIGINT)
    outcome = job.finish()
    assert outcome.said[-1] == "mpitasks: stopped by SIGINT", str(outcome)
    assert outcome.code == 128 + signal.SIGINT
    assert "Traceback" not in outcome.err


RAISES = """
import pathlib, sys, time
import mpitasks as mt


def wait(number):
    while not pathlib.Path("go").exists():
        time.sleep(0.01)


def library():
    with mt.Executor() as executor:
        futures = [executor.submit(wait, n) for n in range(7)]
        END


def main():
    library()


if __name__ == "__main__":
    main()
"""

TOLD = """\
Traceback (most recent call last):
  File "FILE", line 22, in <module>
    main()
  File "FILE", line 18, in main
    library()
  File "FILE", line 14, in library
    raise LookupError('lost')
LookupError: lost
mpitasks: waiting for 7 tasks, Ctrl-C to drop them
"""


@pytest.mark.parametrize("ranks", [0, 2])
def test_what_is_raised_is_told_before_tasks_are_done(
    mpi: Mpi, launch: Launch, ranks: int
) -> None:
    script = launch.script(RAISES.replace("END", "raise LookupError('lost')"))
    job = launch.start(mpi.runner(ranks, script) if ranks else [mpi.python, script])
    told = TOLD.replace("FILE", str(script))
    job.until(lambda: told in job.output()[1], "it was told")
    (launch.folder / "go").touch()
    outcome = job.finish()
    last = "the script ended with the exception above, LookupError: lost"
    assert outcome.said[-1] == f"mpitasks: {last}", outcome
    assert outcome.err.count("Traceback") == 1, outcome
    assert outcome.code == 1, outcome
    assert not outcome.left


def test_an_exit_waits_and_says_so(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(RAISES.replace("END", "sys.exit(3)"))
    job = launch.start(mpi.runner(2, script))
    job.until(lambda: "waiting for 7 tasks" in job.output()[1], "it was told")
    (launch.folder / "go").touch()
    outcome = job.finish()
    assert outcome.code == 3, outcome
    assert "Traceback" not in outcome.err


def test_tasks_that_are_waited_for_can_be_dropped(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(RAISES.replace("END", "raise LookupError('lost')"))
    job = launch.start(mpi.runner(2, script))
    job.until(lambda: "waiting for 7 tasks" in job.output()[1], "it was told")
    job.signal_group(signal.SIGINT)
    outcome = job.finish()
    assert outcome.code != 0, outcome
    assert outcome.err.count("Traceback") == 1, outcome
    assert not outcome.left


QUIET = """
import sys
import mpitasks as mt

if "hook" in sys.argv:
    sys.excepthook = lambda kind, error, trace: print("hook:", repr(error), flush=True)
try:
    with mt.Executor() as executor:
        executor.submit(abs, -1)
        raise LookupError("handled")
except LookupError:
    pass
with mt.Executor() as executor:
    executor.submit(abs, -1)
    raise LookupError("lost")
"""


@pytest.mark.parametrize("word", ["", "hook"])
def test_nothing_is_told_twice(mpi: Mpi, launch: Launch, word: str) -> None:
    outcome = launch(mpi.runner(2, launch.script(QUIET), word))
    assert outcome.code == 1, outcome
    assert "handled" not in outcome.err
    assert outcome.said == []
    assert outcome.out == ("hook: LookupError('lost')\n" if word else "")
    assert outcome.err.count("Traceback") == (0 if word else 1)


CLOSED = """
import sys
import mpitasks as mt

assert sys.stdout is None
with mt.Executor() as executor:
    assert executor.submit(abs, -1).result() == 1
sys.exit(4)
"""


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("ranks", [0, 2])
def test_standard_streams_may_be_closed(
    mpi: Mpi, launch: Launch, ranks: int, closed: str
) -> None:
    script = launch.script(CLOSED)
    command = f'exec "{mpi.python}" -m mpitasks "{script}" {closed}'
    shell = ["sh", "-c", command]
    outcome = launch([*mpi.mpiexec(ranks), *shell] if ranks else shell)
    assert outcome.code == 4, outcome
    assert "Error" not in outcome.err, outcome
