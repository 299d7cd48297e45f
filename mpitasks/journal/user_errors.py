"""Exceptions of user code that runs here: a key's function, the unpickling of a result.

Whatever class they have, they are that call's. Only Ctrl-C is not, which raises its
KeyboardInterrupt in the midst of any code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpitasks.wire.interrupts import interrupts

__all__ = ["BadKey", "key_of_user"]


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
        if interrupts(error):
            raise
        raise BadKey(error) from error
