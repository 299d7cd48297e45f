"""Going through a chunk of plain items at the speed of C, and cutting it meanwhile.

A value that can change must be encoded before the next item runs, which may change it.
So C goes on by itself only while each value is one of a few types that cannot change:
by `groupby`, as long as all are of one type; then by a chain that looks at the type of
each, and stops at the first that is none of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import groupby, starmap, takewhile
from typing import Any

from mpitasks import forks
from mpitasks.wire.messages import MAP_PLAIN
from mpitasks.wire.outcomes import Sealed, encode_error, encode_result

__all__ = ["cut", "map_plain"]

_STEADY = frozenset(map(id, (int, float, complex, bool, type(None), str, bytes)))
"""Types whose values cannot change, by their ids: a class of the user may have an
equality or a hash of its own, by its metaclass."""

_STREAK = 16
"""After so many values in a row that cannot change, C takes over again."""


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
        values[-1] = None
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
