"""SIGKILL of rank 0, of the launcher, of a worker, at random instants, under load.

Each kill ends the job; the journal must open without a word, hold only right results,
and lack only young ones. Then the same command goes on. ``MPITASKS_TEST_MPI_KILLS``
sets how many, ``MPITASKS_TEST_SEED`` repeats a run. Hundreds of kills of the writer
alone are in ``tests/test_journal_store.py``.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from launching import Job, Launch, Mpi
from mpitasks.tools.journal.reader import Reader

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MPITASKS_TEST_MPI_KILLS", "24"))
SEED = int(os.environ.get("MPITASKS_TEST_SEED", "20261123"))
ITEMS = 100_000
STAMP = struct.Struct("<qd")

SCRIPT = """
import os, struct, sys, time
import mpitasks as mt
import numpy as np

ITEMS = int(sys.argv[1])

def work(x):
    if x % 1000 == 999:
        return np.full(200_000, x)
    if x % 100 == 98:
        return np.full(10_000, x)
    time.sleep(0.0002)
    return x * 0.5

with open("pid.txt", "w") as file:
    file.write(str(os.getpid()))
got = os.open("got.bin", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
with mt.Executor() as executor:
    wrong = 0
    for x, value in executor.map_unordered(work, range(ITEMS)):
        os.write(got, struct.pack("<qd", x, time.monotonic()))
        right = x if x % 1000 == 999 or x % 100 == 98 else x * 0.5
        wrong += not np.all(value == right)
print("done", wrong)
"""


def expected(x: int) -> object:
    if x % 1000 == 999:
        return np.full(200_000, x)
    return np.full(10_000, x) if x % 100 == 98 else x * 0.5


def victim(job: Job, target: str, rank0: int) -> int:
    """Return the process to kill."""
    if target == "mpiexec":
        return job.process.pid
    if target == "rank 0":
        return rank0
    workers = [
        pid
        for pid, line in job._processes().items()
        if "-m mpitasks" in line and "mpiexec" not in line and pid != rank0
    ]
    return random.choice(workers)


def contents(path: Path, capsys: pytest.CaptureFixture[str]) -> set[int]:
    """Return what is in the journal, all of which must be right."""
    capsys.readouterr()
    found = set()
    with Reader(str(path)) as reader:
        assert reader.damage is None
        for _, row in reader.rows():
            assert row.call is not None
            x = int(row.call.strip("()"))
            assert np.array_equal(reader.value(row), expected(x)), x
            found.add(x)
        assert reader.damaged == []
    assert capsys.readouterr().err == ""
    return found


def test_kills_lose_only_what_is_young(
    any_mpi: Mpi, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    random.seed(SEED)
    script = launch.script(SCRIPT)
    journal, got = launch.folder / "run.db", launch.folder / "got.bin"
    command = any_mpi.runner(3, "--journal", journal, script)
    ages: list[float] = []
    had: set[int] = set()
    targets = ["rank 0", "mpiexec", "worker"]
    for number in range(KILLS):
        got.unlink(missing_ok=True)
        job = launch.start([*command, ITEMS], seconds=60)
        job.until(lambda: got.exists() and got.stat().st_size > 0, "the first result")
        rank0 = int((launch.folder / "pid.txt").read_text())
        pid = victim(job, targets[number % 3], rank0)
        end = time.monotonic() + random.uniform(0, 0.8)
        job.until(lambda end=end: time.monotonic() > end, "the instant")  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        outcome = job.finish()
        assert outcome.code != 0, f"seed {SEED}: {outcome}"
        assert not outcome.left
        stamps = STAMP.iter_unpack(got.read_bytes()[: got.stat().st_size // 16 * 16])
        found = contents(journal, capsys)
        assert had <= found
        had = found
        # Where a worker or the launcher is killed, rank 0 lives on for a moment.
        lost = [killed - when for x, when in stamps if x not in found]
        ages.append(max(lost, default=0.0))
    told = f"seed {SEED}: oldest losses {sorted(ages)} s, {len(had)} results"
    print(told)
    assert statistics.median(ages) < 0.2, told
    assert max(ages) < 2.0, told  # where others keep the disk busy
    final = launch([*command, len(had)], seconds=60)
    assert final.out == "done 0\n", final
    came_back = int(final.said[-1].split(" results came back")[0].rsplit(" ")[-1])
    assert came_back == len([x for x in had if x < len(had)])
