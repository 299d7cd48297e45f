"""Exceptions on their way: taken apart, and made again without their own `__init__`.

`pickle` makes an exception again by calling its class with its `args`, which fails for
each class whose `__init__` takes something else, the commonest kind there is. So here
an exception is its class, its `args`, what its built-in base knows, its attributes, and
the exceptions that it refers to. A class that says itself how it is to be pickled is
asked first. What arrives is an exception in any case: one that cannot be made again
becomes a `RemoteError` with its text.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Iterator
from typing import Any

from mpitasks.errors import RemoteError, RemoteTraceback
from mpitasks.wire import codec
from mpitasks.wire.diagnose import describe
from mpitasks.wire.interrupts import interrupts

__all__ = ["add_note", "carried", "cause_of", "set_cause", "twin"]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not built into the interpreter

_DEPTH = 8
"""So far the exceptions are followed that an exception refers to."""

TBLIB = "tblib.pickling_support"
"""A module that registers one function for all exceptions there are when it is
installed, as dask does: it knows none of them, and cannot pickle all."""

_PICKLING = frozenset(
    {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__"}
)

_get_cause = BaseException.__dict__["__cause__"].__get__
_set_cause = BaseException.__dict__["__cause__"].__set__
_set_context = BaseException.__dict__["__context__"].__set__
_set_suppress = BaseException.__dict__["__suppress_context__"].__set__


def set_cause(error: BaseException, cause: BaseException) -> None:
    """Say what an exception comes from, whatever its class makes of attributes."""
    _set_cause(error, cause)


def cause_of(error: BaseException) -> BaseException | None:
    """Return what an exception comes from, whatever its class makes of attributes."""
    cause: BaseException | None = _get_cause(error)
    return cause


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception, as `BaseException.add_note` of Python 3.11."""
    attributes = object.__getattribute__(error, "__dict__")
    notes = attributes.setdefault("__notes__", [])
    if type(notes) is list:  # else it is an attribute of the user's
        notes.append(text)


def twin(error: BaseException) -> BaseException:
    """Return another exception that says the same; the same one if there is no way."""
    try:
        other: BaseException = codec.decode(*codec.encode(_apart(error), "a twin"))
    except BaseException as unfit:  # of the user's own classes
        if interrupts(unfit):
            raise
        return error
    cause = cause_of(error)
    if type(cause) is RemoteTraceback:  # which does not go along
        set_cause(other, cause)
    return other


def carried(error: BaseException, named: str) -> Any:
    """Return what pickles in the place of an exception, and unpickles as it.

    Args:
        error: The exception.
        named: Its type and text, for when it cannot be made again.

    Raises:
        BaseException: It can be pickled in no way, or not made again.
    """
    ways: list[Any] = [_apart(error), _apart(error, depth=0), error]
    if _says_how(type(error)):
        ways.insert(0, error)
        ways.pop()
    reason: BaseException | None = None
    for way in ways:
        try:
            frame, buffers = codec.encode(way, "the exception")
            carrier = _Carrier(frame, [bytes(buffer) for buffer in buffers], named)
            carrier.load()
        except BaseException as unfit:  # of the user's own classes
            if interrupts(unfit):
                raise
            reason = reason or unfit
        else:
            return carrier
    assert reason is not None
    raise reason


class _Carrier:
    """A frame within a frame, so that what is in it fails alone."""

    __slots__ = ("buffers", "frame", "named")

    def __init__(self, frame: bytes, buffers: list[bytes], named: str) -> None:
        self.frame = frame
        self.buffers = buffers
        self.named = named

    def load(self) -> BaseException:
        """Return the exception.

        Raises:
            BaseException: It cannot be made again.
        """
        buffers = [bytearray(buffer) for buffer in self.buffers]
        error = codec.decode(self.frame, buffers)
        if not issubclass(type(error), BaseException):
            raise pickle.UnpicklingError("its class makes something else of it")
        return error  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        return _arrive, (self.frame, self.buffers, self.named)


