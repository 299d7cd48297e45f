"""`mpitasks.wait` and `mpitasks.as_completed`, beside those of the standard library."""

from __future__ import annotations

import concurrent.futures
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any

import pytest

import mpitasks
from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import MpiTasksError
from mpitasks.master import future as module
from mpitasks.master.future import Future
from mpitasks.wire.messages import Outcomes
from mpitasks.wire.outcomes import encode_error

KINDS = {"ours": mpitasks, "the stdlib's": concurrent.futures}


@pytest.fixture
def hands() -> Iterator[Hands]:
    made = Hands(3)
    yield made
    made.close()
    assert module._watchers == []


@pytest.fixture(params=KINDS)
def waiting(request: pytest.FixtureRequest) -> Any:
    """The module whose functions are tried."""
    return KINDS[request.param]


class Calls:
    """Calls that workers have got: a test says when they end."""

    def __init__(self, hands: Hands, count: int) -> None:
        executor = Executor()
        self.hands = hands
        self.futures: list[Future] = [executor.submit(abs, n) for n in range(count)]
        calls = [(r, c) for r in (1, 2, 3) for b in hands.batches(r) for c in b.calls]
        self._calls = sorted(calls, key=lambda sent: int(sent[1][0]))

    def end(self, index: int, error: BaseException | None = None) -> None:
        """Have a call return, or raise; whoever drives takes it in."""
        rank, call = self._calls[index]
        costs = [(call[1], 1, 1e-5, 0)]
        if error is None:
            report = Outcomes(rank, 1, [call[0]], [], costs, [index], {})
        else:
            form, frame, _ = encode_error(error, "there")
            failed, forms = [call[0]], {0: (form, 0)}
            report = Outcomes(rank, 1, [call[0]], failed, costs, [frame], forms)
        self.hands.ends[rank].send(0, report)

    def settle(self, index: int, error: BaseException | None = None) -> None:
        """Have a call end, and take it in."""
        self.end(index, error)
        while self.hands.event_loop.nudge():
            pass


def test_signatures_are_those_of_the_standard_library() -> None:
    for name in ("wait", "as_completed"):
        ours = inspect.signature(getattr(mpitasks, name))
        theirs = inspect.signature(getattr(concurrent.futures, name))
        assert [*ours.parameters] == [*theirs.parameters]
        for one, other in zip(
            ours.parameters.values(), theirs.parameters.values(), strict=True
        ):
            assert (one.default, one.kind) == (other.default, other.kind)


def test_waiting_for_all(hands: Hands, waiting: Any) -> None:
    calls = Calls(hands, 3)
    if waiting is concurrent.futures:
        for index in range(3):
            calls.settle(index)
    else:
        for index in range(3):
            calls.end(index)  # the waiting thread takes them in
    done, not_done = waiting.wait(calls.futures, 30)
    assert (done, not_done) == (set(calls.futures), set())


@pytest.mark.parametrize("when", [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION])
@pytest.mark.parametrize("ends", [(), ("value",), ("error",), ("value", "error")])
def test_what_is_done_when_the_time_is_up(
    hands: Hands, when: str, ends: tuple[str, ...]
) -> None:
    calls = Calls(hands, 3)
    for index, end in enumerate(ends):
        calls.settle(index, OSError() if end == "error" else None)
    ours = mpitasks.wait(calls.futures, 0, when)
    theirs = concurrent.futures.wait(calls.futures, 0, when)
    assert ours == theirs
    assert type(ours) is type(theirs)


def test_the_first_that_is_done_ends_the_wait(hands: Hands) -> None:
    calls = Calls(hands, 3)
    calls.end(1)
    done, not_done = mpitasks.wait(calls.futures, 30, FIRST_COMPLETED)
    assert done == {calls.futures[1]}
    assert not_done == {calls.futures[0], calls.futures[2]}


def test_the_first_that_failed_ends_the_wait(hands: Hands) -> None:
    calls = Calls(hands, 3)
    calls.end(0)
    calls.end(2, OSError("no"))
    done, not_done = mpitasks.wait(calls.futures, 30, FIRST_EXCEPTION)
    assert (len(done), not_done) == (2, {calls.futures[1]})


