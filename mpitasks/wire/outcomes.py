"""Results and exceptions of tasks <-> outcomes that can always be sent.

Whatever a task returns or raises, exactly one outcome of it leaves the worker: a
value that cannot be pickled becomes the `SerializationError` that says so, an
exception that cannot be pickled a `RemoteError` with the same text. And whatever
arrives at the master becomes a value or a `Failure`: what cannot be unpickled there
fails the one task, or the one item, that it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpitasks.errors import RemoteError, RemoteTraceback, SerializationError
from mpitasks.wire import codec
from mpitasks.wire.codec import Buffer
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import ERROR, ITEMS, LIST, PLAIN, VALUE

__all__ = [
    "Failure",
    "Form",
    "decode_outcome",
    "encode_error",
    "encode_items",
    "encode_value",
    "form_bytes",
]

Form = tuple[int, Any, list[Buffer]]
"""(form, payload, buffers); see `mpitasks.wire.messages`."""


class Failure:
    """What a task or an item raised, in the place of its result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def encode_value(value: Any, where: str) -> Form:
    """Encode what a task returned."""
    if codec.is_plain((value,)):
        return PLAIN, value, []
    try:
        frame, buffers = codec.encode(value, "the result")
    except SerializationError as error:
        return encode_error(error, where)
    return VALUE, frame, buffers


def encode_error(error: BaseException, where: str, text: str | None = None) -> Form:
    """Encode what a task raised, with its traceback as text.

    Args:
        error: The exception; the first entry of its traceback is the worker's own.
        where: Rank and host, for the head of the traceback.
        text: The traceback, if it is known already.
    """
    import traceback

    if text is None:
        trace = error.__traceback__
        user_trace = trace.tb_next if trace is not None else None
        lines = traceback.format_exception(type(error), error, user_trace)
        text = f"Traceback from {where}:\n{''.join(lines)}"
    try:
        frame, buffers = codec.encode((error, text), "the exception")
        codec.decode(frame, buffers)  # many exceptions pickle, but do not unpickle
    except Exception as unfit:
        named = "".join(traceback.format_exception_only(type(error), error)).strip()
        reason = _first_line(_fault_of(error) or unfit)
        stand_in = RemoteError(f"{named} [sent as text: {reason}]")
        frame, buffers = codec.encode((stand_in, text), "the exception")
    return ERROR, frame, buffers


def encode_items(values: Sequence[Any], where: str) -> Form:
    """Encode the results of a chunk, where a `Failure` stands for an exception."""
    if codec.all_plain(values):
        return LIST, codec.encode_plain(values), []
    items = []
    buffers = []
    for value in values:
        if type(value) is Failure:
            form, payload, own = encode_error(value.error, where)
        else:
            form, payload, own = encode_value(value, where)
        items.append((form, payload, len(own)))
        buffers += own
    return ITEMS, items, buffers


def decode_outcome(
    form: int, payload: Any, buffers: list[Buffer], label: str | None = None
) -> Any:
    """Return the value that arrived, or a `Failure`; a list of both for a chunk.

    Args:
        form: What the payload is.
        payload: As it stands in the message.
        buffers: The buffers that belong to it.
        label: The task's name, for the head of its traceback.
    """
    if form == PLAIN:
        return payload
    if form == ITEMS:
        buffers.reverse()
        values = []
        for item_form, item, count in payload:
            own = [buffers.pop() for _ in range(count)]
            values.append(decode_outcome(item_form, item, own, label))
        return values
    try:
        value = codec.decode(payload, buffers)
    except (Exception, SystemExit) as error:
        what = "exception" if form == ERROR else "result"
        failure = SerializationError(
            f"the {what} of a task cannot be unpickled on rank 0: {describe(error)}"
        )
        failure.__cause__ = error
        return Failure(failure)
    if form == ERROR:
        raised, text = value
        head = "" if label is None else f"Task {label!r}: "
        raised.__cause__ = RemoteTraceback(head + text)
        return Failure(raised)
    return value


def form_bytes(form: int, payload: Any, buffers: list[Buffer]) -> int:
    """Return what an outcome weighs in a message; plain values weigh nothing."""
    frames = payload if form == ITEMS else [(form, payload, 0)]
    own = sum(len(frame) for kind, frame, _ in frames if kind != PLAIN)
    return own + sum(map(len, buffers))


def _fault_of(error: BaseException) -> Exception | None:
    """Return what is said of an exception that cannot be pickled, on its own."""
    try:
        codec.encode(error, "the exception")
    except Exception as fault:
        return fault
    return None


def _first_line(error: BaseException) -> str:
    return describe(error).splitlines()[0][:200]
