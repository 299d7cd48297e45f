"""The same command again: what was finished comes from the journal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launching import Launch, Mpi, Outcome

RUNS = Path("runs.txt")  # tasks leave a line there each time they run

TASKS = """
import os, sys, time
import mpitasks as mt
import numpy as np

def ran(what):
    with open("runs.txt", "a") as file:
        file.write(f"{what}\\n")

def square(x):
    ran(f"square {x}")
    return x * x

def draw(n, seed):
    ran(f"draw {n} {seed}")
    return np.random.default_rng(seed).random(n)

def pick(a, b):
    ran(f"pick {a} {b}")
    return {"a": a, "b": [b]}

def odd(x):
    ran(f"odd {x}")
    if x % 2 == 0:
        raise ValueError(f"{x} is even")
    return x
"""

MIXED = (
    TASKS
    + """
sizes = [10, 10, 20_000, 300_000, 10]
with mt.Executor() as executor:
    futures = [executor.submit(square, x) for x in (3, 4, 3)]
    print([future.result() for future in futures])
    print(list(executor.map(square, range(50))))
    print(sorted(executor.map_unordered(square, range(50))))
    print(list(executor.starmap(pick, [(1, 2), (3, 4)])))
    for array in executor.map(draw, sizes, range(5), buffersize=2):
        array += 1
        print(array.sum())
    print(executor.submit(pick, b=1, a=2).result())
    print(list(executor.map(square, (x for x in range(100)), chunksize=7))[-1])
"""
)
CALLS = 3 + 50 + 50 + 2 + 5 + 1 + 100


def runs(launch: Launch) -> list[str]:
    """Return what ran since the last look."""
    path = launch.folder / "runs.txt"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    path.unlink()
    return lines


def summary(outcome: Outcome) -> str:
    """Return the one line that says what came of the journal."""
    lines = [line for line in outcome.said if "came back" in line]
    assert len(lines) == 1, outcome
    return lines[0]


def test_the_example_of_the_documentation(launch: Launch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "resume.md").read_text()
    script = re.search(
        r"^```python complete\n(.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    told = re.search(r"^```text stderr\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert script is not None
    assert told is not None
    outcome = launch([sys.executable, launch.script(script[1])])
    assert [line for line in outcome.said if "came back" in line] == (
        told[1].splitlines()
    )


Start = Callable[..., Outcome]


@pytest.fixture(params=["three ranks", "alone"])
def start(request: pytest.FixtureRequest, any_mpi: Mpi, launch: Launch) -> Start:
    """Runs a script with a journal, on three ranks or in one process."""

    def started(text: str, *words: str, seconds: float = 60.0) -> Outcome:
        script = launch.script(text)
        options = ["--journal", "run.db", *words]
        if request.param == "alone":
            command = [sys.executable, "-m", "mpitasks", *options, str(script)]
        else:
            command = any_mpi.runner(3, *options, script)
        return launch(command, seconds=seconds)

    return started


def test_nothing_runs_twice(start: Start, launch: Launch) -> None:
    first = start(MIXED)
    assert first.code == 0, first
    assert len(runs(launch)) == CALLS
    assert f"0 results came back, {CALLS} calls ran" in summary(first)
    second = start(MIXED)
    assert second.code == 0, second
    assert second.out == first.out
    assert runs(launch) == []
    assert f"{CALLS} results came back, 0 calls ran" in summary(second)


def test_under_each_mpi(mpi: Mpi, launch: Launch) -> None:
    command = mpi.runner(3, "--journal", "run.db", launch.script(MIXED))
    first, second = launch(command, seconds=60), launch(command, seconds=60)
    assert (first.code, second.code) == (0, 0), (first, second)
    assert second.out == first.out
    assert len(runs(launch)) == CALLS


def test_only_what_is_missing_runs(start: Start, launch: Launch) -> None:
    half = (
        TASKS
        + """
with mt.Executor() as executor:
    for value in executor.map(square, range(0, 100, 3)):
        pass
    executor.submit(square, 1).result()
    raise RuntimeError("stop")
"""
    )
    outcome = start(half)
    assert outcome.code == 1
    assert "RuntimeError: stop" in outcome.err
    done = runs(launch)
    assert len(done) == 35
    whole = (
        TASKS
        + """
