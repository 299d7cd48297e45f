"""Told apart: who interrupts the script, and user code that raises as if it did.

What runs while objects are pickled and unpickled is the user's, and may raise anything,
`KeyboardInterrupt` too; on rank 0 such an error is one call's. But Ctrl-C comes as the
same exception in the same place, and must end the script. It is known by where it
starts: a signal handler of Python's own leaves no frame, so the innermost frame of the
traceback is one that did not raise anything; any other handler is a frame itself.
"""

from __future__ import annotations

import threading
from typing import Any

from mpitasks.errors import Stopped

__all__ = ["interrupts"]


def interrupts(error: BaseException) -> bool:
    """Whether an exception that user code let out comes from a signal, not from it.

    Args:
        error: The exception, with its traceback.
    """
    if isinstance(error, Stopped):
        return True
    if not isinstance(error, KeyboardInterrupt):
        return False
    if threading.current_thread() is not threading.main_thread():
        return False  # where no handler runs
    if type(error).__module__.startswith("mpitasks."):
        return True  # our own handler's
    import opcode
    import signal

    trace = error.__traceback__
    if trace is None:
        return True
    handler = _code_of(signal.getsignal(signal.SIGINT))
    while trace.tb_next is not None:
        if handler is not None and trace.tb_frame.f_code is handler:
            return True
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    raised = code.co_code[trace.tb_lasti] == opcode.opmap["RAISE_VARARGS"]
    return code is handler or not raised


def _code_of(handler: Any) -> Any:
    """Return the code of a signal handler, if it is written in Python."""
    for _ in range(8):
        code = getattr(handler, "__code__", None)
        if code is not None:
            return code
        handler = getattr(handler, "func", None) or getattr(handler, "__func__", None)
    return None
