"""Chunks of which a worker reports the first items before the others."""

from __future__ import annotations

import math
from typing import Any

import pytest

from driver import SHORT, Driver, Recorder, only, positions
from mpitasks.errors import TransitionError
from mpitasks.scheduler.events import (
    Action,
    Assign,
    Cancelled,
    CancelRequested,
    Complete,
    Cost,
    Fail,
    GiveUp,
    RunningAbandoned,
    Task,
    TasksReturned,
    TaskState,
    WorkerJoined,
    WorkerState,
)
from mpitasks.scheduler.watchdog import REPORT_SECONDS
from mpitasks.task_spec import TaskSpec

SUCCEEDED, FAILED = TaskState.SUCCEEDED, TaskState.FAILED


def _begun(count: int, **attributes: Any) -> tuple[Driver, Recorder, Task]:
    """Return a driver whose worker 0 holds all of a job in one chunk."""
    driver = Driver(workers=1)
    job = Recorder(chunksize=count, **attributes)
    driver.extend(job, count)
    (chunk,) = job.chunks
    return driver, job, chunk


def _completed(actions: list[Action]) -> Task:
    (complete,) = only(Complete, actions)
    (task,) = complete.tasks
    assert task is not None
    return task


def test_a_chunk_is_reported_in_parts() -> None:
    driver, job, chunk = _begun(10, priority=2, task_spec=TaskSpec("named"))
    first = _completed(driver.report_part(0, 3))
    assert (first.id, first.function, first.payload) == (chunk.id, 0, job)
    assert (first.priority, first.task_spec) == (2, TaskSpec("named"))
    assert (first.state, chunk.state) == (SUCCEEDED, TaskState.ASSIGNED)
    assert (positions(first), positions(chunk)) == (range(3), range(3, 10))
    statistics = driver.scheduler.statistics()
    assert (statistics.succeeded, statistics.assigned) == (3, 7)
    second = _completed(driver.report_part(0, 6))
    assert (positions(second), positions(chunk)) == (range(3, 9), range(9, 10))
    assert driver.scheduler.held(0) == [chunk]
    assert driver.finish(0) == [Complete([chunk])]
    assert chunk.state is SUCCEEDED
    statistics = driver.scheduler.statistics()
    assert (statistics.succeeded, statistics.assigned) == (10, 0)
    assert driver.scheduler.outstanding == 0


def test_a_part_comes_with_others_in_the_order_of_the_report() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    before, job, after = driver.task(), Recorder(chunksize=4), driver.task()
    driver.submit(before)
    driver.extend(job, 4)
    driver.submit(after, driver.task())
    driver.handle(WorkerJoined(0))
    (chunk,) = job.chunks
    assert driver.batches[0][0] == [before, chunk]
    ids = [before.id, chunk.id, 999_999]
    actions = driver.report(0, ids, failed=[before.id], parts={chunk.id: 1})
    (complete,) = only(Complete, actions)
    first = complete.tasks[1]
    assert complete.tasks == [before, first, None]
    assert first is not None
    assert (first.state, positions(first)) == (SUCCEEDED, range(1))
    assert before.state is FAILED
    statistics = driver.scheduler.statistics()
    assert (statistics.failed, statistics.succeeded) == (1, 1)


def test_a_part_may_fail() -> None:
    driver, _, chunk = _begun(10)
    first = _completed(driver.report_part(0, 4, fails=True))
    assert (first.state, chunk.state) == (FAILED, TaskState.ASSIGNED)
    driver.finish(0)
    statistics = driver.scheduler.statistics()
    assert (statistics.failed, statistics.succeeded) == (4, 6)


def test_the_rest_may_fail_after_a_part() -> None:
    driver, _, chunk = _begun(10)
    driver.report_part(0, 4)
    driver.finish(0, failed=[0])
    assert chunk.state is FAILED
    statistics = driver.scheduler.statistics()
    assert (statistics.failed, statistics.succeeded) == (6, 4)


