"""Tasks go where their data is, unless that takes longer than to move the data."""

from __future__ import annotations

import pytest

from driver import Driver, only
from mpitasks.scheduler.events import (
    Action,
    Assign,
    CancelRequested,
    DrainRequested,
    EndSet,
    InputReady,
    MemoryChanged,
    QueueCancelled,
    Task,
    TaskState,
)
from mpitasks.scheduler.locality import BYTES_PER_SECOND
from mpitasks.task_spec import TaskSpec

QUEUED = TaskState.QUEUED
SECOND = int(BYTES_PER_SECOND)  # bytes that it takes a second to move


def sent(actions: list[Action]) -> list[tuple[int, Task]]:
    return [(a.rank, task) for a in only(Assign, actions) for task in a.tasks]


def ready(driver: Driver, *places: tuple[int, int], **attributes: int) -> Task:
    """Return a task that has its inputs now, which were kept in these places."""
    task = driver.task(inputs=list(range(len(places))), **attributes)
    driver.submit(task)
    for id, place in enumerate(places[:-1]):
        driver.handle(InputReady(id, [task], place=place))
    return task


def supply(driver: Driver, task: Task, place: tuple[int, int]) -> list[Action]:
    return driver.handle(InputReady(task.inputs[-1], [task], place=place))


@pytest.fixture
def driver() -> Driver:
    return Driver(workers=3)


def occupy(driver: Driver, rank: int) -> None:
    """Have only this worker hold something; nothing is sent ahead to it."""
    blockers = driver.tasks(3, function=99)
    driver.submit(*blockers)
    for other in range(3):
        if other != rank:
            driver.finish(other, seconds=10.0)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_idle_worker_gets_what_it_has_the_data_of(driver: Driver, rank: int) -> None:
    task = ready(driver, (rank, 1))
    assert sent(supply(driver, task, (rank, 1))) == [(rank, task)]


def test_the_most_bytes_decide(driver: Driver) -> None:
    places = (0, 100), (1, 80), (2, 60), (1, 30)
    task = ready(driver, *places)
    assert sent(supply(driver, task, places[-1])) == [(1, task)]


@pytest.mark.parametrize("count", [1, 2])
def test_data_that_is_there_at_the_submit_counts(driver: Driver, count: int) -> None:
    tasks = driver.tasks(count)
    for task in tasks:
        task.data = [(1, 5)]
    actions = driver.submit_one(*tasks) if count == 1 else driver.submit(*tasks)
    assert sent(actions)[0] == (1, tasks[0])


def test_a_task_waits_for_its_worker_as_long_as_moving_would_take(
    driver: Driver,
) -> None:
    occupy(driver, 0)
    task = ready(driver, (0, 8 * SECOND))
    assert sent(supply(driver, task, (0, 8 * SECOND))) == []
    end = driver.scheduler.deadline
    assert end == driver._now + 8
    assert sent(driver.wait_until(end - 2)) == []
    assert task.state is QUEUED
    ((rank, moved),) = sent(driver.wait_until(end))
    assert (rank != 0, moved) == (True, task)


def test_its_worker_gets_it_when_that_is_free(driver: Driver) -> None:
    occupy(driver, 0)
    task = ready(driver, (0, 99 * SECOND))
    supply(driver, task, (0, 99 * SECOND))
    other = driver.task(function=99)
    assert sent(driver.submit(other)) != [(0, other)]
    assert sent(driver.finish(0, seconds=10.0)) == [(0, task)]


def test_a_higher_priority_goes_first(driver: Driver) -> None:
    for _ in range(3):
        driver.submit(driver.task(function=99))
    task = ready(driver, (0, 99 * SECOND))
    supply(driver, task, (0, 99 * SECOND))
    urgent = driver.task(function=99, priority=1)
    driver.submit(urgent)
    assert sent(driver.finish(0, seconds=10.0)) == [(0, urgent)]
    assert sent(driver.finish(0, seconds=10.0)) == [(0, task)]


