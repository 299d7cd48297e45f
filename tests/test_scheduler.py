"""Which state follows which: every state x every input, driven through events."""

from __future__ import annotations

import itertools

import pytest

from driver import SHORT, Driver, PartsArrived, Recorder, costs_of, only
from mpitasks.errors import TransitionError
from mpitasks.scheduler.events import (
    Assign,
    Cancelled,
    CancelRequested,
    Complete,
    Event,
    Fail,
    InputGone,
    InputReady,
    OutcomesArrived,
    RunningAbandoned,
    Task,
    TasksReturned,
    TaskState,
    TaskSubmitted,
    TaskSucceeded,
    WorkerJoined,
    WorkerLeft,
)
from mpitasks.scheduler.transitions import TASK_TRANSITIONS, TaskInput

# Tasks. The worker that holds or held the task is 0; what became of it meanwhile, is
# in `_bring`. An input that cannot reach a task in some state, because the scheduler
# does not look at it any more, is ignored.

FAR = 1e9
"""A time that a driver does not come to by itself."""

ILLEGAL = "illegal"
IGNORED = "ignored"

NEW, QUEUED, ASSIGNED = TaskState.NEW, TaskState.QUEUED, TaskState.ASSIGNED
SUCCEEDED, FAILED = TaskState.SUCCEEDED, TaskState.FAILED
CANCELLED, POSTPONED = TaskState.CANCELLED, TaskState.POSTPONED
WAITING = TaskState.WAITING

INPUT = 10**6
"""A result that a task waits for."""

