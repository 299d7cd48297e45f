"""Forked children of a process of the run: nothing of the run goes on in them.

User code may fork: `multiprocessing` does by default, and `os.fork` is there. The child
is a copy of the rank, with MPI, sockets and signal handlers that are not its own, and
with the frames of ours that have called the user's code. So in the child what is ours
is put out of use, by functions that its owners give to `in_child`; and where the user's
code comes back to ours, `leave` ends the child, as Python ends a program.

Nobody pays for it who does not fork: a flag is set in the child.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from mpitasks.errors import ConfigurationError

__all__ = ["EndOfChild", "at_exit", "begin", "forked", "in_child", "leave", "refuse"]

_begun = False
_forked = False
_hooks: list[Callable[[], object]] = []


def begin() -> None:
    """This process is one of a run: what is forked from it from now on is none."""
    global _begun, _forked
    _begun, _forked = True, False


def forked() -> bool:
    """Whether this process was forked from one of a run."""
    return _forked


def in_child(hook: Callable[[], object]) -> None:
    """Have `hook` called in each forked child, before user code goes on there."""
    _hooks.append(hook)


def at_exit(function: Callable[..., object], *args: Any) -> None:
    """As `atexit.register`, but for this process only."""
    atexit.register(_call_unless_forked, function, *args)


def refuse() -> NoReturn:
    """Say that a forked child is no part of the run.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(
        f"this process (pid {os.getpid()}) was forked from one of a run and is no part "
        f"of it: an Executor and its futures work only in the process that made them"
    )


def leave(error: BaseException | None = None) -> None:
    """End this process if it is a forked child; where user code has come back.

    As Python does at the end of a program: threads, exit functions, what was written.

    Args:
        error: What the user's code has raised.
    """
    if _forked:
        _end(error)


class EndOfChild:
    """In a forked child, in the place of what our code would go on with: `leave`."""

    def __getattr__(self, name: str) -> Any:
        leave(sys.exc_info()[1])
        raise AttributeError(name)


def _after_fork() -> None:
    global _forked
    if _begun:
        _forked = True
        _disown_pools()
        for hook in _hooks:
            with contextlib.suppress(Exception):
                hook()


def _disown_pools() -> None:
    """The processes of `multiprocessing` are the parent's: an exit must not end them.

    It would, in the middle of their work, and the parent could hang.
    """
    processes: Any = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes._children = set()


os.register_at_fork(after_in_child=_after_fork)


def _call_unless_forked(function: Callable[..., object], *args: Any) -> None:
    if not _forked:
        function(*args)


def _end(error: BaseException | None) -> NoReturn:
    code = 1
    try:
        code = _exit_code(error)
        # mypy: the stubs leave out both, which Python calls in this order.
        for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
            try:
                step()
            except BaseException as raised:
                sys.excepthook(type(raised), raised, raised.__traceback__)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    """Return the code that Python would exit with; print what it would."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_globals):
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)
    return 1


def _is_ours(names: dict[str, Any]) -> bool:
    return str(names.get("__name__")).startswith("mpitasks.")
