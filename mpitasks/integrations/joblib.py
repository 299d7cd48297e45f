"""The backend "mpitasks" of joblib, and so of scikit-learn.

Importing this registers it. What a backend has to offer is in joblib's
``_parallel_backends.py`` (`ParallelBackendBase`). This file translates; what runs the
calls is an `Executor`.
"""

from __future__ import annotations

import copy
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any

from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.errors import ConfigurationError
from mpitasks.master.script_state import same_bytes

try:
    from joblib import register_parallel_backend
    from joblib._parallel_backends import FallbackToBackend, SequentialBackend
    from joblib.parallel import AutoBatchingMixin, ParallelBackendBase
except ImportError as error:
    raise ImportError(
        f"mpitasks.integrations.joblib needs joblib 1.4 or later ({error}): "
        f"pip install 'mpitasks[joblib]'"
    ) from error

__all__ = ["MpiTasksBackend"]

LARGE_BYTES = 1 << 20
"""Arrays from this size on are shared; joblib's own default."""


class MpiTasksBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs the batches of `joblib.Parallel` on the worker ranks.

    As with joblib's own processes, NumPy arrays that are arguments are read-only in the
    calls if they weigh `max_nbytes` or more. They go to each host once.

    Args:
        **kwargs: Those of joblib; all others are options of the tasks
            (`mpitasks.TaskOptions`), and then each call is a task of its own.

    Example:
        >>> import mpitasks.integrations.joblib
        >>> with joblib.parallel_config("mpitasks"):
        ...     search.fit(X, y)
    """

    default_n_jobs = -1
    supports_retrieve_callback = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._workers = 1
        self._least: int | None = None
        self._executor: Executor | None = None
        self._arrays: SharedArrays | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers that number of jobs means; 1 inside a task.

        Raises:
            ValueError: It is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1 or session.is_task():
            return 1
        workers = session.current().event_loop.num_workers
        return min(n_jobs, workers) if n_jobs > 0 else max(workers + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        max_nbytes: int | None = LARGE_BYTES,
        mmap_mode: str | None = "r",
        **others: Any,
    ) -> int:
        """Get ready for the calls of a `joblib.Parallel`; return the number of workers.

        Args:
            n_jobs: As in `effective_n_jobs`.
            parallel: The `joblib.Parallel`.
            prefer: Without effect.
            require: Without effect; joblib takes threads for "sharedmem".
            max_nbytes: Share arrays from this size on; None for none.
            mmap_mode: "r" to share them. With "c" and None each call has its own copy.
            **others: What joblib's own processes need.

        Raises:
            FallbackToBackend: There is one job, or this is a task, which cannot have
                others: joblib runs the calls here.
            ConfigurationError: With this `mmap_mode` calls would write into arrays of
                the script.
        """
        count = self.effective_n_jobs(n_jobs)
        if n_jobs == 1 or session.is_task():
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if mmap_mode not in (None, "r", "c"):
            raise ConfigurationError(
                f"mmap_mode={mmap_mode!r} lets calls write into arrays of the script, "
                f"which workers on other hosts cannot: return the values instead"
            )
        self.parallel = parallel
        self._workers = count
        self._least = max_nbytes if mmap_mode == "r" else None
        return count

    def start_call(self) -> None:
        """Get an Executor, anew for each call of the `joblib.Parallel`.

        Then large globals of the script are compared with what was sent of them.
        """
        self._executor = Executor(self._workers, **self.backend_kwargs)
        self._arrays = SharedArrays(self._executor, self._least)

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Any:
        """Submit a batch of calls; return its future.

        Args:
            func: The batch (`joblib.parallel.BatchedCalls`).
            callback: Called with the future when it is done.
        """
        assert self._executor is not None
        assert self._arrays is not None
        future = self._executor.submit(_call, self._arrays.replaced(func))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return what a batch returned, or raise what it raised."""
        return out.result()

    def compute_batch_size(self) -> int:
        """Return how many calls to put into the next batch.

        By durations, since joblib takes some 0.1 ms for a batch. But options, and the
        keys of a journal, are those of single calls.
        """
        handle = None if self._executor is None else self._executor._handle
        if self.backend_kwargs or (handle is not None and handle.journal is not None):
            return 1
        return int(super().compute_batch_size())

    def terminate(self) -> None:
        """The calls are done, or nobody wants their results. The workers stay."""
        self.reset_batch_stats()

    def stop_call(self) -> None:
        """A call of the `joblib.Parallel` is over: let go of its arrays."""
        if self._arrays is not None:
            self._arrays.forget_all()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Begin nothing more, since a call has failed, or nobody wants the results.

        Args:
            ensure_ready: Without effect: there is a new Executor for the next call.
        """
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def get_nested_backend(self) -> tuple[Any, None]:
        """Return what a `joblib.Parallel` in a call uses: the rank of that call.

        There is a rank for each core already, so no threads.
        """
        level = (self.nesting_level or 0) + 1
        return SequentialBackend(nesting_level=level), None


class SharedArrays:
    """Large arrays among the arguments of calls, each shared once while it is the same.

    Args:
        executor: What shares them.
        least: Arrays of so many bytes are shared; None for none.

    """

    def __init__(self, executor: Executor, least: int | None) -> None:
        self._least = least
        self._executor = executor
        # By id: a reference that ends with the array, and the future of what is shared.
        self._shared: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def replaced(self, batch: Any) -> Any:
        """Return a batch with shared arrays in the place of large ones."""
        if self._least is None or "numpy" not in sys.modules:
            return batch
        batch = copy.copy(batch)
        met: dict[int, Any] = {}
        batch.items = [
            (
                function,
                tuple(self._share(each, met) for each in args),
                {name: self._share(each, met) for name, each in kwargs.items()},
            )
            for function, args, kwargs in batch.items
        ]
        return batch

    def _share(self, value: Any, met: dict[int, Any]) -> Any:
        """Return the future of an array, or another value as it is.

        Args:
            value: An argument.
            met: The arrays of the batch that were looked at, by id.
        """
        import numpy as np

        if type(value) is not np.memmap and (
            type(value) is not np.ndarray
            or value.dtype.hasobject
            or value.nbytes < (self._least or 0)
        ):
            return value
        key = id(value)
        if key in met:
            return met[key]
        known, future = self._shared.get(key, (None, None))
        if known is None or known() is not value or not _is_same(value, future):
            future = self._executor.share(value)
            self._shared[key] = weakref.ref(value, lambda _: self._forget(key)), future
        met[key] = future
        return future

    def _forget(self, key: int) -> None:
        """The array is gone, and its id may be another's by now."""
        known, _ = self._shared.get(key, (None, None))
        if known is not None and known() is None:
            self._shared.pop(key, None)

    def forget_all(self) -> None:
        """Share each of them anew when it comes again."""
        self._shared.clear()


def _is_same(array: Any, shared: Any) -> bool:
    """Whether an array is what it was when it was shared."""
    other = shared.result()
    if getattr(other, "_mmap", None) is not None:
        return True  # it went by the path of its file
    if _is_frozen(array):
        return True
    try:
        own, sent = pickle.PickleBuffer(array), pickle.PickleBuffer(other)
        return same_bytes([own.raw()], [sent.raw()])
    except BufferError:  # it is not contiguous
        return False


def _is_frozen(array: Any) -> bool:
    """Whether nobody can write into the memory of an array."""
    while type(array).__module__ == "numpy" and not array.flags.writeable:
        array = array.base
    return array is None or type(array) is bytes


def _call(batch: Callable[[], list[Any]]) -> list[Any]:
    """On a worker: run a batch."""
    return batch()


register_parallel_backend("mpitasks", MpiTasksBackend)
