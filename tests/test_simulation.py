"""What the scheduler's choices add up to, in simulated time."""

from __future__ import annotations

import gc
import heapq
import random
import types
import weakref
from collections.abc import Sequence

import pytest

from mpitasks.scheduler.events import (
    BulkCancelled,
    BulkExtended,
    CancelRequested,
    Task,
    TasksSubmitted,
)
from mpitasks.scheduler.policy import (
    BATCH_SECONDS,
    DEEP_PREFETCH_SECONDS,
    DEEP_QUEUE,
    PREFETCH_SECONDS,
)
from mpitasks.scheduler.scheduler import Scheduler
from simulation import Simulation, TimedBulk, TimedTask

ROUND_TRIP = 13e-6


def _run(simulation: Simulation, items: int) -> float:
    """Run to the end and return the makespan."""
    makespan = simulation.run()
    simulation.scheduler.check()
    assert simulation.done == items
    assert simulation.scheduler.outstanding == 0
    return makespan


@pytest.mark.parametrize("workers", [1, 2, 7, 32])
def test_uniform_short_calls_keep_all_workers_busy(workers: int) -> None:
    seconds, count = 50e-6, 20_000
    simulation = Simulation(workers)
    simulation.submit([seconds] * count)
    makespan = _run(simulation, count)
    assert makespan < seconds * count / workers * 1.05 + 10 * BATCH_SECONDS / workers


@pytest.mark.parametrize("workers", [1, 2, 7, 32])
def test_uniform_short_items_keep_all_workers_busy(workers: int) -> None:
    seconds, count = 5e-6, 200_000
    simulation = Simulation(workers)
    simulation.extend([seconds] * count)
    makespan = _run(simulation, count)
    assert makespan < seconds * count / workers * 1.05 + 10 * BATCH_SECONDS / workers


