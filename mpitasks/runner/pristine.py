"""Functions that hold state of their own: each call finds it as it was sent.

A partial, a bound method, an object that can be called and a function with a closure
hold what their calls may change. A worker keeps them, so that they travel once; and a
call must not see what an earlier one has changed, since it is chance which calls those
are. `kept` looks at what a function holds when it is loaded:

    nothing that can change      it is called as it is
    little, of simple kinds      compared before each call; loaded again if it differs
    more                         loaded again for each call
    more than `HEAVY_BYTES`      as far as the comparison sees: loading takes too long

Functions and classes that are found by name are the module's, and so is their state:
what a call does to these is there for the next one (`mpitasks.runner.mirror`).
"""

from __future__ import annotations

import functools
import mmap
import opcode
import os
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError, TaskTimeout
from mpitasks.wire.change_detection import Watch, sees_all
from mpitasks.wire.diagnose import describe
from mpitasks.wire.immutables import settled

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["HEAVY_BYTES", "Lender", "changes", "is_inert", "kept"]

HEAVY_BYTES = 1 << 20
"""A frame of this size takes milliseconds to load, each time."""

LENT_BYTES = 1 << 20
"""Buffers of this size are lent as private mappings; smaller ones are copied."""

_REBINDS = frozenset(opcode.opmap[name] for name in ("STORE_DEREF", "DELETE_DEREF"))


def kept(
    function: Callable[..., Any],
    load: Callable[[], Callable[..., Any]],
    nbytes: int,
    holds: Iterable[str] = (),
) -> Callable[..., Any]:
    """Return a function as the worker keeps it: with the state that it was sent with.

    Args:
        function: The function, just loaded.
        load: Loads it again.
        nbytes: The size of its frame.
        holds: The globals of the script whose objects it holds.
    """
    state = _State(function)
    if not state.functions and not state.parts:
        return function
    return _Pristine(function, load, holds, heavy=nbytes >= HEAVY_BYTES)


def changes(function: Any) -> Iterable[str]:
    """Return the globals of the script that calls of a function may have changed."""
    if type(function) is _Pristine and function.changed():
        return function.holds
    return ()


