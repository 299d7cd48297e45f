"""Object <-> (pickle frame, out-of-band buffers). Knows pickle, not messages.

An encoded object is a frame (pickle protocol 5) and the buffers that were too
large to copy into it. `pickle` is tried first; where it fails, or where the frame
refers to ``__main__`` (which is another module on a worker), cloudpickle takes
over and sends by value. Plain values (`is_plain`) need no frame of their own: they
can stand in a message as they are, because pickling them cannot fail and runs no
code of the user.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mpitasks.errors import SerializationError
from mpitasks.wire.diagnose import why_not_picklable
from mpitasks.wire.interrupts import interrupts

__all__ = [
    "SCALARS",
    "SCALAR_IDS",
    "THRESHOLD",
    "Buffer",
    "Unsendable",
    "all_plain",
    "decode",
    "encode",
    "encode_plain",
    "is_plain",
]

Buffer = Any  # something that exports a contiguous buffer of bytes

THRESHOLD = 64 * 1024
"""Buffers of at least so many bytes travel on their own, straight from memory."""

_SMALL = 1024  # text and bytes up to here may stand in a message as they are

# Values of these types always pickle, and stand in a message as they are.
SCALARS = frozenset({int, float, complex, bool, type(None)})
SCALAR_IDS = frozenset(map(id, SCALARS))  # a class of the user may have its own hash
_TEXTS = frozenset({str, bytes})
_PLAIN = SCALARS | _TEXTS

_reducers: dict[type, Callable[[Any], Any]] = {}


def _pickler(sink: io.BytesIO, **options: Any) -> pickle.Pickler:
    pickler = pickle.Pickler(sink, **options)
    # A table of its own hides copyreg's, in which anybody may register at any time.
    pickler.dispatch_table = {**copyreg.dispatch_table, **_reducers}
    return pickler


@functools.cache
def _cloud_pickler() -> Callable[..., Any]:
    """Return the pickler of last resort, which most workers never load."""
    import cloudpickle

    class CloudPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        dispatch_table = ChainMap(  # noqa: RUF012  shared on purpose
            _reducers, cloudpickle.Pickler.dispatch_table
        )

    return CloudPickler


def is_plain(values: Iterable[Any]) -> bool:
    """Whether all values can stand in a message without a frame of their own."""
    try:
        for value in values:
            kind = type(value)
            if kind in SCALARS:
                continue
            if kind in _TEXTS and len(value) <= _SMALL:
                continue
            return False
    except TypeError:  # a class that has no hash, by its metaclass
        return False
    return True


def all_plain(values: Sequence[Any]) -> bool:
    """As `is_plain`, quick for many values: one pass at the speed of C."""
    try:
        kinds = set(map(type, values))
    except TypeError:  # a class that has no hash, by its metaclass
        return False
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
    if not _reducers and "numpy" in sys.modules:
        from mpitasks.wire.arrays import REDUCERS

        _reducers.update(REDUCERS)
    if type(value) in (bytes, bytearray) and len(value) >= THRESHOLD:
        value = _Bytes(value)
    try:
        frame, buffers = _dump(_pickler, value)
        if b"__main__" not in frame:
            return frame, buffers
    except BaseException as error:
        if interrupts(error):
            raise
        # The second attempt decides; its error is the one to show.
    try:
        return _dump(_cloud_pickler(), value)
    except BaseException as error:
        if interrupts(error):
            raise
        message = f"{name} cannot be pickled: {why_not_picklable(value, name, error)}"
        raise SerializationError(message) from error


def encode_plain(values: Sequence[Any]) -> bytes:
    """Return the frame of plain values (`all_plain`), or of a range."""
    return pickle.dumps(values, 5)


def decode(frame: Any, buffers: Sequence[Buffer] = ()) -> Any:
    """Return the object of a frame and its buffers, which become part of it.

    Raises:
        Exception: Whatever the object's own unpickling raises.
    """
    return pickle.loads(frame, buffers=buffers)


def _dump(pickler: Callable[..., Any], value: Any) -> tuple[bytes, list[Buffer]]:
    buffers: list[Buffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < THRESHOLD:
            return True
        buffers.append(view)
        return False

    sink = io.BytesIO()
    pickler(sink, protocol=5, buffer_callback=in_band).dump(value)
    return sink.getvalue(), buffers


class _Bytes:
    """Large bytes or a large bytearray, on their way as a buffer.

    The C pickler copies these two types into the frame before anybody is asked.
    """

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return type(self.value), (pickle.PickleBuffer(self.value),)


class Unsendable:
    """Travels in the place of an item that cannot be pickled; fails that item."""

    def __init__(self, error: Exception) -> None:
        self.error = error
