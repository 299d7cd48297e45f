"""Exceptions of user code that runs here: a key's function, the unpickling of a result.

Whatever class they have, they are that call's. Only Ctrl-C is not, which raises its
KeyboardInterrupt in the midst of any code.
"""

from __future__ import annotations

import dis
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpitasks
from mpitasks.wire.diagnose import describe

__all__ = ["BadKey", "is_interrupt", "key_of_user", "told"]

_OURS = str(Path(mpitasks.__file__).parent)
_RAISE = dis.opmap["RAISE_VARARGS"]


def is_interrupt(error: BaseException) -> bool:
    """Whether it comes of Ctrl-C: no statement of the user's has raised it."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_code[trace.tb_lasti] != _RAISE or code.co_filename.startswith(_OURS)


class BadKey(Exception):
    """The user's function for the key of a call raised: that is what the call does.

    Attributes:
        error: What it raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def key_of_user(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what the user's function gives for the key of a call.

    Raises:
        BadKey: It raised.
    """
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise BadKey(error) from error


def told(error: BaseException) -> str:
    """Return an exception of the user's as text, whatever its own methods do."""
    try:
        return describe(error)
    except BaseException as another:
        if is_interrupt(another):
            raise
        return type(error).__name__