def _arrive(frame: bytes, buffers: list[bytes], named: str) -> BaseException:
    """Return the exception that arrived, or a stand-in with its text."""
    try:
        return _Carrier(frame, buffers, named).load()
    except BaseException as unfit:
        if interrupts(unfit):
            raise
        reason = describe(unfit).partition("\n")[0][:200]
        error = RemoteError(f"{named} [it cannot be unpickled here: {reason}]")
        error.__cause__ = unfit
        return error


class _Apart:
    """An exception in its parts; unpickles as the exception."""

    __slots__ = ("parts",)

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        kind, args, known, *state = self.parts
        return _rebuild, (kind, args, known), tuple(state), None, None, _restore


def _apart(
    error: BaseException, depth: int = _DEPTH, path: tuple[int, ...] = ()
) -> _Apart:
    """Take an exception apart, and those that it refers to."""
    kind = type(error)
    base: Any = _builtin_base(kind)
    reduced: Any = base.__reduce__(error)
    attributes: dict[str, Any] = dict(object.__getattribute__(error, "__dict__") or {})
    state = reduced[2] if len(reduced) > 2 else None
    known = (
        {}
        if state is None
        else {key: value for key, value in state.items() if key not in attributes}
    )
    path = (*path, id(error))

    def part(value: Any) -> Any:
        if not issubclass(type(value), BaseException):
            return value
        return _apart(value, depth, path) if id(value) not in path else None

    def parts(value: Any) -> Any:  # a group has its exceptions in a list
        if type(value) in (list, tuple):
            return type(value)([part(one) for one in value])
        return part(value)

    args = tuple(map(parts, reduced[1]))
    chain: list[Any] = [None, None, None]
    if depth:
        chain = [
            None
            if link is None or not _kept(link, path)
            else _apart(link, depth - 1, path)
            for link in (error.__cause__, error.__context__)
        ] + [error.__suppress_context__]
    return _Apart(
        kind,
        args,
        {key: part(value) for key, value in known.items()},
        {key: part(value) for key, value in attributes.items()},
        [(name, part(value)) for name, value in _slots(error)],
        *chain,
    )


def _kept(link: BaseException, path: tuple[int, ...]) -> bool:
    """Whether an exception that another refers to goes along."""
    # The traceback from the worker is told on its own.
    return id(link) not in path and type(link) is not RemoteTraceback


def _rebuild(kind: Any, args: tuple[Any, ...], known: dict[str, Any]) -> BaseException:
    """Make an exception: as its built-in base would, without its own `__init__`."""
    base: Any = _builtin_base(kind)
    error: BaseException = base.__new__(kind, *args)
    base.__init__(error, *args)
    for name, value in known.items():
        base.__setattr__(error, name, value)
    return error


def _restore(error: BaseException, state: tuple[Any, ...]) -> None:
    """Give an exception its attributes, past its own `__setattr__`."""
    attributes, slots, cause, context, suppress = state
    object.__getattribute__(error, "__dict__").update(attributes)
    members = dict(_members(type(error)))
    for name, value in slots:
        members[name].__set__(error, value)
    if cause is not None:
        _set_cause(error, cause)
    if context is not None:
        _set_context(error, context)
    if suppress is not None:
        _set_suppress(error, suppress)


def _builtin_base(kind: type) -> type:
    """Return the first built-in class that a class of exceptions derives from."""
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)


def _says_how(kind: type) -> bool:
    """Whether a class of exceptions, or whoever knows it, says how to pickle it."""
    import copyreg

    reducer = copyreg.dispatch_table.get(kind)
    of_all = getattr(reducer, "__module__", None) == TBLIB
    return (reducer is not None and not of_all) or any(
        not _PICKLING.isdisjoint(vars(base))
        for base in kind.__mro__
        if base.__flags__ & _HEAP_TYPE
    )


def _members(kind: type) -> Iterator[tuple[str, types.MemberDescriptorType]]:
    """Yield the slots of a class, each by a name that is its own."""
    for at, base in enumerate(reversed(kind.__mro__)):
        if base.__flags__ & _HEAP_TYPE:
            for name, member in vars(base).items():
                if type(member) is types.MemberDescriptorType:
                    yield f"{at}.{name}", member


def _slots(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield the slots of an exception that are filled."""
    for name, member in _members(type(error)):
        try:
            yield name, member.__get__(error)
        except AttributeError:
            continue
