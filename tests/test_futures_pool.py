"""`MPIPoolExecutor` on rank 0: when it opens, what it passes on, when it refuses.

Workers are played by hand. What they make of calls is tried by `tests/mpi`.
"""

from __future__ import annotations

import pickle
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from typing import Any

import pytest

import mpitasks.futures as futures
from hands import Hands
from mpitasks.api import session
from mpitasks.errors import ConfigurationError, InitializerError
from mpitasks.futures import (
    MPICommExecutor,
    MPIPoolExecutor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    get_comm_workers,
)
from mpitasks.master import future as master_future
from mpitasks.runner import nesting
from mpitasks.wire import codec
from mpitasks.wire.messages import MAP_PLAIN, Outcomes
from mpitasks.wire.outcomes import encode_error


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(2)
    yield hands
    hands.close()


def opened() -> int:
    """Return how many Executors the session knows of that can take calls."""
    current = session.peek()
    assert current is not None
    return sum(handle.open for handle in current._handles)


def sent(hands: Hands) -> list[tuple[int, Any]]:
    """Return the calls that went out since the last look, each with its rank."""
    return [(rank, call) for rank in (1, 2) for call in hands.calls(rank)]


def answer_items(hands: Hands) -> list[int]:
    """Answer all chunks with their items as they are; return how long these were."""
    sizes = []
    while todo := sent(hands):
        for rank, call in todo:
            assert call[2] == MAP_PLAIN
            items = [*codec.decode(call[3])]
            sizes.append(len(items))
            hands.reply(rank, call, items)
        hands.event_loop.nudge()
    return sizes


def set_up() -> None:
    """Is never called here."""


class Remembered:
    """Something that notes that it is pickled, and what can be done meanwhile."""

    def __init__(self, executor: list[MPIPoolExecutor]) -> None:
        self.executor = executor

    def __call__(self) -> None:
        """Is never called here."""

    def __reduce__(self) -> Any:
        other = threading.Thread(target=self.executor[0].shutdown)
        other.start()
        other.join(60)
        assert not other.is_alive()
        return Remembered, ([],)


def test_it_opens_when_it_is_used(hands: Hands) -> None:
    executor = MPIPoolExecutor()
    MPIPoolExecutor().shutdown()
    with MPIPoolExecutor():
        pass
    assert opened() == 0
    executor.submit(abs, -1)
    assert opened() == 1
    executor.map(abs, [])
    assert opened() == 1
    executor.shutdown(wait=False)
    assert opened() == 0


@pytest.mark.parametrize("use", ["bootup", "num_workers", "_max_workers"])
def test_so_it_does_when_it_is_asked(hands: Hands, use: str) -> None:
    executor = MPIPoolExecutor(1)
    found = getattr(executor, use)
    assert (found() is executor) if use == "bootup" else found == 1
    assert opened() == 1


def test_it_can_be_made_where_it_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nesting, "_home", None)  # another test may have run tasks here
    session.install_worker(3)  # a module that tasks import, for example
    try:
        executor = MPIPoolExecutor()
        with pytest.raises(ConfigurationError, match="inside a task"):
            executor.submit(abs, 1)
        with pytest.raises(ConfigurationError, match="inside a task"):
            MPICommExecutor().__enter__()
    finally:
        session.uninstall()


def test_number_of_workers(hands: Hands) -> None:
    for number in (1, 2, 7, None):
        with MPIPoolExecutor(number) as executor:
            assert executor.num_workers == min(number or 2, 2)
            assert executor._max_workers == executor.num_workers


def test_futures_are_those_of_the_workers(hands: Hands) -> None:
    future = MPIPoolExecutor().submit(int, "11", base=2)
    assert type(future).__mro__[1] is master_future.Future
    ((rank, call),) = sent(hands)
    assert codec.decode(call[3]) == (("11",), {"base": 2})
    hands.reply(rank, call, 3)
    assert future.result(0) == 3


class Own(Future[Any]):
    """A class of futures of the user's."""


