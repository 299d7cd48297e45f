"""Object <-> (pickle frame, out-of-band buffers). Knows pickle, not messages.

An encoded object is a frame (pickle protocol 5) and the buffers that were too large to
copy into it. `pickle` is tried first; where it fails, `ScriptPickler` takes over
(`mpitasks.wire.script_pickle`), which sends by value what has no name. What has one in
the script goes by that name in both directions; for what goes to a worker,
`encode_noting` tells the names. Plain values (`is_plain`) need no frame of their own:
they can stand in a message as they are, because pickling them cannot fail and runs no
code of the user.
"""

from __future__ import annotations

import copyreg
import functools
import io
import sys
import types
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from pickle import PickleBuffer, Pickler, Unpickler, dumps, loads  # a task may patch it
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.wire.diagnose import why_not_picklable
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.missing_buffers import check
from mpitasks.wire.rebuild import find_global, reduce_object

if TYPE_CHECKING:
    from mpitasks.wire.script_pickle import ScriptPickler

__all__ = [
    "SCALARS",
    "SCALAR_IDS",
    "THRESHOLD",
    "Buffer",
    "Unsendable",
    "all_plain",
    "decode",
    "decode_kept",
    "encode",
    "encode_global",
    "encode_noting",
    "encode_plain",
    "is_plain",
    "sends_by_value",
]

Buffer = Any  # something that exports a contiguous buffer of bytes

THRESHOLD = 64 * 1024
"""Buffers of at least this many bytes travel on their own, straight from memory."""

_SMALL = 1024  # text and bytes up to here may stand in a message as they are

# Values of these types always pickle, and stand in a message as they are.
SCALARS = frozenset({int, float, complex, bool, type(None)})
SCALAR_IDS = frozenset(map(id, SCALARS))  # a class of the user may have its own hash
_PLAIN = SCALARS | {str, bytes}

_reducers: dict[type, Callable[[Any], Any]] = {}
_object_reducers: dict[type, Callable[[Any], Any]] = {object: reduce_object}


def _pickler(sink: io.BytesIO, **options: Any) -> Pickler:
    pickler = Pickler(sink, **options)
    # A table of its own hides copyreg's, in which anybody may register at any time.
    pickler.dispatch_table = {
        **copyreg.dispatch_table,
        **_object_reducers,
        **_reducers,
    }
    return pickler


@functools.cache
def _script_pickler(aliasing: bool = False) -> type[ScriptPickler]:
    """Return the pickler of last resort, which most workers never load."""
    import cloudpickle

    from mpitasks.wire.script_pickle import AliasingPickler, ScriptPickler

    class Pickler(AliasingPickler if aliasing else ScriptPickler):  # type: ignore[misc]
        dispatch_table = ChainMap(  # noqa: RUF012  shared on purpose
            _reducers, cloudpickle.Pickler.dispatch_table
        )

    return Pickler


def _shared_globals() -> dict[int, str]:
    from mpitasks.wire.script_pickle import shared_globals

    return shared_globals()


def is_plain(values: Iterable[Any]) -> bool:
    """Whether all values can stand in a message without a frame of their own."""
    for value in values:
        kind = type(value)
        if kind is int or kind is float or id(kind) in SCALAR_IDS:
            continue
        if (kind is str or kind is bytes) and len(value) <= _SMALL:
            continue
        return False
    return True


def all_plain(values: Sequence[Any]) -> bool:
    """As `is_plain`, quick for many values: one pass at the speed of C.

    It asks each class for its hash. Callers pass values of built-in classes and of our
    own, after they have looked for others.
    """
    kinds = set(map(type, values))
    if kinds <= SCALARS:
        return True
    return kinds <= _PLAIN and is_plain(values)


def encode(value: Any, name: str) -> tuple[bytes, list[Buffer]]:
    """Return the frame of `value`, and the buffers that go beside it.

    Buffers are not copied: they are the memory of the arrays in `value`.

    Args:
        value: Any object.
        name: What to call it in an error message.

    Raises:
        SerializationError: It cannot be pickled; the message names the part of it
            that cannot. Whatever the user's own code raises is its cause.
        BaseException: The script is interrupted by a signal.
    """
    value = _prepared(value)
    if not sends_by_value():
        try:
            return _dump(_pickler, value)
        except BaseException as error:
            if interrupts(error):
                raise
            # The second attempt decides; its error is the one to show.
    frame, buffers, _ = _encode_script(value, name)
    return frame, buffers