with mt.Executor() as executor:
    print(list(executor.map(square, range(100))) == [x * x for x in range(100)])
    indexed = dict(executor.map_unordered(square, range(100)))
    print(indexed == {x: x * x for x in range(100)})
"""
    )
    outcome = start(whole)
    assert outcome.out == "True\nTrue\n", outcome
    again = runs(launch)
    # The second map is the second occurrence of each call: all of it runs.
    assert len(again) == 65 + 100
    assert sorted(done + again) == sorted(2 * [f"square {x}" for x in range(100)])
    assert "35 results came back, 165 calls ran" in summary(outcome)


def test_an_edited_function_runs_again_and_says_so_once(
    start: Start, launch: Launch
) -> None:
    text = (
        TASKS
        + """
RATE = 2
def helper(x):
    return x * RATE
def scaled(x):
    ran("scaled")
    return helper(x)
with mt.Executor() as executor:
    print(list(executor.map(scaled, range(10))), executor.submit(square, 3).result())
    executor.submit(scaled, 1).result()
"""
    )
    start(text)
    assert len(runs(launch)) == 12
    outcome = start("# a comment moves every line\n" + text)
    assert runs(launch) == []
    outcome = start(text.replace("RATE = 2", "RATE = 3"))
    assert outcome.out == f"{[3 * x for x in range(10)]} 9\n"
    assert runs(launch) == 11 * ["scaled"]
    said = [line for line in outcome.said if "changed since" in line]
    assert len(said) == 1, outcome
    assert "scaled changed since its 11 results were written" in said[0]
    assert "helper" in said[0]
    assert "not used, since the function changed: 11 of __main__.scaled" in (
        summary(outcome)
    )
    outcome = start(text)  # as it was: those results are still there
    assert runs(launch) == []
    assert not [line for line in outcome.said if "changed since" in line]


def test_failures_are_tried_again_unless_kept(start: Start, launch: Launch) -> None:
    text = (
        TASKS
        + """
with mt.Executor(return_exceptions=True) as executor:
    print(list(executor.map(odd, range(5))))
    future = executor.submit(odd, 2)
    print(repr(future.exception()), "in odd" in str(future.exception().__cause__))
"""
    )
    first = start(text)
    assert "False" not in first.out
    assert "6 calls ran, 4 of them failed" in summary(first)
    runs(launch)
    second = start(text)
    assert second.out == first.out
    assert runs(launch).count("odd 2") == 2
    assert "2 results came back, 4 calls ran, 4 of them failed" in summary(second)
    kept = start(text, "--keep-failures")
    assert kept.out == first.out
    assert runs(launch) == []
    assert "6 results came back, 0 calls ran" in summary(kept)


def test_attempts_are_one_result(start: Start, launch: Launch) -> None:
    text = (
        TASKS
        + """
def late(x):
    ran(f"late {x}")
    if mt.current_task().attempt < 3:
        raise OSError("not yet")
    return x
with mt.Executor(retries=2) as executor:
    print(list(executor.map(late, range(3))), executor.submit(late, 7).result())
"""
    )
    first = start(text)
    assert len(runs(launch)) == 12
    assert "0 results came back, 4 calls ran" in summary(first)
    assert "failed" not in summary(first)
    second = start(text)
    assert second.out == first.out == "[0, 1, 2] 7\n"
    assert runs(launch) == []


def test_keys_of_the_user(start: Start, launch: Launch) -> None:
    text = (
        TASKS
        + """
import threading
stamp = time.time()  # another argument in each run
with mt.Executor() as executor:
    one = executor.with_options(key="one").submit(pick, stamp, 1).result()
    keyed = executor.with_options(key=lambda pair: pair[0])
    several = list(keyed.map(len, [("a", stamp), ("b", stamp)]))
    starred = executor.with_options(key=lambda a, b: (a, "x"))
    print(one["b"], several, len(list(starred.starmap(pick, [(1, stamp)]))))
    try:
        executor.with_options(key="same").map(len, ["a", "b"])
    except mt.OptionError as error:
        print(error)