def test_what_a_part_took_counts() -> None:
    driver, _, _ = _begun(10)
    driver.report_part(0, 4, seconds=2.0)
    profile = driver.scheduler._profiles[0]
    assert (profile.seconds, profile.largest) == (2.0, 4)


def test_a_part_gives_no_credit_back() -> None:
    driver, _, _ = _begun(10)
    task = driver.task()
    driver.submit(task)
    assert only(Assign, driver.report_part(0, 9)) == []
    assert only(Assign, driver.finish(0)) == [Assign(0, [task])]


def test_parts_are_counted_for_those_alone_that_are_named() -> None:
    driver, _, chunk = _begun(10)
    assert driver.report(0, [], parts={chunk.id: 4}) == [Complete([])]
    assert positions(chunk) == range(10)
    assert driver.scheduler.statistics().assigned == 10


# Giving back.


def test_a_split_counts_from_the_first_item_not_reported() -> None:
    driver, job, chunk = _begun(10)
    driver.report_part(0, 3)
    driver.give_back(0, keep=2)
    rest = job.chunks[1]
    assert (positions(chunk), positions(rest)) == (range(3, 5), range(5, 10))
    statistics = driver.scheduler.statistics()
    assert (statistics.assigned, statistics.queued) == (2, 5)
    assert driver.handle(WorkerJoined(1)) == [Assign(1, [rest])]
    assert _completed(driver.report_part(1, 4)).start == 5
    assert positions(rest) == range(9, 10)
    driver.finish(0)
    driver.finish(1)
    assert driver.scheduler.statistics().succeeded == 10
    assert driver.scheduler.outstanding == 0


def test_a_part_may_come_after_a_split() -> None:
    driver, job, chunk = _begun(10)
    driver.give_back(0, keep=4)
    with pytest.raises(TransitionError, match=f"4 items of task {chunk.id}"):
        driver.report_part(0, 4)
    assert positions(_completed(driver.report_part(0, 3))) == range(3)
    assert positions(chunk) == range(3, 4)
    assert positions(job.chunks[1]) == range(4, 10)


def test_a_chunk_may_come_back_after_a_part() -> None:
    driver, _, chunk = _begun(10)
    driver.report_part(0, 3)
    assert driver.handle(TasksReturned(0, [chunk.id], None)) == []
    assert (chunk.state, positions(chunk)) == (TaskState.QUEUED, range(3, 10))
    statistics = driver.scheduler.statistics()
    assert (statistics.assigned, statistics.queued) == (0, 7)


# Losing.


def test_a_lost_worker_fails_the_rest_alone() -> None:
    driver, _, chunk = _begun(10)
    first = _completed(driver.report_part(0, 3))
    assert driver.lose(0) == [Fail([chunk], 0)]
    assert (first.state, chunk.state) == (SUCCEEDED, FAILED)
    assert positions(chunk) == range(3, 10)
    statistics = driver.scheduler.statistics()
    assert (statistics.succeeded, statistics.failed) == (3, 7)
    assert driver.scheduler.outstanding == 0


def test_items_that_were_lost_are_tried_again_one_by_one() -> None:
    driver, job, chunk = _begun(4)
    driver.report_part(0, 2)
    driver.handle(WorkerJoined(1))
    driver.lose(0)
    again = [
        Task(next(driver.ids), 0, job, start=at, alone=True) for at in positions(chunk)
    ]
    assert driver.postpone(0.0, *again) == [Assign(1, [again[0]])]
    assert driver.finish(1) == [Assign(1, [again[1]]), Complete([again[0]])]
    assert driver.finish(1) == [Complete([again[1]])]
    assert [task.start for task in again] == [2, 3]
    statistics = driver.scheduler.statistics()
    assert (statistics.succeeded, statistics.failed) == (4, 2)
    assert driver.scheduler.outstanding == 0


def test_a_part_that_is_late_is_ignored() -> None:
    driver, _, chunk = _begun(10)
    driver.lose(0)
    before = driver.snapshot()
    late = driver.report(0, [chunk.id], parts={chunk.id: 3})
    assert late == [Complete([None])]
    assert driver.snapshot() == before
    assert positions(chunk) == range(10)


