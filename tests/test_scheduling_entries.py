"""All that is outstanding can be looked through; `Driver.check` does at each step."""

from __future__ import annotations

from driver import LONG, SHORT, Driver, Recorder
from mpitasks.scheduler.events import (
    Bulk,
    BulkCancelled,
    EndSet,
    RunningAbandoned,
    Task,
    WorkerJoined,
)


def _entries(driver: Driver) -> set[Task | Bulk]:
    entries = list(driver.scheduler.entries())
    assert len(set(entries)) == len(entries)
    return set(entries)


def test_nothing_is_outstanding_at_first() -> None:
    assert _entries(Driver(workers=1)) == set()


def test_tasks_are_there_until_they_are_over() -> None:
    driver = Driver(workers=1)
    running, queued, low = driver.task(), driver.task(), driver.task(priority=-1)
    postponed = driver.task()
    driver.submit(running, queued, low)
    driver.postpone(1e9, postponed)
    assert _entries(driver) == {running, queued, low, postponed}
    driver.finish(0, seconds=LONG)
    assert _entries(driver) == {queued, low, postponed}
    driver.revoke(low, postponed)
    assert _entries(driver) == {queued}
    driver.lose(0)
    assert _entries(driver) == set()


def test_a_job_is_there_beside_its_chunks_until_all_is_cut_off() -> None:
    driver = Driver(workers=1)
    job = Recorder(chunksize=2)
    driver.extend(job, 4)
    assert _entries(driver) == {job, *job.chunks}
    driver.finish(0)
    assert _entries(driver) == {job.chunks[1]}
    driver.give_back(0, keep=1)
    assert _entries(driver) == {*job.chunks[1:]}
    driver.extend(job, 1)
    assert _entries(driver) == {job, *job.chunks[1:]}


def test_a_cancelled_job_is_not_there_wherever_it_stands() -> None:
    driver = Driver()
    task, job = driver.task(), Recorder()
    driver.submit(task)
    driver.extend(job, 3)
    driver.handle(BulkCancelled(job))
    assert _entries(driver) == {task}


def test_what_cannot_be_finished_is_there() -> None:
    driver = Driver(workers=1)
    driver.learn(0, 100.0)
    driver.handle(EndSet(50.0))
    tasks, job = driver.tasks(2), Recorder()
    driver.submit(*tasks)
    driver.extend(job, 1)
    assert driver.batches[0] == driver.batches[1]
    assert _entries(driver) == {*tasks, job}


def test_what_was_given_up_is_not_there() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    tasks = driver.tasks(3)
    driver.submit(*tasks)
    driver.handle(WorkerJoined(0))
    driver.handle(RunningAbandoned(tasks[1:]))
    assert _entries(driver) == {tasks[0]}
