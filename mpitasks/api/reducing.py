"""`map_reduce` and `reduce`: a tree over the numbers of the items.

How items are divided depends on their numbers alone: not on how many there are, on the
workers, on chunks, on which task was finished first, or on attempts. So the result has
the same bits on any number of ranks, after retries, and after a resume. The tree is
made of ordinary calls, whose arguments are futures; a journal records each of them.
"""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import operator
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mpitasks import reduction
from mpitasks.master.future import Future
from mpitasks.master.item_source import is_steady
from mpitasks.values import wait_seconds

if TYPE_CHECKING:
    from typing import Protocol

    from mpitasks.api.progress import LeafProgress
    from mpitasks.master.functions import Function

    class Executor(Protocol):
        """What it asks of an executor."""

        def _as_it_is(self, fn: Callable[..., Any]) -> Function:
            """Return how a function is sent, as it is now."""

        def _submit_as(
            self, fn: Callable[..., Any], target: Function, *args: Any
        ) -> Future:
            """Submit a call of a function, which is sent as it was then."""

        def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future:
            """Submit a call."""

        def _urgent(self) -> Executor:
            """Return a view of it whose tasks go before those of others."""

        def _leaves_ahead(self) -> int:
            """Return how many leaves may be ahead of those that are done."""

        def _wait_until_done(self, future: Future, timeout: float | None) -> None:
            """Drive the run until a future is done, whatever it came to."""


__all__ = ["LEAVES", "NOTHING", "WIDTH", "map_reduce", "reduce"]

NOTHING: Any = object()
"""In the place of an initial value, if there is none."""

LEAVES = 1024
"""How many leaves have one item each. As many behind them have two each, then four."""

WIDTH = 16
"""How many values one call combines."""


class Tree:
    """Combines values as they come, in the order of their numbers.

    Args:
        combine: Submits a call that combines values; returns its future.
    """

    def __init__(self, combine: Callable[[list[Any]], Future]) -> None:
        self._combine = combine
        self._levels: list[list[Any]] = [[]]

    def add(self, value: Any) -> None:
        """Take the next value, or the future of it."""
        for level in self._levels:
            level.append(value)
            if len(level) < WIDTH:
                return
            value = self._combine(level)
            level.clear()
        self._levels.append([value])

    def has_failed(self) -> bool:
        """Whether there is no point in going on."""
        return any(
            isinstance(part, Future) and part.done() and part.has_failed()
            for level in self._levels
            for part in level
        )

    def parts(self) -> list[Any]:
        """Return what is left to be combined, in order."""
        return [part for level in reversed(self._levels) for part in level]


def reduce(
    executor: Executor, op: Callable[[Any, Any], Any], values: Iterable[Any], first: Any
) -> Future:
    """Submit the calls that combine values; return the future of the last."""
    op = _checked(op)
    submitted = weakref.WeakSet[Future]()  # a future holds its result
    combine = _joiner(executor, functools.partial(reduction.combine, op), submitted)
    try:
        tree = Tree(combine)
        if first is not NOTHING:
            tree.add(first)
        for value in values:
            tree.add(value)
        parts = tree.parts()
        if not parts:
            raise TypeError("reduce() of no values, with no initial one")
        return combine(parts)
    except BaseException:
        _cancel(submitted)
        raise


def map_reduce(
    executor: Executor,
    function: Callable[[Any], Any],
    inputs: Iterable[Any],
    op: Callable[[Any, Any], Any] | None,
    first: Any,
    *,
    exact: bool,
    timeout: float | None,
    progress: LeafProgress | None = None,
) -> Any:
    """As `Executor.map_reduce`."""
    if exact:
        _check_exact(op)
        apply: Any = functools.partial(reduction.leaf_exactly, function)
        join: Any = reduction.combine_exactly
        last: Any = reduction.rounded
    else:
        op = _checked(op)
        apply = functools.partial(reduction.leaf, function, op)
        join = last = functools.partial(reduction.combine, op)
    end = None if timeout is None else time.monotonic() + wait_seconds(timeout)
    submitted = weakref.WeakSet[Future]()  # a future holds its result
    ahead: deque[weakref.ref[Future]] = deque()  # leaves that may not be done
    target = executor._as_it_is(apply)
    # What combines goes first, so that few values wait for it.
    tree = Tree(_joiner(executor._urgent(), join, submitted))
    if first is not NOTHING:
        tree.add(first)
    try:
        for items in _leaves(inputs):
            future = executor._submit_as(apply, target, items)
            submitted.add(future)
            ahead.append(weakref.ref(future))
            if progress is not None:
                progress.add(future, len(items))
            tree.add(future)
            if tree.has_failed():
                break
            while len(ahead) > executor._leaves_ahead():
                oldest = ahead.popleft()()
                if oldest is not None:
                    executor._wait_until_done(oldest, _left(end))
                del oldest
            _left(end)
        if progress is not None:
            progress.note_all()
        parts = tree.parts()
        if not parts:
            raise TypeError("map_reduce() of no items, with no initial value")
        future = executor.submit(last, *parts)
        submitted.add(future)
        return future.result(_left(end))
    except BaseException:
        _cancel(submitted)
        raise


def _left(end: float | None) -> float | None:
    """Return the seconds that are left.

    Raises:
        TimeoutError: There are none.
    """
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise concurrent.futures.TimeoutError
    return left


def _cancel(futures: Iterable[Future]) -> None:
    for future in [*futures]:
        future.cancel()


def _checked(op: Any) -> Callable[[Any, Any], Any]:
    """Return an operation, if it is one."""
    if not callable(op):
        raise TypeError(f"op must be a function of two values, not {op!r}")
    operation: Callable[[Any, Any], Any] = op
    return operation


def _joiner(
    executor: Executor, join: Callable[..., Any], submitted: weakref.WeakSet[Future]
) -> Callable[[list[Any]], Future]:
    """Return what submits calls that combine values, and notes their futures."""
    target = executor._as_it_is(join)

    def combine(parts: list[Any]) -> Future:
        future = executor._submit_as(join, target, *parts)
        submitted.add(future)
        return future

    return combine


def _check_exact(op: Callable[[Any, Any], Any] | None) -> None:
    """Raise if an operation is not the sum."""
    np = sys.modules.get("numpy")
    if op is not None and op is not operator.add and (np is None or op is not np.add):
        raise ValueError(
            f"exact=True is for sums: op must be operator.add or np.add, not {op!r}"
        )


def _leaves(inputs: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the items of each leaf. The sizes depend on the numbers of the leaves."""
    borrowed = iter(inputs) is inputs  # it may yield one object again, changed
    size, number, items = 1, 0, []
    for item in inputs:
        if borrowed and size > 1 and not is_steady(item, False):
            item = copy.deepcopy(item)
        items.append(item)
        if len(items) == size:
            yield items
            items = []
            number += 1
            if number % LEAVES == 0:
                size *= 2
    if items:
        yield items
