"""The pure choices: durations learnt, batches sized, order of the queue."""

from __future__ import annotations

from typing import Any

import pytest

from mpitasks.scheduler import policy
from mpitasks.scheduler.events import Bulk, Cost, Task, TaskState
from mpitasks.scheduler.policy import Profile, Profiles, ReadyQueue, batch_share


def _queued(*tasks: Task) -> list[Task]:
    for task in tasks:
        task.state = TaskState.QUEUED
    return list(tasks)


def _task(id: int, function: int = 0, **attributes: Any) -> Task:
    return _queued(Task(id, function, **attributes))[0]


# Profiles.


def _profile(*costs: Cost) -> Profile:
    profiles = Profiles()
    for cost in costs:
        profiles.observe(cost)
    profile = profiles.get(costs[0].function)
    assert profile is not None
    return profile


def test_a_profile_starts_with_the_first_report() -> None:
    profile = _profile(Cost(0, 4, 2.0, 400))
    assert (profile.seconds, profile.nbytes, profile.largest) == (0.5, 100.0, 4)


def test_a_profile_moves_towards_new_reports() -> None:
    profile = _profile(Cost(0, 1, 1.0, 100), Cost(0, 2, 4.0, 0))
    assert profile.seconds == pytest.approx(1.0 + policy.SMOOTHING * (2.0 - 1.0))
    assert profile.nbytes == pytest.approx(100 - policy.SMOOTHING * 100)
    assert profile.largest == 2


def test_a_smaller_report_leaves_the_largest() -> None:
    assert _profile(Cost(0, 5, 1.0), Cost(0, 2, 1.0)).largest == 5


def test_a_batch_grows_only_so_fast_past_what_was_measured() -> None:
    assert _profile(Cost(0, 3, 0.0)).batch_items() == 3 * policy.GROWTH


def test_a_batch_is_as_long_as_wanted() -> None:
    seconds = policy.BATCH_SECONDS / 10.5
    assert _profile(Cost(0, 100, 100 * seconds)).batch_items() == 10


def test_a_batch_is_as_large_as_wanted() -> None:
    nbytes = policy.BATCH_BYTES // 4
    assert _profile(Cost(0, 100, 0.0, 100 * nbytes)).batch_items() == 4


@pytest.mark.parametrize("cost", [Cost(0, 1, 60.0), Cost(0, 1, 0.0, 1 << 40)])
def test_a_batch_has_one_item_at_least(cost: Cost) -> None:
    assert _profile(cost).batch_items() == 1


def test_profiles_are_kept_by_function() -> None:
    profiles = Profiles()
    assert profiles.get(1) is None
    profiles.observe(Cost(1, 1, 1.0))
    profiles.observe(Cost(2, 1, 5.0))
    profiles.observe(Cost(1, 1, 1.0))
    first, second = profiles.get(1), profiles.get(2)
    assert first is not None
    assert second is not None
    assert (first.seconds, second.seconds) == (1.0, 5.0)


def test_the_longest_known_function_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy, "KNOWN_FUNCTIONS", 2)
    profiles = Profiles()
    for function in (1, 2, 3):
        profiles.observe(Cost(function, 1, 1.0))
    assert profiles.get(1) is None
    assert profiles.get(2) is not None
    assert profiles.get(3) is not None


# Shares.


@pytest.mark.parametrize(
    ("ready", "workers", "share"),
    [(0, 1, 1), (1, 1, 1), (8, 1, 5), (800, 4, 101), (3, 100, 1)],
)
def test_a_share_is_half_of_an_even_split(ready: int, workers: int, share: int) -> None:
    assert batch_share(ready, workers) == share


@pytest.mark.parametrize("workers", [1, 2, 7, 64])
def test_shares_shrink_to_one_and_use_the_queue_up(workers: int) -> None:
    ready = 10_000
    shares = []
    while ready:
        share = batch_share(ready, workers)
        assert 1 <= share <= ready
        shares.append(share)
        ready -= share
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 1


# The queue.


def test_an_empty_queue_has_no_head() -> None:
    queue = ReadyQueue()
    assert queue.head() is None
    assert queue.items == 0


