"""Progress of real runs: on a terminal, into a file, and when it ends too early."""

from __future__ import annotations

import re
import signal

import pyte
import pytest

from launching import SCRIPTS, Launch, Mpi, Outcome

ROWS, COLUMNS = 24, 80
TERMINAL = SCRIPTS / "terminal.py"

SCRIPT = """
import sys, time
import mpitasks as mt

def work(x):
    time.sleep(0.01)
    print(f"task {x} prints a line", flush=True)
    if x == 7:
        raise ValueError(x)

with mt.Executor(return_exceptions=True, chunksize=1) as ex:
    for x, _ in enumerate(ex.map(work, range(60))):
        if x % 10 == 0:
            print(f"script prints a line, {x}")
    first = ex.with_options(label="first").map(work, range(60, 80))
    second = ex.with_options(label="second").map(work, range(80, 100))
    list(second), list(first)
print("the end")
"""

PRINTED = [
    *[f"task {x} prints a line" for x in range(100)],
    *[f"script prints a line, {x}" for x in range(0, 60, 10)],
]


def screens(outcome: Outcome) -> tuple[list[str], list[str]]:
    """Return all lines that a terminal has shown, and those at its bottom."""
    screen = pyte.HistoryScreen(COLUMNS, ROWS, history=1000)
    stream = pyte.Stream(screen)
    bottom = set()
    for part in re.split(r"(?=\x1b8)", outcome.out.replace("\0", "\r")):
        stream.feed(part)
        bottom.update(line.rstrip() for line in screen.display[-2:])
    gone = [
        "".join(line[at].data for at in range(COLUMNS)).rstrip()
        for line in screen.history.top
    ]
    return [*gone, *[line.rstrip() for line in screen.display]], sorted(bottom)


@pytest.mark.parametrize("ranks", [1, 3])
def test_no_line_on_a_terminal_is_broken(launch: Launch, mpi: Mpi, ranks: int) -> None:
    command = mpi.runner(ranks, "--progress", launch.script(SCRIPT))
    if ranks == 1:
        command = command[command.index(str(mpi.python)) :]
    outcome = launch([mpi.python, TERMINAL, *command], seconds=60)
    assert outcome.code == 0, str(outcome)
    lines, bottom = screens(outcome)
    for line in PRINTED:
        assert lines.count(line) == 1, f"{line}\n{outcome}"
    for name, count in [("work", 60), ("first", 20), ("second", 20)]:
        last = rf"mpitasks: {name}: {count}/{count}, .*in \d.* s, .*/s"
        assert sum(bool(re.fullmatch(last, line)) for line in lines) == 1, str(outcome)
    assert any(re.match(r"work: +\d+%\|", line) for line in bottom), bottom
    text = outcome.out
    assert text.rindex("\x1b[r") > text.rindex("\x1b[1;"), "the whole screen scrolls"


def test_ctrl_c_gives_the_screen_back(launch: Launch, mpi: Mpi) -> None:
    script = launch.script(
        "import os, time, mpitasks as mt\n"
        "print('pid', os.getpid())\n"
        "with mt.Executor(progress=True, chunksize=1) as ex:\n"
        "    list(ex.map(time.sleep, [0.01, 1000]))\n"
    )
    job = launch.start([mpi.python, TERMINAL, *mpi.runner(2, script)])
    job.until(lambda: "1/2" in job.output()[0], "a bar is shown")
    found = re.search(r"pid (\d+)", job.output()[0])
    assert found is not None
    signal_rank(launch, mpi, found[1])
    outcome = job.finish()
    assert outcome.code != 0
    text = outcome.out
    assert text.rindex("\x1b[r") > text.rindex("\x1b[1;"), "the whole screen scrolls"
    assert "mpitasks: sleep: 1/2, in " in text


def signal_rank(launch: Launch, mpi: Mpi, pid: str) -> None:
    number = signal.SIGINT.value
    launch([mpi.python, "-c", f"import os; os.kill({pid}, {number})"])


def test_a_file_gets_lines(launch: Launch, any_mpi: Mpi) -> None:
    outcome = launch(any_mpi.runner(3, "--progress", launch.script(SCRIPT)))
    assert outcome.code == 0, str(outcome)
    assert "\x1b" not in outcome.out + outcome.err
    said = outcome.said
    for name, count in [("work", 60), ("first", 20), ("second", 20)]:
        last = rf"mpitasks: {name}: {count}/{count}, .*in \d.* s, .*/s"
        assert sum(bool(re.fullmatch(last, line)) for line in said) == 1, str(outcome)
    assert sorted(outcome.out.splitlines()) == sorted([*PRINTED, "the end"])


def test_without_tqdm_there_are_lines_and_a_hint(launch: Launch, mpi: Mpi) -> None:
    launch.script("raise ImportError('as if it were not there')", "tqdm.py")
    script = launch.script(SCRIPT)
    command = mpi.runner(3, "--progress", script)
    outcome = launch([mpi.python, TERMINAL, *command])
    assert outcome.code == 0, str(outcome)
    hint = "needs tqdm, which is not installed (pip install 'mpitasks[progress]')"
    assert outcome.out.count(hint.replace("needs", "need")) == 1, str(outcome)
    assert "\x1b[1;" not in outcome.out
    assert re.search(r"mpitasks: work: 60/60, 1 failed, in \d", outcome.out)