def test_a_part_of_what_was_given_up_is_late() -> None:
    driver, _, chunk = _begun(10)
    driver.report_part(0, 3)
    assert driver.handle(RunningAbandoned([chunk])) == [GiveUp(0, chunk)]
    assert driver.scheduler.statistics().failed == 7
    late = driver.report(0, [chunk.id], parts={chunk.id: 100})
    assert late == [Complete([None])]
    assert driver.worker_state(0) is WorkerState.READY
    statistics = driver.scheduler.statistics()
    assert (statistics.succeeded, statistics.failed) == (3, 7)


def test_an_isolated_chunk_may_be_revoked_after_a_part() -> None:
    driver, _, chunk = _begun(10, task_spec=TaskSpec(isolate=True))
    driver.report_part(0, 3)
    actions = driver.handle(CancelRequested([chunk]))
    assert only(Cancelled, actions) == [Cancelled([chunk])]
    statistics = driver.scheduler.statistics()
    assert (statistics.succeeded, statistics.cancelled) == (3, 7)


# Time limits.


def test_the_clock_of_the_rest_starts_anew() -> None:
    driver, _, _ = _begun(10, task_spec=TaskSpec(timeout=100.0))
    driver.wait_until(50.0)
    driver.report_part(0, 4)
    assert driver.scheduler.deadline == driver._now + 6 * 100.0 + REPORT_SECONDS
    driver.finish(0)
    assert driver.scheduler.deadline == math.inf


# Parts that cannot be.


@pytest.mark.parametrize("count", [-1, 0, 10, 11])
@pytest.mark.parametrize("batches", [0, 1])
def test_parts_that_do_not_fit_change_nothing(count: int, batches: int) -> None:
    driver, _, chunk = _begun(10)
    before = driver.snapshot()
    with pytest.raises(TransitionError, match=f"{count} items of task {chunk.id}"):
        driver.report(
            0,
            [chunk.id],
            batches=batches,
            costs=[Cost(0, 10, 1.0)],
            parts={chunk.id: count},
        )
    assert driver.snapshot() == before
    assert (chunk.state, positions(chunk)) == (TaskState.ASSIGNED, range(10))
    assert driver.scheduler._profiles == {}


def test_a_call_has_no_parts() -> None:
    driver = Driver(workers=1)
    task = driver.task()
    driver.submit(task)
    with pytest.raises(TransitionError, match="which has fewer"):
        driver.report(0, [task.id], parts={task.id: 1})
    assert task.state is TaskState.ASSIGNED


def test_one_part_that_does_not_fit_spoils_the_report() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    job = Recorder(chunksize=4)
    driver.extend(job, 8)
    driver.handle(WorkerJoined(0))
    first, second = job.chunks
    before = driver.snapshot()
    with pytest.raises(TransitionError, match=f"4 items of task {second.id}"):
        driver.report(
            0, [first.id, second.id], batches=1, parts={first.id: 1, second.id: 4}
        )
    assert driver.snapshot() == before
    assert (positions(first), positions(second)) == (range(4), range(4, 8))


@pytest.mark.parametrize(("batches", "count"), [(0, 4), (3, 1)])
def test_a_report_that_cannot_be_is_no_sign_of_life(batches: int, count: int) -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    call, job = driver.task(), Recorder(chunksize=4)
    driver.submit(call)
    driver.extend(job, 4)
    driver.submit(driver.task())
    driver.handle(WorkerJoined(0))
    (chunk,) = job.chunks
    assert len(driver.batches[0]) == 2
    driver.handle(RunningAbandoned([call]))
    assert driver.worker_state(0) is WorkerState.UNRESPONSIVE
    before = driver.snapshot()
    with pytest.raises(TransitionError):
        driver.report(0, [chunk.id], batches=batches, parts={chunk.id: count})
    assert driver.snapshot() == before
    assert driver.scheduler.unresponsive_workers() == [0]
