"""The short way of a single task, `start` and `finish`: it does what `handle` does."""

from __future__ import annotations

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
from mpitasks.core.events import (
    Assign,
    Complete,
    DrainRequested,
    EndSet,
    Event,
    QueueCancelled,
    RunningAbandoned,
    StopRequested,
    Task,
    TaskState,
    WorkerJoined,
    WorkersLimited,
)
from mpitasks.terms import Terms


def _start(driver: Driver, task: Task) -> int | None:
    """Start a task; return the worker that has it now, if any."""
    driver._now += 1.0
    rank = driver.scheduler.start(task, driver._now)
    if rank is not None:
        driver.batches[rank].append([task])
    driver.scheduler.check()
    return rank


def _finish(driver: Driver, rank: int, seconds: float, nbytes: int = 0) -> Task | None:
    """Finish a worker's oldest batch, if it is of one task."""
    driver._now += 1.0
    (task,) = driver.batches[rank][0]
    finished = driver.scheduler.finish(rank, task.id, seconds, nbytes)
    if finished is not None:
        driver.batches[rank].popleft()
    driver.scheduler.check()
    return finished


def _all_of(driver: Driver) -> tuple[Any, ...]:
    """Return all that a scheduler knows."""
    scheduler = driver.scheduler
    crew, ending = scheduler._crew, scheduler._ending
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
        (crew.hope, crew.overdue.next, sorted(crew.overdue.ranks)),
        (scheduler._dated, scheduler.stranded, scheduler._backlog.postponed.items),
    )


