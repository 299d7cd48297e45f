"""`Pool`: the interface of `multiprocessing.pool.Pool`, on the workers of the run.

An Executor does the work. This file has the pool's states and its methods;
`pool_results.py` and `pool_iterators.py` have what they return.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.api.pool_iterators import IMapIterator, ItemFeed, in_whole_chunks
from mpitasks.api.pool_results import ApplyResult, CallbackThread, MapResult
from mpitasks.errors import OptionError

if TYPE_CHECKING:
    from types import TracebackType

    from mpitasks.api.stream import Stream
    from mpitasks.master.event_loop import EventLoop

__all__ = ["Pool"]

INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"
"""The states, as in `multiprocessing.pool`."""

CHUNKS_PER_PROCESS = 4
"""Where a chunk counts as one task of a process, maps make so many of them."""

_AT_HAND = frozenset({list, tuple, range})
"""Types of iterables that yield their items without running code of the user."""

Callback = Callable[[Any], object]


class Pool:
    """`multiprocessing.pool.Pool` on the worker ranks, or in this process.

    Methods, results, errors and their order are those of the standard library; see
    ``docs/pool.md`` for the few differences. Functions can also be lambdas, closures
    and functions of the script without an ``if __name__ == "__main__"``. The workers
    serve until the script ends: a pool starts and ends no process, unless its tasks
    are isolated.

    Args:
        processes: Use only so many of the workers; None for all there are.
        initializer: Each process that runs tasks of this pool calls it once, before the
            first of them.
        initargs: The arguments that it is called with.
        maxtasksperchild: Run tasks in a child process of their rank, and replace that
            after so many of them; a chunk counts as one. It implies ``isolate=True``.
        context: Taken, and not used: the workers are there already.
        **options: What else `Executor` takes: ``isolate``, ``timeout`` (of each task),
            ``retries``, ``journal``, ``label`` and others.

    Raises:
        ValueError: `processes` or `maxtasksperchild` is less than 1.
        TypeError: The initializer cannot be called, or an option does not exist.
        ConfigurationError: This is not the script's process on rank 0.
        OptionError: An option has a value that it cannot have.

    Example:
        >>> with mpitasks.Pool() as pool:
        ...     squares = pool.map(math.sqrt, range(100))
        ...     print(pool.apply(pow, (2, 10)))
    """

    _state = INIT

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: object = None,
        **options: Any,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None:
            if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
                raise ValueError("maxtasksperchild must be a positive int or None")
            options.setdefault("isolate", True)
            options["max_tasks_per_child"] = maxtasksperchild
        for name in ("return_exceptions", "max_failures", "fail_fast"):
            if name in options:
                raise OptionError(f"a Pool has no use for the option {name}")
        self._wanted = processes
        self._whole_chunks = maxtasksperchild is not None
        self._executor = Executor(
            processes, context, initializer, tuple(initargs), **options
        )
        self._thread = CallbackThread()
        self._feeds: list[ItemFeed] = []  # of imaps that may be still taking items
        self._state = RUN

    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN) -> None:
        if self._state == _run:
            text = f"unclosed running multiprocessing pool {self!r}"
            _warn(text, ResourceWarning, source=self)
        thread = self.__dict__.get("_thread")  # globals may be gone when Python ends
        if thread is not None:
            thread.stop()

    def __repr__(self) -> str:
        kind = type(self)
        name = f"{kind.__module__}.{kind.__qualname__}"
        size = self._processes if self._state != INIT else 0
        return f"<{name} state={self._state} pool_size={size}>"

    def __copy__(self) -> Pool:
        return self

    def __deepcopy__(self, memo: Any) -> Pool:
        return self  # as a file or a lock in what is copied would be

    def __reduce__(self) -> Any:
        """Be something that refuses to be used, wherever it is unpickled.

        Objects that carry their pool along can be arguments of tasks then.
        """
        return object.__new__, (type(self),)

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.terminate()

    # What samplers look for.

    @property
    def _processes(self) -> int:
        """How many workers take tasks; where clients look for it, dynesty for one."""
        self._check_here()
        number = self._executor.num_workers
        return number if self._wanted is None else min(self._wanted, number)

    @property
    def _pool(self) -> range:
        """The ranks of these workers, for clients that count them."""
        return range(1, self._processes + 1)

    @property
    def size(self) -> int:
        """How many workers take tasks."""
        return self._processes

    @property
    def rank(self) -> int:
        """The rank of the process that has the pool: 0, which runs the script."""
        return 0

    def is_master(self) -> bool:
        """Whether this process hands out tasks: it is the only one that has a pool."""
        return True

    def is_worker(self) -> bool:
        """Whether this process should `wait` for tasks: never."""
        return False

    def wait(self, callback: object = None) -> None:
        """Return at once: ``if not pool.is_master(): pool.wait()`` is not needed."""

    @staticmethod
    def enabled() -> bool:
        """Whether a pool can be made."""
        return True

    # Calls.

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> Any:
        """Return ``func(*args, **kwds)``, called by a worker.

        Raises:
            ValueError: The pool is not running.
            BaseException: What the call raised.
        """
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> ApplyResult:
        """As `apply`, but return a result-to-be.

        Args:
            func: The function.
            args: Its arguments.
            kwds: Those by name.
            callback: Called with the value, by a thread, before the result is ready.
            error_callback: Called with what was raised instead.

        Raises:
            ValueError: The pool is not running.
        """
        self._check_running()
        future = self._executor.submit(func, *args, **kwds)
        result = ApplyResult(*self._own(), callback, error_callback)
        result.follow(future)
        return result

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | Callback | None = None,
        callback: Callback | None = None,
    ) -> list[Any]:
        """Return ``[func(item) for item in iterable]``, called by the workers.

        All items are done before it returns, or raises what the first of them raised.

        Args:
            func: The function.
            iterable: The items.
            chunksize: How many are sent together; None lets the library choose.
            callback: Called with each result as it comes, in this thread: as by the
                pools of schwimmbad. It may stand in the place of `chunksize`. What it
                raises ends the map.

        Raises:
            ValueError: The pool is not running.
            BaseException: What the call of an item raised.
        """
        if callable(chunksize):
            chunksize, callback = None, chunksize
        result = self._map(func, iterable, chunksize, star=False)
        return self._wait_for(result, callback)

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult:
        """As `map`, but return a result-to-be. Callbacks get the whole list."""
        callbacks = callback, error_callback
        return self._map(func, iterable, chunksize, *callbacks, star=False)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """As `map`, for items that are arguments: ``func(*item)``."""
        return self._wait_for(self._map(func, iterable, chunksize, star=True))

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult:
        """As `starmap`, but return a result-to-be. Callbacks get the whole list."""
        callbacks = callback, error_callback
        return self._map(func, iterable, chunksize, *callbacks, star=True)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """Return an iterator of the results of the items, in order.

        A thread takes the items while results are fetched, some hundreds ahead of them.

        Args:
            func: The function.
            iterable: The items.
            chunksize: How many are sent together; 1 lets the library choose.

        Raises:
            ValueError: The pool is not running, or `chunksize` is less than 1.
        """
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """As `imap`, but in the order in which the results come."""
        return self._imap(func, iterable, chunksize, ordered=False)

    # The end.

    def close(self) -> None:
        """Take no more calls; those that were taken are done."""
        self._check_here()
        if self._state == RUN:
            self._state = CLOSE
            self._feeds = [feed for feed in self._feeds if not feed.is_done]
            if not self._feeds:
                self._executor.shutdown(wait=False)

    def terminate(self) -> None:
        """Take no more calls, and drop those that were taken, with their results.

        Isolated tasks are killed. Others that run go on, and nobody waits for them:
        what is to wait for them gets `CancelledError` or `ExecutorClosedError`.
        """
        self._check_here()
        if self._state == TERMINATE:
            return
        self._state = TERMINATE
        for feed in self._feeds:
            feed.stop()
        self._executor._drop()
        self._thread.stop(drop=True)

    def join(self) -> None:
        """Wait until all calls are done, and their callbacks were called.

        Raises:
            ValueError: The pool is still running.
        """
        self._check_here()
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state == CLOSE:
            for feed in self._feeds:
                feed.hurry()
            for feed in self._feeds:
                feed.join()
            self._feeds = []
        self._executor.shutdown()
        self._thread.stop()
        if not self._event_loop.is_shut:  # then nothing will be ready any more
            self._thread.join()

    def _check_here(self) -> None:
        """Refuse to be used in a task, where a pool arrives in its `INIT` state."""
        if self._state == INIT:
            session.refuse_copy("a Pool")

    def _check_running(self) -> None:
        self._check_here()
        if self._state != RUN:
            raise ValueError("Pool not running")

    @property
    def _event_loop(self) -> EventLoop:
        return self._executor._handle.event_loop

    def _own(self) -> tuple[Pool, EventLoop, CallbackThread]:
        return self, self._event_loop, self._thread

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
        *,
        star: bool,
    ) -> MapResult:
        self._check_running()
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        length = len(items)
        if chunksize is None and self._whole_chunks:
            chunksize = max(-(-length // (CHUNKS_PER_PROCESS * self._processes)), 1)
        source = map(tuple, items) if star else items
        result = MapResult(*self._own(), callback, error_callback)
        stream = self._stream(func, source, chunksize, star=star, ordered=False)
        result.follow_items(stream, length)
        return result

    def _stream(
        self,
        func: Callable[..., Any],
        items: Iterable[Any],
        chunksize: int | None,
        *,
        star: bool,
        ordered: bool,
    ) -> Stream:
        return self._executor._stream(
            func, items, chunksize, {}, star=star, timeout=None, ordered=ordered
        )

    def _wait_for(
        self, result: MapResult, callback: Callback | None = None
    ) -> list[Any]:
        try:
            if callback is not None:
                for value in result.as_they_come():
                    callback(value)
            values: list[Any] = result.get()
        except BaseException:
            result.cancel()  # it was interrupted, if anything is left
            raise
        return values

    def _imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        *,
        ordered: bool,
    ) -> IMapIterator:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        at_once = None
        if type(iterable) not in _AT_HAND:
            at_once, iterable = chunksize, in_whole_chunks(iterable, chunksize)
        size = None if chunksize == 1 and not self._whole_chunks else chunksize
        stream = self._stream(func, iterable, size, star=False, ordered=ordered)
        feed = ItemFeed(stream, at_once)
        feed.start()
        self._feeds = [*(each for each in self._feeds if not each.is_done), feed]
        return IMapIterator(self, stream, feed)
