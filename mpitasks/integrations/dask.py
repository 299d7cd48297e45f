"""A scheduler for dask whose intermediate results stay on the workers.

`get` has the signature of `dask.threaded.get`, so `dask.config.set(scheduler=get)` has
arrays, bags, data frames and delayed calls run on the workers. This file turns a graph
of dask into calls of an `Executor` with futures as arguments. Where and when a call
runs is not decided here, but by the scheduler (`mpitasks.scheduler`).

What a graph consists of is in dask's ``_task_spec.py``; what a scheduler owes its
callers and their callbacks, in ``local.py`` and ``callbacks.py``.
"""

from __future__ import annotations

import contextlib
import queue
import weakref
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION
from typing import Any

from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.api.waiting import wait
from mpitasks.errors import ConfigurationError
from mpitasks.master.future import Future

try:
    from dask import _task_spec as spec
    from dask import config
    from dask.callbacks import local_callbacks, unpack_callbacks
    from dask.core import flatten
    from dask.local import get_sync, nested_get
    from dask.order import order
    from dask.sizeof import sizeof
    from dask.utils import key_split
except ImportError as error:
    raise ImportError(
        f"mpitasks.integrations.dask needs dask 2025.1 or later ({error}): "
        f"pip install 'mpitasks[dask]'"
    ) from error

__all__ = ["get"]

SHARED_BYTES = 1 << 20
"""Data in the graph is shared from this size on, if several tasks need it."""


def get(
    dsk: Any,
    keys: Any,
    cache: Mapping[Hashable, Any] | None = None,
    num_workers: int | None = None,
    *,
    executor: Executor | None = None,
    callbacks: Any = None,
    optimize_graph: bool = True,
    chunksize: int | None = None,
) -> Any:
    """Compute keys of a graph on the workers, as dask's schedulers do.

    Each task is a call. Its result stays on its worker if other tasks need it
    (`TaskOptions.keep`); what `keys` names comes here. Tasks get copies of their
    inputs, as with dask's own processes. Data in the graph that several tasks need and
    that weighs 1 MiB or more is shared, and its arrays are read-only in tasks.

    In a task of mpitasks, the graph is computed there, one task after another.

    Importing this module has dask shuffle by tasks where nothing else is configured
    (``dataframe.shuffle.method``): its default without a cluster of its own is a file
    on the local disk, which workers on other hosts cannot read.

    Args:
        dsk: The graph: a mapping, or what has ``__dask_graph__``.
        keys: A key, or nested lists of keys.
        cache: Results that are known already, by key.
        num_workers: As `max_workers` of an Executor; None for what dask's configuration
            says (``num_workers``), else all workers.
        executor: What runs the tasks, with its options (`Executor.with_options`); None
            for an Executor of this call's own.
        callbacks: Callbacks of dask for this call; None for those that are active.
            ``pretask`` is called when a task is submitted. If there is a ``posttask``,
            which gets the results, they all come here.
        optimize_graph: Run a chain of tasks, each of which needs only the one before,
            as one task.
        chunksize: Without effect: short calls travel together anyway.

    Returns:
        The value of the key; or tuples of values, nested as `keys`.

    Raises:
        KeyError: A key is not in the graph.
        ValueError: A task needs a key that is not in the graph.
        RuntimeError: Tasks need each other.
        ConfigurationError: Both `num_workers` and `executor` are given.
        BaseException: What a task has raised. No other tasks begin after that.

    Example:
        >>> with dask.config.set(scheduler=mpitasks.integrations.dask.get):
        ...     total = dask.array.ones((10_000, 10_000)).sum().compute()
    """
    if executor is not None and num_workers is not None:
        raise ConfigurationError(
            "num_workers is for an Executor of this call's own, and executor for one "
            "that is there: give one of them"
        )
    if not isinstance(dsk, Mapping):
        dsk = dsk.__dask_graph__()
    known = {key: spec.DataNode(key, value) for key, value in (cache or {}).items()}
    nodes = spec.convert_legacy_graph({**dsk, **known})
    if session.is_task():
        return get_sync(nodes, keys, callbacks=callbacks)
    wanted = set(flatten(keys)) if isinstance(keys, list) else {keys}
    state: dict[str, Any] = {}
    with _observed(nodes, state, callbacks) as (start_state, pretask, posttask):
        # Callbacks may have put values into the graph.
        graph = _Graph(spec.convert_legacy_graph(nodes), wanted, optimize_graph)
        state.update(graph.state())
        for callback in start_state:
            callback(graph.nodes, state)
        with _executor(executor, num_workers) as runner:
            values = _Run(runner, graph, state, pretask, posttask).compute()
    return nested_get(keys, values)


