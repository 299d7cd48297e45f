"""The future: the stdlib's contract, with an event loop that notes what is asked."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any, cast

import pytest

from mpitasks.errors import SerializationError
from mpitasks.master.functions import Functions
from mpitasks.master.future import Future, settle
from mpitasks.master.payloads import Call
from mpitasks.options import DEFAULTS
from mpitasks.scheduler.events import TaskState
from mpitasks.wire import codec
from mpitasks.wire.outcomes import Failure


class FakeEventLoop:
    """Stands for the event loop; a test says what happens while a future drives it.

    Attributes:
        cancelled: The calls that were to be cancelled.
        callbacks: What is to be called when no lock is held.
        turn: Called once for each drive.
        is_shut: Never.
        settle_logs: None, as where no records of tasks can come.
    """

    def __init__(self) -> None:
        self.cancelled: list[Any] = []
        self.callbacks: list[Callable[[], None]] = []
        self.poll_once: Callable[[], None] = lambda: None
        self.is_shut = False
        self.settle_logs = None
        self.timeouts: list[float | None] = []
        self.watched = 0

    def watch(self) -> None:
        self.watched += 1

    def help(self, future: Future) -> bool:
        """Nothing is done about a future whose thread only asks."""
        return False

    def before_callback(self, future: Future) -> None:
        """As rank 0's."""

    def wake_driver(self) -> None:
        """Nobody drives."""

    def cancel(self, calls: list[Any]) -> None:
        self.cancelled += calls
        for call in calls:
            if call.state is TaskState.QUEUED:
                call.payload._settle_cancelled()

    def drive(
        self, done: Callable[[], bool], block: object, timeout: float | None
    ) -> bool:
        self.timeouts.append(timeout)
        self.poll_once()
        return done()

    def call_back(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def run_callbacks(self) -> None:
        for callback in self.callbacks:
            callback()


@pytest.fixture
def event_loop() -> FakeEventLoop:
    """Return an event loop."""
    return FakeEventLoop()


@pytest.fixture
def future(event_loop: FakeEventLoop) -> Future:
    """Return the future of a queued call."""
    return _future(event_loop)


def _future(event_loop: FakeEventLoop) -> Future:
    target = Functions().register(abs)
    call = Call(0, target, (1,), {}, DEFAULTS, cast("Any", event_loop))
    call.task.state = TaskState.QUEUED
    return call


def _fail(future: Future, error: BaseException) -> None:
    settle([future], [Failure(error)])


WATCH: dict[str, Callable[[Future], Any]] = {
    "unwatched": lambda future: None,
    "watched": lambda future: future._condition,
}


@pytest.fixture(params=WATCH)
def either(request: pytest.FixtureRequest, future: Future) -> Future:
    """Return a future that was looked at by the stdlib, or not."""
    WATCH[request.param](future)
    return future


def test_a_new_future_is_pending(either: Future) -> None:
    assert isinstance(either, concurrent.futures.Future)
    assert not either.done()
    assert not either.running()
    assert not either.cancelled()
    assert "state=pending" in repr(either)


def test_a_call_that_was_sent_is_running(future: Future) -> None:
    assert future._task is not None
    future._task.state = TaskState.ASSIGNED
    assert future.running()
    assert not future.done()
    assert "state=running" in repr(future)
    settle([future], [1])
    assert not future.running()


def test_a_value(either: Future) -> None:
    settle([either], ["value"])
    assert either.done()
    assert not either.cancelled()
    assert either.result() == "value"
    assert either.exception() is None
    assert "returned str" in repr(either)


@pytest.mark.parametrize("value", [None, False, 0, [], ValueError("a value")])
def test_a_value_can_be_anything(either: Future, value: Any) -> None:
    settle([either], [value])
    assert either.result() is value


def test_an_error(either: Future) -> None:
    error = KeyError("k")
    _fail(either, error)
    assert either.done()
    assert either.exception() is error
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            either.result()
        assert caught.value is error


def test_waiting_drives_the_event_loop(
    event_loop: FakeEventLoop, future: Future
) -> None:
    event_loop.poll_once = lambda: settle([future], [5])
    assert future.result(timeout=3.5) == 5
    assert event_loop.timeouts == [3.5]
    assert future.result() == 5
    assert event_loop.timeouts == [3.5]


@pytest.mark.parametrize("method", ["result", "exception"])
def test_waiting_can_end_without_a_result(future: Future, method: str) -> None:
    with pytest.raises(concurrent.futures.TimeoutError):
        getattr(future, method)(timeout=0)
    assert not future.done()


@pytest.mark.parametrize("method", ["result", "exception"])
def test_a_cancelled_future_says_so(either: Future, method: str) -> None:
    assert either.cancel()
    assert either.cancel()
    assert either.done()
    assert either.cancelled()
    with pytest.raises(CancelledError):
        getattr(either, method)()


def test_a_future_cancelled_while_it_is_waited_for(
    event_loop: FakeEventLoop, future: Future
) -> None:
    event_loop.poll_once = future._settle_cancelled
    with pytest.raises(CancelledError):
        future.result()


def test_a_call_that_was_sent_cannot_be_cancelled(
    event_loop: FakeEventLoop, future: Future
) -> None:
    task = future._task
    assert task is not None
    task.state = TaskState.ASSIGNED
    assert not future.cancel()
    assert event_loop.cancelled == [task]


def test_a_finished_future_cannot_be_cancelled(
    event_loop: FakeEventLoop, future: Future
) -> None:
    settle([future], [1])
    assert not future.cancel()
    assert event_loop.cancelled == []


def test_the_call_is_let_go(event_loop: FakeEventLoop) -> None:
    done, cancelled = _future(event_loop), _future(event_loop)
    settle([done], [1])
    cancelled.cancel()
    for future in (done, cancelled):
        held = future._task, future.wire, future.target, future.buffers
        assert held == (None, None, None, ())


# Callbacks run when the event loop says so, not while it holds its lock.


def test_callbacks_are_left_to_the_event_loop(
    event_loop: FakeEventLoop, future: Future
) -> None:
    seen: list[Any] = []
    future.add_done_callback(lambda future: seen.append((1, future.result())))
    future.add_done_callback(lambda future: seen.append((2, future.result())))
    settle([future], ["x"])
    assert seen == []
    event_loop.run_callbacks()
    assert seen == [(1, "x"), (2, "x")]


def test_callbacks_of_a_cancelled_future(
    event_loop: FakeEventLoop, future: Future
) -> None:
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    future.cancel()
    event_loop.run_callbacks()
    assert seen == [future]


def test_a_callback_on_a_finished_future_runs_at_once(future: Future) -> None:
    seen: list[Any] = []
    settle([future], [1])
    future.add_done_callback(seen.append)
    assert seen == [future]


def test_nobody_is_called_back_for_nothing(
    event_loop: FakeEventLoop, either: Future
) -> None:
    settle([either], [1])
    assert event_loop.callbacks == []


# The stdlib's functions.


def test_wait_and_as_completed(event_loop: FakeEventLoop) -> None:
    futures = [_future(event_loop) for _ in range(3)]
    settle(futures[:1], [0])
    futures[1].cancel()
    done, pending = concurrent.futures.wait(futures, timeout=0)
    assert (done, pending) == ({futures[0], futures[1]}, {futures[2]})
    waiting: Iterator[Any] = concurrent.futures.as_completed(cast("Any", futures))
    first = {next(waiting), next(waiting)}
    assert first == {futures[0], futures[1]}
    settle(futures[2:], [2])
    assert next(waiting) is futures[2]


def test_wait_for_the_first_error(event_loop: FakeEventLoop) -> None:
    futures = [_future(event_loop) for _ in range(2)]
    _fail(futures[1], OSError())
    done, _ = concurrent.futures.wait(
        futures, timeout=0, return_when=concurrent.futures.FIRST_EXCEPTION
    )
    assert done == {futures[1]}


def test_asyncio_can_wait_for_it(event_loop: FakeEventLoop, future: Future) -> None:
    async def main() -> Any:
        wrapped = asyncio.wrap_future(future)
        settle([future], [9])
        event_loop.run_callbacks()
        return await asyncio.wait_for(wrapped, 10)

    assert asyncio.run(main()) == 9


def test_many_are_settled_at_once(event_loop: FakeEventLoop) -> None:
    futures = [_future(event_loop) for _ in range(4)]
    for watched in futures[::2]:
        assert watched._condition
    error = OSError("x")
    settle(futures, [1, 2, Failure(error), Failure(error)])
    assert [future.exception() for future in futures] == [None, None, error, error]
    assert [future.result() for future in futures[:2]] == [1, 2]


def test_settling_needs_one_outcome_for_each(future: Future) -> None:
    with pytest.raises(ValueError, match="zip"):
        settle([future], [])


def test_a_watched_future_is_settled_once(future: Future) -> None:
    assert future._condition
    settle([future], [1])
    with pytest.raises(InvalidStateError):
        settle([future], [2])
    assert future.result() == 1


def test_the_condition_is_made_once(future: Future) -> None:
    assert future._condition is future._condition


def test_a_future_cannot_be_sent(future: Future) -> None:
    with pytest.raises(TypeError, match=r"use its result\(\)"):
        pickle.dumps(future)
    with pytest.raises(SerializationError, match=r"it\[0\] is a .*Future"):
        codec.encode([future], "it")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda future: future.set_result(1),
        lambda future: future.set_exception(OSError()),
        lambda future: future.set_running_or_notify_cancel(),
    ],
)
def test_nobody_else_sets_a_result(either: Future, spoil: Any) -> None:
    for _ in range(2):
        with pytest.raises(InvalidStateError, match="its result from the worker"):
            spoil(either)
        if not either.done():
            settle([either], [5])
    assert either.result() == 5
