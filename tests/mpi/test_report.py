"""Programs with a known fault, each of which must get the right verdict; the page."""

from __future__ import annotations

import pytest

from launching import Launch, Mpi
from mpitasks.observe.trace import read
from mpitasks.observe.verdict import losses_of, verdict_of

HEAD = """
import time
import mpitasks as mt

def nothing(x):
    return x

def first(block):
    return block[:10]

def step(x):
    time.sleep(0.02)
    return x

def flaky(x):
    time.sleep(0.01)
    if mt.current_task().attempt < 3:
        raise OSError(x)
"""

PROGRAMS = {
    "few tasks": "with mt.Executor() as ex: list(ex.map(time.sleep, [1.5]))",
    "tail": """
with mt.Executor() as ex:
    list(ex.map(time.sleep, [0.01] * 40 + [2.0], chunksize=1))
""",
    "rank 0": """
with mt.Executor() as ex:
    list(ex.map(nothing, range(30_000), chunksize=1))
""",
    "transfers": """
blocks = [bytes(32_000_000) for _ in range(4)]
with mt.Executor() as ex:
    for _ in range(50):
        list(ex.map(first, blocks, chunksize=1))
""",
    "start": """
time.sleep(2)
with mt.Executor() as ex:
    list(ex.map(time.sleep, [0.01] * 20))
""",
    "script": """
with mt.Executor() as ex:
    for _ in range(5):
        list(ex.map(time.sleep, [0.01] * 8))
        time.sleep(0.4)
""",
    "retries": """
with mt.Executor(retries=3, retry_delay=0.3) as ex:
    list(ex.map(flaky, range(20)))
""",
    "inputs": """
with mt.Executor() as ex:
    last = ex.submit(step, 0)
    for _ in range(60):
        last = ex.submit(step, last)
    last.result()
""",
    "too few at a time": """
with mt.Executor() as ex:
    for x in range(60):
        ex.submit(step, x).result()
""",
    "good": "with mt.Executor() as ex: list(ex.map(time.sleep, [0.05] * 100))",
}


@pytest.mark.parametrize("fault", PROGRAMS)
def test_the_fault_is_named(launch: Launch, any_mpi: Mpi, fault: str) -> None:
    script = launch.script(HEAD + PROGRAMS[fault])
    outcome = launch(any_mpi.runner(3, "--trace", "run.json.gz", script), seconds=60)
    assert outcome.code == 0, str(outcome)
    summary = read(str(launch.folder / "run.json.gz"))["otherData"]
    verdict = verdict_of(summary)
    assert verdict.name == fault, f"{verdict.text}\n{losses_of(summary)}"


@pytest.mark.parametrize("fails", [False, True])
def test_a_page_is_written(launch: Launch, mpi: Mpi, fails: bool) -> None:
    end = "\nraise ValueError('in the script')" if fails else ""
    script = launch.script(HEAD + PROGRAMS["retries"] + end)
    words = ["--report", "run.html", "--trace", "run.json.gz", script]
    outcome = launch(mpi.runner(3, *words))
    assert outcome.code == int(fails), str(outcome)
    page = (launch.folder / "run.html").read_text()
    assert "went to attempts that failed" in page
    assert f"exit code {int(fails)}." in page
    assert "OSError" in page
    made = launch(
        [mpi.python, "-m", "mpitasks", "report", "run.json.gz", "-o", "a.html"]
    )
    assert made.code == 0, str(made)
    assert made.out.startswith("a.html: The workers were in your functions for ")
    assert (launch.folder / "a.html").read_text() == page