def test_short_items_need_few_messages() -> None:
    seconds, count = 1e-6, 1_000_000
    simulation = Simulation(4)
    simulation.extend([seconds] * count)
    _run(simulation, count)
    assert simulation.messages < 3 * seconds * count / BATCH_SECONDS


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize(("workers", "count"), [(4, 4), (4, 8), (3, 10), (8, 5)])
def test_few_long_tasks_are_spread_evenly(
    workers: int, count: int, *, bulk: bool
) -> None:
    simulation = Simulation(workers)
    (simulation.extend if bulk else simulation.submit)([1.0] * count)
    rounds = -(-count // workers)
    assert _run(simulation, count) == pytest.approx(rounds, rel=1e-3)


def _most_held(seconds: float, count: int, *, bulk: bool) -> int:
    """Run tasks of a known length on four workers; return what one held at most."""
    most = 0

    def watch(rank: int, held: Sequence[Task], idle: int) -> None:
        nonlocal most
        most = max(most, sum(task.count for task in held))

    simulation = Simulation(4, watch=watch)
    give = simulation.extend if bulk else simulation.submit
    give([seconds] * 4)
    _run(simulation, 4)
    give([seconds] * count)
    _run(simulation, 4 + count)
    return most


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize(
    ("seconds", "count", "most"),
    [
        (BATCH_SECONDS * 0.6, 4 + 4 * DEEP_QUEUE, 1),
        (BATCH_SECONDS * 0.6, 4 + 4 * DEEP_QUEUE + 1, 2),
        (DEEP_PREFETCH_SECONDS * 0.98, 4 + 4 * DEEP_QUEUE, 1),
        (DEEP_PREFETCH_SECONDS * 0.98, 4 + 4 * DEEP_QUEUE + 1, 2),
        (DEEP_PREFETCH_SECONDS * 1.02, 500, 1),
        (30.0, 500, 1),
    ],
)
def test_a_task_waits_behind_a_longer_one_only_while_the_queue_is_deep(
    seconds: float, count: int, most: int, *, bulk: bool
) -> None:
    assert _most_held(seconds, count, bulk=bulk) == most


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("seconds", [0.005, 0.045])
def test_workers_need_not_wait_for_tasks_of_middle_length(
    seconds: float, *, bulk: bool
) -> None:
    workers, count, latency = 3, 300, 2e-3
    simulation = Simulation(workers, latency=latency)
    (simulation.extend if bulk else simulation.submit)([seconds] * count)
    optimum = seconds * count / workers
    # But at the first, and at the last, for which nobody waits in the queue.
    waits = 2 * latency * (2 + DEEP_QUEUE)
    assert _run(simulation, count) <= optimum + seconds + waits


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_sent_ahead_does_not_unbalance(seed: int, *, bulk: bool) -> None:
    chance = random.Random(seed)
    workers, longest = 6, DEEP_PREFETCH_SECONDS
    seconds = [chance.uniform(PREFETCH_SECONDS, longest) for _ in range(200)]
    simulation = Simulation(workers)
    (simulation.extend if bulk else simulation.submit)(seconds)
    makespan = _run(simulation, len(seconds))
    assert makespan <= sum(seconds) / workers + longest + 1e-3


# Giving back.


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("workers", range(2, 9))
def test_long_tasks_that_looked_short_are_spread(workers: int, *, bulk: bool) -> None:
    seconds = [1e-6] * 3000 + [0.3] * 12
    backoff = 0.05
    simulation = Simulation(workers, backoff=backoff)
    (simulation.extend if bulk else simulation.submit)(seconds)
    makespan = _run(simulation, len(seconds))
    assert simulation.returned
    best = -(-12 // workers) * 0.3
    # One after the other takes what is left, finds it long, and gives it back.
    assert makespan <= best + (workers - 1) * backoff + 0.01


def _log_normal(seed: int, count: int) -> list[float]:
    chance = random.Random(seed)
    return [1e-3 * chance.lognormvariate(0, 2) for _ in range(count)]


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("workers", "count"), [(2, 5000), (4, 20_000)])
def test_a_long_list_of_heavy_tail_ends_close_to_the_best_possible(
    workers: int, count: int, seed: int, *, bulk: bool
) -> None:
    seconds = _log_normal(seed, count)
    simulation = Simulation(workers)
    (simulation.extend if bulk else simulation.submit)(seconds)
    best = max(sum(seconds) / workers, max(seconds))
    assert _run(simulation, len(seconds)) <= best * 1.05
    assert simulation.returned


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("workers", [2, 5, 16])
def test_a_heavy_tail_is_balanced_as_if_items_went_one_by_one(
    workers: int, seed: int, *, bulk: bool
) -> None:
    seconds = _log_normal(seed, 5000)
    free = [0.0] * workers
    for length in seconds:
        heapq.heapreplace(free, free[0] + length)
    simulation = Simulation(workers)
    (simulation.extend if bulk else simulation.submit)(seconds)
    assert _run(simulation, len(seconds)) <= max(free) * 1.05


@pytest.mark.parametrize("seed", range(5))
def test_no_item_is_run_twice_or_never(seed: int) -> None:
    chance = random.Random(seed)
    simulation = Simulation(chance.randint(1, 8))
    total = 0.0
    for function in range(3):
        count = chance.randint(1, 800)
        length = chance.choice([1e-6, 1e-4, 0.2])
        seconds = [chance.expovariate(1 / length) for _ in range(count)]
        for at in range(0, count, 50):
            seconds[at] = 0.3
        give = simulation.extend if chance.random() < 0.5 else simulation.submit
        give(seconds, function=function)
        total += sum(seconds)
    simulation.run()
    assert simulation.scheduler.outstanding == 0
    assert sum(simulation.busy) == pytest.approx(total)


@pytest.mark.parametrize("seed", range(5))
def test_no_two_long_tasks_on_one_worker_while_another_is_idle(seed: int) -> None:
    chance = random.Random(seed)
    offences = []

    def watch(rank: int, held: Sequence[Task], idle: int) -> None:
        long = sum(task.function == 1 for task in held)
        if idle and long > 1:
            offences.append((rank, long, idle))

    simulation = Simulation(6, watch=watch)
    for _ in range(40):
        short = chance.random() < 0.6
        seconds = [2e-5 if short else 1.0] * chance.randint(1, 9)
        simulation.submit(seconds, function=0 if short else 1)
    simulation.run()
    assert simulation.scheduler.outstanding == 0
    assert offences == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bulk", [False, True])
def test_mixed_lengths_end_within_the_longest_of_the_optimum(
    seed: int, *, bulk: bool
) -> None:
    chance = random.Random(seed)
    workers = 5
    seconds = [chance.expovariate(1 / 0.05) for _ in range(400)]
    simulation = Simulation(workers)
    (simulation.extend if bulk else simulation.submit)(seconds)
    optimum = sum(seconds) / workers
    slack = max(seconds) + len(seconds) * ROUND_TRIP
    assert _run(simulation, len(seconds)) <= optimum + slack


def test_a_report_halfway_changes_nothing_in_the_end() -> None:
    makespans = []
    for flush in (1e-4, 1.0):
        simulation = Simulation(3, flush=flush)
        simulation.submit([2e-4] * 3000)
        makespans.append(_run(simulation, 3000))
    assert makespans[0] == pytest.approx(makespans[1], rel=0.02)


@pytest.mark.parametrize("bulk", [False, True])
def test_nothing_of_a_task_is_left_when_it_is_done(*, bulk: bool) -> None:
    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, Task) for each in gc.get_objects())

    before = alive()
    simulation = Simulation(3)
    (simulation.extend if bulk else simulation.submit)([1e-4] * 1000)
    assert alive() > before
    _run(simulation, 1000)
    assert alive() == before


@pytest.mark.parametrize("order", [1, -1])
def test_nothing_of_a_cancelled_task_is_left(order: int) -> None:
    scheduler = Scheduler()
    tasks = [TimedTask(at, 0, [1.0]) for at in range(10)]
    alive = weakref.WeakSet(tasks)
    scheduler.handle(TasksSubmitted(tasks), 0.0)
    for task in tasks[::order]:
        scheduler.handle(CancelRequested([task]), 0.0)
    del tasks, task
    gc.collect()
    assert len(alive) == 0


def test_nothing_of_a_cancelled_bulk_job_is_left() -> None:
    class Job(TimedBulk):
        """Can be referred to weakly."""

    scheduler = Scheduler()
    job = Job(0, [1.0] * 10)
    alive = weakref.ref(job)
    scheduler.handle(BulkExtended(job, 10), 0.0)
    scheduler.handle(BulkCancelled(job), 0.0)
    del job
    gc.collect()
    assert alive() is None


def test_the_scheduler_is_as_small_after_many_tasks_as_after_few() -> None:
    def footprint(count: int) -> int:
        simulation = Simulation(3)
        simulation.submit([1e-4] * count)
        simulation.extend([1e-4] * count)
        _run(simulation, 2 * count)
        gc.collect()
        return _reachable(simulation.scheduler)

    assert footprint(4000) == footprint(400)


def _reachable(root: object) -> int:
    """Count the instances that hang on an object; not what their classes hold."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        part = todo.pop()
        if id(part) in seen or isinstance(part, (type, types.ModuleType)):
            continue
        if isinstance(part, (types.FunctionType, types.BuiltinFunctionType)):
            continue
        seen.add(id(part))
        todo += gc.get_referents(part)
    return len(seen)
