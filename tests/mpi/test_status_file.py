"""``--status FILE`` outside of SLURM: while a run goes on, and how it ended."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from launching import Launch, Mpi
from mpitasks.observe.status import describe, is_stale, read

SCRIPT = """
import os, sys, time
import mpitasks as mt

def work(x):
    time.sleep(0.01 if x else 60)

with mt.Executor() as ex:
    list(ex.map(abs, range(100)))
    if "odd" in sys.argv:
        again = ex.with_options(retries=2, return_exceptions=True)
        list(again.map(abs, [*range(7), "odd", "even"], chunksize=3))
        list(ex.map(abs, [*range(9), "odd"]))
    if "wait" in sys.argv:
        print("pid", os.getpid(), flush=True)
        list(ex.map(work, [1] * 10 + [0] * 9, chunksize=1))
"""


def state(path: Path) -> tuple[str, int | None]:
    """Return what the file says of a run; ("", None) while there is none."""
    if not path.exists():
        return "", None
    status = read(str(path))
    return status.state, status.code


def test_last_words(launch: Launch, mpi: Mpi) -> None:
    script = launch.script(SCRIPT)
    outcome = launch(mpi.runner(3, "--status", "run.status", script))
    assert (outcome.code, outcome.err) == (0, ""), str(outcome)
    status = read(str(launch.folder / "run.status"))
    assert (status.state, status.code) == ("finished", 0)
    assert (status.done, status.waiting, status.workers) == (100, 0, 2)
    assert (status.job, status.end) == (None, None)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_failed_run_says_so(launch: Launch, any_mpi: Mpi, ranks: int) -> None:
    script = launch.script(SCRIPT)
    command = any_mpi.runner(ranks, "--status", "run.status", script, "odd")
    outcome = launch(command)
    assert outcome.code == 1, str(outcome)
    status = read(str(launch.folder / "run.status"))
    assert (status.state, status.code) == ("failed", 1)
    assert (status.done, status.failed, status.waiting) == (100 + 7 + 9, 3, 0)


def test_a_run_that_is_told_to_stop(launch: Launch, mpi: Mpi) -> None:
    script = launch.script(SCRIPT)
    path = launch.folder / "run.status"
    words = ["--status", path, "--grace", "4", script, "wait"]
    job = launch.start(mpi.runner(3, *words), seconds=60)
    job.until(lambda: state(path) == ("running", None), "the run tells of itself")
    job.until(lambda: read(str(path)).running > 0, "a task runs")
    pid = int(job.output()[0].split()[1])
    launch([sys.executable, "-c", f"import os; os.kill({pid}, {signal.SIGTERM})"])
    job.until(lambda: state(path) == ("draining", None), "it drains")
    outcome = job.finish()
    assert outcome.code == 75, str(outcome)
    assert state(path) == ("stopped", 75)


def test_without_rank_0_there_is_no_news(launch: Launch, any_mpi: Mpi) -> None:
    script = launch.script(SCRIPT)
    path = launch.folder / "run.status"
    words = ["--status", path, script, "wait"]
    job = launch.start(any_mpi.runner(3, *words), seconds=60)
    job.until(lambda: state(path) == ("running", None), "the run tells of itself")
    job.until(lambda: read(str(path)).running > 0, "a task runs")
    pid = int(job.output()[0].split()[1])
    launch([sys.executable, "-c", f"import os; os.kill({pid}, {signal.SIGKILL})"])
    assert job.finish().code != 0
    status = read(str(path))
    later = status.written + 60.0
    assert is_stale(status, later)
    assert f"gone: rank 0 (pid {pid} on " in describe(status, later)[0]


def test_an_impossible_place_does_not_harm_the_run(launch: Launch, mpi: Mpi) -> None:
    script = launch.script(SCRIPT)
    outcome = launch(mpi.runner(2, "--status", "none/run.status", script))
    assert outcome.code == 0, str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "no status file" in outcome.said[0]


def test_what_the_verb_prints(launch: Launch, any_mpi: Mpi) -> None:
    script = launch.script(SCRIPT)
    outcome = launch(any_mpi.runner(2, "--status", "run.status", script))
    assert outcome.code == 0, str(outcome)
    verb = [any_mpi.python, "-m", "mpitasks", "status", "run.status"]
    shown = launch(verb)
    assert shown.code == 0, str(shown)
    assert "finished with exit code 0" in shown.out
    assert "tasks: 100 done, 0 running, 0 failed, 0 waiting, of 100" in shown.out
    told = json.loads(launch([*verb, "--json"]).out)
    assert (told["state"], told["done"]) == ("finished", 100)
