"""Tasks that need results of others: when they are queued, and when they never are."""

from __future__ import annotations

import pytest

from driver import Driver, only
from mpitasks.scheduler.events import (
    Assign,
    Cancelled,
    CancelRequested,
    DrainRequested,
    Fail,
    InputFailed,
    InputGone,
    InputReady,
    QueueCancelled,
    Task,
    TaskState,
)

WAITING, QUEUED, ASSIGNED = TaskState.WAITING, TaskState.QUEUED, TaskState.ASSIGNED


def assigned(actions: list[object]) -> list[Task]:
    return [task for action in only(Assign, actions) for task in action.tasks]


def test_a_task_is_sent_when_its_last_input_is_there() -> None:
    driver = Driver(workers=1)
    task = driver.task(inputs=[1, 2])
    assert driver.submit_one(task) == []
    assert driver.handle(InputReady(2, [task])) == []
    assert task.state is WAITING
    assert assigned(driver.handle(InputReady(1, [task]))) == [task]
    assert driver.handle(InputReady(1, [task])) == []  # too late to count


def test_a_result_is_for_the_tasks_that_have_it() -> None:
    driver = Driver(workers=1)
    first, second, third = (driver.task(inputs=ids) for ids in ([1], [1, 2], [1]))
    driver.submit(first, second, third)
    assert assigned(driver.handle(InputReady(1, [first, second]))) == [first]
    assert [task.state for task in (second, third)] == [WAITING, WAITING]
    driver.handle(InputReady(1, [third]))
    assert [task.state for task in (second, third)] == [WAITING, QUEUED]


def test_a_waiting_task_holds_nobody_up() -> None:
    driver = Driver(workers=1)
    waiting, other = driver.task(inputs=[1], priority=9), driver.task()
    driver.submit(waiting)
    assert assigned(driver.submit(other)) == [other]


def test_priority_counts_once_the_inputs_are_there() -> None:
    driver = Driver(workers=1)
    busy, low = driver.task(), driver.task(priority=-1)
    high = driver.task(inputs=[1], priority=5)
    driver.submit(busy)
    driver.submit(driver.task())  # sent ahead
    driver.submit(low, high)
    driver.handle(InputReady(1, [high]))
    assert high.state is QUEUED
    assert assigned(driver.finish(0))[0] is high


def test_what_an_input_weighs_is_added() -> None:
    driver = Driver()
    task = driver.task(nbytes=10, inputs=[1, 2])
    driver.submit(task)
    driver.handle(InputReady(1, [task], 100, {task.id: 7}))
    driver.handle(InputReady(2, [task], 1000, {task.id + 1: 8}))
    assert (task.nbytes, task.function, task.state) == (1110, 7, QUEUED)


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_needs_a_result_shares_its_fate(cancelled: bool) -> None:
    driver = Driver(workers=1)
    one, two, other = (driver.task(inputs=ids) for ids in ([1], [1, 2], [2]))
    driver.submit(one, two, other)
    (action,) = driver.handle(InputGone(1, [one, two], cancelled))
    if cancelled:
        assert action == Cancelled([one, two])
    else:
        assert action == InputFailed([one, two], 1)
    statistics = driver.scheduler.statistics()
    assert (statistics.cancelled, statistics.failed) == ((2, 0), (0, 2))[not cancelled]
    assert statistics.queued == 1
    assert assigned(driver.handle(InputReady(2, [two, other]))) == [other]


def test_a_cancelled_task_does_not_come_back() -> None:
    driver = Driver(workers=1)
    task = driver.task(inputs=[1, 2])
    driver.submit(task)
    assert driver.handle(CancelRequested([task])) == [Cancelled([task])]
    assert driver.handle(InputReady(1, [task])) == []
    assert driver.handle(InputGone(2, [task])) == []
    assert task.state is TaskState.CANCELLED
    assert driver.scheduler.outstanding == 0


def test_cancelling_the_queue_cancels_what_waits() -> None:
    driver = Driver(workers=1)
    running, waiting = driver.task(), driver.task(inputs=[1])
    driver.submit(running)
    driver.submit(waiting)
    assert driver.handle(QueueCancelled()) == [Cancelled([waiting])]
    assert driver.handle(InputReady(1, [waiting])) == []


def test_with_the_last_worker_all_that_waits_is_lost() -> None:
    driver = Driver(workers=1)
    running, waiting = driver.task(), driver.task(inputs=[running_id := 99])
    driver.submit(running)
    driver.submit(waiting)
    actions = driver.lose(0)
    lost = [task for fail in only(Fail, actions) for task in fail.tasks]
    assert lost == [waiting, running] or lost == [running, waiting]
    assert driver.handle(InputGone(running_id, [waiting])) == []
    assert driver.scheduler.outstanding == 0


def test_with_a_worker_left_it_goes_on_waiting() -> None:
    driver = Driver(workers=2)
    waiting = driver.task(inputs=[1])
    driver.submit(waiting)
    driver.lose(0)
    assert waiting.state is WAITING
    assert assigned(driver.handle(InputReady(1, [waiting]))) == [waiting]


def test_what_waits_is_outstanding_and_listed() -> None:
    driver = Driver(workers=1)
    waiting = driver.task(inputs=[1])
    driver.submit(waiting)
    assert list(driver.scheduler.entries()) == [waiting]
    assert driver.scheduler.outstanding == 1
    assert driver.scheduler.statistics().queued == 1
    assert not driver.scheduler.stranded
    driver.handle(DrainRequested())
    assert driver.scheduler.stranded


def test_a_task_that_lacks_something_is_not_started_at_once() -> None:
    driver = Driver(workers=1)
    assert driver.scheduler.starts(driver.task(), 0.0)
    assert not driver.scheduler.starts(driver.task(inputs=[1]), 0.0)
