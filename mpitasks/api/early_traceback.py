"""What a script raises inside ``with Executor()``, said before tasks are waited for.

An Executor waits at its end, as those of the standard library do, so Python would show
the traceback only when all tasks are done. Here it is shown at once, if they take long;
and at the end of the script one line takes its place.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from mpitasks.api.session import ExecutorHandle

__all__ = ["tell_and_wait"]

QUIET_SECONDS = 0.5
"""With tasks that end so soon, Python shows the traceback, as always."""

_MARK = "_mpitasks_told"
"""An attribute of exceptions whose traceback was shown."""

_RUNNERS = ("mpitasks", "runpy")


def tell_and_wait(handle: ExecutorHandle, error: BaseException) -> None:
    """Wait for what is outstanding, as the end of an Executor does, and say so.

    Args:
        handle: The Executor's.
        error: What the script raised.
    """
    event_loop = handle.event_loop
    if event_loop.is_shut or event_loop.finish(QUIET_SECONDS, handle):
        return
    if isinstance(error, Exception):
        _show(error)
    count = event_loop.outstanding
    what = (
        "1 task, Ctrl-C to drop it"
        if count == 1
        else f"{count} tasks, Ctrl-C to drop them"
    )
    _say(f"waiting for {what}")


def _show(error: Exception) -> None:
    """Print the traceback, now and not again at the end of the script."""
    import traceback

    trace = error.__traceback__
    try:
        told = traceback.TracebackException(type(error), error, trace)
        frames = [*_callers(trace), *told.stack]
        told.stack = traceback.StackSummary.from_list(frames)
        sys.stderr.write("".join(told.format()))
        sys.stderr.flush()
        setattr(error, _MARK, True)
    except Exception:  # of the user's exception, or stream: Python shows it later
        return
    if sys.excepthook is sys.__excepthook__:  # another one wants to know all of it
        sys.excepthook = _end_with_line


def _callers(trace: TracebackType | None) -> list[Any]:
    """Return what called the code that has the Executor, without what runs scripts."""
    import traceback

    frames = []
    frame: FrameType | None = None if trace is None else trace.tb_frame.f_back
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] in _RUNNERS:
            break
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return list(traceback.StackSummary.extract(reversed(frames)))


def _end_with_line(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show a traceback as Python's own hook does; name one that was shown already."""
    if not getattr(error, _MARK, False):
        sys.__excepthook__(kind, error, trace)
        return
    import traceback

    (*_, last) = traceback.format_exception_only(kind, error)
    _say(f"the script ended with the exception above, {last.strip()}")


def _say(text: str) -> None:
    with contextlib.suppress(Exception):  # whatever users have put there
        print(f"mpitasks: {text}", file=sys.stderr, flush=True)
