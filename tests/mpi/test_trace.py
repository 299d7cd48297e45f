"""``--trace FILE``: of runs that end well, badly, too early or not at all."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from launching import Launch, Mpi, Outcome
from mpitasks.observe.trace import read
from trace_format import check_format

SCRIPT = """
import operator, os, sys, time
import mpitasks as mt

def work(x):
    if x == "die":
        os.kill(os.getpid(), 9)
    time.sleep(1000 if x == "wait" else 0.001)
    return x

with mt.Executor(label="work") as ex:
    list(ex.map(work, range(50), chunksize=1))
    first = ex.with_options(label="add").submit(work, 1)
    total = ex.with_options(label="add").submit(operator.add, first, first)
    print(total.result(), flush=True)
    again = ex.with_options(retries=2, return_exceptions=True, label="odd")
    again.submit(abs, "odd").exception()
    if sys.argv[1:]:
        print("pid", os.getpid(), flush=True)
        list(ex.map(work, sys.argv[1:], chunksize=1))
    if sys.argv[1:] == ["fail"]:
        raise ValueError("fail")
"""


def trace_of(launch: Launch, outcome: Outcome) -> dict[str, Any]:
    path = launch.folder / "run.json.gz"
    assert path.exists(), str(outcome)
    return read(str(path))


def check(trace: dict[str, Any], workers: int) -> None:
    """Look whether what surely happened is there, and all of it is shown."""
    check_format(trace)
    tasks = [event for event in trace["traceEvents"] if event.get("cat") == "task"]
    labels = [event["name"] for event in tasks]
    assert sum(e["args"].get("tasks", 1) for e in tasks if e["name"] == "work") >= 50
    assert labels.count("add") == 2
    attempts = [e["args"].get("attempt", 1) for e in tasks if e["name"] == "odd"]
    assert sorted(attempts) == [1, 2, 3]
    names = [event["name"] for event in trace["traceEvents"] if event["ph"] == "i"]
    assert names.count("retry") == 2
    summary = trace["otherData"]
    assert summary["workers"] == workers
    assert [each[:3] for each in summary["failures"]] == [["TypeError", 1, 2]]


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_that_ends_well(launch: Launch, any_mpi: Mpi, ranks: int) -> None:
    command = any_mpi.runner(ranks, "--trace", "run.json.gz", launch.script(SCRIPT))
    if ranks == 1:
        command = command[command.index(str(any_mpi.python)) :]
    outcome = launch(command)
    assert outcome.code == 0, str(outcome)
    trace = trace_of(launch, outcome)
    check(trace, max(ranks - 1, 1))
    assert trace["otherData"]["code"] == 0
    assert trace["otherData"]["tasks"] == 50 + 2 + 3


def test_a_run_that_fails(launch: Launch, mpi: Mpi) -> None:
    script = launch.script(SCRIPT)
    outcome = launch(mpi.runner(3, "--trace", "run.json.gz", script, "fail"))
    assert outcome.code == 1, str(outcome)
    trace = trace_of(launch, outcome)
    check(trace, 2)
    assert trace["otherData"]["code"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped(
    launch: Launch, any_mpi: Mpi, number: signal.Signals
) -> None:
    script = launch.script(SCRIPT)
    words = ["--trace", "run.json.gz", "--grace", "1", script, "wait"]
    job = launch.start(any_mpi.runner(3, *words))
    job.until(lambda: "pid" in job.output()[0], "the last task is submitted")
    pid = int(job.output()[0].split()[-1])
    launch([sys.executable, "-c", f"import os; os.kill({pid}, {number.value})"])
    outcome = job.finish()
    assert outcome.code != 0
    trace = trace_of(launch, outcome)
    check(trace, 2)
    assert trace["otherData"]["code"] in (75, 130)
    assert trace["otherData"]["unfinished"] == 1
    (left,) = (e for e in trace["traceEvents"] if e.get("cat") == "unfinished")
    assert (left["name"], left["args"]) == ("work", {"unfinished": 1})


def test_a_run_whose_walltime_is_over(launch: Launch, any_mpi: Mpi) -> None:
    script = launch.script(SCRIPT)
    limit = ["--time-limit", "6", "--margin", "1"]
    words = ["--trace", "run.json.gz", *limit, script, "wait"]
    outcome = launch(any_mpi.runner(3, *words))
    assert outcome.code == 75, str(outcome)
    trace = trace_of(launch, outcome)
    names = [event["name"] for event in trace["traceEvents"] if event["ph"] == "i"]
    assert "nothing new is started" in names


def test_a_run_that_a_rank_does_not_survive(launch: Launch, openmpi: Mpi) -> None:
    """MPICH's mpiexec often kills rank 0 before that can do anything."""
    script = launch.script(SCRIPT)
    outcome = launch(openmpi.runner(3, "--trace", "run.json.gz", script, "die"))
    assert outcome.code != 0
    trace = trace_of(launch, outcome)
    assert trace["otherData"]["code"] == 69


def test_what_is_not_ours_is_refused_before_the_script(
    launch: Launch, any_mpi: Mpi
) -> None:
    script = launch.script("print('ran')")
    path = launch.folder / "results.npy"
    path.write_text("of a year")
    for name, why in (
        ("results.npy", "was not written by mpitasks"),
        ("none/run.json", "nothing can be written to"),
    ):
        outcome = launch(any_mpi.runner(2, "--trace", name, script))
        assert outcome.code == 78, str(outcome)
        assert any(why in line for line in outcome.said), str(outcome)
        assert "ran" not in outcome.out
    assert path.read_text() == "of a year"
