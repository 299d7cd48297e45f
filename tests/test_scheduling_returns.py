"""What an unresponsive worker gives back, and who gets it then."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from driver import LONG, SHORT, Driver, Recorder, only, positions
from mpitasks.scheduler.events import (
    Assign,
    BulkCancelled,
    Cancelled,
    Complete,
    Fail,
    QueueCancelled,
    Task,
    TasksReturned,
    TaskState,
    WorkerJoined,
)


def _assigned(actions: Iterable[object]) -> list[Task]:
    return [task for action in only(Assign, actions) for task in action.tasks]


def _unresponsive(*tasks: Task) -> Driver:
    """Return a driver whose worker 0 holds these few tasks in one batch."""
    driver = Driver()
    driver.learn(0, SHORT)
    driver.submit(*tasks)
    driver.handle(WorkerJoined(0))
    assert list(driver.batches[0]) == [list(tasks)]
    return driver


def _unresponsive_in_batches() -> tuple[Driver, list[Task], list[Task]]:
    """Return a driver whose worker 0 holds two batches, its tasks, and those queued."""
    driver = Driver()
    driver.learn(0, SHORT)
    tasks = driver.tasks(100)
    driver.submit(*tasks)
    driver.handle(WorkerJoined(0))
    first, second = driver.batches[0]
    assert len(first) > 1
    assert len(second) > 1
    held = [*first, *second]
    assert held == tasks[: len(held)] != tasks
    return driver, held, tasks[len(held) :]


def _unresponsive_in_chunk(count: int, **attributes: int) -> tuple[Driver, Recorder]:
    """Return a driver whose worker 0 holds all of a bulk job in one chunk."""
    driver = Driver()
    driver.learn(0, SHORT)
    bulk = Recorder(chunksize=count, **attributes)
    driver.extend(bulk, count)
    driver.handle(WorkerJoined(0))
    assert [chunk.count for chunk in bulk.chunks] == [count]
    return driver, bulk


def test_what_is_given_back_waits_again() -> None:
    driver, (begun, *returned), waiting = _unresponsive_in_batches()
    assert driver.give_back(0) == []
    assert {task.state for task in returned} == {TaskState.QUEUED}
    assert begun.state is TaskState.ASSIGNED
    statistics = driver.scheduler.statistics()
    assert statistics.assigned == 1
    assert statistics.queued == len(returned) + len(waiting)


def test_idle_workers_get_at_once_what_is_given_back() -> None:
    tasks = [Task(at, 0) for at in range(1000, 1005)]
    driver = _unresponsive(*tasks)
    driver.handle(WorkerJoined(1))
    driver.handle(WorkerJoined(2))
    driver.learn(0, LONG)  # so that each gets one
    sends = only(Assign, driver.give_back(0))
    assert {send.rank for send in sends} == {1, 2}
    assert _assigned(sends) == tasks[1:3]
    assert driver.scheduler.statistics().queued == 2


def test_what_is_given_back_goes_before_what_waits_in_order() -> None:
    driver, held, waiting = _unresponsive_in_batches()
    driver.give_back(0)
    order = _assigned(driver.handle(WorkerJoined(1)))
    while driver.batches[1]:
        order += _assigned(driver.finish(1))
    assert order == held[1:] + waiting


def test_what_is_given_back_keeps_its_priority() -> None:
    driver = Driver()
    low, high = driver.tasks(2), driver.tasks(2, priority=1)
    driver.learn(0, SHORT)
    driver.submit(*low, *high)
    driver.handle(WorkerJoined(0))
    assert list(driver.batches[0]) == [[*high, *low]]
    higher, between = driver.task(priority=2), driver.task(priority=1)
    driver.submit(between, higher)
    driver.give_back(0)
    order = _assigned(driver.handle(WorkerJoined(1)))
    assert order == [higher, high[1], between, *low]


@pytest.mark.parametrize("others", [0, 1])
def test_nothing_is_sent_ahead_to_a_unresponsive_worker(others: int) -> None:
    driver = _unresponsive(*[Task(at, 0) for at in range(1000, 1001 + others)])
    assert driver.has_capacity
    driver.give_back(
        0
    )  # tells that it is unresponsive, even if there is nothing to give
    assert not driver.has_capacity
    assert _assigned(driver.submit(*driver.tasks(50))) == []


def test_a_worker_is_given_tasks_again_when_it_is_through() -> None:
    driver, held, _ = _unresponsive_in_batches()
    driver.give_back(0)
    actions = driver.finish(0)
    assert only(Complete, actions) == [Complete([held[0]])]
    assert driver.batches[0][0] == []  # the second batch, of which nothing is left
    assert _assigned(actions)[0] is held[1]
    assert only(Complete, driver.finish(0)) == [Complete([])]


def test_the_rest_of_a_chunk_is_a_task_of_its_own() -> None:
    driver, bulk = _unresponsive_in_chunk(10, priority=3)
    driver.handle(WorkerJoined(1))
    (send,) = only(Assign, driver.give_back(0, keep=4))
    begun, rest = bulk.chunks
    assert (send.rank, send.tasks) == (1, [rest])
    assert (positions(begun), positions(rest)) == (range(4), range(4, 10))
    assert rest.id not in (begun.id, 0)
    assert rest.priority == 3
    assert driver.scheduler.statistics().assigned == 10
    assert only(Complete, driver.finish(0)) == [Complete([begun])]
    assert driver.scheduler.statistics().succeeded == 4
    assert only(Complete, driver.finish(1)) == [Complete([rest])]
    assert driver.scheduler.statistics().succeeded == 10
    assert driver.scheduler.outstanding == 0


def test_the_rest_of_a_chunk_goes_before_the_tasks_behind_it() -> None:
    driver = Driver()
    driver.learn(0, 0.0)
    bulk = Recorder(chunksize=6)
    behind = driver.tasks(2)
    driver.extend(bulk, 6)
    driver.submit(*behind)
    driver.handle(WorkerJoined(0))
    held = [task for batch in driver.batches[0] for task in batch]
    assert held == [*bulk.chunks, *behind]
    driver.give_back(0, keep=1)
    assert _assigned(driver.handle(WorkerJoined(1))) == [bulk.chunks[1], *behind]


def test_a_chunk_is_split_again_and_again() -> None:
    driver, bulk = _unresponsive_in_chunk(5)
    driver.give_back(0, keep=1)
    for rank in range(1, 5):
        driver.handle(WorkerJoined(rank))
        if rank < 4:
            driver.give_back(rank, keep=1)
    pieces = [positions(chunk) for chunk in bulk.chunks]
    assert pieces == [range(n, n + 1) for n in range(5)]
    assert all(len(driver.batches[rank]) == 1 for rank in range(5))
    for rank in range(5):
        driver.finish(rank)
    assert driver.scheduler.statistics().succeeded == 5
    assert driver.scheduler.outstanding == 0


def test_a_chunk_may_be_split_twice_by_the_same_worker() -> None:
    driver, bulk = _unresponsive_in_chunk(10)
    driver.give_back(0, keep=6)
    driver.give_back(0, keep=2)
    assert [positions(chunk) for chunk in bulk.chunks] == [
        range(2),
        range(6, 10),
        range(2, 6),
    ]
    assert driver.scheduler.statistics().queued == 8


def test_tasks_that_a_worker_does_not_hold_are_ignored() -> None:
    driver = Driver(workers=2)
    mine, others = driver.tasks(2)
    driver.submit(mine, others)
    rank = next(rank for rank in (0, 1) if driver.batches[rank][0] == [mine])
    before = driver.scheduler.statistics()
    ids = [others.id, 999_999]
    assert driver.handle(TasksReturned(rank, ids, (others.id, 1))) == []
    assert driver.scheduler.statistics() == before
    assert others.state is TaskState.ASSIGNED


@pytest.mark.parametrize("split", [False, True])
def test_a_lost_worker_gives_nothing_back(*, split: bool) -> None:
    driver = Driver(workers=2)
    bulk = Recorder(chunksize=4)
    driver.extend(bulk, 4)
    (rank,) = (rank for rank in (0, 1) if driver.batches[rank])
    (chunk,) = bulk.chunks
    assert driver.lose(rank) == [Fail([chunk], rank)]
    late = TasksReturned(rank, [chunk.id], (chunk.id, 1) if split else None)
    assert driver.handle(late) == []
    assert bulk.chunks == [chunk]
    assert driver.scheduler.statistics().failed == 4


def test_what_the_last_worker_gives_back_at_the_stop_fails() -> None:
    tasks = [Task(at, 0) for at in range(1000, 1003)]
    driver = _unresponsive(*tasks)
    driver.stop()
    assert driver.give_back(0) == [Fail(tasks[1:], None)]
    assert only(Complete, driver.finish(0)) == [Complete([tasks[0]])]
    assert driver.scheduler.outstanding == 0


def test_a_returned_chunk_is_cancelled_with_the_queue() -> None:
    driver, bulk = _unresponsive_in_chunk(10)
    tasks = driver.tasks(3)
    driver.submit(*tasks)
    driver.give_back(0, keep=4)
    before = driver.scheduler.statistics()
    assert (before.assigned, before.queued) == (4, 9)
    begun, rest = bulk.chunks
    assert driver.handle(QueueCancelled()) == [Cancelled([rest, *tasks])]
    assert rest.state is TaskState.CANCELLED
    after = driver.scheduler.statistics()
    assert (after.assigned, after.queued, after.cancelled) == (4, 0, 9)
    driver.finish(0)
    assert begun.state is TaskState.SUCCEEDED
    assert driver.scheduler.outstanding == 0


def test_a_returned_chunk_is_lost_with_the_last_worker() -> None:
    driver, bulk = _unresponsive_in_chunk(10)
    driver.give_back(0, keep=4)
    begun, rest = bulk.chunks
    assert driver.lose(0) == [Fail([begun], 0), Fail([rest], None)]
    assert driver.scheduler.statistics().failed == 10


def test_items_not_carved_yet_follow_those_that_were_given_back() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    bulk = Recorder(chunksize=10)
    driver.extend(bulk, 25)
    driver.handle(WorkerJoined(0))
    held = list(bulk.chunks)
    driver.give_back(0, keep=3)
    rest = bulk.chunks[-1]
    order = _assigned(driver.handle(WorkerJoined(1)))
    while driver.batches[1]:
        order += _assigned(driver.finish(1))
    assert order[: len(held)] == [rest, *held[1:]]
    assert [item for chunk in order for item in positions(chunk)] == list(range(3, 25))


def test_what_came_back_of_a_cancelled_job_is_still_counted() -> None:
    driver, bulk = _unresponsive_in_chunk(10)
    driver.handle(BulkCancelled(bulk))
    driver.give_back(0, keep=4)
    driver.handle(WorkerJoined(1))
    for rank in (0, 1):
        if driver.batches[rank]:
            driver.finish(rank)
    assert driver.scheduler.outstanding == 0
