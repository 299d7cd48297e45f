"""A worker that does not answer at the limit of a task: reported, then given up."""

from __future__ import annotations

import math
from typing import Any

from driver import SHORT, Driver, only
from mpitasks.core.events import (
    Assign,
    Cancelled,
    CancelRequested,
    Complete,
    Fail,
    GiveUp,
    QueueCancelled,
    Report,
    Revoke,
    RunningAbandoned,
    Task,
    TaskState,
    WorkerState,
)
from mpitasks.core.overdue import GIVE_UP_SECONDS, REPORT_SECONDS
from mpitasks.terms import Terms

LIMIT = 100.0
LIMITED = Terms(timeout=LIMIT)
ISOLATED = Terms(isolate=True)


def begin(driver: Driver, **attributes: Any) -> tuple[Task, float]:
    """Submit a task with a limit; return it, and when that was."""
    task = driver.task(terms=LIMITED, **attributes)
    driver.submit(task)
    return task, driver._now


def test_it_is_reported_and_then_given_up() -> None:
    driver = Driver(1)
    task, began = begin(driver)
    assert driver.scheduler.deadline == began + LIMIT + REPORT_SECONDS
    assert driver.wait_until(driver.scheduler.deadline) == [Report(0, task)]
    assert driver.scheduler.deadline == began + LIMIT + GIVE_UP_SECONDS
    assert driver.wait_until(driver.scheduler.deadline) == [GiveUp(0, task)]
    assert task.state is TaskState.FAILED
    assert driver.worker_state(0) is WorkerState.STUCK
    assert driver.scheduler.deadline == math.inf
    assert driver.scheduler.outstanding == 0


def test_an_outcome_in_time_ends_it() -> None:
    driver = Driver(1)
    begin(driver)
    driver.finish(0)
    assert driver.scheduler.deadline == math.inf


def test_without_a_limit_nothing_is_timed() -> None:
    driver = Driver(1)
    driver.submit(driver.task(terms=Terms("named")))
    assert driver.scheduler.deadline == math.inf


def test_each_item_of_a_chunk_has_the_limit() -> None:
    driver = Driver(1)
    _, began = begin(driver, count=3)
    assert driver.scheduler.deadline == began + 3 * LIMIT + REPORT_SECONDS


def test_the_clock_starts_anew_with_each_report() -> None:
    driver = Driver(1)
    driver.learn(0, 1e-4)
    tasks = driver.tasks(4, terms=LIMITED)
    driver.submit(*tasks)
    driver.wait_until(50.0)
    first = driver.batches[0][0][0]
    driver.report(0, [first.id])
    assert driver.scheduler.deadline == driver._now + LIMIT + REPORT_SECONDS


def test_a_task_without_a_limit_before_it_takes_its_time() -> None:
    driver = Driver(1)
    driver.learn(0, 1e-4)
    free, limited = driver.task(), driver.task(terms=LIMITED)
    driver.submit(free)
    driver.submit(limited)
    assert driver.scheduler.deadline == math.inf
    driver.report(0, [free.id], batches=1)
    assert driver.scheduler.deadline == driver._now + LIMIT + REPORT_SECONDS


def test_what_waits_behind_it_is_lost_with_it() -> None:
    driver = Driver(1)
    driver.learn(0, 1e-4)
    stuck, behind = driver.task(terms=LIMITED), driver.task()
    driver.submit(stuck)
    driver.submit(behind)
    _, *actions = driver.wait_until(LIMIT + 100.0)
    assert actions == [GiveUp(0, stuck), Fail([behind], 0)]
    assert driver.scheduler.outstanding == 0


def test_others_go_on() -> None:
    driver = Driver(2)
    stuck, _ = begin(driver)
    driver.submit(driver.task())
    rank = next(rank for rank in (0, 1) if stuck.id in driver.worker(rank).tasks)
    driver.wait_until(LIMIT + 100.0)
    assert driver.worker_state(rank) is WorkerState.STUCK
    assert driver.scheduler.num_workers == 1
    driver.finish(1 - rank)
    [assign] = only(Assign, driver.submit(driver.task()))
    assert assign.rank == 1 - rank


