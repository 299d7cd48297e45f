"""The consuming side of a bulk job: feeds it from its iterables, yields its results.

Belongs to the thread that iterates. That thread drives the event loop while it waits,
and takes items from the user's iterables between chunks, when no lock is held.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from mpitasks.api.progress import JobProgress
from mpitasks.api.session import refuse_submit
from mpitasks.values import wait_seconds
from mpitasks.wire.outcomes import Deferred, Failure

if TYPE_CHECKING:
    from mpitasks.api.session import ExecutorHandle
    from mpitasks.master.bulk_job import BulkJob
    from mpitasks.master.event_loop import EventLoop

__all__ = ["Results", "Stream", "results_of"]

CHUNKS_PER_WORKER = 4
"""How many chunks for each worker are taken from the iterables ahead of the results."""


class Results(chain[Any]):
    """An iterator of results that can be closed, as a generator can."""

    __slots__ = ("_generator", "_length")

    _generator: Generator[Any, None, None]
    _length: int

    def close(self) -> None:
        """Let go of what was not yielded: what has not begun does not run."""
        self._generator.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("results that are not there yet cannot be pickled or copied")


class SizedResults(Results):
    """The same where the number of results is known; `len` tells that of all."""

    __slots__ = ()

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return True  # as any other iterator


def results_of(generator: Generator[Any, None, None], length: int | None) -> Results:
    """Return an iterator of what a generator yields, at the speed of C.

    Args:
        generator: Yields the results.
        length: How many; None if that is not known.
    """
    kind = Results if length is None else SizedResults
    # mypy: the method returns one of the class that it is called of.
    results: Results = kind.from_iterable((generator,))  # type: ignore[assignment]
    results._generator = generator
    if length is not None:
        results._length = length
    return results


class Stream:
    """Results of a job, as they are wanted.

    Args:
        handle: Which executor it belongs to.
        job: The job; nothing of it was pulled or sent yet.
        timeout: Seconds from now on until waiting raises TimeoutError.
        total: How many items there are, as far as the iterables tell.
    """

    def __init__(
        self,
        handle: ExecutorHandle,
        job: BulkJob,
        timeout: float | None,
        total: int | None = None,
    ) -> None:
        self._handle = handle
        self._event_loop = handle.event_loop
        self._job = job
        self._end = (
            None if timeout is None else time.monotonic() + wait_seconds(timeout)
        )
        self._window: Callable[[], int] | None = None
        self._largest = 1
        self._total = total
        self._progress: JobProgress | None = None
        if job.options.progress:
            self._progress = JobProgress(job, total, handle.session.accounts)

    @property
    def job(self) -> BulkJob:
        """The job."""
        return self._job

    @property
    def event_loop(self) -> EventLoop:
        """The run's."""
        return self._event_loop

    @property
    def num_workers(self) -> int:
        """How many workers take tasks."""
        return max(self._event_loop.num_workers, 1)

    def start(self, window: Callable[[], int] | None) -> None:
        """Take the first items in and let workers have them.

        Args:
            window: Tells how many items may be ahead of the results; None for all.
        """
        self._window = window
        if self._progress is not None:
            self._handle.session.display.add(self._progress)
        try:
            self._feed(0)
        except BaseException:  # of the user's iterable; some of it may be sent already
            self._end_job()
            raise

    def window_for_workers(self) -> int:
        """As many items as keep the workers busy, whatever their number."""
        return CHUNKS_PER_WORKER * self._largest * self.num_workers

    def values(self) -> Results:
        """Return an iterator of the results, in the order of the job."""
        return results_of(self._values(), self._count())

    def indexed_values(self) -> Results:
        """Return an iterator of (index, result), in the order of the job."""
        return results_of(self._indexed_values(), self._count())

    def _count(self) -> int | None:
        """Return how many results there will be, if that is known."""
        job = self._job
        return job.pulled if job.source.is_exhausted else self._total

    def _values(self) -> Generator[Any, None, None]:
        try:
            for _, values, mixed in self._chunks():
                if mixed:
                    yield from self._unwrapped(values)
                else:
                    yield from values
        finally:
            self._end_job()

    def _indexed_values(self) -> Generator[tuple[int, Any], None, None]:
        try:
            for start, values, mixed in self._chunks():
                if mixed:
                    yield from enumerate(self._unwrapped(values), start)
                else:
                    yield from enumerate(values, start)
        finally:
            self._end_job()

    def _chunks(self) -> Iterator[tuple[int, list[Any], bool]]:
        job = self._job
        while True:
            self._feed(1)  # one is asked for now, so one more may be ahead
            if job.exhausted:
                return
            if not job.settled():
                self._wait()
            if job.halted is not None:
                raise job.halted()
            if not job.results.has_news():
                raise CancelledError
            chunk = job.results.take()
            self.note(chunk)
            if self._event_loop.settle_logs is not None:
                self._event_loop.settle_logs()
            yield chunk

    def _wait(self) -> None:
        job = self._job
        timeout = None if self._end is None else self._end - time.monotonic()
        if not self._event_loop.drive(job.settled, job.results.block, timeout):
            raise concurrent.futures.TimeoutError

    def _feed(self, asked: int) -> None:
        job = self._job
        if self._window is None:
            limit = None
        else:
            limit = self._window() + asked - job.unyielded
            if limit < 1:
                return
        while not job.source.is_exhausted and job.wanted:
            self.feed(limit)
            if limit is not None:
                return
            if not job.source.is_exhausted:
                self._event_loop.nudge()  # it may take long until all is pulled

    def feed(self, limit: int | None) -> None:
        """Take items in, up to `limit`, and let workers have them; None for all.

        It takes fewer if the workers should first have what there is.
        """
        job = self._job
        if self._handle.closed:
            refuse_submit()
        self._handle.set_up.check()
        count = job.pull(limit)
        if count or job.aside:
            self._event_loop.extend(job, count)

    def note(self, run: tuple[int, list[Any], bool]) -> None:
        """Results were taken from the job: learn how many come at a time."""
        self._largest = max(self._largest, len(run[1]))

    def cancel(self) -> None:
        """Send no more, and let go of everything: the results are not wanted."""
        self._job.close()
        if not self._event_loop.is_shut:
            self._event_loop.cancel_bulk(self._job)
        self._end_progress()

    def _end_job(self) -> None:
        if not self._job.exhausted:
            self.cancel()
        else:
            self._end_progress()

    def _end_progress(self) -> None:
        """Show the last of it, if it is shown at all."""
        if self._progress is not None and not self._event_loop.is_shut:
            self._handle.session.display.end(self._progress)

    def _unwrapped(self, values: list[Any]) -> Iterator[Any]:
        """Yield the values, keeping none that was yielded.

        At the first Failure, raise what it holds, unless exceptions are values too.
        """
        as_values = self._job.options.return_exceptions
        values.reverse()
        while values:
            if isinstance(values[-1], Deferred):
                values[-1] = values[-1].fetch()
            if type(values[-1]) is not Failure:
                yield values.pop()
            elif as_values:
                yield values.pop().error
            else:
                raise values.pop().error