def test_futures_of_another_class(hands: Hands) -> None:
    executor = MPIPoolExecutor()
    executor.Future = Own
    future = executor.submit(abs, -3)
    assert type(future) is Own
    ((rank, call),) = sent(hands)
    late = [executor.submit(abs, -n) for n in range(9)][-1]
    assert late.cancel()
    hands.reply(rank, call, 3)
    assert future.result(0) == 3
    taken = []
    while todo := sent(hands):
        for rank, call in todo:
            taken += call[3]
            hands.reply(rank, call, 3)
        hands.event_loop.nudge()
    assert sorted(taken) == list(range(-7, 1))


def test_chunks(hands: Hands) -> None:
    executor = MPIPoolExecutor()
    results = executor.map(abs, range(10), chunksize=4)
    assert answer_items(hands) == [4, 4, 2]
    assert list(results) == list(range(10))
    results = executor.map(abs, range(1000))  # 1 leaves it to mpitasks
    assert len(answer_items(hands)) < 1000
    assert list(results) == list(range(1000))


@pytest.mark.parametrize("unordered", [False, True])
def test_all_items_are_taken_at_the_call(hands: Hands, unordered: bool) -> None:
    items = iter(range(5000))
    results = MPIPoolExecutor().map(abs, items, unordered=unordered)
    assert next(items, None) is None
    answer_items(hands)
    assert sorted(results) == list(range(5000))


def test_no_more_items_than_the_buffer_are_taken(hands: Hands) -> None:
    executor = MPIPoolExecutor()
    for chunksize, size in ((1, 3), (4, 2)):
        items = iter(range(100))
        results = executor.map(abs, items, chunksize=chunksize, buffersize=size)
        assert next(items) == chunksize * size
        results.close()  # type: ignore[attr-defined]


def test_unordered_results_come_as_they_are_there(hands: Hands) -> None:
    results = MPIPoolExecutor().map(abs, range(4), chunksize=2, unordered=True)
    (one, call), (two, other) = sent(hands)
    late = [*codec.decode(call[3])]
    hands.reply(two, other, [*codec.decode(other[3])])
    assert {next(results), next(results)} == {*range(4)} - {*late}
    hands.reply(one, call, late)
    assert list(results) == late


def test_shutdown_lets_what_runs_finish(hands: Hands) -> None:
    executor = MPIPoolExecutor()
    running = [executor.submit(abs, -n) for n in range(2)]
    begun = sent(hands)
    waiting = [executor.submit(abs, -n) for n in range(9)]
    hands.event_loop.nudge()
    begun += sent(hands)
    executor.shutdown(wait=False, cancel_futures=True)
    assert any(future.cancelled() for future in waiting)
    with pytest.raises(CancelledError):
        waiting[-1].result(0)
    for rank, call in begun:
        hands.reply(rank, call, 7)
    assert [future.result(0) for future in running] == [7, 7]
    assert hands.event_loop.outstanding == 0


def test_a_shutdown_while_it_opens(hands: Hands) -> None:
    there: list[MPIPoolExecutor] = []
    there.append(MPIPoolExecutor(initializer=Remembered(there)))
    with pytest.raises(RuntimeError, match="cannot submit after shutdown"):
        there[0].submit(abs, 1)
    assert opened() == 0


def test_two_threads_that_open_it(hands: Hands) -> None:
    executor = MPIPoolExecutor()
    start = threading.Barrier(8)

    def use() -> None:
        start.wait(60)
        executor.bootup()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened() == 1


def fail(hands: Hands, executor: MPIPoolExecutor, rank: int, call: Any) -> None:
    """Have a worker say that the initializer has failed."""
    backend: Any = executor._backend
    (initializer,) = backend._executor._handle.set_up.initializers
    error = InitializerError("the initializer failed on this worker")
    error.definition = initializer.id
    form, value, _ = encode_error(error, f"rank {rank}")
    costs = [(call[1], 1, 1e-5, 0)]
    hands.say(
        rank, Outcomes(rank, 1, [call[0]], [call[0]], costs, [value], {0: (form, 0)})
    )


