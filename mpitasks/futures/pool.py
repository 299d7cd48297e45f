"""The executors of `mpi4py.futures`: `MPIPoolExecutor` and its subclasses.

This file knows their interface and whether they are open. What runs the calls is in
`mpitasks.futures.backends`, what becomes of keyword arguments in
`mpitasks.futures.keywords`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from mpitasks.errors import ConfigurationError, ExecutorClosedError
from mpitasks.futures.backends import Backend, Ranks, Threads
from mpitasks.futures.chaining import derived
from mpitasks.futures.keywords import Keywords, understand

__all__ = ["MPIPoolExecutor", "ProcessPoolExecutor", "ThreadPoolExecutor"]

T = TypeVar("T")
E = TypeVar("E", bound="MPIPoolExecutor")

CARRIED = (
    "an executor that was sent along with a call cannot be used there: return what is "
    "to be done next, and submit it from the script"
)


class MPIPoolExecutor(concurrent.futures.Executor):
    """Runs calls on the worker ranks, by the interface of mpi4py's class of that name.

    The workers are the other ranks of the run; all executors share them. Nothing is
    done before the first use: an executor may be made where it cannot be used, in a
    module that tasks import, for example.

    Args:
        max_workers: Use at most so many of the workers; None for the number in the
            variable ``MPI4PY_FUTURES_MAX_WORKERS``, or for all there are.
        initializer: Each worker calls it once, before it runs calls of this executor.
        initargs: The arguments that it is called with.
        **kwargs: `path`, a list of folders that calls find at the end of `sys.path`;
            `wdir`, the folder that they run in; `env`, variables of the environment,
            and `globals`, of their module ``__main__``, each as a mapping or as (name,
            value) pairs. Without effect are `backoff`, `main`, `mpi_info`,
            `python_args`, `python_exe` and `use_pkl5`.

    Raises:
        TypeError: There is no such keyword argument, or its value has a wrong type.
        ValueError: `max_workers` is not positive.
        ConfigurationError: `service` was given; there are none here.

    Attributes:
        Future: The class of the futures that `submit` returns; a subclass of the
            standard library's, which an instance or a subclass of the executor may
            replace by another.

    Example:
        >>> with MPIPoolExecutor() as executor:
        ...     for line in executor.map(julia_line, range(480)):
        ...         image.write(line)
    """

    Future: type[concurrent.futures.Future[Any]] = concurrent.futures.Future
    _make_backend: Callable[[Keywords], Backend] = Ranks
    _is_carried = False  # whether it came along with a call

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **kwargs: Any,
    ) -> None:
        self._keywords = understand(max_workers, initializer, initargs, kwargs)
        self._lock = threading.Lock()  # of the next two
        self._backend: Backend | None = None
        self._is_shut = False

    def _open(self, purpose: str) -> Backend:
        """Return what runs the calls; make it if there is none yet.

        Raises:
            ExecutorClosedError: The executor was shut down.
            ConfigurationError: This is not the script's process on rank 0.
        """
        if self._is_carried:
            raise ConfigurationError(CARRIED)
        backend = self._backend
        if backend is None and not self._is_shut:
            # Under no lock, since this pickles the initializer.
            backend = type(self)._make_backend(self._keywords)
            with self._lock:
                spare = None if self._backend is None and not self._is_shut else backend
                if spare is None:
                    self._backend = backend
                backend = self._backend
            if spare is not None:  # another thread was faster
                spare.shutdown(wait=False)
        if backend is None or self._is_shut:
            raise ExecutorClosedError(f"cannot {purpose} after shutdown")
        return backend

    @property
    def num_workers(self) -> int:
        """How many workers take calls; 0 after shutdown, or if the initializer failed.

        Waits until the executor is ready.
        """
        try:
            backend = self._open("count workers")
            backend.get_ready()
        except (ExecutorClosedError, concurrent.futures.BrokenExecutor):
            return 0
        return backend.size

    @property
    def _max_workers(self) -> int:
        """For programs that look there, as in the standard library's executors."""
        return self.num_workers

    def bootup(self: E, wait: bool = True) -> E:
        """Get ready now, instead of at the first call; return the executor itself.

        Args:
            wait: Whether to return only when calls can run, so once an initializer has
                been called.

        Raises:
            ExecutorClosedError: The executor was shut down. (A RuntimeError.)
        """
        backend = self._open("bootup")
        if wait:
            # Whoever submits learns of it.
            with contextlib.suppress(concurrent.futures.BrokenExecutor):
                backend.get_ready()
        return self

    def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[T]:
        """Have a worker call ``fn(*args, **kwargs)``; return its future at once.

        Raises:
            ExecutorClosedError: The executor was shut down. (A RuntimeError.)
            BrokenExecutor: The initializer has failed.
        """
        future = self._open("submit").submit(fn, args, kwargs)
        if self.Future is concurrent.futures.Future:
            return future
        return derived(self.Future(), future)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        unordered: bool = False,
    ) -> Iterator[T]:
        """Call `fn` with an item of each iterable, on the workers; yield the results.

        Args:
            fn: The function.
            *iterables: Taken in full at the call, unless `buffersize` is given.
            timeout: Seconds from this call on after which waiting for a result raises
                `TimeoutError`; None for no limit.
            chunksize: How many items go to a worker together. With 1, mpitasks chooses
                the number by measured durations.
            buffersize: How many chunks may be submitted ahead of the results; None for
                all.
            unordered: Whether to yield each result as soon as it is there.

        Raises:
            ValueError: `chunksize` or `buffersize` is less than 1, or `buffersize` and
                `unordered` are both given.
            TypeError: `buffersize` is no integer.
            ExecutorClosedError: The executor was shut down. (A RuntimeError.)
            BrokenExecutor: The initializer has failed.
            BaseException: Iterating raises what a call raised.
        """
        star = len(iterables) != 1
        items = zip(*iterables) if star else iterables[0]  # noqa: B905  as mpi4py
        return self._stream(
            fn, items, timeout, chunksize, buffersize, unordered, star=star
        )

    def starmap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        unordered: bool = False,
    ) -> Iterator[T]:
        """As `map`, for items that are tuples of arguments: ``fn(*item)``."""
        return self._stream(
            fn, iterable, timeout, chunksize, buffersize, unordered, star=True
        )

    def _stream(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
        unordered: bool,
        *,
        star: bool,
    ) -> Iterator[Any]:
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
            if unordered:
                raise ValueError("buffersize must be None if unordered")
        return self._open("submit").stream(
            fn,
            items,
            star=star,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            unordered=unordered,
        )

    def _close(self) -> Backend | None:
        if self._is_carried:
            return None
        with self._lock:
            self._is_shut = True
            return self._backend

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. The workers stay for other executors.

        Args:
            wait: Return when every call is done.
            cancel_futures: Cancel the calls that were not sent to a worker yet.
        """
        backend = self._close()
        if backend is None:
            return
        backend.shutdown(wait=False)
        if cancel_futures:
            backend.cancel()
        if wait:
            backend.shutdown(wait=True)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Shut down, and wait for every call; after Ctrl-C, without waiting."""
        if error is None:
            self.shutdown(wait=True)
        elif (backend := self._close()) is not None:
            backend.leave(kind, error, trace)

    def __copy__(self: E) -> E:
        return self

    def __deepcopy__(self: E, memo: Any) -> E:
        return self

    def __reduce__(self) -> Any:
        """Be one that refuses to be used, wherever it is unpickled.

        Objects that carry an executor along can be arguments of calls then.
        """
        return _carried, (type(self),)


def _carried(kind: type[E]) -> E:
    executor = kind.__new__(kind)
    executor._is_carried = True
    return executor


class ProcessPoolExecutor(MPIPoolExecutor):
    """Another name of `MPIPoolExecutor`: the workers are processes in any case."""


class ThreadPoolExecutor(MPIPoolExecutor):
    """The interface of `MPIPoolExecutor`, for calls in threads of this process.

    They share all objects with the script. `max_workers` is the number of threads, 1 if
    it is not given.
    """

    _make_backend = Threads
