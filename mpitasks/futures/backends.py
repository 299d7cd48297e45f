"""What the calls of an executor of `mpitasks.futures` run on: ranks, or threads.

A backend is made when its executor is first used. It knows nothing of keywords and of
the state of the executor, which are `mpitasks.futures.keywords` and
`mpitasks.futures.pool`.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from mpitasks.api import adapting
from mpitasks.api.executor import Executor
from mpitasks.values import wait_seconds

if TYPE_CHECKING:
    from mpitasks.futures.keywords import Keywords

__all__ = ["Backend", "Ranks", "Threads"]


class Backend(Protocol):
    """Runs calls."""

    @property
    def size(self) -> int:
        """How many workers it has."""

    def get_ready(self) -> None:
        """Wait until it can run calls.

        Raises:
            BrokenExecutor: It cannot, since the initializer has failed.
        """

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """As `concurrent.futures.Executor.submit`.

        Raises:
            BrokenExecutor: The initializer has failed.
        """

    def stream(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        star: bool,
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
        unordered: bool,
    ) -> Iterator[Any]:
        """Call a function with each of the items; return the results.

        Args:
            fn: The function.
            items: Taken in full now, unless `buffersize` is given.
            star: Whether each item is a tuple of arguments.
            timeout: Seconds from now on until waiting raises TimeoutError.
            chunksize: How many items go together; 1 if that does not matter.
            buffersize: How many may be ahead of the results; None for all.
            unordered: Whether to yield the results as they come.

        Raises:
            BrokenExecutor: The initializer has failed.
        """

    def cancel(self) -> None:
        """Cancel all calls that have not begun."""

    def shutdown(self, *, wait: bool) -> None:
        """Take no more calls.

        Args:
            wait: Whether to return when all are done.
        """

    def leave(self, kind: Any, error: Any, trace: Any) -> None:
        """As `concurrent.futures.Executor.__exit__`, when something was raised."""


class Ranks:
    """The worker ranks; or this process, if there are none.

    Args:
        keywords: What the executor was given.

    Raises:
        ConfigurationError: This is not the script's process on rank 0.
        SerializationError: The initializer cannot be pickled.
    """

    def __init__(self, keywords: Keywords) -> None:
        self._around = keywords.around
        initializer = keywords.initializer
        self._initializes = initializer is not None
        if initializer is not None:
            initializer = self._around.wrap(initializer)
        self._executor = Executor(
            keywords.max_workers, initializer=initializer, initargs=keywords.initargs
        )

    @property
    def size(self) -> int:
        return self._executor.num_workers

    def get_ready(self) -> None:
        if self._initializes:
            adapting.initialize(self._executor)

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        if self._initializes:
            adapting.refuse_broken(self._executor)
        return self._executor.submit(self._around.wrap(fn), *args, **kwargs)

    def stream(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        star: bool,
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
        unordered: bool,
    ) -> Iterator[Any]:
        return adapting.results(
            self._executor,
            self._around.wrap(fn),
            map(tuple, items) if star else items,
            star=star,
            ordered=not unordered,
            timeout=timeout,
            chunksize=None if chunksize == 1 else chunksize,
            buffersize=None if buffersize is None else buffersize * chunksize,
        )

    def cancel(self) -> None:
        adapting.cancel_queued(self._executor)

    def shutdown(self, *, wait: bool) -> None:
        self._executor.shutdown(wait)

    def leave(self, kind: Any, error: Any, trace: Any) -> None:
        self._executor.__exit__(kind, error, trace)


class Threads:
    """Threads of this process, which share all that the script has.

    So nothing is set up around the calls: the script would notice.

    Args:
        keywords: What the executor was given; without a number there is one thread.
    """

    def __init__(self, keywords: Keywords) -> None:
        self.size = keywords.max_workers or 1
        self._initializes = keywords.initializer is not None
        self._pool = concurrent.futures.ThreadPoolExecutor(
            self.size, initializer=keywords.initializer, initargs=keywords.initargs
        )

    def get_ready(self) -> None:
        if self._initializes:
            self._pool.submit(_nothing).result()

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        return self._pool.submit(fn, *args, **kwargs)

    def stream(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        star: bool,
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
        unordered: bool,
    ) -> Iterator[Any]:
        del chunksize  # threads need no messages, so there is nothing to save
        end = None if timeout is None else time.monotonic() + wait_seconds(timeout)
        arguments = map(tuple, items) if star else zip(items)
        submits = (self.submit(fn, each, {}) for each in arguments)
        ahead = deque(itertools.islice(submits, buffersize))
        rest = iter(()) if buffersize is None else submits
        return _as_they_come(ahead, end) if unordered else _in_order(ahead, rest, end)

    def cancel(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def shutdown(self, *, wait: bool) -> None:
        self._pool.shutdown(wait)

    def leave(self, kind: Any, error: Any, trace: Any) -> None:
        self._pool.shutdown()


def _in_order(
    ahead: deque[Future[Any]], rest: Iterator[Future[Any]], end: float | None
) -> Iterator[Any]:
    try:
        while ahead:
            results = [ahead[0].result(_left(end))]
            ahead.popleft()
            ahead.extend(itertools.islice(rest, 1))
            yield results.pop()  # so that it is the caller's alone
    finally:
        for future in ahead:
            future.cancel()


def _as_they_come(futures: deque[Future[Any]], end: float | None) -> Iterator[Any]:
    rest = {*futures}
    futures.clear()
    try:
        for future in concurrent.futures.as_completed({*rest}, _left(end)):
            results = [future.result()]
            rest.remove(future)
            del future
            yield results.pop()  # so that it is the caller's alone
    finally:
        for future in rest:
            future.cancel()


def _left(end: float | None) -> float | None:
    return None if end is None else end - time.monotonic()


def _nothing() -> None:
    pass
