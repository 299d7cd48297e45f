"""``mpitasks top JOBID|FILE``: a live view of a run in a terminal.

It reads the status file that rank 0 writes every two seconds, and asks the run nothing.
`mpitasks.tools.top.picture` says what is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.errors import ConfigurationError
from mpitasks.launch.verbs import UsageError, VerbParser
from mpitasks.observe import status as statuses

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mpitasks.observe.status import Status

__all__ = ["main", "parse"]

LOOK_SECONDS = 0.5
"""Between two looks at the file. A key is answered at once."""

MISSING = "mpitasks top needs rich: pip install 'mpitasks[top]'"

EPILOG = """\
A run inside a SLURM job writes its status file by itself; any other one does so with
--status FILE:   mpiexec -n 8 python -m mpitasks --status fit.status fit.py

q ends it. Without a terminal it prints one table and ends."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``top`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks top",
        description="Show a running job live: how far it is, what each worker runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "target", metavar="JOBID|FILE", help="a job of SLURM, or a status file"
    )
    return parser.parse_args(words)


def main(options: argparse.Namespace) -> None:
    """Show the run until it is over, or somebody types q.

    Raises:
        ConfigurationError: There is nothing to show, or rich is missing.
        SlurmError: SLURM does not know the job.
    """
    try:
        from rich.console import Console
    except ImportError:
        raise ConfigurationError(MISSING) from None
    from mpitasks.tools.top.picture import picture

    path, head = _find(options.target)
    console = Console()
    if not (console.is_terminal and sys.stdin is not None and sys.stdin.isatty()):
        status = statuses.read(path)
        width = console.width
        console.print(picture(status, time.time(), width=width, height=None, head=head))
        return
    _live(path, head)


def _find(target: str) -> tuple[str, str]:
    """Return the status file that is meant, and a line about its job.

    Raises:
        UsageError: It is neither a file nor a job.
        ConfigurationError: The job has not begun to write one.
    """
    if os.path.lexists(target):
        return target, ""
    if not re.fullmatch(r"\d+(_\d+)?", target):
        raise UsageError(f"{target!r} is neither a file here nor the id of a job")
    from mpitasks.slurm import show

    records = show.ask(target)
    if len(records) != 1:
        raise UsageError(
            f"job {target} is an array of {len(records)}: name one of them, as "
            f"{records[0].id}; mpitasks status {target} shows all"
        )
    path = show.status_path(records[0])
    if path is None:
        state = records[0].state
        raise ConfigurationError(f"job {target} ({state}) has no status file yet")
    return path, f"job {records[0].id} ({records[0].name})"


def _live(path: str, head: str) -> None:
    """Show the file again and again, until the run is over or a key ends it.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    from rich.console import Console
    from rich.live import Live

    from mpitasks.tools.top.picture import picture

    console = Console()
    status: Status = statuses.read(path)

    def shown() -> RenderableType:
        width, height = console.size
        return picture(status, time.time(), width=width, height=height, head=head)

    with _keys() as fd, Live(console=console, screen=True, auto_refresh=False) as live:
        while not status.over:
            live.update(shown(), refresh=True)
            if _quits(fd):
                break
            status = statuses.read(path)
    console.print(
        picture(status, time.time(), width=console.width, height=None, head=head)
    )


@contextlib.contextmanager
def _keys() -> Iterator[int]:
    """Have keys come at once and unseen for a while."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _quits(fd: int) -> bool:
    """Wait for a moment; return whether somebody has typed q, or hung up."""
    if not select.select([fd], [], [], LOOK_SECONDS)[0]:
        return False
    typed = os.read(fd, 64)
    return not typed or b"q" in typed.lower() or b"\x03" in typed
