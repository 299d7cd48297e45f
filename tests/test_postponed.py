"""Tasks that wait for their time: nothing is early, nothing is lost."""

from __future__ import annotations

import math

import pytest

from driver import Driver, only
from mpitasks.errors import TransitionError
from mpitasks.scheduler.events import (
    Assign,
    Cancelled,
    CancelRequested,
    DrainRequested,
    EndSet,
    Fail,
    QueueCancelled,
    TasksPostponed,
    TaskState,
)
from mpitasks.scheduler.postponed import LONGEST_DELAY_SECONDS, retry_delay


def test_a_task_is_assigned_when_its_time_has_come() -> None:
    driver = Driver(1)
    task = driver.task()
    assert driver.postpone(50.0, task) == []
    assert (driver.scheduler.deadline, driver.scheduler.outstanding) == (50.0, 1)
    assert driver.scheduler.statistics().queued == 1
    assert driver.wait_until(48.0) == []
    assert driver.wait_until(50.0) == [Assign(0, [task])]
    assert driver.scheduler.deadline == math.inf


def test_a_time_in_the_past_is_now() -> None:
    driver = Driver(1)
    task = driver.task()
    assert driver.postpone(0.0, task) == [Assign(0, [task])]


def test_they_come_in_the_order_of_their_times() -> None:
    driver = Driver(3)
    late, soon, also = driver.tasks(3)
    driver.postpone(70.0, late)
    driver.postpone(60.0, soon, also)
    assigns = only(Assign, driver.wait_until(100.0))
    assert [task for assign in assigns for task in assign.tasks] == [soon, also, late]


def test_cancelled_before_its_time() -> None:
    driver = Driver(1)
    gone, task = driver.tasks(2)
    driver.postpone(50.0, gone, task)
    assert driver.handle(CancelRequested([gone])) == [Cancelled([gone])]
    assert driver.scheduler.outstanding == 1
    assert driver.wait_until(50.0) == [Assign(0, [task])]
    assert gone.state is TaskState.CANCELLED


def test_cancelled_with_the_queue() -> None:
    driver = Driver(1)
    task = driver.task()
    driver.postpone(50.0, task)
    assert driver.handle(QueueCancelled()) == [Cancelled([task])]
    assert driver.scheduler.outstanding == 0
    assert driver.wait_until(50.0) == []


def test_without_a_worker_there_is_nothing_to_wait_for() -> None:
    driver = Driver(1)
    task, later = driver.tasks(2)
    driver.postpone(50.0, task)
    assert driver.lose(0) == [Fail([task], None)]
    assert driver.postpone(50.0, later) == [Fail([later], None)]
    assert driver.scheduler.outstanding == 0


def test_an_illegal_one_changes_none() -> None:
    driver = Driver(1)
    fresh, done = driver.tasks(2)
    driver.submit(done)
    with pytest.raises(TransitionError, match=f"task {done.id} postponed"):
        driver.handle(TasksPostponed([fresh, done], 50.0))
    assert fresh.state is TaskState.NEW


def test_near_the_end_it_is_stranded() -> None:
    driver = Driver(1)
    driver.handle(EndSet(100.0))
    driver.postpone(50.0, driver.task())
    assert not driver.scheduler.stranded
    driver.handle(DrainRequested())
    assert driver.scheduler.stranded


def test_behind_the_end_it_is_stranded() -> None:
    driver = Driver(1)
    driver.handle(EndSet(100.0))
    driver.postpone(150.0, driver.task())
    assert driver.scheduler.stranded


def test_delays_double_up_to_a_limit() -> None:
    assert [retry_delay(n, 0.5) for n in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert retry_delay(10_000, 0.5) == LONGEST_DELAY_SECONDS
    assert retry_delay(10_000, 0.0) == 0.0
