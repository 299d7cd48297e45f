"""`mpitasks.start`: a script outside of MPI has workers, and survives their death."""

from __future__ import annotations

import signal

import pytest

from launching import SCRIPTS, Launch, Mpi

ENDLESS = """\
import time, mpitasks
executor = mpitasks.start(2)
isolated = executor.with_options(isolate=True).submit(time.sleep, 600.0)
futures = [executor.submit(time.sleep, 600.0) for _ in range(3)]
executor.submit(print, "never")
while not isolated.running():
    time.sleep(0.01)
print("ready", flush=True)
"""

WAITING = ENDLESS + "futures[0].result()\n"
BUSY = ENDLESS + "while True: pass\n"


def test_a_script_that_starts_its_workers(mpi: Mpi, launch: Launch) -> None:
    script = SCRIPTS / "outside.py"
    outcome = launch([mpi.python, script, mpi.name], seconds=60)
    assert outcome.code == 0, str(outcome)
    assert outcome.out.endswith("all parts ran\n"), str(outcome)
    assert outcome.unforeseen == "", str(outcome)


@pytest.mark.parametrize("text", [WAITING, BUSY], ids=["waiting", "busy"])
def test_a_killed_script_leaves_nothing(mpi: Mpi, launch: Launch, text: str) -> None:
    job = launch.start([mpi.python, launch.script(text)])
    job.until(lambda: "ready" in job.output()[0], "it was ready")
    job.process.kill()
    outcome = job.finish()
    assert outcome.left == [], str(outcome)
    assert outcome.code == -signal.SIGKILL


def test_an_interrupted_script_leaves_nothing(any_mpi: Mpi, launch: Launch) -> None:
    """As a terminal does it: mpiexec is not in the script's process group."""
    job = launch.start([any_mpi.python, launch.script(WAITING)])
    job.until(lambda: "ready" in job.output()[0], "it was ready")
    job.signal_group(signal.SIGINT)
    outcome = job.finish()
    assert outcome.left == [], str(outcome)
    assert outcome.code == -signal.SIGINT
    assert outcome.err.endswith("KeyboardInterrupt\n"), str(outcome)


def test_a_script_that_forgets_to_shut_down(any_mpi: Mpi, launch: Launch) -> None:
    """What was submitted is done, as with the executors of the standard library."""
    script = launch.script(
        "import mpitasks, time\n"
        "executor = mpitasks.start(1)\n"
        "executor.submit(time.sleep, 0.2)\n"
        "executor.submit(print, 'done')\n"
    )
    outcome = launch([any_mpi.python, script])
    assert (outcome.code, outcome.out) == (0, "done\n"), str(outcome)
    assert outcome.unforeseen == "", str(outcome)


def test_in_a_run_there_is_nothing_to_start(any_mpi: Mpi, launch: Launch) -> None:
    script = launch.script("import mpitasks; mpitasks.start(2)")
    outcome = launch(any_mpi.runner(2, script))
    assert outcome.code == 1, str(outcome)
    assert "already started this process: use mpitasks.Executor()" in outcome.err


def test_after_an_executor_in_this_process(any_mpi: Mpi, launch: Launch) -> None:
    script = launch.script(
        "import mpitasks\nmpitasks.Executor(max_workers=7)\nmpitasks.start(2)\n"
    )
    outcome = launch([any_mpi.python, script])
    assert outcome.code == 1, str(outcome)
    assert "call mpitasks.start first" in outcome.err
    assert "-n 8" in outcome.said[0], "as many workers as were asked for"


def test_a_repl_does_not_wait_at_its_end(any_mpi: Mpi, launch: Launch) -> None:
    launch.script(ENDLESS)
    command = f"{any_mpi.python} -i script.py < /dev/null"
    outcome = launch(["sh", "-c", command])
    assert outcome.code == 0, str(outcome)
    assert "ready" in outcome.out
