"""What `Pool.imap` and `imap_unordered` return: an iterator, and a thread behind it.

As in the standard library the items are taken from the user's iterable by a thread, so
that an iterable may wait for results of items that it has yielded before. Here each
call has a thread of its own. It takes at most so many items ahead of the results that
were fetched; the standard library takes all there are. When the pool is closed and
joined, it takes all, too: nobody may fetch results any more.

Two threads use a job here: this one pulls, and the one that iterates takes results.
What both need is in `ItemFeed`, so that an iterator that nobody has any more is
collected, and what it was given is run all the same. The garbage collector may do that
at any moment, also under a lock of this file. So locks are reentrant, and the thread
waits for a `SimpleQueue`, as no `Event` is.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from mpitasks.api.pool_results import translated
from mpitasks.wire.outcomes import Deferred, Failure

if TYPE_CHECKING:
    from mpitasks.api.stream import Stream

__all__ = ["IMapIterator", "ItemFeed", "in_whole_chunks"]

AHEAD_PER_WORKER = 64
"""How many items for each worker are taken ahead, at least."""

LOOK_SECONDS = 0.05
"""How often it looks whether results have come that nobody fetches."""


def in_whole_chunks(iterable: Iterable[Any], size: int) -> Iterator[Any]:
    """Yield the items; of a chunk whose iteration raises, none, as the stdlib."""
    iterator = iter(iterable)
    while chunk := tuple(islice(iterator, size)):
        yield from chunk


class ItemFeed:
    """Feeds a job from an iterable, in a thread of its own.

    Args:
        stream: The job, of which nothing was pulled or sent yet.
        at_once: How many items the iterable yields at a time; it may block before each
            of them. None if it never blocks.

    Attributes:
        job: The job.
        error: What the iterable raised, if it did.
        is_done: Whether all that will be taken from it was taken.
        was_cut: Whether that is not all there was, since the pool was terminated.
    """

    def __init__(self, stream: Stream, at_once: int | None) -> None:
        self.job = stream.job
        self.error: BaseException | None = None
        self.is_done = False
        self.was_cut = False
        self._stream = stream
        self._at_once = at_once
        self._hurried = False  # whether to take all, since nobody may fetch results
        self._unwanted = False  # whether nobody will fetch any
        self._stopped = False
        self._signs: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waits = False  # whether the thread waits for one, or is about to
        self._thread = threading.Thread(
            target=self._run, name="mpitasks-pool-items", daemon=True
        )

    def start(self) -> None:
        """Begin to take items."""
        self._thread.start()

    def hurry(self) -> None:
        """Take all items there are, however many results wait."""
        self._hurried = True
        self._signs.put(None)

    def drop(self) -> None:
        """Nobody fetches results any more: let go of each that comes."""
        self._unwanted = True
        self._signs.put(None)

    def stop(self) -> None:
        """Take no more items, and let go of all."""
        self._stopped = True
        self.was_cut = not self.is_done
        self._stream.cancel()
        self._signs.put(None)
        self.job.results.wake()

    def join(self) -> None:
        """Wait until all is taken and, if nobody fetches the results, is done."""
        self._thread.join()

    def make_room(self) -> None:
        """Results were fetched."""
        if self._waits:
            self._signs.put(None)

    def _run(self) -> None:
        job = self.job
        try:
            while not (self._stopped or job.source.is_exhausted) and job.wanted:
                self._waits = True  # before the look
                room = self._limit()
                if room > 0:
                    self._waits = False
                    at_once = room if self._at_once is None else self._at_once
                    self._stream.feed(at_once)
                elif self._unwanted:
                    job.results.block(LOOK_SECONDS)
                else:
                    self._signs.get()
        except BaseException as error:  # of the user's iterable
            self.error = error
            job.source.close()
        self.is_done = True
        job.results.wake()
        while self._unwanted and job.wanted and self._discard() < job.pulled:
            job.results.block(LOOK_SECONDS)

    def _limit(self) -> int:
        """Return how many more items may be taken."""
        if self._unwanted:
            self._discard()
        elif self._hurried:
            return AHEAD_PER_WORKER
        ahead = max(
            self._stream.window_for_workers(),
            AHEAD_PER_WORKER * self._stream.num_workers,
        )
        return ahead - self.job.unyielded

    def _discard(self) -> int:
        """Let go of what has come; return how many there were in all."""
        results = self.job.results
        while results.has_news():
            self._stream.note(results.take())
        return results.taken


class IMapIterator:
    """Results of `Pool.imap`, in order, or as they come.

    Args:
        pool: The pool, which lives as long as the iterator does.
        stream: The job, of which nothing was pulled or sent yet.
        feed: Feeds it.
    """

    def __init__(self, pool: object, stream: Stream, feed: ItemFeed) -> None:
        self._pool = pool
        self._stream = stream
        self._feed = feed
        self._values: deque[Any] = deque()  # that were taken from the job
        self._lock = threading.RLock()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.next()

    def __del__(self) -> None:
        self._feed.drop()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result, driving the run until it is there.

        Raises:
            multiprocessing.TimeoutError: It was not there within `timeout` seconds.
            StopIteration: There are no more.
            CancelledError: The pool was terminated.
            BaseException: What the call raised; then the one after it can be fetched.
                Or what the iterable raised, behind the results of what it yielded.
        """
        value = self._take(timeout)
        if isinstance(value, Deferred):
            value = value.fetch()
        if type(value) is not Failure:
            return value
        try:
            raise translated(value.error)
        finally:
            del value, self  # no cycle with the traceback

    def _take(self, timeout: float | None) -> Any:
        block = self._feed.job.results.block
        while True:
            with contextlib.suppress(IndexError):
                return self._values.popleft()
            if self._is_over():
                self._end()
            if not self._stream.event_loop.drive(self._has_come, block, timeout):
                raise multiprocessing.TimeoutError

    def _has_come(self) -> bool:
        """Take what has come; return whether there is any, or will be none."""
        feed = self._feed
        results = feed.job.results
        with self._lock:
            if results.has_news():
                run = results.take()
                self._stream.note(run)
                self._values.extend(run[1])
                feed.make_room()
        return bool(self._values) or self._is_over()

    def _is_over(self) -> bool:
        """Whether no more values will come behind those that were taken."""
        feed = self._feed
        job = feed.job
        if job.halted is not None:
            return True
        with self._lock:
            whole = feed.is_done and job.results.taken == job.pulled
            return not self._values and (whole or (feed.is_done and job.abandoned))

    def _end(self) -> NoReturn:
        feed = self._feed
        job = feed.job
        if job.halted is not None:
            raise translated(job.halted())
        error, feed.error = feed.error, None
        if error is not None:
            raise error
        if feed.was_cut or job.results.taken < job.pulled:
            raise CancelledError("the pool was terminated")
        raise StopIteration
