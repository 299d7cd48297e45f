"""Using only some of the workers: the lowest ranks, as many as wanted."""

from __future__ import annotations

import pytest

from driver import LONG, SHORT, Driver, only
from mpitasks.scheduler.events import (
    Assign,
    Complete,
    Fail,
    Stop,
    TaskState,
    WorkerJoined,
    WorkersLimited,
)


def _limited(count: int | None, *, workers: int = 4) -> Driver:
    driver = Driver(workers)
    driver.handle(WorkersLimited(count))
    return driver


def _given(driver: Driver, count: int = 20) -> list[int]:
    """Submit long tasks; return the ranks that were given one."""
    actions = driver.submit(*driver.tasks(count, function=99))
    return sorted(send.rank for send in only(Assign, actions))


@pytest.mark.parametrize(
    ("count", "ranks"),
    [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3]), (None, [0, 1, 2, 3])],
)
def test_the_lowest_ranks_are_used(count: int | None, ranks: list[int]) -> None:
    driver = _limited(count)
    assert driver.scheduler.num_workers == len(ranks)
    assert driver.scheduler.statistics().workers == len(ranks)
    assert _given(driver) == ranks


def test_the_lowest_ranks_are_used_in_whatever_order_they_joined() -> None:
    driver = Driver()
    for rank in (7, 2, 9, 4):
        driver.handle(WorkerJoined(rank))
    driver.handle(WorkersLimited(2))
    assert _given(driver) == [2, 4]


def test_who_joins_later_is_used_if_its_rank_is_lower() -> None:
    driver = Driver()
    driver.handle(WorkersLimited(2))
    for rank, number in ((5, 1), (3, 2), (9, 2), (1, 2)):
        driver.handle(WorkerJoined(rank))
        assert driver.scheduler.num_workers == number
    assert _given(driver) == [1, 3]


def test_the_limit_is_kept_when_batches_are_finished() -> None:
    driver = _limited(2)
    driver.submit(*driver.tasks(30))
    while driver.batches[0] or driver.batches[1]:
        rank = 0 if driver.batches[0] else 1
        sends = only(Assign, driver.finish(rank, seconds=SHORT))
        assert {send.rank for send in sends} <= {0, 1}
    assert driver.scheduler.statistics().succeeded == 30


@pytest.mark.parametrize(("lost", "spare"), [(0, [1, 2]), (1, [0, 2]), (3, [0, 1])])
def test_a_lost_worker_is_replaced_by_a_spare_one(lost: int, spare: list[int]) -> None:
    driver = _limited(2)
    driver.lose(lost)
    assert driver.scheduler.num_workers == 2
    assert _given(driver) == spare


def test_a_spare_one_is_given_at_once_what_waits() -> None:
    driver = _limited(1)
    tasks = driver.tasks(2)
    driver.submit(*tasks)
    assert driver.lose(0) == [Assign(1, [tasks[1]]), Fail([tasks[0]], 0)]


def test_the_queue_is_lost_with_the_last_spare_one() -> None:
    driver = _limited(1, workers=2)
    tasks = driver.tasks(3)
    driver.submit(*tasks)
    driver.lose(0)
    assert driver.lose(1) == [Fail([tasks[1]], 1), Fail([tasks[2]], None)]
    assert driver.scheduler.num_workers == 0


@pytest.mark.parametrize("count", [3, None])
def test_a_raised_limit_lets_the_others_work_at_once(count: int | None) -> None:
    driver = _limited(1)
    tasks = driver.tasks(10)
    driver.submit(*tasks)
    sends = only(Assign, driver.handle(WorkersLimited(count)))
    more = 3 if count is None else count - 1
    assert sorted(send.rank for send in sends) == list(range(1, 1 + more))
    assert driver.scheduler.num_workers == 1 + more


def test_a_worker_that_becomes_unused_completes_its_batch_and_gets_no_more() -> None:
    driver = Driver(workers=2)
    driver.learn(0, LONG)
    tasks = driver.tasks(4)
    driver.submit(*tasks)
    (unused,) = driver.batches[1][0]
    assert driver.handle(WorkersLimited(1)) == []
    assert driver.finish(1, seconds=LONG) == [Complete([unused])]
    assert unused.state is TaskState.SUCCEEDED
    assert only(Assign, driver.finish(0, seconds=LONG)) == [Assign(0, [tasks[2]])]
    assert driver.handle(WorkersLimited(None)) == [Assign(1, [tasks[3]])]


def test_an_unused_worker_with_a_short_batch_gets_none_sent_ahead() -> None:
    driver = Driver(workers=2)
    driver.learn(0, SHORT)
    driver.submit(driver.task())
    driver.submit(driver.task())
    assert all(len(driver.batches[rank]) == 1 for rank in (0, 1))
    driver.handle(WorkersLimited(1))
    ranks = [s.rank for s in only(Assign, driver.submit(*driver.tasks(500)))]
    assert ranks == [0]


def test_what_an_unused_worker_gives_back_goes_to_those_in_use() -> None:
    driver = Driver(workers=2)
    driver.learn(0, SHORT)
    driver.submit(*driver.tasks(1000))
    held = [task for batch in driver.batches[1] for task in batch]
    driver.handle(WorkersLimited(1))
    driver.give_back(1)
    order = []
    while driver.batches[0]:
        for send in only(Assign, driver.finish(0)):
            assert send.rank == 0
            order += send.tasks
    assert order[: len(held) - 1] == held[1:]


def test_a_limit_counts_as_has_capacity_only_whom_it_uses() -> None:
    driver = _limited(1)
    assert driver.has_capacity
    driver.submit(driver.task())
    assert not driver.has_capacity
    driver.handle(WorkersLimited(2))
    assert driver.has_capacity


def test_shares_are_those_of_the_workers_in_use() -> None:
    def first_batch(limit: int) -> int:
        driver = _limited(limit, workers=8)
        driver.learn(0, 1e-5)
        driver.submit(*driver.tasks(400))
        return len(driver.batches[0][0]) if driver.batches[0] else 0

    assert first_batch(1) == 201
    assert first_batch(2) > first_batch(4) > 0


def test_unused_workers_are_told_to_stop_too() -> None:
    driver = _limited(1, workers=3)
    assert driver.stop() == [Stop(0), Stop(1), Stop(2)]
    assert driver.scheduler.num_workers == 0