class _Pristine:
    """Calls a function that finds its state as it was sent.

    Args:
        function: The function, just loaded.
        load: Loads it again.
        holds: The globals of the script whose objects it holds.
        heavy: Whether loading takes long.

    Attributes:
        holds: As given.
    """

    __slots__ = ("_function", "_heavy", "_load", "_same", "_used", "holds")

    def __init__(
        self,
        function: Callable[..., Any],
        load: Callable[[], Callable[..., Any]],
        holds: Iterable[str],
        *,
        heavy: bool,
    ) -> None:
        self.holds = frozenset(holds)
        self._load = load
        self._heavy = heavy
        self._used = False
        self._take(function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if self.changed():
            self._load_again()
        self._used = True
        return self._function(*args, **kwargs)

    def changed(self) -> bool:
        """Whether a call may have changed what the function holds."""
        return self._used and not self._same()

    def _load_again(self) -> None:
        try:
            self._take(self._load())
        except (MemoryError, TaskTimeout):  # the task's limit may come in between
            raise
        except BaseException as error:
            raise SerializationError(
                f"the function cannot be loaded again: {describe(error)}"
            ) from error

    def _take(self, function: Callable[..., Any]) -> None:
        self._function = function
        state = _State(function)
        self._same: Callable[[], bool] = _never
        if self._heavy or all(sees_all(part, is_inert) for part in state.parts):
            watch = Watch({}, (), state.functions, (), state.parts)
            watch.same()  # which compiles it
            self._same = watch.same


def _never() -> bool:
    return False


class _State:
    """What a function holds that its calls may change.

    Attributes:
        functions: Functions that travelled by value, and hold something.
        parts: Objects.
    """

    def __init__(self, function: Any) -> None:
        self.functions: list[types.FunctionType] = []
        self.parts: list[Any] = []
        self._met: set[int] = set()
        self._look(function)

    def _look(self, value: Any) -> None:
        if id(value) in self._met:
            return
        self._met.add(id(value))
        kind = type(value)
        if kind is types.FunctionType:
            if not _is_named(value):
                self._look_into(value)
        elif kind is functools.partial:  # whose callee does not get it itself
            for each in (value.func, *value.args, *value.keywords.values()):
                self._look(each)
            if value.__dict__:
                self.parts.append(value.__dict__)
        elif kind is types.MethodType:
            self._look(value.__func__)
            self._look(value.__self__)
        elif kind is types.BuiltinFunctionType:
            if not settled(value):
                self._look(value.__self__)
        elif not is_inert(value):
            self.parts.append(value)

    def _look_into(self, function: types.FunctionType) -> None:
        cells = function.__closure__ or ()
        held = [*(function.__defaults__ or ()), *function.__dict__.values()]
        held += (function.__kwdefaults__ or {}).values()
        for cell in cells:
            try:
                held.append(cell.cell_contents)
            except ValueError:  # it is empty
                continue
        if function.__dict__ or (cells and _rebinds(function.__code__)):
            self.functions.append(function)
        for each in held:
            self._look(each)


def is_inert(value: Any) -> bool:
    """Whether a value has no state that a call could change."""
    if type(value) is types.FunctionType:
        return _is_named(value)
    if type(value) in (tuple, frozenset):
        return all(map(is_inert, value))
    return settled(value)


def _is_named(function: types.FunctionType) -> bool:
    """Whether a function is found by its name, so that it is its module's."""
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    return found is function


def _rebinds(code: types.CodeType) -> bool:
    """Whether code, or code in it, may bind a variable of a function around it anew."""
    if not _REBINDS.isdisjoint(code.co_code[::2]):
        return True
    return any(
        _rebinds(each) for each in code.co_consts if type(each) is types.CodeType
    )


class Lender:
    """Keeps buffers, and lends them out as private memory, as often as is asked.

    Large ones are mapped: a page is copied when it is written.

    Args:
        buffers: The buffers. They are not needed any more afterwards.
    """

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        self._sizes = [view.nbytes for view in views]
        self._copies: list[bytes] | None = None
        self._file = -1
        if sum(self._sizes) >= LENT_BYTES and hasattr(os, "memfd_create"):
            try:
                self._file = _file_of(views)
                return
            except OSError:  # no room there
                pass
        self._copies = [bytes(view) for view in views]

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def shared(self) -> list[Buffer]:
        """Return the buffers as they are kept: not to be changed."""
        if self._copies is not None:
            return [*self._copies]
        start = 0
        shared: list[Buffer] = []
        for size in self._sizes:
            shared.append(
                mmap.mmap(self._file, size, access=mmap.ACCESS_READ, offset=start)
            )
            start += _paged(size)
        return shared

    def lend(self) -> list[Buffer]:
        """Return the buffers in memory that nobody else sees."""
        if self._copies is not None:
            return [bytearray(copy) for copy in self._copies]
        lent: list[Buffer] = []
        start = 0
        for size in self._sizes:
            mapped = mmap.mmap(
                self._file,
                size,
                flags=mmap.MAP_PRIVATE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
                offset=start,
            )
            lent.append(mapped)
            start += _paged(size)
        return lent


def _file_of(views: Sequence[memoryview]) -> int:
    """Return a file in memory that has each buffer at a page of its own."""
    file = os.memfd_create("mpitasks-kept", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(file, 0, sum(_paged(view.nbytes) for view in views))
        start = 0
        for view in views:
            written = 0
            while written < view.nbytes:
                written += os.pwrite(file, view[written:], start + written)
            start += _paged(view.nbytes)
    except BaseException:
        os.close(file)
        raise
    return file


def _paged(size: int) -> int:
    page = mmap.ALLOCATIONGRANULARITY
    return -(-size // page) * page