@contextlib.contextmanager
def _observed(
    nodes: dict[Hashable, Any], state: dict[str, Any], callbacks: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """Call callbacks of dask at the start and at the end of a computation.

    Args:
        nodes: The graph.
        state: What they are given as its state.
        callbacks: As in `get`.

    Yields:
        The other callbacks: for the state, before a task, and after a task.
    """
    with local_callbacks(callbacks) as active:
        begun = []
        failed = True
        try:
            for each in active:
                if each[0]:
                    each[0](nodes)
                begun.append(each)
            _, start_state, pretask, posttask, _ = unpack_callbacks(active)
            yield start_state, pretask, posttask
            failed = False
        finally:
            for each in begun:
                if each[4]:
                    each[4](nodes, state, failed)


@contextlib.contextmanager
def _executor(given: Executor | None, workers: int | None) -> Iterator[Executor]:
    """Yield an Executor; shut it down in the end if it is of our own."""
    if given is not None:
        yield given
        return
    own = Executor(config.get("num_workers", None) if workers is None else workers)
    try:
        yield own
    except BaseException:
        own.shutdown(wait=False, cancel_futures=True)
        raise
    own.shutdown()


class _Graph:
    """What is to be computed.

    Args:
        nodes: All of the graph, as objects of `dask._task_spec`.
        wanted: The keys of the results.
        optimize: Whether to fuse chains.

    Attributes:
        nodes: What the results need, by key.
        order: Keys of `nodes`, without aliases: inputs first, otherwise as dask orders
            them, which has few results alive at a time.
        inputs: The keys that a task needs, each with the one that it stands for.
        results: The same for the keys that are wanted.
        uses: How many tasks need each key.
    """

    def __init__(
        self, nodes: dict[Hashable, Any], wanted: set[Hashable], optimize: bool
    ) -> None:
        for key in wanted:
            if key not in nodes:
                raise KeyError(key)
        nodes = spec.cull(nodes, wanted)
        for key, node in nodes.items():
            for name in node.dependencies:
                if name not in nodes:
                    raise ValueError(f"Missing dependency {name!r} for {key!r}")
        order(nodes)  # refuses a circle, of which fusing would make a task
        if optimize:
            nodes = spec.cull(spec.fuse_linear_task_spec(nodes, wanted), wanted)
        places = order(nodes)
        self.nodes = nodes
        self.order = [
            key
            for key in sorted(nodes, key=places.__getitem__)
            if not isinstance(nodes[key], spec.Alias)
        ]
        self.inputs = {
            key: {name: self._source(name) for name in nodes[key].dependencies}
            for key in self.order
        }
        self.results = {key: self._source(key) for key in wanted}
        self.uses = Counter(s for needs in self.inputs.values() for s in needs.values())

    def _source(self, key: Hashable) -> Hashable:
        """Return the key that one stands for, if it is an alias."""
        while isinstance(node := self.nodes[key], spec.Alias):
            key = node.target
        return key

    def state(self) -> dict[str, Any]:
        """Return what callbacks look at, with the names of dask's ``local.py``."""
        nodes = self.nodes
        values = {k: n() for k, n in nodes.items() if isinstance(n, spec.DataNode)}
        return {
            "dependencies": {key: {*node.dependencies} for key, node in nodes.items()},
            "waiting": {},
            "ready": [],
            "running": {key for key in self.order if key not in values},
            "finished": set(),
            "released": set(),
            "cache": values,
        }


class _Run:
    """A graph that is being computed.

    Args:
        executor: What runs the tasks.
        graph: The graph.
        state: What callbacks are given as its state.
        pretask: Callbacks before a task.
        posttask: Callbacks after a task.
    """

    def __init__(
        self,
        executor: Executor,
        graph: _Graph,
        state: dict[str, Any],
        pretask: Any,
        posttask: Any,
    ) -> None:
        self._executor = executor
        self._graph = graph
        self._state = state
        self._pretask = pretask
        self._posttask = posttask
        self._views: dict[Any, Executor] = {}
        self._submitted: list[weakref.ref[Future]] = []
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def compute(self) -> dict[Hashable, Any]:
        """Return the value of each key that is wanted."""
        try:
            results = self._submit()
            if self._pretask or self._posttask:
                self._follow()
            futures = [each for each in results.values() if isinstance(each, Future)]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done() and (error := future.exception()) is not None:
                    raise error
            return {
                key: each.result() if isinstance(each, Future) else each()
                for key, each in results.items()
            }
        except BaseException:
            for reference in self._submitted:
                if (submitted := reference()) is not None:
                    submitted.cancel()
            raise

    def _submit(self) -> dict[Hashable, Any]:
        """Submit all tasks; return a future for each wanted key, or a node with data.

        Other futures are dropped once the last task that needs them is submitted, so
        that workers drop the results when these tasks are done.
        """
        graph = self._graph
        uses = Counter(graph.uses)
        kept = set(graph.results.values())
        made: dict[Hashable, Any] = {}
        depths: dict[Hashable, int] = {}
        for key in graph.order:
            node = graph.nodes[key]
            needs = graph.inputs[key]
            depths[key] = 1 + max((depths[each] for each in needs.values()), default=-1)
            if isinstance(node, spec.DataNode):
                made[key] = node
                if uses[key] > 1 and sizeof(node.value) >= SHARED_BYTES:
                    made[key] = self._executor.share(node.value)
                continue
            inputs = {
                name: each if isinstance(each := made[source], Future) else each()
                for name, source in needs.items()
            }
            made[key] = self._call(key, node, inputs, depths[key])
            for source in needs.values():
                uses[source] -= 1
                if not uses[source] and source not in kept:
                    del made[source]
        return {
            key: node
            if isinstance(node := graph.nodes[each], spec.DataNode)
            else made[each]
            for key, each in graph.results.items()
        }

    def _call(
        self, key: Hashable, node: Any, inputs: dict[Hashable, Any], depth: int
    ) -> Future:
        """Submit a task.

        Args:
            key: Its key.
            node: What it is.
            inputs: Futures or values, by key.
            depth: How many tasks stand before it. Those with more go first, so that
                results are used up before there are more of them.
        """
        for callback in self._pretask:
            callback(key, self._graph.nodes, self._state)
        keep = self._graph.uses[key] > 0 and not self._posttask
        future = self._view(key_split(key), keep, depth).submit(_run, node, inputs)
        self._submitted.append(weakref.ref(future))
        if self._pretask or self._posttask:
            future.add_done_callback(lambda done: self._done.put((key, done)))
        return future

    def _view(self, label: str, keep: bool, depth: int) -> Executor:
        """Return the Executor for tasks of a kind."""
        view = self._views.get((label, keep, depth))
        if view is None:
            options = self._executor.options
            view = self._executor.with_options(
                label=label if options.label is None else options.label,
                keep=keep or options.keep,
                priority=options.priority + depth,
            )
            self._views[label, keep, depth] = view
        return view

    def _follow(self) -> None:
        """Call callbacks as tasks end, until all have.

        Raises:
            BaseException: What a task has raised.
        """
        state = self._state
        while state["running"]:
            key, future = self._done.get()
            if (error := future.exception()) is not None:
                raise error
            value = None
            if self._posttask:
                value = state["cache"][key] = future.result()
            del future
            state["running"].remove(key)
            state["finished"].add(key)
            for callback in self._posttask:
                callback(key, value, self._graph.nodes, state, None)
            state["cache"].pop(key, None)


def _run(node: Any, inputs: dict[Hashable, Any]) -> Any:
    """On a worker: run a task of dask."""
    return node(inputs)


if config.get("dataframe.shuffle.method", None) is None:
    config.set({"dataframe.shuffle.method": "tasks"})
