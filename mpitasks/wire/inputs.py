"""Results of other tasks among arguments: noted on rank 0, put in on a worker.

Arguments are pickled when a call is submitted. A future that is met then, wherever it
stands among them, leaves a reference behind: the number of an input. The result itself
is put beside the frame when it is there, as it came from its worker, so rank 0 does not
unpickle it. A frame with inputs is a tuple (`mpitasks.wire.messages`), and is unpickled
with them at hand. An input that is passed twice is one object on the worker, as it is
in the script.

The futures themselves are in `mpitasks.master.future`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.wire import codec, rebuild
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import KEPT, PLAIN, SHARED, VALUE

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

    Parts = tuple[Any, list[Buffer]]

__all__ = [
    "Collector",
    "Reference",
    "collecting",
    "collector",
    "needs_kept",
    "same",
    "shared_ids",
    "take",
    "unpickle_with",
    "with_copies",
]


class _Local(threading.local):
    """What holds for the thread that is pickling, or unpickling."""

    collector: Collector | None = None
    token = -1
    values: Sequence[Any] = ()


_local = _Local()
_tokens = itertools.count()


class Reference:
    """An input in the place of an argument."""

    __slots__ = ("index", "token")

    def __init__(self, token: int, index: int) -> None:
        self.token = token
        self.index = index

    def __reduce__(self) -> Any:
        return take, (self.token, self.index)


class Collector:
    """The futures that were met while a call, or an item, was pickled.

    Args:
        event_loop: The run's: futures of another run are refused.

    Attributes:
        event_loop: As given.
        token: What its references are known by.
        futures: Each once, in the order in which they were met.
        fault: The first that has failed, or was cancelled; None if there is none.
    """

    __slots__ = ("_indices", "event_loop", "fault", "futures", "token")

    def __init__(self, event_loop: Any) -> None:
        self.token = next(_tokens)
        self.event_loop = event_loop
        self.futures: list[Any] = []
        self.fault: Any = None
        self._indices: dict[int, int] = {}  # by the id of the future

    @property
    def is_empty(self) -> bool:
        """Whether none was met."""
        return not self.futures and self.fault is None

    def refer(self, future: Any) -> Reference:
        """Return what stands in the place of a future."""
        index = self._indices.setdefault(id(future), len(self.futures))
        if index == len(self.futures):
            self.futures.append(future)
        return Reference(self.token, index)


def collecting(found: Collector | None) -> Collector | None:
    """Have something note the futures that this thread meets when it pickles.

    Args:
        found: What notes them; None for nothing.

    Returns:
        What noted them before.
    """
    before, _local.collector = _local.collector, found
    return before


def collector() -> Collector | None:
    """Return what notes the futures that this thread meets; None if nothing does."""
    return _local.collector


def take(token: int, index: int) -> Any:
    """Return an input. It stands in pickle frames, in the place of a future.

    Raises:
        SerializationError: It was pickled for another call, and kept.
    """
    if token != _local.token:
        raise SerializationError(
            "a Future was pickled for another call, or is unpickled after the call has "
            "begun: pass the Future itself, not a pickle with it inside"
        )
    return _local.values[index]


def same(value: Any) -> Any:
    """Return a value. It stands in pickle frames, in the place of a done future."""
    return value


def shared_ids(payload: Any) -> set[int]:
    """Return the shared objects that a call, or the items of a chunk, need."""
    parts = payload if type(payload) is list else [(payload, 0)]
    return {
        id
        for frame, _ in parts
        if type(frame) is tuple and len(frame) == 4 and type(frame[2]) is list
        for form, id, _ in frame[2]
        if form == SHARED
    }


def needs_kept(payload: Any) -> bool:
    """Whether a call, or an item of a chunk, needs results that workers keep."""
    parts = payload if type(payload) is list else [(payload, 0)]
    return any(
        form == KEPT
        for frame, _ in parts
        if type(frame) is tuple and len(frame) == 4 and type(frame[2]) is list
        for form, _, _ in frame[2]
    )


def with_copies(
    payload: Any, buffers: list[Buffer], obtain: Callable[[Any], Parts]
) -> tuple[Any, list[Buffer]]:
    """Return a call, or the items of a chunk, with copies of kept results in it.

    Args:
        payload: As it stands in a message.
        buffers: Its buffers.
        obtain: Returns a copy of a kept result: its frame, and its buffers.
    """
    if type(payload) is not list:
        return _with_copies(payload, buffers, obtain)
    items = []
    every: list[Buffer] = []
    start = 0
    for frame, count in payload:
        own = buffers[start : start + count]
        start += count
        if needs_kept(frame):
            frame, own = _with_copies(frame, own, obtain)
        items.append((frame, len(own)))
        every += own
    return items, every


def _with_copies(
    parts: tuple[Any, ...], buffers: list[Buffer], obtain: Callable[[Any], Parts]
) -> tuple[tuple[Any, ...], list[Buffer]]:
    frame, own, inputs, token = parts
    entries = []
    every = buffers[:own]
    start = own
    for form, payload, count in inputs:
        if form == KEPT:
            copy, more = obtain(payload)
            entries.append((VALUE, copy, len(more)))
            every += more
            continue
        entries.append((form, payload, count))
        every += buffers[start : start + count]
        start += count
    return (frame, own, entries, token), every


def unpickle_with(parts: tuple[Any, ...], buffers: list[Buffer]) -> Any:
    """Return the object of a frame with inputs.

    Args:
        parts: The frame; how many of the buffers belong to it; form, payload and number
            of buffers of each input; and the token of their references.
        buffers: The buffers.

    Raises:
        SerializationError: An input cannot be unpickled here.
        BaseException: Whatever unpickling raises.
    """
    frame, own, inputs, token = parts
    values = []
    start = own
    for form, payload, count in inputs:
        if form == PLAIN:
            values.append(payload)
            continue
        try:
            if form == SHARED:
                values.append(rebuild.side().shared(payload))
                continue
            values.append(codec.decode(payload, buffers[start : start + count]))
        except MemoryError:
            raise
        except BaseException as error:
            what = "a shared object" if form == SHARED else "the result of another task"
            raise SerializationError(
                f"{what} cannot be unpickled here: {describe(error)}"
            ) from error
        start += count
    before = _local.token, _local.values
    _local.token, _local.values = token, values
    try:
        return codec.decode(frame, buffers[:own])
    finally:
        _local.token, _local.values = before
