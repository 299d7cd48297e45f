"""Runs the user's code: one call, or one item of a chunk, and encodes what it comes to.

The rank and the child of its sandbox both run tasks by these functions. Whatever user
code raises, here or while it is unpickled or pickled, becomes the outcome of the call
or the item. No lock of ours may be held by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpitasks import forks
from mpitasks.runner.mirror import Unloadable, unpickle
from mpitasks.runner.nesting import close_opened, opened
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    CALL_PLAIN,
    MAP,
    PLAIN,
    STARMAP,
    STARMAP_PLAIN,
)
from mpitasks.wire.outcomes import encode_error, encode_result

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.outcomes import Form

__all__ = ["run_call", "run_item", "with_limit"]

_SPREAD = (STARMAP, STARMAP_PLAIN)
_FRAMED = (MAP, STARMAP)


def run_call(
    function: Callable[..., Any],
    mode: int,
    payload: Any,
    buffers: list[Buffer],
    where: str,
) -> Form:
    """Run a call.

    Args:
        function: The function.
        mode: CALL_PLAIN or CALL.
        payload: The arguments, as in a message.
        buffers: Those of the arguments, which are taken out.
        where: Rank and host, for the head of tracebacks.
    """
    try:
        args, kwargs = payload, None
        if mode != CALL_PLAIN:
            if type(function) is Unloadable:
                function()  # or the arguments are blamed, which need the same
            args, kwargs = unpickle(payload, buffers, "the arguments", where)
            buffers.clear()
        value = function(*args, **kwargs) if kwargs else function(*args)
        forks.leave()
        if opened:
            close_opened()
        if id(type(value)) in codec.SCALAR_IDS:
            return PLAIN, value, []
        del args, kwargs  # what they still refer to dies before the value is sent
        box = [value]
        del value
        return encode_result(box, where)
    except BaseException as error:  # whatever it is, it belongs to the task
        forks.leave(error)
        return _failure(error, where)


def run_item(
    function: Callable[..., Any],
    mode: int,
    item: Any,
    buffers: list[Buffer],
    where: str,
) -> Form:
    """Run an item of a chunk.

    Args:
        function: The function.
        mode: That of the chunk.
        item: The item itself if the chunk is of plain items; its frame, if not.
        buffers: Those of the item, which are taken out.
        where: Rank and host, for the head of tracebacks.
    """
    try:
        if type(function) is Unloadable:
            function()  # or the item would be blamed, which needs the same
        if mode in _FRAMED:
            item = unpickle(item, buffers, "an item", where)
            buffers.clear()
        value = function(*item) if mode in _SPREAD else function(item)
        forks.leave()
        if opened:
            close_opened()
        if id(type(value)) in codec.SCALAR_IDS:
            return PLAIN, value, []
        del item
        box = [value]
        del value
        return encode_result(box, where)
    except BaseException as error:  # whatever it is, it belongs to the item
        forks.leave(error)
        return _failure(error, where)


def _failure(error: BaseException, where: str) -> Form:
    """Return what a call or an item comes to that has raised."""
    if opened:
        try:
            close_opened(error)
        except BaseException as second:  # which is the later one, as in the script
            error = second
    return encode_error(error, where)


def with_limit(
    function: Callable[..., Any], seconds: float | None
) -> Callable[..., Any]:
    """Return a function whose calls may take this time each; None for any time."""
    if seconds is None:
        return function
    from mpitasks.runner.limits import Limited

    return Limited(function, seconds)
