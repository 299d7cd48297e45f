"""Log records of tasks reach the script's handlers, under real MPIs."""

from __future__ import annotations

import sys

import pytest

from launching import Launch, Mpi

SCRIPT = """
import logging, os, sys, threading
import mpitasks as mt

class Collect(logging.Handler):
    records = []
    def emit(self, record):
        self.records.append(record)
        if record.getMessage() == "one":
            logging.getLogger("handler").info("heard one")

logging.basicConfig(level=logging.INFO, handlers=[Collect()])
logging.getLogger("app.loud").setLevel(logging.DEBUG)
logging.getLogger("app.quiet").setLevel(logging.ERROR)
logging.getLogger("mine").propagate = False
log = logging.getLogger("app")

def speak(x):
    logging.getLogger("app").info("item %d", x)
    logging.getLogger("app.loud").debug("loud %d", x)
    logging.getLogger("app").debug("too low")
    logging.getLogger("app.quiet").warning("too low")
    return x

def count(n):
    for i in range(n):
        logging.getLogger("app").info("%d", i)

def in_threads(n):
    threads = [threading.Thread(target=count, args=(n,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def fail():
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("app").exception("oops")
    raise KeyError(1)

def crash():
    logging.getLogger("app").info("last words")
    os.abort()

def one():
    logging.getLogger("app").info("one")

def taken():
    records, Collect.records = Collect.records, []
    return records

def messages():
    return [record.getMessage() for record in taken()]

with mt.Executor(OPTIONS) as executor:
    for view in (executor, executor.with_options(isolate=True)):
        view = view.with_options(label="fit")
        assert view.submit(speak, 3).result() == 3
        records = taken()
        assert [r.getMessage() for r in records] == ["item 3", "loud 3"], records
        assert all(1 <= r.rank <= RANKS or RANKS == r.rank == 0 for r in records)
        assert all(r.label == "fit" and r.task >= 0 and r.host for r in records)
        assert list(view.map(speak, range(40))) == list(range(40))
        got = messages()
        assert sorted(got) == sorted(
            [f"item {n}" for n in range(40)] + [f"loud {n}" for n in range(40)])
        try:
            view.submit(fail).result()
        except KeyError:
            pass
        (record,) = taken()
        text = logging.Formatter().format(record)
        assert "ZeroDivisionError" in text and "in fail" in text, text
        view.submit(count, 20_000).result()
        assert messages() == [str(n) for n in range(20_000)]
        view.submit(in_threads, 1000).result()
        got = messages()
        assert sorted(got) == sorted(2 * [str(n) for n in range(1000)]), len(got)
        view.submit(one).result()
        assert messages() == ["one", "heard one"]
    try:
        executor.with_options(isolate=True).submit(crash).result()
    except mt.TaskCrashed:
        assert messages() == ["last words"]
    log.info("%s", "own")
    (record,) = taken()
    assert (record.rank, record.task, record.label) == (0, None, None)
    futures = [executor.submit(count, 50) for _ in range(40)]
assert len(messages()) == 40 * 50  # all of them are here when the Executor is closed
print("ok")
"""


def script(ranks: int, options: str) -> str:
    return SCRIPT.replace("OPTIONS", options).replace("RANKS", str(ranks - 1))


@pytest.mark.parametrize("ranks", [2, 3])
def test_on_ranks(mpi: Mpi, launch: Launch, ranks: int) -> None:
    path = launch.script(script(ranks, "logging=True"))
    outcome = launch(mpi.runner(ranks, path), seconds=120)
    assert (outcome.code, outcome.out) == (0, "ok\n"), outcome


def test_alone(launch: Launch) -> None:
    path = launch.script(script(1, "logging=True"))
    outcome = launch([sys.executable, path], seconds=120)
    assert (outcome.code, outcome.out) == (0, "ok\n"), outcome


def test_by_the_command_line(any_mpi: Mpi, launch: Launch) -> None:
    path = launch.script(script(3, ""))
    words = [any_mpi.python, "-m", "mpitasks", "-n", "3", "--logging", path]
    outcome = launch(words, seconds=120)
    assert (outcome.code, outcome.out) == (0, "ok\n"), outcome


def test_unasked_nothing_comes(any_mpi: Mpi, launch: Launch) -> None:
    path = launch.script(
        """
import logging, sys
import mpitasks as mt

logging.basicConfig(level=logging.INFO, stream=sys.stdout)

def speak(x):
    logging.getLogger("app").info("item %d", x)
    return "logging" in sys.modules, logging.getLogger().level

with mt.Executor(logging=True) as executor:
    print(executor.submit(speak, 1).result())
with mt.Executor() as executor:
    print(executor.submit(speak, 2).result())
"""
    )
    outcome = launch(any_mpi.runner(2, path), seconds=60)
    assert outcome.out.splitlines() == [
        "INFO:app:item 1",
        "(True, 20)",
        "(True, 30)",
    ], outcome


def test_the_end_of_a_run_that_fails(any_mpi: Mpi, launch: Launch) -> None:
    path = launch.script(
        """
import logging, sys
import mpitasks as mt

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

def speak(x):
    logging.info("item %d", x)

executor = mt.Executor(logging=True)
executor.submit(speak, 1).result()
executor.submit(speak, 2).result()
raise RuntimeError("stop")
"""
    )
    outcome = launch(any_mpi.runner(2, path), seconds=60)
    assert outcome.code == 1
    assert outcome.out.splitlines() == ["item 1", "item 2"], outcome
