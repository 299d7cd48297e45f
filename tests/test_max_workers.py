"""Executor(max_workers=...): how many, which, and for how long."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import OptionError


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(3)
    yield hands
    hands.close()


@pytest.mark.parametrize(
    ("count", "number"), [(None, 3), (1, 1), (2, 2), (3, 3), (4, 3), (10**9, 3)]
)
def test_num_workers(hands: Hands, count: int | None, number: int) -> None:
    assert Executor(max_workers=count).num_workers == number


def test_it_is_the_first_argument(hands: Hands) -> None:
    executor = Executor(2, label="two")
    assert executor.num_workers == 2
    assert executor.options.label == "two"


def test_the_lowest_ranks_are_used_and_no_others(hands: Hands) -> None:
    executor = Executor(2)
    futures = [executor.submit(abs, -at) for at in range(8)]
    ranks = set()
    while not all(future.done() for future in futures):
        before = hands.event_loop.outstanding
        for rank in (1, 2):
            for batch in hands.batches(rank):
                ranks.add(rank)
                for call in batch.calls:
                    last = call is batch.calls[-1]
                    hands.reply(rank, call, -call[3][0], batches=int(last))
        assert hands.event_loop.outstanding < before  # or nobody has any of the rest
    assert [future.result(0) for future in futures] == list(range(8))
    assert ranks == {1, 2}
    assert hands.calls(3) == []


def test_a_view_has_the_limit_of_its_executor(hands: Hands) -> None:
    assert Executor(2).with_options(priority=1).num_workers == 2


def test_the_next_executor_has_all_again(hands: Hands) -> None:
    numbers = []
    for count in (1, None, 2, 7, None):
        with Executor(count) as executor:
            numbers.append(executor.num_workers)
    assert numbers == [1, 3, 2, 3, 3]


def test_a_limit_lasts_until_the_next_executor(hands: Hands) -> None:
    executor = Executor(1)
    first, second = executor.submit(abs, -1), executor.submit(abs, -2)
    executor.shutdown(wait=False)
    (call,) = hands.calls(1)
    assert [hands.calls(rank) for rank in (2, 3)] == [[], []]
    with Executor():
        rank, waiting = next((r, c) for r in (2, 3) for c in hands.calls(r))
        hands.reply(rank, waiting, 2)
        hands.reply(1, call, 1)
    assert (first.result(0), second.result(0)) == (1, 2)


@pytest.mark.parametrize("count", [0, -1])
def test_none_at_all_is_out_of_range(hands: Hands, count: int) -> None:
    with pytest.raises(OptionError, match=f"max_workers must be None or > 0.*{count}"):
        Executor(max_workers=count)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array])
def test_numpy_s_integers_are_integers(hands: Hands, kind: Any) -> None:
    with Executor(kind(2), seed=kind(7), retries=kind(1)) as executor:
        assert executor.num_workers == 2
        sizes = {"chunksize": kind(1), "buffersize": kind(1), "timeout": kind(60)}
        for start in (executor.map, executor.starmap, executor.map_unordered):
            assert list(start(abs, [], **sizes)) == []


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64, float])
def test_numpy_s_numbers_are_timeouts(hands: Hands, kind: Any) -> None:
    executor = Executor()
    future = executor.submit(abs, -1)  # which nobody runs
    for wait in (future.result, future.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(timeout=kind(0))
        with pytest.raises(TypeError, match="must be a number of seconds, not '1'"):
            wait(timeout="1")  # type: ignore[arg-type]
    with pytest.raises(concurrent.futures.TimeoutError):
        next(executor.map(abs, [-1], timeout=kind(0)))


@pytest.mark.parametrize("count", [True, np.True_, 1.0, np.float64(1), "1"])
def test_what_is_no_buffersize_or_seed(hands: Hands, count: Any) -> None:
    with (
        Executor() as executor,
        pytest.raises(TypeError, match="buffersize must be an"),
    ):
        executor.map(abs, [], buffersize=count)
    with pytest.raises(TypeError, match="seed must be an integer or None, not "):
        Executor(seed=count)


@pytest.mark.parametrize("count", ["2", True, np.True_, 2.0, np.float64(2), [2]])
def test_what_is_no_integer_is_refused(hands: Hands, count: Any) -> None:
    with pytest.raises(TypeError, match="max_workers must be an integer or None"):
        Executor(max_workers=count)


@pytest.mark.parametrize("count", [0, "2"])
def test_a_refused_limit_leaves_no_executor_open(hands: Hands, count: Any) -> None:
    with pytest.raises((OptionError, TypeError)):
        Executor(count)
    with Executor() as executor:
        assert executor.num_workers == 3


def test_it_is_told_where_clients_look(hands: Hands) -> None:
    """dask looks for the one, and dynesty for the other."""
    executor = Executor(2)
    assert executor._max_workers == 2
    assert executor._processes == 2


def test_arguments_are_in_the_order_of_a_process_pool(hands: Hands) -> None:
    executor = Executor(2, None, print, ("ready",))
    (initializer,) = executor._handle.set_up.initializers
    assert b"ready" in initializer.frame