TASK_MOVES: dict[TaskInput, dict[TaskState, TaskState | str]] = {
    TaskInput.SUBMIT: {
        NEW: QUEUED,
        QUEUED: ILLEGAL,
        ASSIGNED: ILLEGAL,
        SUCCEEDED: ILLEGAL,
        FAILED: ILLEGAL,
        CANCELLED: IGNORED,
        POSTPONED: ILLEGAL,
        WAITING: ILLEGAL,
    },
    TaskInput.ASSIGN: {
        NEW: ASSIGNED,
        QUEUED: ASSIGNED,
        ASSIGNED: IGNORED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
    TaskInput.SUCCEED: {
        NEW: IGNORED,
        QUEUED: IGNORED,
        ASSIGNED: SUCCEEDED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
    TaskInput.FAIL: {
        NEW: IGNORED,
        QUEUED: IGNORED,
        ASSIGNED: FAILED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: FAILED,
    },
    TaskInput.LOSE: {
        NEW: FAILED,
        QUEUED: FAILED,
        ASSIGNED: FAILED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
    TaskInput.CANCEL: {
        NEW: CANCELLED,
        QUEUED: CANCELLED,
        ASSIGNED: ASSIGNED,
        SUCCEEDED: SUCCEEDED,
        FAILED: FAILED,
        CANCELLED: CANCELLED,
        POSTPONED: CANCELLED,
        WAITING: CANCELLED,
    },
    TaskInput.RETURN: {
        NEW: QUEUED,
        QUEUED: IGNORED,
        ASSIGNED: QUEUED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
    TaskInput.POSTPONE: {
        NEW: POSTPONED,
        QUEUED: ILLEGAL,
        ASSIGNED: ILLEGAL,
        SUCCEEDED: ILLEGAL,
        FAILED: ILLEGAL,
        CANCELLED: ILLEGAL,
        POSTPONED: ILLEGAL,
        WAITING: ILLEGAL,
    },
    TaskInput.RELEASE: {
        NEW: IGNORED,
        QUEUED: IGNORED,
        ASSIGNED: IGNORED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: QUEUED,
        WAITING: IGNORED,
    },
    TaskInput.REVOKE: {
        NEW: IGNORED,
        QUEUED: IGNORED,
        ASSIGNED: CANCELLED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
    TaskInput.WAIT: {
        NEW: WAITING,
        QUEUED: ILLEGAL,
        ASSIGNED: ILLEGAL,
        SUCCEEDED: ILLEGAL,
        FAILED: ILLEGAL,
        CANCELLED: IGNORED,
        POSTPONED: ILLEGAL,
        WAITING: ILLEGAL,
    },
    TaskInput.READY: {
        NEW: IGNORED,
        QUEUED: IGNORED,
        ASSIGNED: IGNORED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: QUEUED,
    },
}


def _bring(driver: Driver, state: TaskState) -> Task:
    """Return a task in the given state; worker 0 is there in any case."""
    task = driver.task()
    if state is NEW:
        return task
    if state is POSTPONED:
        driver.submit(driver.task())  # keeps worker 0 busy
        driver.postpone(FAR, task)
        return task
    if state is WAITING:
        driver.submit(driver.task())  # keeps worker 0 busy
        task.inputs = [INPUT]
        driver.submit(task)
        return task
    if state is QUEUED or state is CANCELLED:
        driver.submit(driver.task())  # keeps worker 0 busy
        driver.submit(task)
        if state is CANCELLED:
            driver.handle(CancelRequested([task]))
    else:
        driver.submit(task)
        if state is not ASSIGNED:
            driver.finish(0, failed=[0] if state is FAILED else [])
    return task


def _apply(driver: Driver, task: Task, what: TaskInput) -> Task:
    """Let an input happen to a task in the way that it happens in a run.

    Returns:
        The task; or one that was new like it, if that comes into being only then.
    """
    if what is TaskInput.SUBMIT:
        driver.submit(task)
    elif what is TaskInput.WAIT:
        task.inputs = [INPUT]
        driver.submit(task)
    elif what is TaskInput.READY:
        driver.handle(InputReady(INPUT, [task]))
    elif what is TaskInput.CANCEL:
        driver.handle(CancelRequested([task]))
    elif what is TaskInput.SUCCEED:
        driver.report(0, [task.id])
    elif what is TaskInput.FAIL and task.state is WAITING:
        driver.handle(InputGone(INPUT, [task]))
    elif what is TaskInput.FAIL:
        driver.report(0, [task.id], failed=[0])
    elif what is TaskInput.ASSIGN:
        if task.state is NEW:
            driver.submit_one(task)
        driver.handle(WorkerJoined(1))
    elif what is TaskInput.POSTPONE:
        driver.postpone(FAR, task)
    elif what is TaskInput.RELEASE:
        driver.wait_until(FAR)
    elif what is TaskInput.REVOKE:
        driver.revoke_held(task)
    elif what is TaskInput.RETURN:
        if task.state is NEW:
            job = Recorder(chunksize=2)
            driver.extend(job, 2)
            driver.give_back(0, keep=1)
            return job.chunks[1]
        driver.handle(TasksReturned(0, [task.id], None))
    else:
        if task.state in (POSTPONED, WAITING):
            driver.handle(WorkerJoined(1))  # else there is nothing to wait for
        driver.lose(0)
        if task.state is NEW:
            job = Recorder()
            driver.extend(job, 1)
            return job.chunks[0]
    return task


TASK_PAIRS = list(itertools.product(TaskInput, TaskState))


def test_the_table_of_this_test_is_complete() -> None:
    pairs = {(what, state) for what, row in TASK_MOVES.items() for state in row}
    assert pairs == set(TASK_PAIRS)


@pytest.mark.parametrize(("what", "state"), TASK_PAIRS)
def test_task_input(what: TaskInput, state: TaskState) -> None:
    driver = Driver(workers=1)
    task = _bring(driver, state)
    assert task.state is state
    expected = TASK_MOVES[what][state]
    if expected == ILLEGAL:
        before = driver.snapshot()
        with pytest.raises(TransitionError, match=f"task {task.id} .*{state.name}"):
            _apply(driver, task, what)
        assert task.state is state
        assert driver.snapshot() == before
    elif expected == IGNORED:
        _apply(driver, task, what)
        assert task.state is state
    elif what is TaskInput.SUBMIT:
        driver.submit(driver.task())  # keeps worker 0 busy, so that it stays queued
        _apply(driver, task, what)
        assert task.state is expected
    else:
        task = _apply(driver, task, what)
        assert task.state is expected


@pytest.mark.parametrize(("what", "state"), TASK_PAIRS)
def test_task_table(what: TaskInput, state: TaskState) -> None:
    expected = TASK_MOVES[what][state]
    after = TASK_TRANSITIONS[what].get(state)
    assert after is (expected if isinstance(expected, TaskState) else None)


# The events that came later than the others of their kind. A chunk of two items, or a
# call; the worker that holds or held it has not reported its batch as done.

EVENT_MOVES: dict[str, dict[TaskState, TaskState | str]] = {
    "TaskSubmitted": {
        NEW: ASSIGNED,
        QUEUED: ILLEGAL,
        ASSIGNED: ILLEGAL,
        SUCCEEDED: ILLEGAL,
        FAILED: ILLEGAL,
        CANCELLED: IGNORED,
        POSTPONED: ILLEGAL,
        WAITING: ILLEGAL,
    },
    "TaskSucceeded": {
        NEW: IGNORED,
        QUEUED: ASSIGNED,  # again: that was late, but now the worker is idle
        ASSIGNED: SUCCEEDED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
    "PartsArrived": {
        NEW: IGNORED,
        QUEUED: IGNORED,
        ASSIGNED: ASSIGNED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
    "RunningAbandoned": {
        NEW: IGNORED,
        QUEUED: IGNORED,
        ASSIGNED: FAILED,
        SUCCEEDED: IGNORED,
        FAILED: IGNORED,
        CANCELLED: IGNORED,
        POSTPONED: IGNORED,
        WAITING: IGNORED,
    },
}

EVENT_PAIRS = list(itertools.product(EVENT_MOVES, TaskState))


def _event(name: str, task: Task) -> Event:
    if name == "TaskSubmitted":
        return TaskSubmitted(task)
    if name == "RunningAbandoned":
        return RunningAbandoned([task])
    if name == "TaskSucceeded":
        return TaskSucceeded(0, task.id, 0, SHORT, 0)
    return PartsArrived(0, 0, [task.id], [], [], {task.id: 1})


def _bring_begun(driver: Driver, state: TaskState, count: int) -> Task:
    """Return a task in the given state; worker 0 has a batch that is not done."""
    job = Recorder(chunksize=count)
    driver.extend(job, count)
    (task,) = job.chunks
    if state is QUEUED:
        driver.handle(TasksReturned(0, [task.id], None))
    elif state is CANCELLED:
        driver.revoke_held(task)
    elif state is not ASSIGNED:
        driver.report(0, [task.id], failed=[task.id] if state is FAILED else [])
    if state in (NEW, POSTPONED, WAITING):
        task = driver.task(count=count)
    if state is WAITING:
        task.inputs = [INPUT]
        driver.submit(task)
    if state is POSTPONED:
        driver.postpone(FAR, task)
    return task


@pytest.mark.parametrize(("name", "state"), EVENT_PAIRS)
def test_task_event(name: str, state: TaskState) -> None:
    driver = Driver(workers=1)
    if name == "TaskSubmitted":
        task = _bring(driver, state)
    else:
        task = _bring_begun(driver, state, 2 if name == "PartsArrived" else 1)
    assert task.state is state
    expected = EVENT_MOVES[name][state]
    before = driver.snapshot()
    event = _event(name, task)
    if expected == ILLEGAL:
        with pytest.raises(TransitionError, match=f"task {task.id} .*{state.name}"):
            driver.handle(event)
        assert driver.snapshot() == before
        assert task.state is state
        return
    actions = driver.handle(event)
    if expected == IGNORED:
        assert actions in ([], [Complete([None])])
        assert task.state is state
    else:
        assert task.state is expected
    partly = name == "PartsArrived" and state is ASSIGNED
    assert (task.start, task.count) == ((1, 1) if partly else (0, task.count))


def test_an_illegal_submit_changes_none_of_its_tasks() -> None:
    driver = Driver(workers=1)
    done = _bring(driver, SUCCEEDED)
    fresh = driver.tasks(2)
    before = driver.snapshot()
    with pytest.raises(TransitionError):
        driver.submit(fresh[0], done, fresh[1])
    assert [task.state for task in fresh] == [NEW, NEW]
    assert driver.snapshot() == before


def test_a_task_cancelled_before_it_is_submitted_is_not_queued() -> None:
    driver = Driver(workers=1)
    gone, task = driver.tasks(2)
    assert driver.handle(CancelRequested([gone])) == [Cancelled([gone])]
    assert driver.submit(gone, task) == [Assign(0, [task])]


# Outcomes.


def test_more_batches_than_a_worker_holds_are_an_error() -> None:
    driver = Driver(workers=1)
    task = driver.task()
    driver.submit(task)
    before = driver.snapshot()
    with pytest.raises(TransitionError, match="worker 0"):
        driver.report(0, [task.id], batches=2)
    assert task.state is ASSIGNED
    assert driver.snapshot() == before


def test_a_report_tells_which_tasks_it_completes() -> None:
    driver = Driver(workers=1)
    driver.learn(0, SHORT)
    tasks = driver.tasks(3)
    for task in tasks:
        driver.submit(task)
    first = tasks[0]
    actions = driver.report(0, [first.id, 999_999], costs=costs_of([first], SHORT))
    assert only(Complete, actions) == [Complete([first, None])]


def test_an_event_of_a_derived_type_goes_with_its_base() -> None:
    class Message(OutcomesArrived):
        """As that of the wire."""

    driver = Driver(workers=1)
    task = driver.task()
    driver.submit(task)
    first = driver.handle(Message(0, 0, [task.id], [], []))
    again = driver.handle(Message(0, 1, [task.id], [], []))
    assert [*first, *again] == [Complete([task]), Complete([None])]


def test_a_failed_task_is_completed_and_counted_as_failed() -> None:
    driver = Driver(workers=1)
    bad, good = driver.task(), driver.task()
    driver.submit(bad)
    driver.submit(good)
    assert only(Complete, driver.finish(0, failed=[0])) == [Complete([bad])]
    assert only(Complete, driver.finish(0)) == [Complete([good])]
    assert (bad.state, good.state) == (FAILED, SUCCEEDED)
    statistics = driver.scheduler.statistics()
    assert (statistics.failed, statistics.succeeded) == (1, 1)


def test_a_late_failure_is_ignored() -> None:
    driver = Driver(workers=2)
    task = driver.task()
    rank = only(Assign, driver.submit(task))[0].rank
    driver.lose(rank)
    before = driver.scheduler.statistics()
    assert driver.report(rank, [task.id], batches=1, failed=[0]) == [Complete([None])]
    assert driver.scheduler.statistics() == before


def test_a_partial_report_gives_no_credit_back() -> None:
    driver = Driver(workers=1)
    driver.learn(0, 1e-4)
    tasks = driver.tasks(40)
    driver.submit(*tasks)
    first = driver.batches[0][0]
    assert len(first) > 2
    held = len(driver.batches[0])
    actions = driver.report(0, [first[0].id], costs=costs_of(first[:1], 1e-4))
    assert actions == [Complete([first[0]])]
    assert len(driver.batches[0]) == held
    rest = [task.id for task in first[1:]]
    assert only(Assign, driver.report(0, rest, batches=1))


@pytest.mark.parametrize("twice", [False, True])
def test_a_stopping_worker_still_reports(twice: bool) -> None:
    driver = Driver(workers=1)
    task = driver.task()
    driver.submit(task)
    driver.stop()
    if twice:
        assert driver.stop() == []
    assert driver.finish(0) == [Complete([task])]
    assert task.state is SUCCEEDED
    assert driver.handle(WorkerLeft(0)) == []
    assert driver.scheduler.outstanding == 0


def test_a_worker_that_leaves_with_tasks_in_its_hands_loses_them() -> None:
    driver = Driver(workers=1)
    task = driver.task()
    driver.submit(task)
    driver.stop()
    assert driver.handle(WorkerLeft(0)) == [Fail([task], 0)]
    assert task.state is FAILED
    assert driver.scheduler.outstanding == 0


def test_statistics_are_those_of_their_moment() -> None:
    driver = Driver(workers=1)
    statistics = driver.scheduler.statistics()
    driver.submit(driver.task())
    assert statistics.assigned == 0
    with pytest.raises(AttributeError):
        statistics.assigned = 1  # type: ignore[misc]