"""
    )
    first = start(text)
    assert "a map needs a key for each item" in first.out
    assert len(runs(launch)) == 2
    second = start(text)
    assert second.out == first.out
    assert runs(launch) == []
    assert "4 results came back, 0 calls ran" in summary(second)


def test_what_has_no_key_runs_and_is_said_once(start: Start, launch: Launch) -> None:
    text = (
        TASKS
        + """
class Opaque:
    def __getstate__(self):
        return {"token": object(), "ran": 1}
    def __reduce__(self):
        raise_in_keys()
        return Opaque, ()
def raise_in_keys():
    import traceback
    if any("walk" in frame.name for frame in traceback.extract_stack()):
        raise TypeError("no content")
def use(x):
    ran("use")
    return 1
with mt.Executor() as executor:
    print(sum(executor.map(use, [Opaque() for _ in range(5)])))
    print(executor.submit(use, Opaque()).result(), executor.submit(square, 2).result())
"""
    )
    for came_back, ran in [(0, 7), (1, 6)]:
        outcome = start(text)
        assert outcome.out == "5\n1 4\n", outcome
        assert len(runs(launch)) == ran
        said = [line for line in outcome.said if "not kept in the journal" in line]
        assert len(said) == 1, outcome
        assert "no content" in said[0]
        results = "1 result" if came_back == 1 else f"{came_back} results"
        assert f": {results} came back" in summary(outcome)
        assert "6 without a key, not kept" in summary(outcome)


def test_an_executor_s_own_journal(launch: Launch) -> None:
    text = (
        TASKS
        + """
for turn in range(2):
    with mt.Executor(journal="own.db") as executor:
        print(list(executor.map(square, range(5))))
with mt.Executor() as executor:
    executor.submit(square, 1).result()
with mt.Executor(journal="own.db") as executor:
    executor.submit(square, 7)
executor = mt.Executor(journal="own.db")
executor.submit(square, 8)
executor.shutdown(wait=False)
executor = mt.Executor(journal="own.db")
print(executor.submit(square, 8).result())
"""
    )
    outcome = launch([sys.executable, launch.script(text)])
    assert outcome.code == 0, outcome
    assert runs(launch) == [f"square {x}" for x in [*range(5), 1, 7, 8]]
    ends = [line.partition(": journal own.db: ")[2] for line in outcome.said]
    assert [end for end in ends if end] == [
        "0 results came back, 5 calls ran",
        "5 results came back, 0 calls ran",
        "0 results came back, 1 call ran",
        "0 results came back, 1 call ran",
        "1 result came back, 0 calls ran",
    ]


PADDED = (
    TASKS
    + """
import ctypes

FILL = int(sys.argv[1])  # as memory may have been before

def dirty(dtype, values):
    array = np.full(3 * np.dtype(dtype).itemsize, FILL, np.uint8).view(dtype)
    for name in array.dtype.names or [...]:
        array[name] = values
    return array

class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int8), ("b", ctypes.c_longdouble)]

pair = Pair.from_buffer_copy(bytes([FILL]) * ctypes.sizeof(Pair))
pair.a, pair.b = 1, 2.0
ALIGNED = np.dtype([("a", "i1"), ("b", np.longdouble), ("c", "i2", (3,))], align=True)
CONSTANT = dirty(ALIGNED, 5)

def use(value, default=dirty(np.longdouble, 1.5)):
    ran("use")
    return int(CONSTANT["a"].sum())

values = [
    dirty(np.longdouble, 1.5),
    dirty(np.clongdouble, 1.5),
    dirty(np.longdouble, 1.5)[0],
    dirty(ALIGNED, 2),
    dirty(ALIGNED, 2)[1],
    dirty(ALIGNED, 2)[::2],
    {"key": [dirty(ALIGNED, 2).view(np.recarray)]},
    np.ma.masked_array(dirty(np.longdouble, 1.5), [False, True, False]),
    np.array([dirty(np.longdouble, 1.5)[0], None]),
    pair,
]
with mt.Executor() as executor:
    print([executor.submit(use, value).result() for value in values])
    print(list(executor.map(use, values)))
