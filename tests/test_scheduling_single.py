"""The events of a single task do what those of several tasks do with one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from driver import SHORT, Driver, only
from mpitasks.errors import TransitionError
from mpitasks.records import as_dict
from mpitasks.scheduler.events import (
    Action,
    Assign,
    Complete,
    Cost,
    DrainRequested,
    EndSet,
    Event,
    OutcomesArrived,
    QueueCancelled,
    RunningAbandoned,
    StopRequested,
    Task,
    TasksSubmitted,
    TaskState,
    TaskSubmitted,
    TaskSucceeded,
    WorkerJoined,
    WorkersLimited,
)
from mpitasks.scheduler.policy import SMOOTHING
from mpitasks.task_spec import TaskSpec


def _all_of(driver: Driver) -> tuple[Any, ...]:
    """Return all that a scheduler knows."""
    scheduler = driver.scheduler
    assignments, ending = scheduler._assignments, scheduler._ending
    profiles = {
        function: (profile.seconds, profile.nbytes, profile.largest)
        for function, profile in scheduler._profiles.items()
    }
    queued = [
        entry.id if isinstance(entry, Task) else entry.function
        for level in scheduler._queue._levels.values()
        for entry in level
    ]
    return (
        *driver.snapshot(),
        profiles,
        queued,
        None if ending is None else (ending.at, ending.draining, ending._longest),
        (assignments.hope, assignments.overdue.next, sorted(assignments.overdue.ranks)),
        (scheduler._dated, scheduler.stranded, scheduler._backlog.postponed.items),
    )


def _shown(actions: list[Action]) -> list[Any]:
    """Return actions such that those of two schedulers can be compared."""

    def show(value: Any) -> Any:
        if isinstance(value, Task):
            return value.id, value.state
        return [show(each) for each in value] if isinstance(value, list) else value

    return [
        (type(action), [show(value) for value in as_dict(action).values()])
        for action in actions
    ]


class Twins(RuleBasedStateMachine):
    """The same history for two schedulers; one is told of single tasks by themselves.

    A task has the same id in both, so what they know can be compared. Most histories
    have neither time limits nor an end: with them, work is queued, and a task seldom
    starts at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.several, self.single = Driver(), Driver()
        self.both = (self.several, self.single)
        self.tasks: list[tuple[Task, Task]] = []
        self.joined = 0
        self.limits = self.ends = False

    @property
    def busy(self) -> list[int]:
        batches = self.several.batches
        alive = self.several.scheduler.running_workers()
        return [rank for rank in alive if batches[rank]]

    def happens(self, event: Event) -> None:
        several, single = (driver.handle(event) for driver in self.both)
        assert _shown(several) == _shown(single)

    @initialize(
        workers=st.integers(1, 4), limits=st.integers(0, 4), ends=st.integers(0, 4)
    )
    def begin(self, workers: int, limits: int, ends: int) -> None:
        self.limits, self.ends = limits == 4, ends == 4
        for _ in range(workers):
            self.join()

    @precondition(lambda self: self.joined < 6)
    @rule()
    def join(self) -> None:
        self.joined += 1
        self.happens(WorkerJoined(self.joined - 1))

    @rule(
        function=st.integers(0, 2),
        priority=st.integers(-1, 1),
        task_spec=st.sampled_from(
            [None, None, TaskSpec("named"), TaskSpec(isolate=True)]
        ),
        limited=st.booleans(),
        alone=st.sampled_from([False, False, True]),
    )
    def submit(
        self,
        function: int,
        priority: int,
        task_spec: TaskSpec | None,
        *,
        limited: bool,
        alone: bool,
    ) -> None:
        if limited and self.limits:
            task_spec = TaskSpec(timeout=5.0)
        several, single = (
            driver.task(function, priority=priority, task_spec=task_spec, alone=alone)
            for driver in self.both
        )
        self.tasks.append((several, single))
        starts = self.single.scheduler.starts(single, self.single._now + 1.0)
        idle = self.single.scheduler.idle
        actions = self.several.submit(several)
        assert _shown(self.single.submit_one(single)) == _shown(actions)
        assert starts == (idle and single.state is TaskState.ASSIGNED)

    @precondition(lambda self: self.busy)
    @rule(
        data=st.data(),
        seconds=st.sampled_from([1e-6, 1e-3, 0.5]),
        nbytes=st.sampled_from([0, 1000]),
        fails=st.sampled_from([False, False, True]),
    )
    def finish(
        self, data: st.DataObject, seconds: float, nbytes: int, *, fails: bool
    ) -> None:
        rank = data.draw(st.sampled_from(self.busy))
        batch = self.several.batches[rank][0]
        failed = (0,) if fails and batch else ()
        several = self.several.finish(
            rank, seconds=seconds, nbytes=nbytes, failed=failed
        )
        if len(batch) == 1 and not failed:
            single = self.single.succeed(rank, seconds=seconds, nbytes=nbytes)
        else:
            single = self.single.finish(
                rank, seconds=seconds, nbytes=nbytes, failed=failed
            )
        assert _shown(single) == _shown(several)

    @rule(seconds=st.sampled_from([1.0, 8.0]))
    def wait(self, seconds: float) -> None:
        for driver in self.both:
            driver.wait_until(driver._now + seconds)

    @precondition(lambda self: len(self.tasks) % 8 == 7)
    @rule(count=st.integers(2, 20), function=st.integers(0, 2))
    def submit_many(self, count: int, function: int) -> None:
        for driver in self.both:
            driver.submit(*driver.tasks(count, function))

    @precondition(lambda self: self.limits)
    @rule(delay=st.sampled_from([0.0, 3.0, 30.0]))
    def postpone(self, delay: float) -> None:
        for driver in self.both:
            driver.postpone(driver._now + delay, driver.task())

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        several, single = data.draw(st.sampled_from(self.tasks))
        self.several.revoke(several)
        self.single.revoke(single)

    @rule(isolated=st.booleans())
    def cancel_queue(self, *, isolated: bool) -> None:
        self.happens(QueueCancelled(isolated))

    @precondition(lambda self: any(self.several.batches[rank][0] for rank in self.busy))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        begun = [rank for rank in self.busy if self.several.batches[rank][0]]
        rank = data.draw(st.sampled_from(begun))
        for driver in self.both:
            driver.give_back(rank)

    @rule(count=st.one_of(st.none(), st.integers(1, 3)))
    def limit(self, count: int | None) -> None:
        self.happens(WorkersLimited(count))

    @precondition(lambda self: self.busy and len(self.tasks) % 4 == 3)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        rank = data.draw(st.sampled_from(self.busy))
        for driver in self.both:
            driver.lose(rank)

    @precondition(lambda self: self.ends)
    @rule(seconds=st.sampled_from([5.0, 50.0, 1e6]), drains=st.sampled_from([0, 0, 1]))
    def set_end(self, seconds: float, drains: int) -> None:
        for driver in self.both:
            driver.handle(EndSet(driver._now + seconds))
        if drains:
            self.happens(DrainRequested())

    @precondition(lambda self: len(self.tasks) > 12)
    @rule(stops=st.booleans())
    def stop(self, *, stops: bool) -> None:
        if stops:
            self.happens(StopRequested())
            return
        for driver in self.both:
            ranks = driver.scheduler.running_workers()
            held = [task for rank in ranks for task in driver.scheduler.held(rank)]
            driver.handle(RunningAbandoned(held))

    @invariant()
    def they_agree(self) -> None:
        assert _all_of(self.several) == _all_of(self.single)
        assert self.several._now == self.single._now
        for several, single in self.tasks:
            assert (several.id, several.state) == (single.id, single.state)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=120, stateful_step_count=50)


