"""Lines at the bottom of a terminal that stay there while others print above them.

The last lines of the screen are left out of the region that scrolls (DECSTBM of the
VT100, as apt does it). So whatever the script and the tasks print, in whatever process,
scrolls above them, and no line is broken. Each change is one short write, which a pipe
passes on as a whole.

Under mpiexec rank 0 writes to a pipe. mpiexec passes on what comes, so if its own
standard error is a terminal, that is where it appears. Open MPI's passes on whole lines
only, so there each change ends with a line's end. What the lines say is not known here.
"""

# ruff: noqa: PTH115, PTH123

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Footer", "Terminal", "find_terminal"]

LAUNCHERS = frozenset(
    {"mpiexec", "mpiexec.hydra", "mpirun", "prterun", "prte", "orterun"}
)
"""Programs whose standard error is where that of rank 0 appears."""

GENERATIONS = 8
LEAST_ROWS, LEAST_COLUMNS = 8, 30

SAVE, RESTORE = "\x1b7", "\x1b8"
DOWN = "\x1bD"  # one line, in the same column; scrolls at the end of the screen
WHOLE_SCREEN = "\x1b[r"

IN_PLACE = "\x1b[A\n"
"""A line's end that leaves the cursor where it was, at the beginning of a line."""


class Terminal(NamedTuple):
    """A terminal, and how to get there.

    Attributes:
        size: A descriptor of it, to be asked for its size.
        output: A descriptor that is written to.
        whole_lines: Whether what is written appears line by line.
    """

    size: int
    output: int
    whole_lines: bool = False


def find_terminal(stderr: int = 2) -> Terminal | None:
    """Return the terminal that shows what is written to standard error.

    Args:
        stderr: The descriptor of standard error.

    Returns:
        The terminal; None if there is none, or one that obeys nothing.
    """
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        return None
    if os.isatty(stderr):
        return Terminal(os.dup(stderr), stderr)
    pid = os.getppid()
    for _ in range(GENERATIONS):
        try:
            with open(f"/proc/{pid}/stat") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            if name in LAUNCHERS:
                size = _open_terminal(f"/proc/{pid}/fd/2")
                open_mpi = "OMPI_COMM_WORLD_RANK" in os.environ
                return None if size is None else Terminal(size, stderr, open_mpi)
            pid = int(rest.split()[1])
        except (OSError, ValueError, IndexError):
            return None
    return None


def _open_terminal(path: str) -> int | None:
    """Open a terminal; return None if that is none."""
    if not os.readlink(path).startswith(("/dev/pts/", "/dev/tty")):
        return None
    fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    if os.isatty(fd):
        return fd
    os.close(fd)
    return None


class Footer:
    """The lines at the bottom.

    Args:
        terminal: The terminal, as `find_terminal` returns it.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._size = (0, 0)  # columns, rows
        self._count = 0  # lines that do not scroll

    @property
    def columns(self) -> int:
        """How wide the terminal is; 0 if it is too small."""
        try:
            columns, rows = os.get_terminal_size(self._terminal.size)
        except OSError:
            return 0
        if columns < LEAST_COLUMNS or rows < LEAST_ROWS:
            return 0
        return columns

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines, in the place of those before."""
        text = ""
        try:
            size = tuple(os.get_terminal_size(self._terminal.size))
        except OSError:
            return
        if (size, len(lines)) != (self._size, self._count):
            text = self._clear()
            self._size, self._count = (size[0], size[1]), len(lines)
            text += self._reserve()
        rows = self._size[1]
        for at, line in enumerate(lines, rows - len(lines) + 1):
            text += f"{SAVE}\x1b[{at};1H\x1b[2K{line}{RESTORE}"
        self._write(text)

    def say(self, line: str) -> None:
        """Print a line above, which scrolls as others do.

        Spaces take the cursor to the next line if it is not at the beginning of one.
        """
        blank = " " * max(self.columns - 1, 0)
        self._write(f"{blank}\r\x1b[K{line}\n")

    def close(self) -> None:
        """Take the lines away; another call of `show` brings them back."""
        self._write(self._clear())
        self._count = 0
        self._size = (0, 0)

    def _reserve(self) -> str:
        """Return what keeps the lines from scrolling."""
        count, rows = self._count, self._size[1]
        if not count:
            return ""
        room = DOWN * count + f"\x1b[{count}A"
        return f"{room}{SAVE}\x1b[1;{rows - count}r{RESTORE}"

    def _clear(self) -> str:
        """Return what lets the whole screen scroll again, without the lines."""
        count, rows = self._count, self._size[1]
        if not count:
            return ""
        lines = "".join(f"\x1b[{rows - at};1H\x1b[2K" for at in range(count))
        return f"{SAVE}{WHOLE_SCREEN}{lines}{RESTORE}"

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._terminal.whole_lines and not text.endswith("\n"):
            text += IN_PLACE
        with contextlib.suppress(OSError):  # nobody looks any more
            os.write(self._terminal.output, text.encode(errors="replace"))