"""
)


def test_padding_makes_no_other_call(any_mpi: Mpi, launch: Launch) -> None:
    script = launch.script(PADDED)
    for fill, number in ((0, 20), (255, 0), (170, 0)):
        command = any_mpi.runner(2, "--journal", "run.db", script, str(fill))
        outcome = launch(command, environ={"PYTHONHASHSEED": str(fill)})
        assert outcome.code == 0, str(outcome)
        assert len(runs(launch)) == number


HELPED = (
    TASKS
    + """
class Meta(type):
    def scale(cls): return SCALE

class Model(metaclass=Meta):
    pass

def by_module(x):
    ran("by_module")
    import helper
    return helper.calc(x)

def by_name(x):
    ran("by_name")
    from helper import calc
    return calc(x)

def by_metaclass(x):
    ran("by_metaclass")
    return Model.scale() * x

def by_none(x):
    ran("by_none")
    return x

with mt.Executor() as executor:
    for task in (by_module, by_name, by_metaclass, by_none):
        print(executor.submit(task, 2).result(), list(executor.map(task, [3])))
"""
)


def test_an_edited_helper_and_a_metaclass_are_noticed(
    any_mpi: Mpi, launch: Launch
) -> None:
    outs = []
    everything = ["by_module", "by_name", "by_metaclass", "by_none"]
    for helper, scale, ran in [
        ("return 10 * x", "1", everything),
        ("return 10 * x", "1", []),
        ("return 20 * x", "1", everything[:2]),
        ("return 20 * x", "7", everything[2:3]),
    ]:
        launch.script(f"def calc(x):\n    {helper}\n", "helper.py")
        script = launch.script(HELPED.replace("SCALE", scale))
        command = any_mpi.runner(2, "--journal", "run.db", script)
        outcome = launch(command, environ={"PYTHONDONTWRITEBYTECODE": "1"})
        assert outcome.code == 0, str(outcome)
        assert runs(launch) == [name for name in ran for _ in range(2)]
        outs.append(outcome.out)
    assert outs[0] == outs[1] == "20 [30]\n20 [30]\n2 [3]\n2 [3]\n"
    assert outs[2] == "40 [60]\n40 [60]\n2 [3]\n2 [3]\n"
    assert outs[3] == "40 [60]\n40 [60]\n14 [21]\n2 [3]\n"


def test_damaged_results_run_again(start: Start, launch: Launch) -> None:
    first = start(MIXED)
    runs(launch)
    for file in (launch.folder / "run.db.d").glob("*/*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    second = start(MIXED)
    assert second.out == first.out
    assert runs(launch) == ["draw 300000 3"]
    assert "1 damaged result computed again" in summary(second)
    third = start(MIXED)
    assert third.out == first.out
    assert runs(launch) == []


WAITING = (
    TASKS
    + """
with mt.Executor() as executor:
    print(executor.submit(square, 5).result(), flush=True)
    print("ready", flush=True)
    executor.submit(time.sleep, 60).result()
"""
)


def test_the_second_job_is_refused(any_mpi: Mpi, launch: Launch) -> None:
    command = any_mpi.runner(2, "--journal", "run.db", launch.script(WAITING))
    job = launch.start(command, environ={"SLURM_JOB_NUM_NODES": None})
    job.until(lambda: "ready" in job.output()[0], "the first job was ready")
    outcome = launch(command)
    assert outcome.code == 78, outcome
    assert len(outcome.said) == 1, outcome
    for word in (f"on host {socket.gethostname()}", "in use by pid", "kill "):
        assert word in outcome.said[0]
    showing = launch([sys.executable, "-m", "mpitasks", "journal", "run.db"])
    assert showing.code == 78
    job.stop()
    outcome = launch(any_mpi.runner(2, "--journal", "run.db", launch.script(MIXED)))
    assert outcome.code == 0, outcome


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_it_has(
    any_mpi: Mpi, launch: Launch, number: signal.Signals
) -> None:
    command = any_mpi.runner(2, "--journal", "run.db", launch.script(WAITING))
    job = launch.start(command)
    job.until(lambda: "ready" in job.output()[0], "the job was ready")
    if number == signal.SIGINT:
        job.signal_group(number)
    else:
        job.process.send_signal(number)
    job.finish()
    listing = launch([sys.executable, "-m", "mpitasks", "journal", "run.db", "list"])
    assert "square(5)" in listing.out, listing


def test_an_error_at_the_start_is_a_wrong_set_up(start: Start, launch: Launch) -> None:
    (launch.folder / "run.db").write_text("my data")
    outcome = start(MIXED)
    assert outcome.code == 78, outcome
    assert "is no journal of mpitasks" in outcome.said[-1]
    assert runs(launch) == []
    assert (launch.folder / "run.db").read_text() == "my data"


def test_without_the_option_nothing_of_it_is_loaded(launch: Launch) -> None:
    text = (
        TASKS
        + """
