"""A rank's standard streams: whole lines out, nothing in, flushed whatever they are.

The user's code may have put anything in their place, and may have closed them.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from mpitasks.launch.environment import launch_hint

__all__ = ["buffer_lines", "drop_unflushable", "empty_input", "flush"]


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


def flush() -> None:
    """Have written out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # None, closed, or what users put there
            stream.flush()