def test_a_cancelled_future_is_done(hands: Hands, waiting: Any) -> None:
    executor = Executor()
    futures = [executor.submit(abs, n) for n in range(20)]  # more than can be sent
    assert futures[-1].cancel()
    done, _ = waiting.wait(futures, 0)
    assert done == {futures[-1]}
    assert next(waiting.as_completed([futures[-1]], 0)) is futures[-1]


def test_futures_are_yielded_as_they_are_done(hands: Hands) -> None:
    calls = Calls(hands, 3)
    completed = mpitasks.as_completed(calls.futures + calls.futures)
    seen = []
    for index in (2, 0, 1):
        calls.end(index)
        seen.append(next(completed))
    assert seen == [calls.futures[index] for index in (2, 0, 1)]
    assert next(completed, None) is None


def test_what_is_done_already_is_yielded_without_driving(hands: Hands) -> None:
    calls = Calls(hands, 2)
    calls.settle(1)
    turns = hands.event_loop.polls
    assert next(mpitasks.as_completed(calls.futures)) is calls.futures[1]
    assert hands.event_loop.polls == turns


def test_waiting_for_too_long(hands: Hands, waiting: Any) -> None:
    calls = Calls(hands, 2)
    calls.settle(0)
    completed = waiting.as_completed(calls.futures, 0.01)
    assert next(completed) is calls.futures[0]
    with pytest.raises(
        concurrent.futures.TimeoutError, match=r"1 \(of 2\) futures unfinished"
    ):
        next(completed)


def test_nothing_to_wait_for(waiting: Any) -> None:
    assert list(waiting.as_completed([])) == []
    assert waiting.wait([]) == (set(), set())


def test_futures_of_others_may_be_among_them(hands: Hands) -> None:
    calls = Calls(hands, 1)
    other: concurrent.futures.Future[int] = concurrent.futures.Future()
    other.set_result(1)
    both = [*calls.futures, other]
    assert mpitasks.wait(both, 0).done == {other}
    calls.settle(0)
    assert set(mpitasks.as_completed(both, 30)) == set(both)


def test_what_they_refuse(waiting: Any) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    with pytest.raises(ValueError, match="return"):
        waiting.wait([future], 0, "SOON")


def test_another_thread_may_drive(hands: Hands) -> None:
    calls = Calls(hands, 2)
    answers: list[Callable[[], None]] = [lambda: calls.end(0), lambda: calls.end(1)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(calls.futures[0].result, 60)
        second = pool.submit(mpitasks.wait, calls.futures, 60)
        for answer in answers:
            answer()
        assert first.result(60) == 0
        assert second.result(60).not_done == set()


def test_a_broken_run_ends_the_wait(hands: Hands) -> None:
    calls = Calls(hands, 2)
    hands.event_loop.abandon(MpiTasksError("broken"))
    done, _ = mpitasks.wait(calls.futures, 30)
    assert len(done) == 2
    for future in mpitasks.as_completed(calls.futures, 30):
        assert isinstance(future.exception(), MpiTasksError)


def test_a_future_is_let_go_of_when_it_was_yielded(hands: Hands) -> None:
    import gc
    import weakref

    calls = Calls(hands, 2)
    calls.settle(0)
    completed = mpitasks.as_completed(calls.futures)
    first = weakref.ref(next(completed))
    calls.futures.clear()
    gc.collect()
    assert first() is None
    completed.close()  # type: ignore[attr-defined]


def test_watching_from_many_threads(hands: Hands) -> None:
    calls = Calls(hands, 3)
    ready = threading.Barrier(4)

    def watch() -> int:
        completed = mpitasks.as_completed(calls.futures, 60)
        ready.wait(60)
        return len(list(completed))

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        counts = [pool.submit(watch) for _ in range(3)]
        ready.wait(60)
        for index in range(3):
            calls.end(index)
        assert [count.result(60) for count in counts] == [3, 3, 3]
