"""Programs with a known fault, each of which must get the right verdict; the page."""

from __future__ import annotations

import pytest

from launching import Launch, Mpi
from mpitasks.observe.trace import read
from mpitasks.observe.verdict import losses_of, verdict_of

HEAD = """
import os, signal, time
import numpy as np
import mpitasks as mt

def nothing(x):
    return x

def first(block):
    return block[:10]

def step(x):
    time.sleep(0.02)
    return x

def slow(block):
    time.sleep(0.1)

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
    "loading": """
with open("slow_on_workers.py", "w") as file:
    file.write("import os, time\\n")
    file.write("ranks = [os.environ.get(f'{name}_RANK') for name in (")
    file.write("'PMI', 'OMPI_COMM_WORLD')]\\n")
    file.write("time.sleep(0 if '0' in ranks else 1.5)\\n")
    file.write("def ten(x): return 10\\n")
import slow_on_workers
with mt.Executor() as ex: list(ex.map(slow_on_workers.ten, range(10)))
""",
    "copies": """
with mt.Executor() as ex:
    blocks = [ex.with_options(keep=True).submit(np.ones, 10_000_000) for _ in range(3)]
    for _ in range(10):
        futures = [ex.submit(first, block) for block in blocks]
        for future in futures: future.result()
""",
    "memory": """
from mpitasks.master import argument_memory
argument_memory.WAITING_BYTES = 32 << 20  # 1 GiB takes longer
block = np.ones(2 << 20)
with mt.Executor() as ex:
    futures = []
    for x in range(30):
        block[0] = x
        futures.append(ex.submit(slow, block))
    for future in futures: future.result()
""",
    "good": "with mt.Executor() as ex: list(ex.map(time.sleep, [0.05] * 100))",
}


STOPPED = """
with mt.Executor() as ex:
    long = ex.submit(time.sleep, 2.5)
    rest = [ex.submit(step, x) for x in range(1000)]
    rest[5].result()
    os.kill(os.getpid(), signal.SIGTERM)
    for future in rest:
        future.result()
"""


@pytest.mark.parametrize("fault", PROGRAMS)
def test_the_fault_is_named(launch: Launch, any_mpi: Mpi, fault: str) -> None:
    script = launch.script(HEAD + PROGRAMS[fault])
    outcome = launch(any_mpi.runner(3, "--trace", "run.json.gz", script), seconds=60)
    assert outcome.code == 0, str(outcome)
    summary = read(str(launch.folder / "run.json.gz"))["otherData"]
    verdict = verdict_of(summary)
    assert verdict.name == fault, f"{verdict.text}\n{losses_of(summary)}"


def test_an_early_end_is_named(launch: Launch, any_mpi: Mpi) -> None:
    script = launch.script(f"{HEAD}{STOPPED}")
    words = ["--trace", "run.json.gz", "--grace", "20", script]
    outcome = launch(any_mpi.runner(3, *words), seconds=60)
    assert outcome.code == 75, str(outcome)
    summary = read(str(launch.folder / "run.json.gz"))["otherData"]
    assert verdict_of(summary).name == "stopping", losses_of(summary)


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
