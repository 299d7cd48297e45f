"""The end of a rank that cannot go on: whose fault it is, in one line, and out.

A task that is not isolated shares the process of its rank. What it does to that may
break our loop: then the rank is lost, as if it had been killed, and the others hear so
(`mpitasks.master.failure_detector`). Only what no task can be blamed for is an internal
error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from mpitasks import exit_codes
from mpitasks.errors import TransportError
from mpitasks.runner import damage

if TYPE_CHECKING:
    from types import TracebackType

    from mpitasks.worker.loop import Worker

__all__ = ["end_rank"]

TRIES = 100
"""For what a handler of a task may interrupt each time."""

_EXHAUSTED = {errno.EBADF, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTSOCK}
"""What the system says where files were closed, or none may be opened any more."""


def end_rank(worker: Worker, where: str, abort: Callable[[int], NoReturn]) -> NoReturn:
    """Say why the loop of this rank has failed, with what is being raised, and end it.

    Args:
        worker: The rank's.
        where: Rank, host and process.
        abort: Ends the whole job with an exit code.
    """
    error = sys.exc_info()[1]
    assert error is not None
    try:
        _silence()
        _say_why(worker, where, error, abort)
    finally:  # a death that no launcher overlooks: see `mpitasks.worker.exits`
        while True:
            with contextlib.suppress(BaseException):
                os.kill(os.getpid(), signal.SIGKILL)


def _silence() -> None:
    """Let no signal handler of a task raise any more, wherever we are."""
    for number in signal.valid_signals():
        for _ in range(TRIES):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):  # it has no handler
                break
            except BaseException:  # one was called first, and raised
                continue
            break


def _say_why(
    worker: Worker, where: str, error: BaseException, abort: Callable[[int], NoReturn]
) -> None:
    replaced = damage.restore()
    reason = _reason(error, replaced)
    with contextlib.suppress(Exception):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    if reason is None:
        if not isinstance(error, TransportError):
            sys.__excepthook__(type(error), error, error.__traceback__)
        _say(f"{where} cannot go on: {_described(error)}")
        abort(exit_codes.INTERNAL)
    task, label = worker.name_task()
    name = "" if label is None else f", {label!r}"
    last = "" if task is None else f" (the last was task {task}{name})"
    _say(
        f"{where} cannot go on ({_described(error)}): a task that it ran{last} has "
        f"{reason}; with isolate=True it would have broken a process of its own"
    )


def _reason(error: BaseException, replaced: list[str]) -> str | None:
    """Return what tasks have done; None if it may be none of their doing."""
    if replaced:
        more = f" and {len(replaced) - 4} more" if len(replaced) > 4 else ""
        return f"replaced what mpitasks needs: {', '.join(replaced[:4])}{more}"
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return "closed or used up files that mpitasks needs"
    if isinstance(error, (MemoryError, RecursionError)):
        return "left it without room"
    place = _foreign(error.__traceback__)
    if place is not None:
        return f"left something behind that raises, in {place}"
    return None


def _foreign(trace: TracebackType | None) -> str | None:
    """Return where it was raised, if that is neither ours nor of a library of ours."""
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    module = str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0]
    if module in ("mpitasks", "mpi4py", "numpy") or module in sys.stdlib_module_names:
        return None
    return f"{code.co_name} ({code.co_filename}, line {trace.tb_lineno})"


def _described(error: BaseException) -> str:
    try:
        return repr(error)
    except BaseException:  # code of the user
        return type(error).__name__


def _say(text: str) -> None:
    """Write one line at once, whatever became of the standard streams."""
    with contextlib.suppress(OSError):
        os.write(2, f"mpitasks: {text}\n".encode())
