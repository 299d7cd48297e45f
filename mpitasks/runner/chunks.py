"""A chunk of a map while it runs: one thread runs the items, another may look and cut.

A value that can change must be encoded before the next item runs, which may change it.
So C goes on by itself only while each value is one of a few types that cannot change:
by `groupby`, as long as all are of one type; then by a chain that looks at the type of
each, and stops at the first that is none of them.

The thread that runs the items holds no lock. So everything that the other thread does
here relies on operations of lists that the interpreter does not interrupt.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import groupby, islice, starmap, takewhile
from typing import TYPE_CHECKING, Any

from mpitasks import forks
from mpitasks.runner.execution import run_item
from mpitasks.runner.nesting import close_opened, opened
from mpitasks.wire import codec
from mpitasks.wire.messages import MAP_PLAIN, PLAIN, STARMAP_PLAIN
from mpitasks.wire.outcomes import Sealed, encode_error, encode_result

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["Chunk", "cut", "map_plain"]

_STEADY = frozenset(map(id, (int, float, complex, bool, type(None), str, bytes)))
"""Types whose values cannot change, by their ids: a class of the user may have an
equality or a hash of its own, by its metaclass."""

_FINAL = _STEADY | {id(Sealed)}
"""The types of values that may be sent while the next item runs."""


class _Unsealed:
    """Stands in the place of a value while that is being encoded."""


_UNSEALED = _Unsealed()

_STREAK = 16
"""How many values in a row must be unable to change until C takes over again."""


class Chunk:
    """The items of a chunk, and the values of those that are finished.

    Args:
        mode: How the payload is encoded; see `mpitasks.wire.messages`.
        payload: The items.
        buffers: Those of the items, which this takes over.

    Attributes:
        reported: How many items were reported; their values are gone.
    """

    __slots__ = ("_buffers", "_items", "_mode", "_values", "reported")

    def __init__(self, mode: int, payload: Any, buffers: list[Buffer]) -> None:
        plain = mode in (MAP_PLAIN, STARMAP_PLAIN)
        # A list, since another thread may take the end of it away.
        self._items: list[Any] = list(codec.decode(payload)) if plain else payload
        self._values: list[Any] = []
        self._mode = mode
        buffers.reverse()  # taken from the end, so that each is let go with its item
        self._buffers = buffers
        self.reported = 0

    def run(self, function: Callable[..., Any], where: str) -> None:
        """Run the items that are left.

        A cut that comes too late and is undone may end this early; see `done`.
        """
        if self._mode in (MAP_PLAIN, STARMAP_PLAIN):
            map_plain(self._mode, function, self._items, self._values, where)
        else:
            self._run_framed(function, where)

    def _run_framed(self, function: Callable[..., Any], where: str) -> None:
        buffers = self._buffers
        feed: Any = iter(self._items)
        feed.__setstate__(len(self._values))
        for frame, count in feed:
            own = [buffers.pop() for _ in range(count)] if count else []
            form = run_item(function, self._mode, frame, own, where)
            steady = form[0] == PLAIN and id(type(form[1])) in _STEADY
            self._values.append(form[1] if steady else Sealed(form))

    @property
    def done(self) -> bool:
        """Whether every item has its value. Asked while nobody else may cut."""
        return len(self._values) >= len(self._items)

    @property
    def finished(self) -> int:
        """How many items are finished."""
        return len(self._values)

    def head(self) -> list[Any]:
        """Return values that can be reported while the chunk runs.

        The last item is left out: the report that ends the chunk needs one.
        """
        values = self._values
        start = self.reported
        count = min(len(values), len(self._items) - 1) - start
        # Looks at types alone: if this referred to a value that is not encoded yet,
        # it might be the last to do so, and the value's finalizer would run here.
        look: Any = iter(values)
        look.__setstate__(start)
        kinds = map(id, map(type, islice(look, max(count, 0))))
        count = len([*takewhile(_FINAL.__contains__, kinds)])
        return values[start : start + count]

    def rest(self) -> list[Any]:
        """Return the values that were not reported, of a chunk that is done."""
        return self._values[self.reported :] if self.reported else self._values

    def note_reported(self, count: int) -> None:
        """Let go of the next values: they were reported."""
        start = self.reported
        self._values[start : start + count] = [None] * count
        self.reported = start + count

    def cut(self) -> int | None:
        """Take off the items that are not begun.

        Returns:
            How many items that were not reported the chunk has now; None if there was
            nothing to take off.
        """
        if not cut(self._items, self._values):
            return None
        return len(self._items) - self.reported

    def abandon(self) -> None:
        """In a forked child: begin no further item."""
        self._items.clear()


def map_plain(
    mode: int,
    function: Callable[..., Any],
    items: list[Any],
    values: list[Any],
    where: str,
) -> None:
    """Append what `function` returns for each item, or raises, as it is then.

    Plain values are appended as they are, everything else as `Sealed`. The listener may
    cut the list meanwhile, and think better of it.

    Args:
        mode: MAP_PLAIN or STARMAP_PLAIN.
        function: The function.
        items: The items.
        values: The outcomes of the first of them.
        where: Rank and host, for the head of tracebacks.
    """
    apply: Callable[..., Iterator[Any]] = map if mode == MAP_PLAIN else starmap
    alike = True
    while len(values) < len(items):
        feed: Any = iter(items)
        feed.__setstate__(len(values))
        error: BaseException = StopIteration()
        try:
            if alike:
                _map_alike(apply(function, feed), feed, values, where)
                alike = False
            else:
                _map_mixed(apply(function, feed), values, where)
        except BaseException as raised:
            forks.leave(raised)
            error = raised
        begun = _begun(feed)
        if begun is not None and begun > len(values):
            values.append(Sealed(encode_error(error, where)))
        del error
    if opened:  # by any of the items: none knows when another begins
        with contextlib.suppress(Exception):
            close_opened()


def _map_alike(
    results: Iterator[Any], feed: Any, values: list[Any], where: str
) -> None:
    """Append results while they are of one type that cannot change; and one more."""
    runs = groupby(results, type)
    kind, run = next(runs)
    if id(kind) in _STEADY:
        values.extend(run)
        if _begun(feed) is None:
            return
        # Either the next value is of another type, and there already, or the function
        # has raised what looks like the end. Nothing else is to run before we know.
        deque(feed, maxlen=0)
        try:
            _, run = next(runs)
        except StopIteration as stop:
            values.append(Sealed(encode_error(stop, where)))
            return
    _append([next(run)], values, where)


def _begun(feed: Any) -> int | None:
    """Return how many items were taken; None once there are no more."""
    state = feed.__reduce__()
    return state[2] if len(state) == 3 else None


def _append(box: list[Any], values: list[Any], where: str) -> bool:
    """Append the value in a box; return whether it is one that cannot change."""
    if id(type(box[0])) in _STEADY:
        values.append(box.pop())
        return True
    values.append(Sealed(encode_result(box, where)))
    return False


def _map_mixed(results: Iterator[Any], values: list[Any], where: str) -> None:
    """Append results of any types, until there are no more or the function raises."""
    while True:
        streak = 0
        while streak < _STREAK:
            try:
                box = [next(results)]
            except StopIteration:
                return
            streak = streak + 1 if _append(box, values, where) else 0
        look: Any = iter(values)
        look.__setstate__(len(values))
        steady = takewhile(_STEADY.__contains__, map(id, map(type, look)))
        deque(zip(map(values.append, results), steady, strict=False), maxlen=0)
        if id(type(values[-1])) in _STEADY:
            return
        box = [values[-1]]
        values[-1] = _UNSEALED
        values[-1] = Sealed(encode_result(box, where))


def cut(items: list[Any], values: list[Any]) -> list[Any]:
    """Take off the list what is not begun, and return it.

    Another thread goes through the list, appending to `values` when an item is done,
    and a shorter list ends its loop. It runs on while we look: so look again
    afterwards, and undo what may have come too late.
    """
    done = len(values)
    rest = items[done + 1 :]
    del items[done + 1 :]
    if len(values) != done:
        items.extend(rest)
        return []
    return rest
