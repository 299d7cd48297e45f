"""Tasks that share their batch with no other: nobody is blamed for a neighbour."""

from __future__ import annotations

import pytest

from driver import SHORT, Driver, Recorder, only
from mpitasks.scheduler.events import (
    Assign,
    Cancelled,
    Fail,
    QueueCancelled,
    Task,
    WorkerJoined,
)


def _batches(driver: Driver) -> list[list[Task]]:
    """Let a worker join and do all there is; return its batches."""
    sends = only(Assign, driver.handle(WorkerJoined(0)))
    while driver.batches[0]:
        sends += only(Assign, driver.finish(0))
    return [send.tasks for send in sends]


def _many(driver: Driver) -> list[Task]:
    """Submit tasks that leave room in each batch."""
    tasks = driver.tasks(100)
    driver.submit(*tasks)
    return tasks


@pytest.mark.parametrize("function", [0, 1])
def test_a_call_is_behind_no_other(function: int) -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    driver.learn(1, SHORT)
    first, single = driver.task(function), driver.task(alone=True)
    driver.submit(first, single)
    _many(driver)
    assert _batches(driver)[:2] == [[first], [single]]


@pytest.mark.parametrize("function", [0, 1])
def test_a_call_is_before_no_other(function: int) -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    driver.learn(1, SHORT)
    single, second = driver.task(alone=True), driver.task(function)
    driver.submit(single, second)
    _many(driver)
    first, *_ = _batches(driver)
    assert first == [single]


def test_each_of_several_has_a_batch() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    singles = driver.tasks(3, alone=True)
    driver.submit(*singles)
    _many(driver)
    assert _batches(driver)[:3] == [[task] for task in singles]


def test_so_has_one_of_unknown_length() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    first, single = driver.task(), driver.task(1, alone=True)
    driver.submit(first, single)
    _many(driver)
    assert _batches(driver)[:2] == [[first], [single]]


def test_so_has_an_item_of_a_job() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    job = Recorder()
    items = [driver.task(payload=job, start=at, alone=True) for at in (7, 9)]
    first = driver.task()
    driver.submit(first, *items)
    driver.extend(job, 100)
    batches = _batches(driver)
    assert batches[:3] == [[first], items[:1], items[1:]]
    assert sum(task.count for task in job.chunks if not task.alone) == 100


def test_it_is_passed_over_when_it_is_cancelled() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    first, single, second = driver.task(), driver.task(alone=True), driver.task()
    driver.submit(first, single, second)
    driver.revoke(single)
    _many(driver)
    assert _batches(driver)[0][:2] == [first, second]


@pytest.mark.parametrize("one", [False, True])
def test_nothing_is_sent_ahead_behind_it(*, one: bool) -> None:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    single = driver.task(alone=True)
    (driver.submit_one if one else driver.submit)(single)
    assert list(driver.batches[0]) == [[single]]
    _many(driver)
    assert list(driver.batches[0]) == [[single]]
    driver.finish(0)
    assert len(driver.batches[0]) == 2


def test_they_are_cancelled_with_the_queue() -> None:
    driver = Driver()
    tasks = [*driver.tasks(2, alone=True), driver.task(), driver.task(alone=True)]
    driver.submit(*tasks)
    assert driver.handle(QueueCancelled()) == [Cancelled(tasks)]
    assert driver.scheduler.outstanding == 0


def test_they_are_lost_with_the_last_worker() -> None:
    driver = Driver(workers=1)
    driver.lose(0)
    tasks = [*driver.tasks(2, alone=True), driver.task()]
    assert driver.submit(*tasks) == [Fail(tasks, None)]
