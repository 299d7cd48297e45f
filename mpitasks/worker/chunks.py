"""Going through a chunk of plain items at the speed of C, and cutting it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import starmap
from typing import Any

from mpitasks import forks
from mpitasks.wire.messages import MAP_PLAIN
from mpitasks.wire.outcomes import Failure

__all__ = ["cut", "map_plain"]


def map_plain(
    mode: int, function: Callable[..., Any], items: list[Any], values: list[Any]
) -> None:
    """Append `function` of each item, or a `Failure`, at the speed of `map`.

    May end before the last item, if the listener cut the list meanwhile and thought
    better of it: call it again then.
    """
    apply: Callable[..., Iterator[Any]] = map if mode == MAP_PLAIN else starmap
    feed: Any = iter(items)
    feed.__setstate__(len(values))
    while len(values) < len(items):
        try:
            values.extend(apply(function, feed))
            if len(feed.__reduce__()) == 2:
                return  # the end of the list; else `apply` only took it for the end:
            values.append(Failure(StopIteration()))
        except BaseException as error:
            forks.leave(error)
            values.append(Failure(error))


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
