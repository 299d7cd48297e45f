"""A worker that does not answer at the limit of a task: reported, then given up."""

from __future__ import annotations

import math
from typing import Any

from driver import SHORT, Driver, Recorder, only
from mpitasks.scheduler.events import (
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
    WorkerJoined,
    WorkerState,
)
from mpitasks.scheduler.watchdog import (
    GIVE_UP_SECONDS,
    HOPE_SECONDS,
    REPORT_SECONDS,
)
from mpitasks.task_spec import TaskSpec

LIMIT = 100.0
LIMITED = TaskSpec(timeout=LIMIT)
ISOLATED = TaskSpec(isolate=True)


def begin(driver: Driver, **attributes: Any) -> tuple[Task, float]:
    """Submit a task with a limit; return it, and when that was."""
    task = driver.task(task_spec=LIMITED, **attributes)
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
    assert driver.worker_state(0) is WorkerState.UNRESPONSIVE
    assert driver.scheduler.deadline == math.inf
    assert driver.scheduler.outstanding == 0


def test_an_outcome_in_time_ends_it() -> None:
    driver = Driver(1)
    begin(driver)
    driver.finish(0)
    assert driver.scheduler.deadline == math.inf


def test_without_a_limit_nothing_is_timed() -> None:
    driver = Driver(1)
    driver.submit(driver.task(task_spec=TaskSpec("named")))
    assert driver.scheduler.deadline == math.inf


def test_each_item_of_a_chunk_has_the_limit() -> None:
    driver = Driver(1)
    driver.extend(Recorder(chunksize=3, task_spec=LIMITED), 3)
    began = driver._now
    assert driver.scheduler.deadline == began + 3 * LIMIT + REPORT_SECONDS


def test_the_clock_starts_anew_with_each_report() -> None:
    driver = Driver(1)
    driver.learn(0, 1e-4)
    tasks = driver.tasks(4, task_spec=LIMITED)
    driver.submit(*tasks)
    driver.wait_until(50.0)
    first = driver.batches[0][0][0]
    driver.report(0, [first.id])
    assert driver.scheduler.deadline == driver._now + LIMIT + REPORT_SECONDS


def test_a_task_without_a_limit_before_it_takes_its_time() -> None:
    driver = Driver(1)
    driver.learn(0, 1e-4)
    free, limited = driver.task(), driver.task(task_spec=LIMITED)
    driver.submit(free)
    driver.submit(limited)
    assert driver.scheduler.deadline == math.inf
    driver.report(0, [free.id], batches=1)
    assert driver.scheduler.deadline == driver._now + LIMIT + REPORT_SECONDS


def test_what_waits_behind_it_is_lost_with_it() -> None:
    driver = Driver(1)
    driver.learn(0, 1e-4)
    unresponsive, behind = driver.task(task_spec=LIMITED), driver.task()
    driver.submit(unresponsive)
    driver.submit(behind)
    _, *actions = driver.wait_until(LIMIT + 100.0)
    assert actions == [GiveUp(0, unresponsive), Fail([behind], 0)]
    assert driver.scheduler.outstanding == 0


def test_others_go_on() -> None:
    driver = Driver(2)
    unresponsive, _ = begin(driver)
    driver.submit(driver.task())
    rank = next(rank for rank in (0, 1) if unresponsive.id in driver.worker(rank).tasks)
    driver.wait_until(LIMIT + 100.0)
    assert driver.worker_state(rank) is WorkerState.UNRESPONSIVE
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


def test_with_all_unresponsive_the_queue_waits_and_then_fails() -> None:
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


def test_with_the_unresponsive_worker_lost_the_queue_fails_at_once() -> None:
    driver = Driver(1)
    begin(driver)
    driver.wait_until(LIMIT + 100.0)
    waiting = driver.task()
    driver.submit(waiting)
    assert driver.lose(0) == [Fail([waiting], None)]


