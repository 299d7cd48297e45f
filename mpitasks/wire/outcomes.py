"""Results and exceptions of tasks <-> outcomes that can always be sent.

Whatever a task returns or raises, exactly one outcome of it leaves the worker: a
value that cannot be pickled becomes the `SerializationError` that says so, an
exception that cannot be pickled a `RemoteError` with the same text. An outcome is what
the task returned when it did: it owns its memory, whatever the next task does. And
whatever arrives at the master becomes a value or a `Failure`: what cannot be unpickled
there fails the one task, or the one item, that it belongs to.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import RemoteError, RemoteTraceback, SerializationError
from mpitasks.wire import codec
from mpitasks.wire.codec import Buffer
from mpitasks.wire.diagnose import describe
from mpitasks.wire.exceptions import carried, set_cause
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.messages import ERROR, ITEMS, LIST, PLAIN, VALUE

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Failure",
    "Form",
    "Sealed",
    "decode_outcome",
    "encode_error",
    "encode_items",
    "encode_result",
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


class Sealed:
    """The outcome of an item in the place of its result, encoded when it came."""

    __slots__ = ("form",)

    def __init__(self, form: Form) -> None:
        self.form = form


def encode_result(box: list[Any], where: str) -> Form:
    """Encode what a task returned, as it is now.

    Args:
        box: The value alone, which is taken out: nothing else of ours may refer to it,
            since memory that nobody else has is not copied.
        where: Rank and host, for the head of a traceback.
    """
    value = box.pop()
    try:
        if codec.is_plain((value,)):
            return PLAIN, value, []
        frame, buffers = codec.encode(value, "the result")
        if buffers:
            from mpitasks.wire.owning import copied, is_inert, own

            if is_inert(value):
                del value
                buffers = own(buffers)
            else:
                buffers = [copied(buffer) for buffer in buffers]
    except SerializationError as error:
        return encode_error(error, where)
    except BaseException as error:
        return encode_error(_unsent(error), where)
    return VALUE, frame, buffers


def encode_value(value: Any, where: str) -> Form:
    """Encode a value that the caller still has: as `encode_result`, copying it."""
    return encode_result([value], where)


def encode_error(error: BaseException, where: str, text: str | None = None) -> Form:
    """Encode what a task raised, with its traceback as text.

    Args:
        error: The exception; the first entry of its traceback is the worker's own.
        where: Rank and host, for the head of the traceback.
        text: The traceback, if it is known already.
    """
    try:
        if text is None:
            text = _traceback(error, where)
        try:
            carrier = carried(error, _named(error))
        except BaseException as unfit:
            carrier = _stand_in(error, unfit)
        return ERROR, pickle.dumps((carrier, text), 5), []
    except BaseException as unfit:  # there is hardly room for anything
        stand_in = RemoteError(f"{type(error).__name__} [sent without its text]")
        text = f"Traceback from {where}: not there, {type(unfit).__name__}"
        return ERROR, pickle.dumps((stand_in, text), 5), []


def encode_items(values: Sequence[Any], where: str) -> Form:
    """Encode the results of a chunk: plain values, and outcomes that are sealed."""
    if codec.all_plain(values):
        return LIST, codec.encode_plain(values), []
    items = []
    buffers = []
    for value in values:
        form, payload, own = (
            value.form if type(value) is Sealed else encode_result([value], where)
        )
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

    Raises:
        BaseException: The script is interrupted by a signal.
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
        if form == ERROR:
            raised, text = value
            head = "" if label is None else f"Task {label!r}: "
            set_cause(raised, RemoteTraceback(head + text))
            return Failure(raised)
    except BaseException as error:
        if interrupts(error):
            raise
        if isinstance(error, MemoryError):
            return Failure(error)
        what = "exception" if form == ERROR else "result"
        failure = SerializationError(
            f"the {what} of a task cannot be unpickled on rank 0: {describe(error)}"
        )
        failure.__cause__ = error
        return Failure(failure)
    return value


def form_bytes(form: int, payload: Any, buffers: list[Buffer]) -> int:
    """Return what an outcome weighs in a message; plain values weigh nothing."""
    frames = payload if form == ITEMS else [(form, payload, 0)]
    own = sum(len(frame) for kind, frame, _ in frames if kind != PLAIN)
    return own + sum(map(len, buffers))


def _traceback(error: BaseException, where: str) -> str:
    """Return the traceback of an exception without the entries of the worker's own."""
    import traceback

    trace = error.__traceback__
    user_trace = trace.tb_next if trace is not None else None
    while user_trace is not None and _is_ours(user_trace):
        user_trace = user_trace.tb_next
    try:
        lines = traceback.format_exception(type(error), error, user_trace)
    except BaseException:  # code of the user runs here, too
        lines = [*traceback.format_tb(user_trace), _named(error)]
    return f"Traceback from {where}:\n{''.join(lines)}"


def _is_ours(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith("mpitasks.worker.")


def _named(error: BaseException) -> str:
    """Return the last line of a traceback: the type and text of an exception."""
    import traceback

    try:
        lines = traceback.format_exception_only(type(error), error)
    except BaseException:
        return type(error).__name__
    return "".join(lines).strip()


def _unsent(error: BaseException) -> BaseException:
    """Return what a task fails with whose result could not be encoded."""
    if isinstance(error, MemoryError):
        return error  # there is no room for a copy
    name = type(error).__name__
    failure = SerializationError(f"the result cannot be pickled: {name}")
    failure.__cause__ = error
    return failure


def _stand_in(error: BaseException, unfit: BaseException) -> RemoteError:
    """Return what goes in the place of an exception that cannot be sent."""
    try:
        codec.encode(error, "the exception")
    except BaseException as fault:  # what is said of it on its own
        unfit = fault
    reason = describe(unfit).partition("\n")[0][:200]
    return RemoteError(f"{_named(error)} [sent as text: {reason}]")
