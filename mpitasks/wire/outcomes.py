"""Results and exceptions of tasks <-> outcomes that can always be sent.

Whatever a task returns or raises, exactly one outcome of it leaves the worker: a
value that cannot be pickled becomes the `SerializationError` that says so, an
exception that cannot be pickled a `RemoteError` with the same text. An outcome is what
the task returned when it did: it owns its memory, whatever the next task does.

On the master an outcome stays `Encoded` until somebody asks for it, since unpickling
runs code of the user. Then it becomes a value or a `Failure`: what cannot be unpickled
fails the one task, or the one item, that it belongs to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pickle import dumps
from typing import TYPE_CHECKING, Any

from mpitasks.errors import RemoteError, RemoteTraceback, SerializationError
from mpitasks.wire import codec
from mpitasks.wire.codec import Buffer
from mpitasks.wire.diagnose import describe
from mpitasks.wire.exceptions import add_note, carried, set_cause, twin
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.messages import ERROR, ITEMS, KEPT, LIST, PLAIN, SHARED, VALUE
from mpitasks.wire.missing_buffers import Missing

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Deferred",
    "Encoded",
    "Failure",
    "Form",
    "Found",
    "Name",
    "Sealed",
    "Special",
    "decode_outcome",
    "encode_error",
    "encode_items",
    "encode_result",
    "encode_value",
    "error_of",
    "form_bytes",
    "has_failed",
    "not_run",
    "repeated",
    "split_items",
    "undecoded",
]

Form = tuple[int, Any, list[Buffer]]
"""(form, payload, buffers); see `mpitasks.wire.messages`."""


Name = Callable[[], str]
"""Returns what messages call a task."""


class Failure:
    """What a task or an item raised, in the place of its result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Deferred:
    """Stands for a result that is read when its turn comes."""

    __slots__ = ()

    def fetch(self) -> Any:
        """Return the result, or the `Failure` that it was."""
        raise NotImplementedError


class Encoded(Deferred):
    """An outcome as it came from its worker.

    Attributes:
        failed: Whether it is an exception.
    """

    __slots__ = ("_buffers", "_label", "_lent", "_payload", "failed")

    def __init__(
        self, form: int, payload: Any, buffers: list[Buffer], label: str | None = None
    ) -> None:
        self.failed = form == ERROR
        self._payload = payload
        self._buffers = buffers
        self._label = label
        self._lent = False

    @property
    def is_special(self) -> bool:
        """Whether it came from no worker, or stayed there."""
        return isinstance(self._payload, Special)

    @property
    def nbytes(self) -> int:
        """What it weighs in a message."""
        return form_bytes(VALUE, self._payload, self._buffers)

    def lend(self) -> Form:
        """Return it as it stands in a message, for another task.

        From now on its memory is not given to whoever asks for the value.
        """
        self._lent = True
        return ERROR if self.failed else VALUE, self._payload, self._buffers

    def fetch(self) -> Any:
        form = ERROR if self.failed else VALUE
        if isinstance(self._payload, Special):
            return self._payload.fetch()
        buffers = self._buffers
        if self._lent and buffers:
            from mpitasks.wire.ownership import copied

            try:
                buffers = [copied(buffer) for buffer in buffers]
            except MemoryError as error:
                return Failure(error)
        return decode_outcome(form, self._payload, buffers, self._label)


class Special:
    """In the place of the payload of an `Encoded` outcome that no worker has sent."""

    __slots__ = ()

    def fetch(self) -> Any:
        """Return the value, or a `Failure`."""
        raise NotImplementedError


class Found(Special):
    """A value that was computed in an earlier run, until somebody asks for it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def fetch(self) -> Any:
        """Return the value."""
        return self.value


class NotRun(Special):
    """Stands for the payload of an outcome of a task that was not run.

    Another task has failed, whose result it needs. Whoever asks for the outcome gets
    an exception of their own, with a note that names both tasks.
    """

    __slots__ = ("cause", "named", "outcome")

    def __init__(self, outcome: Any, cause: Name, named: Name) -> None:
        self.outcome = outcome
        self.cause = cause
        self.named = named

    def fetch(self) -> Failure:
        """Return what the other task failed with, with the note."""
        outcome = self.outcome
        if isinstance(outcome, Deferred):
            failure = outcome.fetch()
        else:
            failure = Failure(twin(outcome.error))
        add_note(failure.error, self._text())
        return failure  # type: ignore[no-any-return]

    def _text(self) -> str:
        needs = "it needs the result of {}, which failed"
        try:
            return f"{self.named()} was not run: {needs.format(self.cause())}"
        except BaseException as wordless:  # a label of the user's own class
            if interrupts(wordless):
                raise
            return f"a task was not run: {needs.format('another')}"


def not_run(outcome: Any, cause: Name, named: Name) -> Encoded:
    """Return the outcome of a task that needs the result of one that has failed.

    Args:
        outcome: What that one came to: a `Failure`, or an `Encoded` outcome. If it was
            not run itself, the task that has failed is the one to name.
        cause: Returns what messages call it. A label may run code of the user, so that
            is made when somebody asks for the outcome.
        named: Returns what they call the task that is not run.
    """
    if type(outcome) is Encoded and type(outcome._payload) is NotRun:
        first = outcome._payload
        outcome, cause = first.outcome, first.cause
    return Encoded(ERROR, NotRun(outcome, cause, named), [])


class _Repeated(Special):
    """Stands for the payload of an outcome that several tasks have."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def fetch(self) -> Failure:
        """Return the exception: whoever asks for it gets one of their own."""
        return Failure(twin(self.error))