def test_priority_goes_first_then_first_come() -> None:
    queue = ReadyQueue()
    low, high, second = _task(0), _task(1, priority=5), _task(2, priority=5)
    lowest, another = _task(3, priority=-1), _task(4)
    queue.add_tasks([low, high, second, lowest, another])
    order = []
    while (head := queue.head()) is not None:
        order.append(head)
        queue.drop_head()
    assert order == [high, second, low, another, lowest]


def test_a_level_that_was_used_up_can_be_used_again() -> None:
    queue = ReadyQueue()
    first, second = _task(0, priority=1), _task(1, priority=1)
    queue.add_tasks([first])
    assert queue.take_calls(0, 1) == [first]
    assert queue.head() is None
    queue.add(second, 1)
    assert queue.head() is second


def test_a_bulk_job_is_the_head_as_long_as_it_has_items() -> None:
    queue = ReadyQueue()
    bulk = Bulk(0)
    bulk.ready = 2
    queue.add(bulk, 2)
    task = _task(0)
    queue.add_tasks([task])
    assert queue.items == 3
    assert queue.head() is bulk
    assert queue.head() is bulk
    bulk.ready = 0
    assert queue.head() is task


def test_cancelled_tasks_are_passed_over() -> None:
    queue = ReadyQueue()
    gone, task = _task(0), _task(1)
    queue.add_tasks([gone, task])
    gone.state = TaskState.CANCELLED
    assert queue.head() is task


def test_a_run_ends_at_its_limit() -> None:
    queue = ReadyQueue()
    tasks = [_task(id) for id in range(5)]
    queue.add_tasks(tasks)
    assert queue.take_calls(0, 3) == tasks[:3]
    assert queue.items == 2


def test_a_run_ends_at_another_function() -> None:
    queue = ReadyQueue()
    tasks = [_task(0), _task(1), _task(2, 9), _task(3)]
    queue.add_tasks(tasks)
    assert queue.take_calls(0, 10) == tasks[:2]
    assert queue.head() is tasks[2]


def test_a_run_ends_at_a_bulk_job_of_the_same_function() -> None:
    queue = ReadyQueue()
    task, bulk = _task(0), Bulk(0)
    bulk.ready = 1
    queue.add_tasks([task])
    queue.add(bulk, 1)
    assert queue.take_calls(0, 10) == [task]
    assert queue.head() is bulk


def test_a_run_ends_at_a_lower_priority() -> None:
    queue = ReadyQueue()
    high, low = _task(0, priority=1), _task(1)
    queue.add_tasks([low, high])
    assert queue.head() is high
    assert queue.take_calls(0, 10) == [high]


def test_a_run_ends_when_the_message_is_full() -> None:
    queue = ReadyQueue()
    half = policy.BATCH_BYTES // 2
    tasks = [_task(id, nbytes=half) for id in range(5)]
    queue.add_tasks(tasks)
    assert queue.take_calls(0, 10) == tasks[:2]


def test_one_task_larger_than_a_message_is_taken_alone() -> None:
    queue = ReadyQueue()
    tasks = [_task(id, nbytes=policy.BATCH_BYTES * 3) for id in range(2)]
    queue.add_tasks(tasks)
    assert queue.take_calls(0, 10) == tasks[:1]


def test_a_run_skips_cancelled_tasks() -> None:
    queue = ReadyQueue()
    tasks = [_task(id) for id in range(4)]
    queue.add_tasks(tasks)
    tasks[1].state = TaskState.CANCELLED
    queue.items -= 1
    assert queue.take_calls(0, 10) == [tasks[0], tasks[2], tasks[3]]
    assert queue.items == 0


def test_too_little_work_is_not_shared_out_further() -> None:
    seconds = policy.LEAST_SECONDS / 10
    assert _profile(Cost(0, 100, 100 * seconds)).least_items() in (9, 10)
    assert _profile(Cost(0, 4, 4 * seconds)).least_items() == 4
    assert _profile(Cost(0, 1, 1.0)).least_items() == 0
    assert _profile(Cost(0, 7, 0.0)).least_items() == 7