def test_a_task_goes_to_an_idle_worker_and_comes_back() -> None:
    driver = Driver(workers=2)
    task = driver.task()
    assert driver.scheduler.starts(task, 10.0)
    assert driver.submit_one(task) == [Assign(1, [task])]  # which came last
    assert driver.scheduler.held(1) == [task]
    assert driver.succeed(1) == [Complete([task])]
    assert task.state is TaskState.SUCCEEDED
    assert driver.scheduler.statistics().succeeded == 1
    assert driver.scheduler.outstanding == 0


Situation = Callable[[], tuple[Driver, Task]]


def _busy() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.submit(driver.task())
    return driver, driver.task()


def _beside_work_that_does_not_fit() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.learn(0, 100.0)
    driver.handle(EndSet(50.0))
    driver.submit(driver.task())
    return driver, driver.task(1)


def _too_late() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.learn(0, 100.0)
    driver.handle(EndSet(50.0))
    return driver, driver.task()


def _draining() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.handle(DrainRequested())
    return driver, driver.task()


def _limited() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    return driver, driver.task(task_spec=TaskSpec(timeout=1.0))


def _alone() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    return driver, driver.task(alone=True)


def _cancelled() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    task = driver.task()
    driver.revoke(task)
    return driver, task


def _submitted_before() -> tuple[Driver, Task]:
    driver = Driver(workers=2)
    task = driver.task()
    driver.submit(task)
    return driver, task


def _without_workers() -> tuple[Driver, Task]:
    driver = Driver()
    return driver, driver.task()


def _behind_the_last_worker() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.lose(0)
    return driver, driver.task()


def _handle(driver: Driver, event: Event) -> Any:
    """Return what comes of an event."""
    try:
        return _shown(driver.handle(event))
    except TransitionError as error:
        return str(error)


