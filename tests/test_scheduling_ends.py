"""How tasks end that are not run: cancelled, lost, or too late."""

from __future__ import annotations

from collections.abc import Iterable

from driver import SHORT, Driver, Recorder, only
from mpitasks.scheduler.events import (
    Assign,
    BulkCancelled,
    Cancelled,
    CancelRequested,
    Fail,
    QueueCancelled,
    Stop,
    Task,
    TaskState,
    WorkerJoined,
    WorkerLeft,
)


def _assigned(actions: Iterable[object]) -> list[Task]:
    return [task for action in only(Assign, actions) for task in action.tasks]


# Cancelling.


def test_a_queued_task_is_cancelled_and_never_sent() -> None:
    driver = Driver(workers=1)
    running, gone, task = driver.tasks(3)
    driver.submit(running, gone, task)
    assert driver.handle(CancelRequested([running, gone])) == [Cancelled([gone])]
    assert driver.handle(CancelRequested([gone])) == []
    assert driver.scheduler.statistics().cancelled == 1
    assert _assigned(driver.finish(0)) == [task]


def test_cancelling_nothing_does_nothing() -> None:
    assert Driver(workers=1).handle(CancelRequested([])) == []


def test_the_rest_of_a_bulk_job_is_cancelled() -> None:
    driver = Driver(workers=1)
    bulk, task = Recorder(), driver.task()
    driver.extend(bulk, 5)
    driver.submit(task)
    assert driver.handle(BulkCancelled(bulk)) == []
    assert (bulk.ready, bulk.cancelled) == (0, True)
    assert driver.scheduler.statistics().cancelled == 4
    assert _assigned(driver.finish(0)) == [task]
    assert driver.extend(bulk, 5) == []
    assert driver.scheduler.outstanding == 1
    assert len(bulk.chunks) == 1


def test_an_extension_by_nothing_does_nothing() -> None:
    driver = Driver(workers=1)
    bulk = Recorder()
    assert driver.extend(bulk, 0) == []
    assert driver.scheduler.outstanding == 0


def test_an_extension_adds_to_what_is_ready() -> None:
    driver = Driver()
    bulk = Recorder()
    driver.extend(bulk, 2)
    driver.extend(bulk, 3)
    assert bulk.ready == 5
    assert driver.scheduler.statistics().queued == 5


def test_the_whole_queue_is_cancelled() -> None:
    driver = Driver(workers=1)
    running = driver.task()
    queued = [driver.task(function=at % 3, priority=at % 2) for at in range(9)]
    bulk, other = Recorder(), Recorder(priority=1)
    driver.submit(running)
    driver.submit(*queued[:5])
    driver.extend(bulk, 10)
    driver.extend(other, 10)
    driver.submit(*queued[5:])
    (cancelled,) = driver.handle(QueueCancelled())
    assert isinstance(cancelled, Cancelled)
    assert sorted(task.id for task in cancelled.tasks) == [task.id for task in queued]
    assert bulk.cancelled
    assert other.cancelled
    statistics = driver.scheduler.statistics()
    assert (statistics.queued, statistics.assigned) == (0, 1)
    assert statistics.cancelled == 29
    assert _assigned(driver.finish(0)) == []


def test_cancelling_an_empty_queue_tells_nobody() -> None:
    driver = Driver(workers=1)
    driver.extend(Recorder(), 3)
    assert driver.handle(QueueCancelled()) == []
    assert driver.handle(QueueCancelled()) == []


# Losing.


def test_a_lost_worker_fails_what_it_held() -> None:
    driver = Driver(workers=2)
    driver.learn(0, SHORT)
    tasks = driver.tasks(4)
    for task in tasks:
        driver.submit(task)
    held = [task for batch in driver.batches[0] for task in batch]
    assert len(held) == 2
    assert driver.lose(0) == [Fail(held, 0)]
    assert {task.state for task in held} == {TaskState.FAILED}
    assert driver.scheduler.statistics().failed == 2
    assert driver.scheduler.num_workers == 1


def test_the_queue_goes_on_when_a_worker_is_lost() -> None:
    driver = Driver(workers=2)
    tasks = driver.tasks(3)
    driver.submit(*tasks)
    driver.lose(0)
    assert _assigned(driver.finish(1)) == [tasks[2]]


def test_an_idle_worker_is_lost_without_a_word() -> None:
    driver = Driver(workers=2)
    assert driver.lose(0) == []
    assert driver.scheduler.num_workers == 1


def test_the_last_worker_takes_the_queue_with_it() -> None:
    driver = Driver(workers=1)
    running, *queued = driver.tasks(3)
    driver.submit(running, *queued)
    bulk = Recorder(chunksize=2)
    driver.extend(bulk, 3)
    lost, failed = driver.lose(0)
    assert lost == Fail([running], 0)
    assert failed == Fail([*queued, *bulk.chunks], None)
    assert [chunk.count for chunk in bulk.chunks] == [2, 1]
    assert driver.scheduler.outstanding == 0
    assert driver.scheduler.statistics().failed == 6


def test_what_is_submitted_without_a_worker_left_fails_at_once() -> None:
    driver = Driver(workers=1)
    driver.lose(0)
    bulk = Recorder()
    assert driver.extend(bulk, 2) == [Fail(bulk.chunks, None)]


def test_what_is_submitted_before_a_worker_joins_waits() -> None:
    driver = Driver()
    task = driver.task()
    assert driver.submit(task) == []
    assert driver.handle(WorkerJoined(3)) == [Assign(3, [task])]


# Stopping.


def test_every_worker_is_told_to_stop_once() -> None:
    driver = Driver(workers=3)
    driver.lose(1)
    assert driver.stop() == [Stop(0), Stop(2)]
    assert driver.stop() == []
    assert driver.handle(WorkerLeft(0)) == []
    assert driver.scheduler.running_workers() == [2]


def test_what_is_queued_at_the_stop_fails() -> None:
    driver = Driver(workers=1)
    running, queued = driver.tasks(2)
    driver.submit(running, queued)
    assert driver.stop() == [Stop(0), Fail([queued], None)]
    driver.finish(0)
    assert running.state is TaskState.SUCCEEDED