with mt.Executor() as executor:
    executor.submit(square, 1).result()
    list(executor.map(square, range(3)))
own = "mpitasks.journal.open_journals"  # knows that none is open
print([n for n in sys.modules if ("journal." in n or n == "sqlite3") and n != own])
"""
    )
    outcome = launch([sys.executable, launch.script(text)])
    assert outcome.out == "[]\n"


# A disk that is full.

FULL = (
    TASKS
    + """
import resource
from mpitasks.journal import open_journals
def big(x):
    return np.full(2_000, x)
with mt.Executor() as executor:
    total = 0
    executor.submit(big, -1).result()
    open_journals.flush_journals()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        for n in range(200):
            total += executor.submit(big, n).result()[0]
            time.sleep(0.005)
    finally:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
    print(total, flush=True)
"""
)


def test_a_full_disk_stops_the_run(start: Start) -> None:
    outcome = start(FULL)
    assert outcome.code == 1, outcome
    assert outcome.out == ""
    assert "JournalError: the journal" in outcome.err
    assert "free some space" in outcome.err
    assert "did not get there" in outcome.err
    again = start(FULL.replace("100_000", "100_000_000"))
    assert again.code == 0, again
    assert " 0 results came back" not in summary(again)


LATE = (
    TASKS
    + """
import resource
from mpitasks.journal import open_journals
def big(x):
    return np.full(2_000, x)
with mt.Executor() as executor:
    executor.submit(big, -1).result()
    open_journals.flush_journals()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    futures = [executor.submit(big, n) for n in range(20)]
    print(sum(future.result()[0] for future in futures), flush=True)
"""
)


def test_a_disk_that_is_full_at_the_very_end_fails_the_run(start: Start) -> None:
    outcome = start(LATE)
    assert outcome.code == 1, outcome
    assert "JournalError: the journal" in outcome.err
    assert "did not get there" in outcome.err
    outcome = start(LATE, "--journal-errors", "continue")
    assert outcome.code == 0, outcome
    assert outcome.out == f"{sum(range(20))}\n"
    assert "goes on WITHOUT it" in outcome.err


def test_a_full_disk_is_said_where_the_run_goes_on(start: Start) -> None:
    outcome = start(FULL, "--journal-errors", "continue")
    assert outcome.code == 0, outcome
    assert outcome.out == f"{sum(range(200))}\n"
    said = [line for line in outcome.said if "goes on WITHOUT it" in line]
    assert len(said) == 1, outcome
    assert "did not get there" in outcome.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_really_full(any_mpi: Mpi, launch: Launch) -> None:
    disk = launch.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount: {mounted.stderr.decode().strip()}")
    try:
        full = FULL.replace("resource.setrlimit(", "(lambda *words: None)(")
        script = launch.script(full)
        command = any_mpi.runner(2, "--journal", "disk/run.db", script)
        outcome = launch(command)
        assert outcome.code == 1, outcome
        assert "JournalError: the journal" in outcome.err
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        outcome = launch(command)
        assert outcome.code == 78, outcome
        assert "Read-only file system" in outcome.said[-1]
        goes_on = ["--journal-errors", "continue", "--journal", "disk/new.db", script]
        outcome = launch(any_mpi.runner(2, *goes_on))
        assert outcome.code == 0, outcome
        [said] = [line for line in outcome.said if "goes on WITHOUT it" in line]
        assert "Read-only file system" in said
        subprocess.run(["mount", "-o", "remount,rw,size=64m", disk], check=True)
        outcome = launch(command)
        assert outcome.code == 0, outcome
        assert " 0 results came back" not in summary(outcome)
    finally:
        subprocess.run(["umount", disk], check=True)
