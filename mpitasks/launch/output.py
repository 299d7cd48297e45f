"""A rank's standard streams: whole lines out, nothing in, flushed whatever they are.

The user's code may have put anything in their place, and may have closed them.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from mpitasks import exit_codes
from mpitasks.launch.environment import launch_hint

__all__ = [
    "buffer_lines",
    "drop_unflushable",
    "empty_input",
    "finish_printing",
    "flush",
]

"""Nobody reads what a verb prints: the code that other programs end with then."""


def buffer_lines() -> None:
    """Let output leave line by line: launchers read from pipes.

    Unbuffered (PYTHONUNBUFFERED), a line and its end would be two writes, and lines of
    several ranks would mix; workers have no prompts to show, so theirs stay whole.
    """
    hint = launch_hint()
    through = None if hint is None or hint.rank == 0 else False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=through)


def empty_input() -> None:
    """On a worker: let standard input be empty.

    MPICH's mpiexec gives it a pipe that nobody writes to and nobody closes, so a task,
    or a program that it starts, would wait for ever. If it was closed at the start it
    stays closed: its number may be that of another file by now.
    """
    if sys.stdin is None:
        return
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)


def drop_unflushable() -> None:
    """At the very end: let Python flush nothing that cannot be, and so exit with 120.

    Errors of files stay: output that is lost is worth that exit code.
    """
    for name in ("stdout", "stderr"):
        try:
            with contextlib.suppress(OSError, ValueError):
                getattr(sys, name).flush()
        except (AttributeError, TypeError):
            setattr(sys, name, None)


def finish_printing(failure: OSError | None = None) -> int:
    """Write out what was printed; drop what cannot be written, and say so.

    Python would complain about it at the very end. A closed pipe is no reason for a
    line: its reader wants no more.

    Args:
        failure: What printing has raised already, if anything.

    Returns:
        0, or an exit code that tells why not all was written.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            with contextlib.suppress(AttributeError, ValueError):  # None, or closed
                stream.flush()
        except OSError as error:
            failure = failure or error
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
    if failure is None:
        return 0
    if isinstance(failure, BrokenPipeError):
        return exit_codes.PIPE
    with contextlib.suppress(Exception):
        print(f"mpitasks: cannot write: {failure.strerror}", file=sys.stderr)
        sys.stderr.flush()
    return exit_codes.OUTPUT


def flush() -> None:
    """Have written out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # None, closed, or what users put there
            stream.flush()
