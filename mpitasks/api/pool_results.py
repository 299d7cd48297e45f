"""What `mpitasks.Pool` returns at once: `ApplyResult` and `MapResult`.

As those of `multiprocessing.pool`, with two differences. Who waits for one drives the
run, as with a `Future`. And what a callback raises is shown and costs nothing else: the
result is ready all the same.

Results with callbacks belong to the pool's `CallbackThread`. It takes what has come,
calls the callback, and then the result is ready, in this order, as in the standard
library. Other results are taken by whoever asks for them. No user code runs under a
lock here, but for finalizers that the garbage collector runs: so locks are reentrant.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import queue
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from mpitasks.errors import RemoteTraceback
from mpitasks.wire.exceptions import cause_of, set_cause
from mpitasks.wire.outcomes import Deferred, Failure

if TYPE_CHECKING:
    from mpitasks.api.stream import Stream
    from mpitasks.master.event_loop import EventLoop
    from mpitasks.master.future import Future

__all__ = ["ApplyResult", "CallbackThread", "MapResult", "translated"]

Callback = Callable[[Any], object]


def translated(error: BaseException) -> BaseException:
    """Return the error of a task with its traceback as `multiprocessing` has it."""
    cause = cause_of(error)
    if type(cause) is RemoteTraceback:
        text = f'\n"""\n{cause.text}"""'
        set_cause(error, multiprocessing.pool.RemoteTraceback(text))  # type: ignore[attr-defined]  # typeshed lacks it
    return error


class CallbackThread:
    """Calls the callbacks of a pool, one after the other. It begins with the first.

    Attributes:
        is_dropped: Whether callbacks are not to be called any more.
    """

    def __init__(self) -> None:
        self._steps: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()
        self._news = threading.Condition()
        self._expected = 0  # results that are not ready yet
        self._stopping = False
        self.is_dropped = False

    def expect(self) -> None:
        """Be there for a result, until that says `finish`."""
        with self._lock:
            self._expected += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_take_steps,
                    args=(self._steps,),
                    name="mpitasks-pool-callbacks",
                    daemon=True,
                )
                self._thread.start()

    def block(self, seconds: float) -> None:
        """Sleep until a callback has been called, or for that time."""
        with self._news:
            self._news.wait(seconds)

    def put(self, step: Callable[[], None]) -> None:
        """Have a step taken, behind those that were put before. Under any lock."""
        self._steps.put(step)

    def finish(self) -> None:
        """A result is ready, or will never be."""
        with self._news:
            self._news.notify_all()
        with self._lock:
            self._expected -= 1
            if self._stopping and not self._expected:
                self._steps.put(None)

    def is_current(self) -> bool:
        """Whether the caller is one of its callbacks."""
        return threading.current_thread() is self._thread

    def stop(self, *, drop: bool = False) -> None:
        """End when all results are ready.

        Args:
            drop: Call no callbacks any more.
        """
        self.is_dropped = self.is_dropped or drop
        with self._lock:
            self._stopping = True
            if not self._expected:
                self._steps.put(None)

    def join(self) -> None:
        """Wait until it has ended.

        Raises:
            RuntimeError: The caller is one of its callbacks.
        """
        if self._thread is not None:
            self._thread.join()


def _take_steps(steps: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (step := steps.get()) is not None:
        try:
            step()
        except BaseException as error:  # of the user's, which `get` raises, too
            _show(error)
        del step  # it may hold a large result


def _call(callback: Callback | None, value: Any) -> None:
    """Call a callback; show what it raises, as of a thread that ends by it."""
    if callback is None:
        return
    try:
        callback(value)
    except BaseException as error:
        _show(error)


def _show(error: BaseException) -> None:
    told = type(error), error, error.__traceback__, threading.current_thread()
    threading.excepthook(threading.ExceptHookArgs(told))


class ApplyResult:
    """The result-to-be of `Pool.apply_async`.

    Args:
        pool: The pool, which lives as long as the result does.
        event_loop: The run's.
        thread: Calls the callbacks.
        callback: Called with the value, before the result is ready; None for nothing.
        error_callback: Called with what was raised instead.
    """

    _future: Future
    _told: bool | None = None  # whether the callback has been called, if there is one

    def __init__(
        self,
        pool: object,
        event_loop: EventLoop,
        thread: CallbackThread,
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> None:
        self._pool = pool
        self._event_loop = event_loop
        self._thread = thread
        self._callback = callback
        self._error_callback = error_callback

    def follow(self, future: Future) -> None:
        """Be the result of this call."""
        self._future = future
        if self._has_callbacks():
            self._expect()
            steps = [self._tell]  # taken out, since the future keeps its callbacks
            put = self._thread.put
            future.add_done_callback(lambda _: put(steps.pop()))

    def _has_callbacks(self) -> bool:
        return self._callback is not None or self._error_callback is not None

    def _expect(self) -> None:
        """Belong to the pool's thread from now on."""
        self._thread.expect()
        self._told = False

    def ready(self) -> bool:
        """Whether the result is there, and its callback has been called."""
        return self._has_come() if self._told is None else self._told

    def successful(self) -> bool:
        """Whether the call returned, and did not raise.

        Raises:
            ValueError: The result is not ready.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._outcome()[0]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is ready, or for so many seconds.

        Raises:
            RuntimeError: A callback of the pool waits for a result with a callback,
                which would be called after this one.
        """
        if self._told is None:
            self._event_loop.drive(self._has_come, self._block, timeout)
            return
        if not self._told and self._thread.is_current():
            raise RuntimeError(
                "a callback of a Pool waits for a result that has a callback as well, "
                "which the pool calls after this one"
            )
        self._event_loop.drive(self.ready, self._thread.block, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return what the call returned, driving the run until it is there.

        Raises:
            multiprocessing.TimeoutError: It was not ready within `timeout` seconds.
            CancelledError: The pool was terminated before.
            BaseException: What the call raised.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        success, value = self._outcome()
        if success:
            return value
        try:
            raise value
        finally:
            del value, self  # no cycle with the traceback

    def _has_come(self) -> bool:
        return self._future.done()

    def _block(self, seconds: float) -> None:
        """Sleep until it may have come, while another thread drives."""
        self._future._block(seconds)

    def _outcome(self) -> tuple[bool, Any]:
        """Return whether it returned, and what; when it has come."""
        if self._future.cancelled():
            return False, CancelledError("the pool was terminated")
        error = self._future.exception(0)
        if error is not None:
            return False, translated(error)
        return True, self._future.result(0)

    def _tell(self) -> None:
        """Call the callback, and be ready; in the pool's thread."""
        try:
            if not self._thread.is_dropped:
                success, value = self._outcome()
                _call(self._callback if success else self._error_callback, value)
        finally:
            self._told = True
            self._event_loop.wake_driver()
            self._thread.finish()

    def __class_getitem__(cls, item: Any) -> types.GenericAlias:
        return types.GenericAlias(cls, item)


class MapResult(ApplyResult):
    """The result-to-be of `Pool.map_async` and `starmap_async`: a list.

    It is ready when all items are done, also if some of them raise. Then `get` raises
    what the first of these raised.
    """

    _values: list[Any] | None = None  # when it was taken apart
    _error: BaseException | None = None

    def follow_items(self, stream: Stream, length: int) -> None:
        """Be the result of this job, of which nothing was pulled or sent yet.

        Raises:
            BaseException: Of the user's iterable.
        """
        self._lock = threading.RLock()
        self._opener: int | None = None  # the thread that takes the results apart
        self._opened = threading.Event()
        self._runs: list[tuple[int, list[Any], bool]] = []
        self._stream = stream
        self._job = stream.job
        self._started = False
        if length and self._has_callbacks():
            self._expect()
            self._job.results.listener = lambda: self._thread.put(self._tell)
        try:
            stream.start(None)
        except BaseException:
            if self._told is not None:
                self._told = True
                self._thread.finish()
            raise
        self._started = True
        if self._told is not None:
            self._thread.put(self._tell)

    def cancel(self) -> None:
        """Take back what was not sent: nobody wants the result any more."""
        if not self._has_come():
            self._stream.cancel()

    def as_they_come(self) -> Iterator[Any]:
        """Yield the values as they come, and nothing for items that have raised.

        For a result that one thread has alone.
        """
        seen = 0

        def has_news() -> bool:
            return self._has_come() or len(self._runs) > seen

        while True:
            self._event_loop.drive(has_news, self._block)
            whole = self._has_come()
            for _, run, mixed in self._runs[seen:]:
                seen += 1
                for at, value in enumerate(run):
                    if mixed and isinstance(value, Deferred):
                        value = run[at] = value.fetch()
                    if type(value) is not Failure:
                        yield value
            if whole:
                return

    def _has_come(self) -> bool:
        job = self._job
        with self._lock:
            while job.results.has_news():
                self._runs.append(job.results.take())
            whole = job.results.taken == job.pulled
        ended = whole or job.halted is not None or job.abandoned
        return self._started and ended

    def _block(self, seconds: float) -> None:
        self._job.results.block(seconds)

    def _outcome(self) -> tuple[bool, Any]:
        own = threading.get_ident()
        while self._values is None and self._error is None:
            with self._lock:
                opener = self._opener
                if opener is None and self._values is None and self._error is None:
                    self._opener = own
            if opener == own:
                raise RuntimeError(
                    "this result was asked for while it is being unpickled, by code "
                    "that runs for that"
                )
            if opener is not None:
                self._opened.wait(0.05)
                continue
            try:
                self._open()
            finally:  # if it was interrupted, the next who asks begins anew
                self._opener = None
                self._opened.set()
        if self._error is not None:
            return False, self._error
        return True, self._values

    def _open(self) -> None:
        """Make the list of the results; this runs code of the user."""
        job = self._job
        if job.halted is not None:
            self._error = translated(job.halted())
            return
        if job.results.taken < job.pulled:
            self._error = CancelledError("the pool was terminated")
            return
        values: list[Any] = [None] * job.pulled
        failed = job.pulled
        error: BaseException | None = None
        for start, run, mixed in self._runs:
            if mixed:
                for at, value in enumerate(run):
                    if isinstance(value, Deferred):
                        value = run[at] = value.fetch()
                    if type(value) is Failure and start + at < failed:
                        failed, error = start + at, value.error
            values[start : start + len(run)] = run
        self._runs = []
        if error is None:
            self._values = values
        else:
            self._error = translated(error)

    def _tell(self) -> None:
        if not self._told and self._has_come():
            self._job.results.listener = None
            super()._tell()
