"""Near the job's end: what is started, and what is not, in simulated time."""

from __future__ import annotations

import pytest

from driver import Driver, only
from mpitasks.scheduler.events import (
    Assign,
    Bulk,
    CancelRequested,
    Cost,
    DrainRequested,
    EndSet,
    QueueCancelled,
    RankLost,
    TasksSubmitted,
    TaskState,
)
from mpitasks.scheduler.job_end import FORGETTING, KNOWN_FUNCTIONS, JobEnd
from mpitasks.scheduler.policy import ReadyQueue
from mpitasks.task_spec import TaskSpec
from simulation import Simulation


def test_nothing_ends_after_the_end() -> None:
    simulation = Simulation(4)
    simulation.handle(EndSet(10.5))
    simulation.submit([1.0] * 1000)
    assert simulation.run() <= 10.5
    assert simulation.done == 40  # nobody was idle before
    assert simulation.scheduler.stranded
    assert simulation.scheduler.outstanding == 960


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("seconds", [1e-5, 1e-3, 0.03])
def test_short_tasks_use_the_time_up(seconds: float, *, bulk: bool) -> None:
    left = 0.1 if seconds < 1e-4 else 0.5
    count = int(4 * left / seconds)
    simulation = Simulation(2)
    simulation.handle(EndSet(left))
    (simulation.extend if bulk else simulation.submit)([seconds] * count)
    end = simulation.run()
    # A batch of short ones counts as one item of it.
    assert end <= left + 0.02
    assert simulation.done >= 2 * left / seconds * 0.9 - 4
    assert simulation.scheduler.stranded


def test_shorter_ones_pass_what_does_not_fit() -> None:
    simulation = Simulation(2)
    simulation.submit([3.0] * 2, function=1)
    simulation.submit([0.1] * 2, function=2)
    simulation.run()
    simulation.handle(EndSet(simulation.now + 1.0))
    simulation.submit([3.0] * 10, function=1)
    simulation.submit([0.1] * 10, function=2)
    began = simulation.now
    simulation.run()
    assert simulation.done == 14
    assert simulation.now - began == pytest.approx(0.5, rel=1e-3)
    assert simulation.scheduler.stranded


def test_a_later_end_brings_back_what_did_not_fit() -> None:
    simulation = Simulation(2)
    simulation.submit([9.0] * 2, function=1)
    simulation.submit([3.0] * 2, function=2)
    simulation.run()
    simulation.handle(EndSet(simulation.now + 1.0))
    simulation.submit([9.0] * 4, function=1)
    simulation.submit([3.0] * 4, function=2)
    simulation.run()
    assert simulation.done == 4
    assert simulation.scheduler.stranded
    simulation.handle(EndSet(simulation.now + 7.0))
    simulation.run()
    assert simulation.done == 8  # those behind what does not fit yet, too
    simulation.handle(EndSet(simulation.now + 100.0))
    simulation.run()
    assert simulation.done == 12


def test_what_was_never_measured_may_start_before_the_end() -> None:
    driver = Driver(1)
    driver.handle(EndSet(100.0))
    assert only(Assign, driver.submit(driver.task()))
    driver = Driver(1)
    driver.handle(EndSet(1.0))  # the driver's clock is past that
    assert not only(Assign, driver.submit(driver.task()))
    assert driver.scheduler.stranded


def test_to_end_at_the_end_is_in_time() -> None:
    task = Driver().task()
    ending = JobEnd({})
    ending.at = 100.0
    assert ending.fits(task, 100.0)
    assert not ending.fits(task, 100.5)
    ending.observe([Cost(task.function, 2, 3.0, 0)])
    assert ending.fits(task, 98.5)
    assert not ending.fits(task, 98.75)
    assert ending.fits(
        Driver().task(task_spec=TaskSpec(timeout=60.0)), 98.5
    )  # measured


def test_the_timeout_stands_in_for_a_measure() -> None:
    driver = Driver(1)
    driver.handle(EndSet(50.0))
    tasks = driver.tasks(2, task_spec=TaskSpec(timeout=60.0))
    assert not only(Assign, driver.submit(*tasks))
    [assign] = only(Assign, driver.submit(driver.task(function=1)))
    assert assign.tasks[0].function == 1
    driver.finish(assign.rank)
    assert driver.scheduler.stranded


def test_draining_starts_nothing_and_lets_the_running_finish() -> None:
    driver = Driver(2)
    tasks = driver.tasks(10)
    driver.submit(*tasks)
    driver.handle(DrainRequested())
    assert not only(Assign, driver.submit(*driver.tasks(3)))
    assert not driver.scheduler.stranded
    for rank in list(driver.batches):
        while driver.batches[rank]:
            assert not only(Assign, driver.finish(rank))
    assert driver.scheduler.stranded
    counts = driver.scheduler.statistics()
    assert (counts.succeeded, counts.queued, counts.assigned) == (2, 11, 0)