@pytest.mark.parametrize(
    "situation",
    [
        _busy,
        _beside_work_that_does_not_fit,
        _too_late,
        _draining,
        _limited,
        _alone,
        _cancelled,
        _submitted_before,
        _without_workers,
        _behind_the_last_worker,
    ],
)
def test_a_single_task_is_submitted_as_one_of_several(situation: Situation) -> None:
    (several, one), (single, other) = situation(), situation()
    outcome = _handle(several, TasksSubmitted([one]))
    assert _handle(single, TaskSubmitted(other)) == outcome
    assert _all_of(single) == _all_of(several)
    assert other.state is one.state


@pytest.mark.parametrize(
    ("situation", "starts"),
    [
        (_busy, False),
        (_too_late, False),
        (_draining, False),
        (_limited, True),
        (_alone, True),
        (_without_workers, False),
        (_behind_the_last_worker, False),
    ],
)
def test_whether_a_task_starts_is_known_before(
    situation: Situation, *, starts: bool
) -> None:
    driver, task = situation()
    assert driver.scheduler.starts(task, driver._now + 1.0) == starts
    assert bool(only(Assign, driver.submit_one(task))) == starts


def test_a_task_with_a_label_starts_at_once() -> None:
    driver = Driver(workers=1)
    task = driver.task(task_spec=TaskSpec("named"))
    assert driver.submit_one(task) == [Assign(0, [task])]


def test_so_does_one_beside_and_after_others_with_a_time_limit() -> None:
    driver = Driver(workers=2)
    driver.submit(driver.task(task_spec=TaskSpec(timeout=100.0)))
    driver.postpone(200.0, driver.task())
    deadline = driver.scheduler.deadline
    driver.submit_one(driver.task())
    assert len(driver.batches[0]) == 1
    driver.succeed(0)
    assert driver.scheduler.deadline == deadline
    driver.finish(1)
    driver.submit_one(driver.task())
    driver.succeed(1)
    assert driver.scheduler.deadline == 200.0


def _idle_beside_work() -> tuple[Driver, Task]:
    driver, task = _beside_work_that_does_not_fit()
    driver.submit(task)
    return driver, task


def _with_a_limit() -> tuple[Driver, Task]:
    driver, task = _limited()
    driver.submit(task)
    return driver, task


def _of_a_lost_worker() -> tuple[Driver, Task]:
    driver, task = _limited()
    driver.submit(task)
    driver.lose(0)
    return driver, task


def _not_assigned() -> tuple[Driver, Task]:
    return _too_late()


def _of_two_batches() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    task = driver.task()
    driver.submit(task)
    driver.submit(driver.task())
    assert len(driver.batches[0]) == 2
    return driver, task


def _of_a_stopping_worker() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    task = driver.task()
    driver.submit(task)
    driver.stop()
    return driver, task


def _of_a_worker_given_up() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    task = driver.task()
    driver.submit(task)
    driver.handle(RunningAbandoned([task]))
    return driver, task


def _given_up_by_the_end() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    driver.handle(EndSet(50.0))
    task = driver.task()
    driver.submit(task)
    return driver, task


@pytest.mark.parametrize("rank", [0, 7])
@pytest.mark.parametrize(
    "situation",
    [
        _idle_beside_work,
        _with_a_limit,
        _of_a_lost_worker,
        _not_assigned,
        _of_two_batches,
        _of_a_stopping_worker,
        _of_a_worker_given_up,
        _given_up_by_the_end,
    ],
)
def test_a_single_task_succeeds_as_one_of_several(
    situation: Situation, rank: int
) -> None:
    (several, task), (single, _) = situation(), situation()
    costs = [Cost(task.function, 1, 2.0, 30)]
    report = OutcomesArrived(rank, 1, [task.id], [], costs)
    outcome = _handle(several, report)
    success = TaskSucceeded(rank, task.id, task.function, 2.0, 30)
    assert _handle(single, success) == outcome
    assert _all_of(single) == _all_of(several)


def test_a_success_that_cannot_be_changes_nothing() -> None:
    driver = Driver(workers=1)
    before = _all_of(driver)
    with pytest.raises(TransitionError, match="worker 0"):
        driver.handle(TaskSucceeded(0, 4711, 0, SHORT, 0))
    assert _all_of(driver) == before


@pytest.mark.parametrize("known", [False, True])
def test_durations_are_remembered_for_the_end(*, known: bool) -> None:
    driver = Driver(workers=1)
    if known:
        driver.learn(0, 100.0)
    driver.handle(EndSet(200.0))
    driver.submit_one(driver.task())
    driver.succeed(0, seconds=1000.0)
    task = driver.task()
    assert not driver.scheduler.starts(task, driver._now)
    assert driver.submit_one(task) == []
    seconds = 100.0 + SMOOTHING * 900.0 if known else 1000.0
    assert driver.scheduler._profiles[0].seconds == seconds
