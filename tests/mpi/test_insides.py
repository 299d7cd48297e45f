"""Tasks that play with what is ours in their process: that costs them, not the run.

The acts are in `scripts/insides.py`. All isolated ones share a launch, since none may
disturb the next; of those that are not isolated, each may end its rank.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launching import SCRIPTS, Launch, Mpi

SCRIPT = SCRIPTS / "insides.py"

ITEM = {"done", "TaskCrashed", "RuntimeError", "RemoteError"}
"""What may become of an item that plays: it may be done before it is killed."""

ISOLATED = {
    "write junk": "done",
    "write pickles": "done",
    "write nothing": "done",
    "forge a block": "done",
    "forge a shrunk block": "done",
    "close all": "TaskCrashed",
    "replace all": "TaskCrashed",
    "replace by sockets": "TaskCrashed",
    "read all": "done",
    "shrink memory": "done",
    "scribble 0": "done",
    "scribble 255": "done",
    "scribble on results": "done",
    "scribble for ever": "done",
    "scribble by gc": "done",
    "pickle.dumps None": "done",
    "pickle.loads junk": "done",
    "pickle.dumps junk": "done",
    "pickle.Pickler None": "done",
    "no pickle": "done",
    "no modules": "done",
    "no reducers": "done",
    "len None": "TaskCrashed",
    "len junk": "done",
    "isinstance junk": "done",
    "BaseException None": "done",
    "print None": "done",
    "import None": "done",
    "monotonic None": "done",
    "monotonic 0": "done",
    "monotonic_ns 0": "done",
    "perf_counter None": "done",
    "sleep None": "done",
    "Lock None": "done",
    "Event None": "done",
    "Thread None": "done",
    "get_ident None": "done",
    "os.write None": "done",
    "os.getpid 1": "done",
    "no streams": "done",
    "no recursion": "done",
    "no files": "done",
    "no memory": "done",
    "no folder": "done",
    "no signals": "done",
    "no gc": "done",
    "trace": "RuntimeError",
    "profile": "RuntimeError",
    "exit": "TaskCrashed",
    "kill the server": "TaskCrashed",
    "stop the server": "done",
    "trace the server": "done",
    "lock threads": "done",
}
"""What becomes of each act, as an isolated call."""


PLAIN = [
    "pickle.dumps None",
    "pickle.loads junk",
    "pickle.dumps junk",
    "pickle.Pickler None",
    "no reducers",
    "print None",
    "monotonic None",
    "monotonic 0",
    "monotonic_ns 0",
    "sleep None",
    "Lock None",
    "Event None",
    "Thread None",
    "get_ident None",
    "os.getpid 1",
    "no signals",
    "no gc",
    "trace",
    "profile",
    "os.write None",
    "no folder",
    "no streams",
]
"""What a rank goes on after, and ends after, also if it all happens to one."""

RUINS = {
    "len None": "replaced what mpitasks needs: builtins.len",
    "len junk": "has replaced what mpitasks needs",
    "isinstance junk": "replaced what mpitasks needs: builtins.isinstance",
    "import None": "replaced what mpitasks needs: builtins.__import__",
    "no modules": "replaced what mpitasks needs: sys.modules",
    "perf_counter None": "replaced what mpitasks needs: time.perf_counter",
    "no files": "a resource limit",
    "raise later": "left something behind that raises, in fail_in_trace",
    "close all": "closed or used up files that mpitasks needs",
}
"""What ends a rank, and what is said of it."""


def told(output: str) -> dict[str, dict[str, Any]]:
    """Return what the script says of each act."""
    lines = [json.loads(line) for line in output.splitlines() if line[:1] == "{"]
    return {line["act"]: line for line in lines}


def test_an_isolated_task_breaks_its_own_process_only(mpi: Mpi, launch: Launch) -> None:
    command = mpi.runner(2, SCRIPT, "isolated", *ISOLATED)
    outcome = launch(command, seconds=200)
    acts = told(outcome.out)
    assert outcome.code == 0, outcome
    assert {name: act["others"] for name, act in acts.items()} == dict.fromkeys(
        ISOLATED, "right"
    )
    assert {name: act["call"] for name, act in acts.items()} == ISOLATED
    assert {act["item"] for act in acts.values()} <= ITEM


def test_a_rank_goes_on_after_what_its_tasks_replace(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(2, SCRIPT, "plain", *PLAIN), seconds=60)
    acts = told(outcome.out)
    assert outcome.code == 0, outcome
    assert list(acts) == PLAIN
    assert [act["others"] for act in acts.values()] == len(PLAIN) * ["right"], outcome


@pytest.mark.parametrize("name", RUINS)
def test_a_task_that_breaks_its_rank_is_blamed(
    mpi: Mpi, launch: Launch, name: str
) -> None:
    outcome = launch(mpi.runner(2, SCRIPT, "plain", name), seconds=60)
    assert outcome.code not in (0, 1, 70), outcome
    if (mpi.name, name) == ("mpich", "close all"):
        return  # mpiexec ends all of them when its own connection closes
    assert RUINS[name] in outcome.err, outcome
    assert "isolate=True" in outcome.err
    assert "Traceback" not in outcome.err, outcome
    assert "report it" not in outcome.err


SURVIVOR = """
import builtins
import mpitasks as mt


def act():
    builtins.len = None


with mt.Executor(max_crashes=1) as executor:
    error = executor.submit(act).exception()
    print(error is None or type(error).__name__ == "WorkerLost")
    later = [executor.submit(abs, -n) for n in range(20)]
    values = [f.exception() or f.result() for f in later]
    print(all(v == n or type(v) is mt.WorkerLost for n, v in enumerate(values)))
    print(list(executor.map(abs, range(-9, 0), chunksize=2)))
    print(executor.num_workers)
"""


def test_a_task_that_breaks_its_rank_costs_one_rank(
    openmpi: Mpi, launch: Launch
) -> None:
    script = launch.script(SURVIVOR)
    words = [openmpi.bin / "mpitasks", "-n", "3", "--survive", script]
    outcome = launch(words, seconds=60)
    assert outcome.code == 0, outcome
    assert outcome.out == "True\nTrue\n[9, 8, 7, 6, 5, 4, 3, 2, 1]\n1\n", outcome
    assert "replaced what mpitasks needs: builtins.len" in outcome.err


FAREWELL = """
import runpy, sys
from mpitasks.wire import world

world.FAREWELL_SECONDS = 3
with open(OUTPUT, "w") as sys.stdout:
    runpy.run_path(SCRIPT, run_name="__main__")
sys.stdout = sys.__stdout__
"""
"""Prints to a file: what is read away may come from MPICH's proxy, which then dies, and
takes with it what it has not printed yet."""


@pytest.mark.parametrize("name", ["replace by sockets", "read all"])
def test_a_rank_without_the_files_of_mpi_does_not_hang_the_end(
    mpi: Mpi, launch: Launch, name: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    names = f"OUTPUT, SCRIPT = {str(output)!r}, {str(SCRIPT)!r}\n"
    outcome = launch(
        mpi.runner(2, launch.script(names + FAREWELL), "plain", name), seconds=60
    )
    assert told(output.read_text())[name]["others"] == "right", outcome
    assert outcome.code != 70, outcome
