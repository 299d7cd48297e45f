"""What adapters of other interfaces need of an `Executor`, beyond its public methods.

Each function is for rooms above this one, such as `mpitasks.futures`. What users call
is in `mpitasks.api.executor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mpitasks.api.executor import _window
from mpitasks.master.payloads import Call

if TYPE_CHECKING:
    from mpitasks.api.executor import Executor

__all__ = ["cancel_queued", "initialize", "refuse_broken", "results"]


def results(
    executor: Executor,
    fn: Callable[..., Any],
    items: Iterable[Any],
    *,
    star: bool,
    ordered: bool,
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
) -> Iterator[Any]:
    """Call a function with each of the items; return its results, and not their places.

    Args:
        executor: Where.
        fn: The function.
        items: Taken in full now, unless `buffersize` is given.
        star: Whether each item is a tuple of arguments.
        ordered: Whether to yield the results in the order of the items.
        timeout: As in `Executor.map`.
        chunksize: As in `Executor.map`.
        buffersize: As in `Executor.map`.
    """
    stream = executor._stream(
        fn, items, chunksize, {}, star=star, timeout=timeout, ordered=ordered
    )
    stream.start(_window(buffersize))
    return stream.values()


def cancel_queued(executor: Executor) -> None:
    """Cancel what no worker has; unlike `Executor.shutdown`, end nothing that runs."""
    handle = executor._handle
    if not handle.event_loop.is_shut:
        handle.event_loop.cancel_queue(handle)


def refuse_broken(executor: Executor) -> None:
    """Raise if the Executor is broken, where `Executor.submit` returns a failed future.

    Raises:
        InitializerError: The initializer has failed on a worker.
    """
    executor._handle.set_up.check()


def initialize(executor: Executor) -> None:
    """Have a worker call the initializer now; wait until it has.

    No journal knows of the call that does it.

    Raises:
        InitializerError: The initializer has failed on a worker.
    """
    handle = executor._handle
    loop = handle.event_loop
    target = loop.functions.register(_nothing, handle.set_up)
    call = Call(next(handle.ids), target, (), {}, executor.options, loop, handle)
    loop.submit(call.task)
    call.wait(None)
    refuse_broken(executor)


def _nothing() -> None:
    pass