def test_a_running_isolated_task_can_be_cancelled() -> None:
    driver = Driver(1)
    task = driver.task(task_spec=ISOLATED)
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
    free, isolated = driver.task(), driver.task(task_spec=ISOLATED)
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
    (held,) = driver.scheduler.held(0)
    assert driver.handle(RunningAbandoned([held])) == [GiveUp(0, held)]
    assert held.state is TaskState.FAILED
    assert driver.scheduler.unresponsive_workers() == [0]
    assert driver.scheduler.outstanding == 0
    assert driver.finish(0) == [Complete([None])]
    assert driver.scheduler.unresponsive_workers() == []


def test_only_these_tasks_are_abandoned() -> None:
    driver = Driver(3)
    driver.learn(0, SHORT)
    for task in driver.tasks(6):
        driver.submit(task)
    (first, second), others, (third, fourth) = map(driver.scheduler.held, range(3))
    actions = driver.handle(RunningAbandoned([second, third]))
    assert actions == [GiveUp(0, second), GiveUp(2, third)]
    assert [task.state for task in (second, third)] == [TaskState.FAILED] * 2
    assert driver.scheduler.held(0) == [first]
    assert driver.scheduler.held(1) == others
    assert driver.scheduler.held(2) == [fourth]
    assert driver.scheduler.unresponsive_workers() == [0, 2]
    assert driver.scheduler.statistics().failed == 2
    assert driver.finish(0) == [Complete([first])]
    assert driver.scheduler.unresponsive_workers() == [2]
    assert driver.finish(0) == [Complete([None])]
    assert driver.lose(2) == [Fail([fourth], 2)]


def test_what_is_not_running_is_not_abandoned() -> None:
    driver = Driver(1)
    done, running, queued, postponed = driver.tasks(4)
    driver.submit(done)
    driver.finish(0, seconds=10.0)
    driver.submit(running, queued)
    driver.postpone(1e9, postponed)
    before = driver.snapshot()
    event = RunningAbandoned([driver.task(), done, queued, postponed])
    assert driver.handle(event) == []
    assert driver.handle(RunningAbandoned([])) == []
    assert driver.snapshot() == before
    assert queued.state is TaskState.QUEUED


def test_more_may_be_abandoned_of_a_worker_that_is_unresponsive() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    first, second, third = driver.tasks(3)
    driver.submit(first, second, third)
    driver.handle(WorkerJoined(0))
    driver.handle(RunningAbandoned([first]))
    assert driver.handle(RunningAbandoned([second])) == [GiveUp(0, second)]
    assert driver.scheduler.held(0) == [third]
    assert driver.lose(0) == [Fail([third], 0)]
    assert driver.scheduler.outstanding == 0


def test_what_is_queued_waits_for_the_last_worker_that_was_abandoned() -> None:
    driver = Driver(1)
    running, queued = driver.tasks(2)
    driver.submit(running, queued)
    assert driver.scheduler.deadline == math.inf
    driver.handle(RunningAbandoned([running]))
    deadline = driver._now + HOPE_SECONDS
    assert driver.scheduler.deadline == deadline
    assert driver.wait_until(deadline - 2.0) == []
    assert driver.wait_until(deadline - 1.0) == [Fail([queued], None)]


def test_a_worker_that_stops_may_be_abandoned() -> None:
    driver = Driver(1)
    task = driver.task()
    driver.submit(task)
    driver.stop()
    assert driver.handle(RunningAbandoned([task])) == [GiveUp(0, task)]
    assert driver.worker_state(0) is WorkerState.STOPPING
    assert driver.scheduler.outstanding == 0


def test_a_limit_begins_when_what_is_before_it_is_done() -> None:
    driver = Driver(1)
    driver.learn(0, SHORT)
    first, free = driver.tasks(2)
    limited = driver.task(task_spec=LIMITED)
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
    driver.submit(*driver.tasks(9, task_spec=LIMITED))
    driver.finish(0)
    driver._now += 1.0
    driver.give_back(0)
    assert len(driver.scheduler.held(0)) == 1
    assert driver.scheduler.deadline == driver._now + LIMIT + REPORT_SECONDS