def test_a_broken_executor_refuses(hands: Hands) -> None:
    executor = MPIPoolExecutor(initializer=set_up)
    future = executor.submit(abs, -1)
    ((rank, call),) = sent(hands)
    fail(hands, executor, rank, call)
    assert isinstance(future.exception(0), BrokenExecutor)
    with pytest.raises(BrokenExecutor, match="the initializer failed"):
        executor.submit(abs, 1)
    with pytest.raises(BrokenExecutor, match="the initializer failed"):
        executor.map(abs, [])
    assert executor.num_workers == 0
    assert executor.bootup() is executor
    executor.shutdown()
    assert MPIPoolExecutor().num_workers == 2


def test_booting_up_calls_the_initializer(hands: Hands) -> None:
    executor = MPIPoolExecutor(initializer=set_up)
    assert executor.bootup(wait=False) is executor
    assert sent(hands) == []
    waiting = threading.Thread(target=executor.bootup)
    waiting.start()
    end = time.monotonic() + 60
    while not (todo := sent(hands)):
        assert time.monotonic() < end
    assert waiting.is_alive()
    ((rank, call),) = todo
    hands.ends[rank].send(
        0, Outcomes(rank, 1, [call[0]], [], [(call[1], 1, 1e-5, 0)], [None], {})
    )
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    "kind", [MPIPoolExecutor, ProcessPoolExecutor, ThreadPoolExecutor]
)
def test_one_that_was_sent_along(kind: Any) -> None:
    executor = pickle.loads(pickle.dumps(kind(2)))
    assert type(executor) is kind
    for use in (
        lambda: executor.submit(abs, 1),
        lambda: executor.map(abs, [1]),
        executor.bootup,
        lambda: executor.num_workers,
    ):
        with pytest.raises(ConfigurationError, match="sent along with a call"):
            use()
    executor.shutdown()
    with executor:
        pass


def test_a_wrong_communicator() -> None:
    for root in (-1, 1):
        with pytest.raises(ValueError, match=r"root in range\(comm.size\)"):
            MPICommExecutor(root=root)


def test_there_is_no_communicator_in_the_script() -> None:
    with pytest.raises(RuntimeError, match="communicator is not accessible"):
        get_comm_workers()


def test_threads_are_as_many_as_asked_for() -> None:
    start = threading.Barrier(3)
    with ThreadPoolExecutor(3) as executor:
        assert executor.num_workers == 3
        places = [executor.submit(start.wait, 60) for _ in range(3)]
        assert sorted(future.result() for future in places) == [0, 1, 2]
    with ThreadPoolExecutor() as executor:
        assert executor.num_workers == 1


def test_threads_take_items_as_they_are_wanted() -> None:
    items = iter(range(100))
    with ThreadPoolExecutor(2) as executor:
        results = executor.map(abs, items, buffersize=3)
        assert next(items) == 3
        assert next(results) == 0
        assert next(items) == 5
        assert list(results) == [1, 2, 4, *range(6, 100)]


class Result:
    """Something that can be weakly referenced."""

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.mark.parametrize("unordered", [False, True])
def test_a_result_of_a_thread_is_the_callers_alone(unordered: bool) -> None:
    with ThreadPoolExecutor(2) as executor:
        for result in executor.map(Result, range(9), unordered=unordered):
            left = weakref.ref(result)
            del result
            end = time.monotonic() + 60
            while left() is not None:  # the thread lets go of it a moment later
                assert time.monotonic() < end


def test_what_threads_need_no_more_is_cancelled() -> None:
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        held = executor.submit(gate.wait, 60)
        for unordered in (False, True):
            results = executor.map(abs, range(3), unordered=unordered, timeout=0)
            with pytest.raises(futures.TimeoutError):
                next(results)
        last = executor.submit(abs, -1)
        gate.set()
        assert held.result()
        assert last.result() == 1
