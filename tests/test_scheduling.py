"""Which worker gets what, when, and how much of it at once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from driver import LONG, SHORT, Driver, Recorder, only
from mpitasks.scheduler import policy
from mpitasks.scheduler.available_workers import CREDIT
from mpitasks.scheduler.events import (
    Assign,
    Task,
    WorkerJoined,
)


def _assigned(actions: Iterable[object]) -> list[Task]:
    return [task for action in only(Assign, actions) for task in action.tasks]


# Order.


def test_priority_goes_first_then_first_come() -> None:
    driver = Driver()
    low, high = driver.tasks(2), driver.tasks(2, priority=3)
    lowest = driver.task(priority=-1)
    driver.submit(lowest, *low, *high)
    order = _assigned(driver.handle(WorkerJoined(0)))
    while driver.batches[0]:
        order += _assigned(driver.finish(0, seconds=LONG))
    assert order == [*high, *low, lowest]


def test_a_bulk_job_takes_its_turn_by_priority() -> None:
    driver = Driver()
    task = driver.task()
    low, high = Recorder(), Recorder(priority=1)
    driver.extend(low, 1)
    driver.submit(task)
    driver.extend(high, 1)
    order = _assigned(driver.handle(WorkerJoined(0)))
    while driver.batches[0]:
        order += _assigned(driver.finish(0, seconds=LONG))
    assert order == [*high.chunks, *low.chunks, task]


def test_an_emptied_bulk_job_goes_to_the_end_when_it_is_extended() -> None:
    driver = Driver(workers=1)
    bulk, task = Recorder(), driver.task()
    driver.extend(bulk, 1)
    driver.submit(task)
    driver.extend(bulk, 1)
    assert _assigned(driver.finish(0, seconds=LONG)) == [task]
    assert _assigned(driver.finish(0, seconds=LONG)) == [bulk.chunks[1]]


def test_the_worker_that_became_idle_last_is_taken_first() -> None:
    driver = Driver(workers=3)
    driver.submit(*driver.tasks(3))
    for rank in (2, 0, 1):
        driver.finish(rank, seconds=LONG)
    ranks = [only(Assign, driver.submit(driver.task()))[0].rank for _ in range(3)]
    assert ranks == [1, 0, 2]


def test_an_idle_worker_goes_before_one_with_a_short_batch() -> None:
    driver = Driver(workers=2)
    driver.learn(0, SHORT)
    ranks = [only(Assign, driver.submit(driver.task()))[0].rank for _ in range(4)]
    assert sorted(ranks[:2]) == [0, 1]
    assert sorted(ranks[2:]) == [0, 1]


# Batches.


def test_a_function_of_unknown_length_goes_alone() -> None:
    driver = Driver(workers=2)
    actions = driver.submit(*driver.tasks(100))
    assert [len(action.tasks) for action in only(Assign, actions)] == [1, 1]


def test_a_function_of_unknown_length_does_not_join_a_batch() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    known, unknown = driver.tasks(3), driver.task(function=1)
    driver.submit(*known, unknown, *driver.tasks(50))
    first, second = only(Assign, driver.handle(WorkerJoined(0)))
    assert first.tasks == known
    assert second.tasks == [unknown]


def test_a_bulk_job_of_unknown_length_starts_with_one_item() -> None:
    driver = Driver(workers=2)
    bulk = Recorder()
    driver.extend(bulk, 100)
    assert [chunk.count for chunk in bulk.chunks] == [1, 1]


def test_known_functions_share_a_batch() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    driver.learn(1, SHORT)
    tasks = [driver.task(function=at % 2) for at in range(20)]
    driver.submit(*tasks)
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert first.tasks == tasks[: len(first.tasks)]
    assert {task.function for task in first.tasks} == {0, 1}


def test_a_long_task_does_not_join_a_batch_of_short_ones() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    driver.learn(1, LONG)
    short, long = driver.tasks(2), driver.task(function=1)
    driver.submit(*short, long, *driver.tasks(50))
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert first.tasks == short


def test_a_short_task_does_not_join_the_batch_of_a_long_one() -> None:
    driver = Driver()
    driver.learn(0, SHORT)
    driver.learn(1, LONG)
    long = driver.task(function=1)
    driver.submit(long, *driver.tasks(50))
    assert [a.tasks for a in only(Assign, driver.handle(WorkerJoined(0)))] == [[long]]


def test_a_batch_is_as_long_as_wanted() -> None:
    driver = Driver()
    driver.learn(0, policy.BATCH_SECONDS / 10.5)
    driver.submit(*driver.tasks(1000))
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert len(first.tasks) == 10


def test_a_batch_takes_one_more_task_if_that_fits() -> None:
    driver = Driver()
    driver.learn(0, policy.BATCH_SECONDS / 4.1)
    driver.learn(1, policy.BATCH_SECONDS / 2.1)
    tasks = [*driver.tasks(2), *driver.tasks(50, function=1)]
    driver.submit(*tasks)
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert first.tasks == tasks[:3]


def test_a_batch_has_a_largest_number_of_tasks() -> None:
    driver = Driver()
    driver.learn(0, 0.0)
    driver.submit(*driver.tasks(policy.BATCH_TASKS * 5))
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert len(first.tasks) == policy.BATCH_TASKS


def test_a_batch_of_many_functions_has_a_largest_number_of_tasks() -> None:
    driver = Driver()
    driver.learn(0, 0.0)
    driver.learn(1, 0.0)
    driver.submit(*[driver.task(function=at % 2) for at in range(5000)])
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert len(first.tasks) == policy.BATCH_TASKS


def test_a_chunk_may_have_more_items_than_a_batch_has_tasks() -> None:
    driver = Driver()
    driver.learn(0, 0.0)
    bulk = Recorder()
    driver.extend(bulk, 1_000_000)
    driver.handle(WorkerJoined(0))
    assert bulk.chunks[0].count > policy.BATCH_TASKS


def test_a_batch_is_as_large_as_a_message() -> None:
    driver = Driver()
    driver.learn(0, 0.0)
    driver.submit(*driver.tasks(100, nbytes=policy.BATCH_BYTES // 4))
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert len(first.tasks) == 4


def test_a_full_message_takes_no_other_function() -> None:
    driver = Driver()
    driver.learn(0, 0.0)
    driver.learn(1, 0.0)
    large = driver.task(nbytes=policy.BATCH_BYTES)
    driver.submit(large, *driver.tasks(50, function=1))
    assert only(Assign, driver.handle(WorkerJoined(0)))[0].tasks == [large]


def test_large_results_make_small_batches() -> None:
    driver = Driver()
    driver.learn(0, 0.0, nbytes=policy.BATCH_BYTES // 2)
    driver.submit(*driver.tasks(100))
    first = only(Assign, driver.handle(WorkerJoined(0)))[0]
    assert len(first.tasks) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_shares_shrink_towards_the_end(workers: int) -> None:
    driver = Driver()
    seconds = policy.LEAST_SECONDS / 10
    driver.learn(0, seconds)
    bulk = Recorder()
    driver.extend(bulk, 1000)
    for rank in range(workers):
        driver.handle(WorkerJoined(rank))
    while any(driver.batches.values()):
        rank = max(driver.batches, key=lambda rank: len(driver.batches[rank]))
        driver.finish(rank, seconds=seconds)
    counts = [chunk.count for chunk in bulk.chunks]
    assert sum(counts) == 1000
    assert counts[workers:] == sorted(counts[workers:], reverse=True)
    assert counts[-1] <= 10
    assert counts[-2] in (10, 9)  # never less than `LEAST_SECONDS`, but for the rest
    assert len(counts) > 4 * workers


def test_a_fixed_chunksize_is_kept() -> None:
    driver = Driver(workers=2)
    bulk = Recorder(chunksize=7)
    driver.extend(bulk, 30)
    while any(driver.batches.values()):
        driver.finish(0 if driver.batches[0] else 1, seconds=SHORT)
    assert [chunk.count for chunk in bulk.chunks] == [7, 7, 7, 7, 2]


# Credit.


def test_a_short_batch_is_followed_by_one_sent_ahead() -> None:
    driver = Driver(workers=1)
    driver.learn(0, policy.PREFETCH_SECONDS / 2)
    driver.submit(driver.task())
    assert _assigned(driver.submit(driver.task()))


def test_nothing_waits_behind_a_long_task() -> None:
    driver = Driver(workers=1)
    driver.learn(0, policy.PREFETCH_SECONDS * 1.01)
    driver.submit(driver.task())
    assert _assigned(driver.submit(driver.task())) == []


# Of lengths of which no two go into one batch.
DEEP = [policy.BATCH_SECONDS * 0.51, policy.DEEP_PREFETCH_SECONDS]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seconds", DEEP)
def test_a_batch_follows_a_longer_one_only_while_the_queue_is_deep(
    seconds: float, workers: int
) -> None:
    driver = Driver(workers)
    driver.learn(0, seconds)
    for _ in range(workers):
        driver.submit(driver.task())
    for _ in range(policy.DEEP_QUEUE * workers):
        assert _assigned(driver.submit(driver.task())) == []
    assert not driver.has_capacity
    first = only(Assign, driver.submit(driver.task()))
    assert [(send.rank, len(send.tasks)) for send in first] == [(workers - 1, 1)]
    assert driver.scheduler.statistics().queued == policy.DEEP_QUEUE * workers


def test_the_worker_with_the_oldest_longer_batch_is_sent_one_ahead_first() -> None:
    driver = Driver(workers=3)
    driver.learn(0, policy.DEEP_PREFETCH_SECONDS)
    driver.submit(*driver.tasks(3))
    for rank in (1, 2, 0):
        driver.finish(rank, seconds=policy.DEEP_PREFETCH_SECONDS)
        driver.submit(driver.task())
    sends = only(Assign, driver.submit(*driver.tasks(8)))
    assert [send.rank for send in sends] == [1, 2]


def test_nothing_follows_a_long_task_however_deep_the_queue() -> None:
    driver = Driver(workers=2)
    driver.learn(0, policy.DEEP_PREFETCH_SECONDS * 1.01)
    assert len(_assigned(driver.submit(*driver.tasks(1000)))) == 2


def test_a_short_batch_is_followed_before_a_longer_one() -> None:
    driver = Driver(workers=2)
    driver.learn(0, policy.PREFETCH_SECONDS * 2)
    driver.learn(1, policy.PREFETCH_SECONDS / 2)
    (longer,) = only(Assign, driver.submit(driver.task()))
    (short,) = only(Assign, driver.submit(driver.task(function=1)))
    sends = only(Assign, driver.submit(*driver.tasks(50)))
    assert [send.rank for send in sends] == [short.rank, longer.rank]


def test_nothing_waits_behind_a_task_of_unknown_length() -> None:
    driver = Driver(workers=1)
    driver.learn(1, SHORT)
    driver.submit(driver.task())
    assert _assigned(driver.submit(driver.task(function=1))) == []


def test_a_worker_holds_two_batches_at_most() -> None:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    for _ in range(10):
        driver.submit(driver.task())
    assert len(driver.batches[0]) == CREDIT == 2


def test_a_finished_batch_makes_room_for_another() -> None:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    for _ in range(10):
        driver.submit(driver.task())
    driver.finish(0)
    assert len(driver.batches[0]) == 2


def test_no_batch_follows_when_the_one_sent_ahead_is_long() -> None:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    driver.learn(1, LONG)
    driver.submit(driver.task())
    long = driver.task(function=1)
    assert _assigned(driver.submit(long)) == [long]
    driver.submit(driver.task())
    assert _assigned(driver.finish(0)) == []
    assert driver.scheduler.statistics().queued == 1


def test_a_short_task_waits_for_company_while_others_run() -> None:
    driver = Driver(workers=2)
    driver.learn(0, SHORT)
    assert driver.scheduler.wants(driver.task())
    task = driver.task()
    driver.submit(task)
    assert not driver.scheduler.wants(driver.task())
    assert driver.scheduler.wants(driver.task(function=1))
    assert [driver.scheduler.held(rank) for rank in (0, 1, 2)] == [[], [task], []]


@pytest.mark.parametrize(("factor", "waits"), [(1.0, True), (1.01, False)])
def test_a_short_task_is_one_of_so_little_work(factor: float, *, waits: bool) -> None:
    driver = Driver(workers=2)
    profile = policy.Profile(1, policy.LEAST_SECONDS * factor, 0)
    driver.scheduler._profiles[0] = profile
    driver.submit(driver.task())
    assert driver.scheduler.wants(driver.task()) is not waits