class Twins(RuleBasedStateMachine):
    """The same history for two schedulers; one goes the short way where there is one.

    A task has the same id in both, so what they know can be compared. Most histories
    have neither time limits nor an end: with them, work is queued, and the short way
    is seldom open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.long, self.short = Driver(), Driver()
        self.both = (self.long, self.short)
        self.tasks: list[tuple[Task, Task]] = []
        self.joined = 0
        self.limits = self.ends = False

    @property
    def busy(self) -> list[int]:
        batches = self.long.batches
        alive = self.long.scheduler.running_workers()
        return [rank for rank in alive if batches[rank]]

    def happens(self, event: Event) -> None:
        for driver in self.both:
            driver.handle(event)

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
        terms=st.sampled_from([None, None, Terms("named"), Terms(isolate=True)]),
        limited=st.booleans(),
    )
    def submit(
        self, function: int, priority: int, terms: Terms | None, *, limited: bool
    ) -> None:
        if limited and self.limits:
            terms = Terms(timeout=5.0)
        long, short = (
            driver.task(function, priority=priority, terms=terms)
            for driver in self.both
        )
        self.tasks.append((long, short))
        sent = [action.rank for action in only(Assign, self.long.submit(long))]
        rank = _start(self.short, short)
        if rank is None:
            self.short._now -= 1.0
            self.short.submit(short)
        else:
            assert sent == [rank]

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
        batch = self.long.batches[rank][0]
        failed = (0,) if fails and batch else ()
        actions = self.long.finish(rank, seconds=seconds, nbytes=nbytes, failed=failed)
        short = not failed and len(batch) == 1
        if not short or _finish(self.short, rank, seconds, nbytes) is None:
            self.short._now = self.long._now - 1.0
            self.short.finish(rank, seconds=seconds, nbytes=nbytes, failed=failed)
        else:
            (completed,) = actions
            assert isinstance(completed, Complete)
            assert completed.tasks == batch

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
        long, short = data.draw(st.sampled_from(self.tasks))
        self.long.revoke(long)
        self.short.revoke(short)

    @rule(isolated=st.booleans())
    def cancel_queue(self, *, isolated: bool) -> None:
        self.happens(QueueCancelled(isolated))

    @precondition(lambda self: any(self.long.batches[rank][0] for rank in self.busy))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        begun = [rank for rank in self.busy if self.long.batches[rank][0]]
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
        self.happens(StopRequested() if stops else RunningAbandoned())

    @invariant()
    def they_agree(self) -> None:
        assert _all_of(self.long) == _all_of(self.short)
        assert self.long._now == self.short._now
        for long, short in self.tasks:
            assert (long.id, long.state) == (short.id, short.state)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=120, stateful_step_count=50)


def test_a_task_goes_to_an_idle_worker_and_comes_back() -> None:
    driver = Driver(workers=2)
    task = driver.task()
    rank = _start(driver, task)
    assert rank == 1  # which came last
    assert task.state is TaskState.ASSIGNED
    assert driver.scheduler.held(rank) == [task]
    assert _finish(driver, rank, SHORT) is task
    assert task.state is TaskState.SUCCEEDED
    assert driver.scheduler.statistics().succeeded == 1
    assert driver.scheduler.outstanding == 0


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


def _limited() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    return driver, driver.task(terms=Terms(timeout=1.0))


def _cancelled() -> tuple[Driver, Task]:
    driver = Driver(workers=1)
    task = driver.task()
    driver.revoke(task)
    return driver, task


@pytest.mark.parametrize(
    "situation",
    [
        _busy,
        _beside_work_that_does_not_fit,
        _too_late,
        _limited,
        _cancelled,
    ],
)
def test_what_is_not_that_simple_is_not_started(situation: Any) -> None:
    driver, task = situation()
    before = driver.snapshot(), task.state
    assert _start(driver, task) is None
    assert (driver.snapshot(), task.state) == before


def test_a_task_with_a_label_is_that_simple() -> None:
    driver = Driver(workers=1)
    assert _start(driver, driver.task(terms=Terms("named"))) == 0


def test_so_is_one_beside_and_after_others_with_a_time_limit() -> None:
    driver = Driver(workers=2)
    driver.submit(driver.task(terms=Terms(timeout=100.0)))
    driver.postpone(200.0, driver.task())
    deadline = driver.scheduler.deadline
    assert _start(driver, driver.task()) == 0
    assert _finish(driver, 0, SHORT) is not None
    assert driver.scheduler.deadline == deadline
    driver.finish(1)
    assert _start(driver, driver.task()) == 1
    assert _finish(driver, 1, SHORT) is not None
    assert driver.scheduler.deadline == 200.0


def _beside_work() -> tuple[Driver, int, int]:
    driver, task = _beside_work_that_does_not_fit()
    assert _start(driver, task) is None
    driver.submit(task)
    return driver, 0, task.id


def _with_a_limit() -> tuple[Driver, int, int]:
    driver = Driver(workers=1)
    task = driver.task(terms=Terms(timeout=1.0))
    driver.submit(task)
    return driver, 0, task.id


def _unknown_worker() -> tuple[Driver, int, int]:
    return Driver(workers=1), 7, 0


def _lost_worker() -> tuple[Driver, int, int]:
    driver = Driver(workers=1)
    task = driver.task()
    _start(driver, task)
    driver.lose(0)
    return driver, 0, task.id


def _idle_worker() -> tuple[Driver, int, int]:
    driver = Driver(workers=1)
    return driver, 0, 0


def _two_batches() -> tuple[Driver, int, int]:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    task = driver.task()
    driver.submit(task)
    driver.submit(driver.task())
    assert len(driver.batches[0]) == 2
    return driver, 0, task.id


def _stopping_worker() -> tuple[Driver, int, int]:
    driver = Driver(workers=1)
    task = driver.task()
    _start(driver, task)
    driver.stop()
    return driver, 0, task.id


def _another_task() -> tuple[Driver, int, int]:
    driver = Driver(workers=1)
    _start(driver, driver.task())
    return driver, 0, 4711


@pytest.mark.parametrize(
    "situation",
    [
        _beside_work,
        _with_a_limit,
        _unknown_worker,
        _lost_worker,
        _idle_worker,
        _two_batches,
        _stopping_worker,
        _another_task,
    ],
)
def test_what_is_not_that_simple_is_not_finished(situation: Any) -> None:
    driver, rank, id = situation()
    before = _all_of(driver)
    assert driver.scheduler.finish(rank, id, SHORT) is None
    assert _all_of(driver) == before


def test_durations_are_remembered_for_the_end() -> None:
    driver = Driver(workers=1)
    driver.handle(EndSet(50.0))
    assert _start(driver, driver.task()) == 0
    assert _finish(driver, 0, 100.0) is not None
    assert _start(driver, driver.task()) is None
    assert driver.scheduler._profiles[0].seconds == 100.0
