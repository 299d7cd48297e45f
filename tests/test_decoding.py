"""Outcomes are decoded by who asks for them: once, and while no lock of ours is held.

Decoding runs code of the user, which here looks at the locks, raises whatever it can,
and calls back into the executor.
"""

from __future__ import annotations

import concurrent.futures
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import SerializationError, TooManyFailures
from mpitasks.master import future as futures
from mpitasks.wire.messages import VALUE, Outcomes
from mpitasks.wire.outcomes import Form, Sealed, encode_error, encode_items

RAISED = [ValueError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError]


class Owned:
    """A lock that knows which thread holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def acquire(self, blocking: bool = True) -> bool:
        taken = self._lock.acquire(blocking, 60.0 if blocking else -1)
        assert taken or not blocking, "a deadlock"
        if taken:
            self._owner = threading.get_ident()
        return taken

    def release(self) -> None:
        self._owner = None
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    @property
    def mine(self) -> bool:
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class OneExecutor(Hands):
    """A session with its one Executor."""

    executor: Executor


class Spy:
    """Unpickling it calls `Spy.hook`, if the thread holds none of `Spy.locks`."""

    locks: ClassVar[list[Owned]] = []
    hook: ClassVar[Callable[[], None]]
    threads: ClassVar[list[int]] = []

    def __reduce__(self) -> Any:
        return _spied, ()


class SpyError(Exception):
    """An exception that holds a `Spy`."""


def _spied() -> str:
    assert not any(lock.mine for lock in Spy.locks)
    Spy.threads.append(threading.get_ident())
    Spy.hook()
    return "decoded"


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneExecutor]:
    made = OneExecutor(2)
    Spy.locks = [Owned(), Owned(), Owned()]
    monkeypatch.setattr(made.event_loop, "_lock", Spy.locks[0])
    monkeypatch.setattr(made.event_loop, "_driver", Spy.locks[1])
    made.executor = Executor()
    monkeypatch.setattr(futures, "_gate", Spy.locks[2])
    Spy.threads = []
    Spy.hook = lambda: None
    yield made
    made.close()


def sent(hands: OneExecutor) -> tuple[int, Any]:
    """Return the one call that is out: its rank, and itself."""
    [(rank, batch)] = [(r, b) for r in (1, 2) for b in hands.batches(r)]
    [call] = batch.calls
    return rank, call


def in_order(hands: OneExecutor) -> list[tuple[int, Any]]:
    """Return the calls that are out, with their ranks, as they were submitted."""
    calls = [(r, c) for r in (1, 2) for b in hands.batches(r) for c in b.calls]
    return sorted(calls, key=lambda sent: int(sent[1][0]))


def returned(hands: OneExecutor, value: Any) -> Any:
    """Return the future of a call that has returned a value."""
    future = hands.executor.submit(abs, 1)
    hands.answer(*sent(hands), value, form=VALUE)
    return future


def encoded(error: BaseException) -> Form:
    """Return what a worker sends of an exception, which it tries to decode itself."""
    hook, threads = Spy.hook, Spy.threads
    Spy.hook, Spy.threads = (lambda: None), []
    try:
        return encode_error(error, "there")
    finally:
        Spy.hook, Spy.threads = hook, threads


def fail(hands: OneExecutor, error: BaseException) -> None:
    """Have the one call that is out raise."""
    rank, call = sent(hands)
    form, frame, _ = encoded(error)
    costs = [(call[1], 1, 1e-5, 0)]
    report = Outcomes(rank, 1, [call[0]], [call[0]], costs, [frame], {0: (form, 0)})
    hands.say(rank, report)


def test_a_result_is_decoded_when_it_is_asked_for(hands: OneExecutor) -> None:
    future = returned(hands, Spy())
    assert future.done()
    assert Spy.threads == []
    assert "returned" in repr(future)
    assert Spy.threads == []
    assert future.result() == "decoded"
    assert future.result() == "decoded"
    assert future.exception() is None
    assert Spy.threads == [threading.get_ident()]
    assert "returned str" in repr(future)


def test_an_exception_is_decoded_when_it_is_asked_for(hands: OneExecutor) -> None:
    future = hands.executor.submit(abs, 1)
    fail(hands, SpyError(Spy()))
    assert future.done()
    assert Spy.threads == []
    assert "raised" in repr(future)
    error = future.exception()
    assert isinstance(error, SpyError)
    assert error.args == ("decoded",)
    assert future.exception() is error
    with pytest.raises(SpyError):
        future.result()
    assert len(Spy.threads) == 1


def test_the_stdlib_tells_failures_from_results_undecoded(hands: OneExecutor) -> None:
    good, bad = returned(hands, Spy()), hands.executor.submit(abs, 1)
    fail(hands, SpyError(Spy()))
    done, _ = concurrent.futures.wait([good, bad], 10)
    assert done == {good, bad}
    assert Spy.threads == []


def test_a_waiter_hears_of_a_failure_undecoded(hands: OneExecutor) -> None:
    bad = hands.executor.submit(abs, 1)
    other = hands.executor.submit(abs, 1)
    heard: list[str] = []

    class Waiter:
        def add_result(self, future: Any) -> None:
            heard.append("result")

        def add_exception(self, future: Any) -> None:
            heard.append("exception")

    for each in (bad, other):
        with each._condition:
            each._waiters.append(Waiter())
    first, second = in_order(hands)
    rank, call = first
    form, frame, _ = encoded(SpyError(Spy()))
    costs = [(call[1], 1, 1e-5, 0)]
    report = Outcomes(rank, 1, [call[0]], [call[0]], costs, [frame], {0: (form, 0)})
    hands.say(rank, report)
    hands.answer(*second, Spy(), form=VALUE)
    assert heard == ["exception", "result"]
    assert Spy.threads == []


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_decoding_raises_is_that_calls(
    hands: OneExecutor, kind: type[BaseException]
) -> None:
    def hook() -> None:
        raise kind

    Spy.hook = hook
    future = returned(hands, Spy())
    expected = kind if kind is MemoryError else SerializationError
    for _ in range(2):
        with pytest.raises(expected):
            future.result()
    assert len(Spy.threads) == 1  # once, also if it failed
    assert returned(hands, [5]).result() == [5]


def test_two_threads_ask_and_one_decodes(hands: OneExecutor) -> None:
    entered, asked = threading.Event(), threading.Event()

    def hook() -> None:
        entered.set()
        assert asked.wait(60)

    Spy.hook = hook
    future = returned(hands, Spy())
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(future.result)
        assert entered.wait(60)
        second = pool.submit(future.result)
        assert not second.done()
        asked.set()
        assert first.result(60) is second.result(60)
    assert len(Spy.threads) == 1


def test_a_result_that_asks_for_itself_is_refused(hands: OneExecutor) -> None:
    asking: list[Any] = []
    Spy.hook = lambda: asking[0].result()
    asking.append(returned(hands, Spy()))
    with pytest.raises(SerializationError, match="while it is being unpickled"):
        asking[0].result()


def test_decoding_may_call_back(hands: OneExecutor) -> None:
    made: list[Any] = []

    def hook() -> None:
        executor = hands.executor
        made.append(executor.submit(abs, -7))
        assert hands.event_loop.outstanding == 1
        hands.answer(*sent(hands), 7)
        assert made[0].result() == 7
        made.append(executor.submit(abs, -8))
        assert not made[1].cancel()  # it was sent
        hands.answer(*sent(hands), 8)
        results = executor.map(abs, [-9])
        hands.reply(*sent(hands), [9])
        assert list(results) == [9]
        executor.shutdown()

    Spy.hook = hook
    assert returned(hands, Spy()).result() == "decoded"
    assert [future.result() for future in made] == [7, 8]


def test_an_interrupted_decoding_begins_anew(
    hands: OneExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = returned(hands, Spy())
    with monkeypatch.context() as patched:

        def fetch(_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("mpitasks.wire.outcomes.Encoded.fetch", fetch)
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert future.result() == "decoded"


def chunk_of(hands: OneExecutor, values: list[Any]) -> None:
    """Have the one chunk that is out come to these values."""
    rank, call = sent(hands)
    form, items, buffers = encode_items(values, "there")
    costs = [(call[1], len(values), 1e-5, 0)]
    report = Outcomes(rank, 1, [call[0]], [], costs, [items], {0: (form, 0)})
    assert not buffers
    hands.say(rank, report)


def test_items_of_a_map_are_decoded_one_by_one(hands: OneExecutor) -> None:
    results = hands.executor.with_options(chunksize=3).map(abs, range(3))
    chunk_of(hands, [Spy(), 1, Spy()])
    assert Spy.threads == []
    assert next(results) == "decoded"
    assert len(Spy.threads) == 1
    assert list(results) == [1, "decoded"]
    assert len(Spy.threads) == 2


def test_an_item_that_cannot_be_decoded_is_raised_at_its_place(
    hands: OneExecutor,
) -> None:
    def hook() -> None:
        raise SystemExit

    Spy.hook = hook
    results = hands.executor.with_options(chunksize=2).map(abs, range(2))
    chunk_of(hands, [5, Spy()])
    assert next(results) == 5
    with pytest.raises(SerializationError, match="SystemExit"):
        next(results)


def test_fail_fast_decodes_in_the_consuming_thread(hands: OneExecutor) -> None:
    results = hands.executor.with_options(chunksize=2, fail_fast=True).map(
        abs, range(2)
    )
    chunk_of(hands, [0, Sealed(encoded(SpyError(Spy())))])
    assert Spy.threads == []
    with pytest.raises(SpyError):
        list(results)


def test_too_many_failures_are_described_in_the_consuming_thread(
    hands: OneExecutor,
) -> None:
    results = hands.executor.with_options(chunksize=1, max_failures=0).map(
        abs, range(1)
    )
    chunk_of(hands, [Sealed(encoded(SpyError(Spy())))])
    assert Spy.threads == []
    with pytest.raises(TooManyFailures, match=r"the last was: SpyError: decoded"):
        list(results)


def test_another_attempt_is_decided_without_a_lock(hands: OneExecutor) -> None:
    counts: list[int] = []
    Spy.hook = lambda: counts.append(hands.event_loop.outstanding)
    future = hands.executor.with_options(retries=1, retry_on=SpyError).submit(abs, 1)
    fail(hands, SpyError(Spy()))
    assert counts == [1]  # it is not over while that is open
    assert not future.done()
    fail(hands, SpyError(Spy()))
    assert counts == [1, 1]
    assert isinstance(future.exception(), SpyError)
    assert hands.event_loop.outstanding == 0


def test_an_interrupted_decision_is_final(
    hands: OneExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = hands.executor.with_options(retries=1).submit(abs, 1)

    def interrupted(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr("mpitasks.master.completion.next_attempt", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fail(hands, SpyError("once"))
    assert isinstance(future.exception(), SpyError)
    assert hands.event_loop.outstanding == 0


def test_a_callback_lets_other_threads_drive(hands: OneExecutor) -> None:
    executor = hands.executor
    first, second = executor.submit(abs, 1), executor.submit(abs, 2)
    calls = in_order(hands)
    seen: list[Any] = []

    def callback(_: Any) -> None:
        assert not any(lock.mine for lock in Spy.locks)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(second.result, 60)
            rank, call = calls[1]
            hands.ends[rank].send(0, report_of(rank, call, 22))
            seen.append(waiting.result(60))

    first.add_done_callback(callback)
    rank, call = calls[0]
    hands.ends[rank].send(0, report_of(rank, call, 11))
    assert first.result(60) == 11
    assert seen == [22]


def report_of(rank: int, call: Any, value: int) -> Outcomes:
    """Return what a worker says of a call that has returned a number."""
    return Outcomes(rank, 1, [call[0]], [], [(call[1], 1, 1e-5, 0)], [value], {})