def repeated(error: BaseException) -> Encoded:
    """Return the outcome of one of several tasks that end with the same exception."""
    return Encoded(ERROR, _Repeated(error), [])


def has_failed(outcome: Any) -> bool:
    """Whether an outcome is an exception, as far as that is known undecoded."""
    kind = type(outcome)
    return kind is Failure or (kind is Encoded and outcome.failed)


def error_of(outcome: Any) -> BaseException:
    """Return the exception of an outcome that has failed; this may decode it."""
    failure = outcome.fetch() if isinstance(outcome, Deferred) else outcome
    error: BaseException = failure.error
    return error


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
            from mpitasks.wire.ownership import copied, is_inert, own

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


def encode_error(
    error: BaseException,
    where: str,
    text: str | None = None,
    *,
    interruptible: bool = False,
) -> Form:
    """Encode what a task raised, with its traceback as text.

    Args:
        error: The exception; the first entry of its traceback is the worker's own.
        where: Rank and host, for the head of the traceback.
        text: The traceback, if it is known already.
        interruptible: Whether Ctrl-C is let out, as in the script.
    """
    try:
        if text is None:
            text = _traceback(error, where)
        try:
            carrier = carried(error, _named(error))
        except BaseException as unfit:
            if interruptible and interrupts(unfit):
                raise
            carrier = _stand_in(error, unfit)
        return ERROR, dumps((carrier, text), 5), []
    except BaseException as unfit:  # there is hardly room for anything
        if interruptible and interrupts(unfit):
            raise
        stand_in = RemoteError(f"{type(error).__name__} [sent without its text]")
        text = f"Traceback from {where}: not there, {type(unfit).__name__}"
        return ERROR, dumps((stand_in, text), 5), []


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
        return [decode_outcome(*item, label) for item in split_items(payload, buffers)]
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


def undecoded(
    form: int, payload: Any, buffers: list[Buffer], label: str | None = None
) -> Any:
    """Return what runs no code of the user to get at, and an `Encoded` of the rest.

    Args:
        form: What the payload is.
        payload: As it stands in the message.
        buffers: The buffers that belong to it.
        label: The task's name, for the head of its traceback.

    Returns:
        A value, an `Encoded` or a `Failure`; a list of these for a chunk.
    """
    if form == PLAIN:
        return payload
    if form == ITEMS:
        return [undecoded(*item, label) for item in split_items(payload, buffers)]
    if form == LIST or any(type(buffer) is Missing for buffer in buffers):
        return decode_outcome(form, payload, buffers, label)
    return Encoded(form, payload, buffers, label)


def split_items(
    payload: Iterable[tuple[int, Any, int]], buffers: Sequence[Buffer]
) -> Iterator[Form]:
    """Yield the outcome of each item of a chunk, with the buffers that belong to it."""
    start = 0
    for form, own, count in payload:
        yield form, own, list(buffers[start : start + count]) if count else []
        start += count


_WEIGHTLESS = (PLAIN, SHARED, KEPT)


def form_bytes(form: int, payload: Any, buffers: list[Buffer]) -> int:
    """Return what an outcome weighs in a message; plain values weigh nothing."""
    frames = payload if form == ITEMS else [(form, payload, 0)]
    own = sum(len(frame) for kind, frame, _ in frames if kind not in _WEIGHTLESS)
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
    except BaseException as wordless:  # code of the user runs here, too
        if interrupts(wordless):
            raise
        lines = [*traceback.format_tb(user_trace), _named(error)]
    return f"Traceback from {where}:\n{''.join(lines)}"


_OWN = ("mpitasks.worker.", "mpitasks.runner.", "mpitasks.sandbox.")


def _is_ours(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith(_OWN)


def _named(error: BaseException) -> str:
    """Return the last line of a traceback: the type and text of an exception."""
    import traceback

    try:
        with contextlib.suppress(Exception):
            str(error)  # in which the standard library drops Ctrl-C
        lines = traceback.format_exception_only(type(error), error)
    except BaseException as wordless:
        if interrupts(wordless):
            raise
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
        if interrupts(fault):
            raise
        unfit = fault
    reason = describe(unfit).partition("\n")[0][:200]
    return RemoteError(f"{_named(error)} [sent as text: {reason}]")