def test_nobody_waits_for_a_worker_that_is_gone(driver: Driver) -> None:
    occupy(driver, 0)
    task = ready(driver, (0, 99 * SECOND))
    supply(driver, task, (0, 99 * SECOND))
    ((rank, moved),) = sent(driver.lose(0))
    assert (rank != 0, moved) == (True, task)
    late = ready(driver, (0, 99 * SECOND))
    ((rank, moved),) = sent(supply(driver, late, (0, 99 * SECOND)))
    assert (rank != 0, moved) == (True, late)


@pytest.mark.parametrize("event", [DrainRequested(), EndSet(1e9)])
def test_near_the_end_a_task_waits_for_no_worker(driver: Driver, event: object) -> None:
    occupy(driver, 0)
    task = ready(driver, (0, 99 * SECOND))
    supply(driver, task, (0, 99 * SECOND))
    goes = type(event) is EndSet
    assert bool(sent(driver.handle(event))) is goes  # type: ignore[arg-type]
    later = ready(driver, (0, 99 * SECOND))
    assert bool(sent(supply(driver, later, (0, 99 * SECOND)))) is goes


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_task_that_waits_can_be_cancelled(driver: Driver, *, all_of_it: bool) -> None:
    occupy(driver, 0)
    task = ready(driver, (0, 99 * SECOND))
    supply(driver, task, (0, 99 * SECOND))
    assert list(driver.scheduler.entries()).count(task) == 1
    driver.handle(QueueCancelled() if all_of_it else CancelRequested([task]))
    assert task.state is TaskState.CANCELLED
    assert sent(driver.finish(0, seconds=10.0)) == []
    assert driver.scheduler.outstanding == 0


def test_with_no_worker_left_a_task_is_lost(driver: Driver) -> None:
    occupy(driver, 0)
    task = ready(driver, (0, 99 * SECOND))
    supply(driver, task, (0, 99 * SECOND))
    for rank in (1, 2, 0):
        driver.lose(rank)
    assert task.state is TaskState.FAILED


KEEPS = TaskSpec(keep=True)


def running(driver: Driver) -> list[Task]:
    return [task for batches in driver.batches.values() for b in batches for task in b]


def test_with_memory_full_nothing_more_is_kept_while_others_run(driver: Driver) -> None:
    driver.handle(MemoryChanged(is_full=True))
    plain = driver.tasks(2, function=98)
    producers = driver.tasks(3, function=99, task_spec=KEEPS)
    driver.submit(plain[0])
    assert sent(driver.submit_one(producers[0])) == []
    assert sent(driver.submit(*producers[1:], plain[1])) == [(1, plain[1])]
    assert driver.scheduler.outstanding == 5
    actions = driver.handle(MemoryChanged(is_full=False))
    assert {task for _, task in sent(actions)} <= set(producers)
    assert sent(actions)


def test_with_nothing_else_to_run_a_call_is_let_through(driver: Driver) -> None:
    driver.handle(MemoryChanged(is_full=True))
    producers = driver.tasks(3, function=99, task_spec=KEEPS)
    driver.submit(*producers)
    for count in (1, 2, 3):
        assert len(running(driver)) == 1, count
        ((rank, _),) = [(r, b) for r, b in driver.batches.items() if b]
        driver.finish(rank, seconds=10.0)
    assert driver.scheduler.outstanding == 0


def test_what_needs_kept_results_goes_on(driver: Driver) -> None:
    driver.handle(MemoryChanged(is_full=True))
    task = driver.task(inputs=[0], task_spec=KEEPS)
    driver.submit(task)
    assert sent(supply(driver, task, (2, 100))) == [(2, task)]


def test_near_the_end_calls_that_keep_wait_all_the_same(driver: Driver) -> None:
    driver.handle(EndSet(1e9))
    driver.handle(MemoryChanged(is_full=True))
    driver.submit(driver.task(function=98))
    producer = driver.task(function=99, task_spec=KEEPS)
    assert sent(driver.submit(producer)) == []
    assert sent(driver.handle(MemoryChanged(is_full=False)))[0][1] is producer
