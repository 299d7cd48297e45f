"""`wait` and `as_completed`, as in the standard library; the caller drives the run.

A caller drives the run, as `Future.result` does, and a `Watcher`
(`mpitasks.master.future`) notes which futures are settled. A caller of the standard
library's functions drives as well, but these make a condition for each future (8 us).

Futures of other executors may be among them: then the standard library does it.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any

from mpitasks.errors import OptionError
from mpitasks.master.future import Future, Watcher
from mpitasks.values import wait_seconds

__all__ = ["as_completed", "wait"]

AnyFuture = concurrent.futures.Future[Any]


def wait(
    fs: Iterable[AnyFuture],
    timeout: float | None = None,
    return_when: str = ALL_COMPLETED,
) -> concurrent.futures._base.DoneAndNotDoneFutures[Any]:
    """Wait for futures, as `concurrent.futures.wait` does, and drive the run meanwhile.

    Args:
        fs: The futures; those of other executors may be among them.
        timeout: Seconds to wait at most; None for no limit. What is done by then is
            returned, no exception is raised.
        return_when: One of `concurrent.futures.ALL_COMPLETED`, `FIRST_COMPLETED` and
            `FIRST_EXCEPTION`. A task counts as failed if it raised; whether a result
            can be unpickled shows only when it is asked for.

    Returns:
        The sets ``done`` and ``not_done``, as a named tuple.

    Raises:
        OptionError: `return_when` is none of these. (A ValueError.)

    Example:
        >>> done, not_done = mpitasks.wait(futures, timeout=60.0)
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise OptionError(
            f"return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, "
            f"not {return_when!r}"
        )
    futures = set(fs)
    ours = [future for future in futures if isinstance(future, Future)]
    if not ours or len(ours) < len(futures):
        return concurrent.futures.wait(futures, timeout, return_when)
    # Compared here, under no lock: it may be text of a class of the user's.
    one, failed = return_when == FIRST_COMPLETED, return_when == FIRST_EXCEPTION
    with Watcher(ours) as watcher:

        def enough() -> bool:
            if (one and watcher.done) or (failed and watcher.failures):
                return True
            return not watcher.pending

        ours[0]._event_loop.drive(enough, watcher.block, timeout)
        done: set[AnyFuture] = set(watcher.done)
    kind = concurrent.futures._base.DoneAndNotDoneFutures
    return kind(done, futures - done)


def as_completed(
    fs: Iterable[AnyFuture], timeout: float | None = None
) -> Iterator[AnyFuture]:
    """Yield futures as they are done, as `concurrent.futures.as_completed` does.

    The run is driven while the caller waits for the next one.

    Args:
        fs: The futures; those of other executors may be among them. One that is given
            twice is yielded once.
        timeout: Seconds from the call on, after which waiting raises `TimeoutError`;
            None for no limit.

    Raises:
        TimeoutError: Not all of them were done in time.

    Example:
        >>> for future in mpitasks.as_completed(futures):
        ...     print(future.result())
    """
    end = None if timeout is None else time.monotonic() + wait_seconds(timeout)
    futures = set(fs)
    ours = [future for future in futures if isinstance(future, Future)]
    if not ours or len(ours) < len(futures):
        return concurrent.futures.as_completed(futures, timeout)
    return _as_completed(ours, end)


def _as_completed(futures: list[Future], end: float | None) -> Iterator[AnyFuture]:
    count, event_loop = len(futures), futures[0]._event_loop
    with Watcher(futures) as watcher:
        del futures  # a future that was yielded is the caller's alone
        done = watcher.done
        while done or watcher.pending:
            if not done:
                timeout = None if end is None else end - time.monotonic()
                if not event_loop.drive(lambda: bool(done), watcher.block, timeout):
                    left = len(watcher.pending)
                    raise concurrent.futures.TimeoutError(
                        f"{left} (of {count}) futures unfinished"
                    )
            yield done.popleft()
