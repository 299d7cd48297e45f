"""One face for every candidate: `call`, `stream` and `map`, each as its users write it.

A program's `measure` takes any of these, so all candidates run the same lines.

    call    one task, waited for
    stream  one task for each item, none of them bundled by hand; returns when all are
            done
    map     the candidate's map with its defaults; returns the list of results

Three of them take futures as arguments, and so have `submit` and `result` besides:
mpitasks, Ray and Dask.

Peers are imported when they are started, since none of them has to be installed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, Protocol

OURS = "mpitasks"
RAW = "raw MPI"
MPI4PY = "mpi4py.futures"
MULTIPROCESSING = "multiprocessing"
RAY = "Ray"
DASK = "Dask"


class Pool(Protocol):
    """What a `measure` gets."""

    def call(self, function: Callable[..., Any], item: Any) -> Any: ...

    def stream(self, function: Callable[..., Any], items: Iterable[Any]) -> None: ...

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]: ...


class GraphPool(Pool, Protocol):
    """What a `measure` gets whose tasks depend on each other."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any: ...

    def result(self, future: Any) -> Any: ...

    def share(self, value: Any) -> Any: ...

    def keep(self, function: Callable[..., Any], *args: Any) -> Any:
        """As `submit`; the result stays where it is made."""


class Futures:
    """An executor of `concurrent.futures`: ours, or mpi4py's."""

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self.executor = executor
        self.submit = executor.submit

    def result(self, future: concurrent.futures.Future[Any]) -> Any:
        return future.result()

    def share(self, value: Any) -> Any:
        executor: Any = self.executor  # ours
        return executor.share(value)

    def keep(self, function: Callable[..., Any], *args: Any) -> Any:
        executor: Any = self.executor
        return executor.with_options(keep=True).submit(function, *args)

    def call(self, function: Callable[..., Any], item: Any) -> Any:
        return self.executor.submit(function, item).result()

    def stream(self, function: Callable[..., Any], items: Iterable[Any]) -> None:
        submit = self.executor.submit
        for future in [submit(function, item) for item in items]:
            future.result()

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return list(self.executor.map(function, items))


class Multiprocessing:
    """`multiprocessing.Pool`; its stream is imap_unordered, its fastest way."""

    def __init__(self, workers: int) -> None:
        self._pool = multiprocessing.Pool(workers)

    def call(self, function: Callable[..., Any], item: Any) -> Any:
        return self._pool.apply(function, (item,))

    def stream(self, function: Callable[..., Any], items: Iterable[Any]) -> None:
        for _ in self._pool.imap_unordered(function, items, chunksize=1):
            pass

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return self._pool.map(function, items)

    def close(self) -> None:
        self._pool.terminate()


class Ray:
    """Ray on this host alone, without dashboard and usage reports."""

    def __init__(self, workers: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        import ray

        self._ray = ray
        self._remote: dict[Callable[..., Any], Any] = {}
        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=1 << 30,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=tempfile.gettempdir(),
        )

    def call(self, function: Callable[..., Any], item: Any) -> Any:
        return self._ray.get(self._function(function).remote(item))

    def stream(self, function: Callable[..., Any], items: Iterable[Any]) -> None:
        self.map(function, items)

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        remote = self._function(function).remote
        return self._ray.get([remote(item) for item in items])

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._function(function).remote(*args)

    def result(self, future: Any) -> Any:
        return self._ray.get(future)

    def share(self, value: Any) -> Any:
        return self._ray.put(value)

    def keep(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.submit(function, *args)  # which all results do here

    def close(self) -> None:
        self._ray.shutdown()

    def _function(self, function: Callable[..., Any]) -> Any:
        if function not in self._remote:
            self._remote[function] = self._ray.remote(function)
        return self._remote[function]


class Dask:
    """Dask's distributed scheduler with one-threaded workers on this host."""

    def __init__(self, workers: int) -> None:
        import distributed

        self._cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
        )
        self._client = distributed.Client(self._cluster)

    def call(self, function: Callable[..., Any], item: Any) -> Any:
        return self._client.submit(function, item, pure=False).result()

    def stream(self, function: Callable[..., Any], items: Iterable[Any]) -> None:
        submit = self._client.submit
        self._client.gather([submit(function, item, pure=False) for item in items])

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return self._client.gather(self._client.map(function, list(items), pure=False))

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._client.submit(function, *args, pure=False)

    def result(self, future: Any) -> Any:
        return future.result()

    def share(self, value: Any) -> Any:
        return self._client.scatter(value, broadcast=True)

    def keep(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.submit(function, *args)  # which all results do here

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close()
            self._cluster.close()


PEERS: dict[str, Callable[[int], Any]] = {
    MULTIPROCESSING: Multiprocessing,
    RAY: Ray,
    DASK: Dask,
}