def test_what_comes_back_while_draining_stays() -> None:
    driver = Driver(1)
    driver.submit(driver.task())
    driver.finish(0)
    bulk = Bulk(0)
    driver.extend(bulk, 8)
    driver.handle(DrainRequested())
    held = sum(task.count for batch in driver.batches[0] for task in batch)
    assert not only(Assign, driver.give_back(0, keep=1))
    driver.finish(0)
    while driver.batches[0]:
        driver.finish(0)
    assert held > 1
    assert driver.scheduler.statistics().queued == 7
    assert driver.scheduler.stranded


def test_set_aside_is_looked_at_again() -> None:
    """One slow call at the start does not count for ever."""
    driver = Driver(1)
    driver.handle(EndSet(1000.0))
    driver.submit(driver.task(function=0), driver.task(function=1))
    driver.finish(0, seconds=2000.0)
    driver.submit(*driver.tasks(3, function=0))
    driver.finish(0)
    assert driver.scheduler.stranded
    driver.report(0, [], costs=[Cost(0, 1, 1.0)] * 20)
    assert driver.batches[0]
    assert not driver.scheduler.stranded


def test_what_is_set_aside_can_be_cancelled() -> None:
    driver = Driver(1)
    driver.handle(EndSet(0.0))
    first, *rest = tasks = driver.tasks(4)
    driver.submit(*tasks)
    driver.extend(Bulk(1, priority=9), 5)
    assert driver.scheduler.outstanding == 9
    driver.handle(CancelRequested([first]))
    assert driver.scheduler.outstanding == 8
    driver.handle(QueueCancelled())
    assert driver.scheduler.outstanding == 0
    assert not driver.scheduler.stranded
    assert {task.state for task in tasks} == {TaskState.CANCELLED}
    assert len(rest) == 3


def test_what_is_set_aside_fails_with_the_last_worker() -> None:
    driver = Driver(1)
    driver.handle(EndSet(0.0))
    tasks = driver.tasks(4)
    driver.submit(*tasks)
    driver.handle(RankLost(0))
    assert {task.state for task in tasks} == {TaskState.FAILED}
    assert not driver.scheduler.stranded


def test_a_later_end_lets_them_go() -> None:
    driver = Driver(1)
    driver.handle(EndSet(0.0))
    driver.submit(*driver.tasks(2))
    assert driver.scheduler.stranded
    driver.handle(EndSet(1e6))
    assert driver.batches[0]


def test_a_chunk_of_fixed_size_counts_as_a_whole() -> None:
    ending = JobEnd({})
    ending.at = 10.0
    ending.observe([Cost(0, 1, 1.0)])
    bulk = Bulk(0, chunksize=8)
    bulk.ready = 100
    assert ending.fits(bulk, 2.0)
    assert not ending.fits(bulk, 2.5)
    bulk.ready = 3
    assert ending.fits(bulk, 7.0)


def test_the_longest_lately_counts() -> None:
    ending = JobEnd({})
    ending.at = 10.0
    task = Driver().task()
    ending.observe([Cost(0, 2, 2.0), Cost(0, 1, 5.0), Cost(0, 1, 1.0)])
    longest = 5.0 - FORGETTING * 4.0
    assert ending.fits(task, 10.0 - longest - 1e-9)
    assert not ending.fits(task, 10.0 - longest + 1e-9)


def test_durations_of_few_functions_are_kept() -> None:
    ending = JobEnd({})
    ending.at = 1.0
    ending.observe([Cost(n, 1, 5.0) for n in range(KNOWN_FUNCTIONS + 1)])
    driver = Driver()
    assert ending.fits(driver.task(function=0), 0.5)  # forgotten
    assert not ending.fits(driver.task(function=KNOWN_FUNCTIONS), 0.5)


def test_many_that_do_not_fit_are_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    fits = JobEnd.fits

    def counted(self: JobEnd, *args: object) -> bool:
        nonlocal looks
        looks += 1
        return fits(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(JobEnd, "fits", counted)
    driver = Driver(1)
    driver.handle(EndSet(0.0))
    driver.handle(TasksSubmitted(driver.tasks(1000)))
    for _ in range(100):
        driver.submit(driver.task())
    assert looks < 1000 + 5 * 100


def test_of_nothing_nothing_can_be_finished() -> None:
    assert not JobEnd({}).choose(ReadyQueue(), 0.0)