def encode_noting(
    value: Any, name: str, *, kept: bool = False
) -> tuple[bytes, list[Buffer], ScriptPickler | None]:
    """As `encode`, for a worker: tell what of the script the frame refers to.

    Args:
        value: Any object.
        name: What to call it in an error message.
        kept: Whether the worker keeps it, so that it may share objects with the script
            there; `decode_kept` is for such frames.

    Returns:
        The frame, the buffers, and a pickler that has noted what the frame depends on;
        None if it depends on nothing of the script.
    """
    value = _prepared(value)
    if not sends_by_value() and not (kept and _is_of_script(value)):
        try:
            frame, buffers = _dump(_pickler, value)
            if b"__main__" not in frame and not (kept and _may_share(value)):
                return frame, buffers, None
        except BaseException as error:
            if interrupts(error):
                raise
    return _encode_script(value, name, aliasing=kept)


def encode_global(
    root: str, value: Any
) -> tuple[bytes, list[Buffer], ScriptPickler, bytes | None]:
    """Return what defines a global of the script on a worker; as `encode_noting`.

    Args:
        root: The global.
        value: What it is: any object.

    Returns:
        As `encode_noting`, and the frame that makes a class without its attributes.
    """
    name = f"the global variable {root!r}"
    frame, buffers, notes = _encode_script(
        _prepared(value), name, aliasing=True, root=root, value_of_root=value
    )
    if notes.head is None:
        return frame, buffers, notes, None
    head, _, _ = _encode_script(notes.head, name, aliasing=True)
    return frame, buffers, notes, head


def encode_plain(values: Sequence[Any]) -> bytes:
    """Return the frame of plain values (`all_plain`), of a range, or of references."""
    return dumps(values, 5)


def decode(frame: Any, buffers: Sequence[Buffer] = ()) -> Any:
    """Return the object of a frame and its buffers, which become part of it.

    Raises:
        MemoryError: A buffer did not fit into memory.
        Exception: Whatever the object's own unpickling raises.
    """
    if buffers:
        check(buffers)
    return loads(frame, buffers=buffers)


def _prepared(value: Any) -> Any:
    if not _reducers and "numpy" in sys.modules:
        from mpitasks.wire.arrays import REDUCERS

        _reducers.update(REDUCERS)
    if type(value) in (bytes, bytearray) and len(value) >= THRESHOLD:
        return _Bytes(value)
    return value


def sends_by_value() -> bool:
    """Whether some modules are to go by value: plain pickle would not know."""
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    # Another thread may be importing it.
    return bool(getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", None))


def _is_of_script(value: Any) -> bool:
    """Whether it is a function that plain pickle cannot do, or by its name alone."""
    return type(value) is types.FunctionType and value.__module__ == "__main__"


def _may_share(value: Any) -> bool:
    """Whether what is called may hold objects that are globals of the script."""
    kind = type(value)
    if kind is types.FunctionType or isinstance(value, type):
        return False  # of a module
    return not isinstance(getattr(value, "__self__", None), types.ModuleType)


def _encode_script(
    value: Any,
    name: str,
    *,
    aliasing: bool = False,
    root: str | None = None,
    value_of_root: Any = None,
) -> tuple[bytes, list[Buffer], ScriptPickler]:
    sink = io.BytesIO()
    buffers: list[Buffer] = []
    options: dict[str, Any] = {"root": root, "value": value_of_root}
    try:
        if aliasing and (shared := _shared_globals()):
            options["shared"] = shared
        pickler = _script_pickler("shared" in options)(
            sink, buffer_callback=_gather(buffers), **options
        )
        pickler.dump(value)
    except BaseException as error:
        if interrupts(error):
            raise
        pickle = functools.partial(_dump, _script_pickler())
        reason = why_not_picklable(value, name, error, pickle)
        raise SerializationError(f"{name} cannot be pickled: {reason}") from error
    return sink.getvalue(), buffers, pickler


def decode_kept(frame: Any, buffers: Sequence[Buffer] = ()) -> Any:
    """As `decode`, for what a worker keeps: it may refer to globals of the script."""
    if buffers:
        check(buffers)
    return _Unpickler(io.BytesIO(frame), buffers=buffers).load()


class _Unpickler(Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return find_global("__main__", pid)


def _dump(pickler: Callable[..., Any], value: Any) -> tuple[bytes, list[Buffer]]:
    buffers: list[Buffer] = []
    sink = io.BytesIO()
    pickler(sink, protocol=5, buffer_callback=_gather(buffers)).dump(value)
    return sink.getvalue(), buffers


def _gather(buffers: list[Buffer]) -> Callable[[PickleBuffer], bool]:
    def in_band(buffer: PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < THRESHOLD:
            return True
        buffers.append(view)
        return False

    return in_band


class _Bytes:
    """Large bytes or a large bytearray, on their way as a buffer.

    The C pickler copies these two types into the frame before anybody is asked.
    """

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return type(self.value), (PickleBuffer(self.value),)


class Unsendable:
    """Travels in the place of an item that cannot be pickled; fails that item."""

    def __init__(self, error: Exception) -> None:
        self.error = error
