"""What tasks print arrives whole, line by line, from all ranks at once."""

from __future__ import annotations

import re

import pytest

from launching import Launch, Mpi

LINES = """
import os, sys
import mpitasks as mt

def say(number):
    for line in range(40):
        for stream in (sys.stdout, sys.stderr):
            print(f"<{number} {line} {'x' * (line % 20)}>", file=stream)

if __name__ == "__main__":
    with mt.Executor() as ex:
        list(ex.map(say, range(30), chunksize=1))
"""


@pytest.mark.parametrize("unbuffered", [None, "1"])
def test_lines_arrive_whole(mpi: Mpi, launch: Launch, unbuffered: str | None) -> None:
    launch.script(LINES)
    environ = {"PYTHONUNBUFFERED": unbuffered}
    outcome = launch(mpi.runner(4, "script.py"), environ=environ)
    assert outcome.code == 0, str(outcome)
    expected = {f"{number} {line}" for number in range(30) for line in range(40)}
    for text in (outcome.out, outcome.err):
        lines = [line for line in text.splitlines() if line not in outcome.said]
        broken = [line for line in lines if not re.fullmatch(r"<\d+ \d+ x*>", line)]
        assert not broken, broken[:10]
        assert len(lines) == len(expected)
        assert {" ".join(line[1:].split()[:2]) for line in lines} == expected


def test_last_words_need_no_newline(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import sys\n"
        "import mpitasks as mt\n"
        "def say(text, stream):\n"
        "    print(text, end='', file=getattr(sys, stream))\n"
        "with mt.Executor() as ex:\n"
        "    ex.submit(say, 'worker out', 'stdout').result()\n"
        "    ex.submit(say, 'worker err', 'stderr').result()\n"
        "print('script out', end='')\n"
        "print('script err', end='', file=sys.stderr)\n"
    )
    outcome = launch(mpi.runner(2, "script.py"))
    assert outcome.code == 0
    for who in ("worker", "script"):
        assert f"{who} out" in outcome.out, str(outcome)
        assert f"{who} err" in outcome.err, str(outcome)


def test_a_line_arrives_while_its_task_runs(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import pathlib, time\n"
        "import mpitasks as mt\n"
        "def say_and_wait():\n"
        "    print('here')\n"
        "    while not pathlib.Path('go').exists():\n"
        "        time.sleep(0.01)\n"
        "with mt.Executor() as ex:\n"
        "    ex.submit(say_and_wait).result()\n"
    )
    job = launch.start(mpi.runner(2, "script.py"))
    job.until(lambda: job.output()[0] == "here\n", "the line of the task arrives")
    launch.script("", "go")
    assert job.finish().code == 0
