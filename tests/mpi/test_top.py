"""`mpitasks top` in a terminal, beside a run."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pyte

from launching import Launch, Mpi

SCRIPT = """
import os, sys, time
import mpitasks as mt

def hold(path):
    while not os.path.exists(path):
        time.sleep(0.01)

with mt.Executor() as ex:
    ex.with_options(label="a long fit").submit(hold, sys.argv[1]).result()
"""

COLUMNS, LINES, SECONDS = 90, 20, 60.0


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, *words: str) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        own, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            words,
            stdin=its,
            stdout=its,
            stderr=its,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(its)
        self._fd = own

    def read_until(self, seen: Callable[[str], bool]) -> str:
        """Read until the screen shows something; return it."""
        end = time.monotonic() + SECONDS
        while not seen(text := "\n".join(self.screen.display)):
            assert time.monotonic() < end, text
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self._stream.feed(os.read(self._fd, 1 << 16))
                except OSError:  # nobody is at the other end
                    return "\n".join(self.screen.display)
        return text

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def close(self) -> int:
        code = self.process.wait(SECONDS)
        os.close(self._fd)
        return code


def test_it_shows_a_run_and_ends_when_told(any_mpi: Mpi, launch: Launch) -> None:
    script = launch.script(SCRIPT)
    folder = os.path.dirname(os.path.abspath(script))  # noqa: PTH100, PTH120
    status, end = f"{folder}/run.status", f"{folder}/end"
    run = subprocess.Popen(
        [str(w) for w in any_mpi.runner(2, "--status", status, script, end)]
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not os.path.exists(status):  # noqa: PTH110
            assert time.monotonic() < deadline
            time.sleep(0.05)
        terminal = Terminal(sys.executable, "-m", "mpitasks", "top", status)
        text = terminal.read_until(lambda text: "a long fit" in text)
        assert "1 of 1 workers hold tasks" in text
        terminal.type(b"q")
        assert terminal.close() == 0
        watcher = Terminal(sys.executable, "-m", "mpitasks", "top", status)
        watcher.read_until(lambda text: "a long fit" in text)
        open(end, "w").close()  # noqa: PTH123
        watcher.read_until(lambda text: "finished with exit code 0" in text)
        assert watcher.close() == 0
    finally:
        open(end, "w").close()  # noqa: PTH123
        assert run.wait(SECONDS) == 0