def test_it_recovers_when_it_reports() -> None:
    driver = Driver(1)
    task, _ = begin(driver)
    driver.wait_until(LIMIT + 100.0)
    waiting = driver.task()
    assert driver.submit(waiting) == []
    assert driver.finish(0) == [Assign(0, [waiting]), Complete([None])]
    assert task.state is TaskState.FAILED
    assert driver.worker_state(0) is WorkerState.READY


def test_with_all_stuck_the_queue_waits_and_then_fails() -> None:
    driver = Driver(1)
    begin(driver)
    driver.wait_until(LIMIT + 100.0)
    waiting, postponed = driver.tasks(2)
    driver.submit(waiting)
    driver.postpone(1e9, postponed)
    assert driver.scheduler.deadline < 1e9
    assert driver.wait_until(driver.scheduler.deadline - 2.0) == []
    assert driver.wait_until(driver.scheduler.deadline) == [
        Fail([waiting, postponed], None)
    ]
    late = driver.task()
    assert driver.submit(late) == [Fail([late], None)]
    assert driver.scheduler.outstanding == 0


def test_with_the_stuck_worker_lost_the_queue_fails_at_once() -> None:
    driver = Driver(1)
    begin(driver)
    driver.wait_until(LIMIT + 100.0)
    waiting = driver.task()
    driver.submit(waiting)
    assert driver.lose(0) == [Fail([waiting], None)]


def test_a_running_isolated_task_can_be_cancelled() -> None:
    driver = Driver(1)
    task = driver.task(terms=ISOLATED)
    driver.submit(task)
    assert driver.revoke(task) == [Revoke(0, [task.id]), Cancelled([task])]
    assert task.state is TaskState.CANCELLED
    assert driver.scheduler.outstanding == 0
    assert driver.finish(0) == [Complete([None])]
    after = driver.task()
    assert driver.submit(after) == [Assign(0, [after])]


def test_a_running_task_in_its_rank_cannot() -> None:
    driver = Driver(1)
    task = driver.task()
    driver.submit(task)
    assert driver.handle(CancelRequested([task])) == []
    assert task.state is TaskState.ASSIGNED


def test_running_isolated_tasks_end_with_the_queue_if_so_wanted() -> None:
    driver = Driver(2)
    free, isolated = driver.task(), driver.task(terms=ISOLATED)
    driver.submit(free)
    driver.submit(isolated)
    assert driver.handle(QueueCancelled()) == []
    rank = next(r for r in (0, 1) if isolated.id in driver.worker(r).tasks)
    [revoke, cancelled] = driver.handle(QueueCancelled(isolated=True))
    assert revoke == Revoke(rank, [isolated.id])
    assert cancelled == Cancelled([isolated])
    assert free.state is TaskState.ASSIGNED


def test_what_is_running_can_be_abandoned() -> None:
    driver = Driver(2)
    first, second = driver.tasks(2)
    driver.submit(first)
    driver.submit(second)
    driver.finish(1)
    held = next(iter(driver.worker(0).tasks.values()))
    assert driver.handle(RunningAbandoned()) == [GiveUp(0, held)]
    assert driver.scheduler.stuck_workers() == [0]
    assert driver.scheduler.outstanding == 0
    assert driver.finish(0) == [Complete([None])]
    assert driver.scheduler.stuck_workers() == []


def test_a_limit_begins_when_what_is_before_it_is_done() -> None:
    driver = Driver(1)
    driver.learn(0, SHORT)
    first, free = driver.tasks(2)
    limited = driver.task(terms=LIMITED)
    driver.submit(driver.task())
    driver.submit(*driver.tasks(3), first, free, limited, *driver.tasks(6))
    driver.finish(0)
    held = [task.id for task in driver.scheduler.held(0)]
    assert held.index(limited.id) > held.index(free.id) > held.index(first.id)
    driver.report(0, held[: held.index(free.id)])
    assert driver.scheduler.deadline == math.inf
    driver.report(0, [free.id])
    assert driver.scheduler.deadline == driver._now + LIMIT + REPORT_SECONDS


def test_giving_back_starts_the_clock_of_the_first_anew() -> None:
    driver = Driver(1)
    driver.learn(0, SHORT)
    driver.submit(driver.task())
    driver.submit(*driver.tasks(9, terms=LIMITED))
    driver.finish(0)
    driver._now += 1.0
    driver.give_back(0)
    assert len(driver.scheduler.held(0)) == 1
    assert driver.scheduler.deadline == driver._now + LIMIT + REPORT_SECONDS
