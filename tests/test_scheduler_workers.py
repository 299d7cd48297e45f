"""Which worker state follows which: every state x every input, through events."""

from __future__ import annotations

import itertools

import pytest

from driver import Driver
from mpitasks.errors import TransitionError
from mpitasks.scheduler.events import (
    Event,
    Fail,
    OutcomesArrived,
    RankLost,
    StopRequested,
    TasksReturned,
    TaskSucceeded,
    WorkerJoined,
    WorkerLeft,
    WorkerState,
)
from mpitasks.scheduler.transitions import (
    WORKER_TRANSITIONS,
    WorkerInput,
)
from mpitasks.task_spec import TaskSpec

READY, STOPPING = WorkerState.READY, WorkerState.STOPPING
STOPPED, LOST = WorkerState.STOPPED, WorkerState.LOST
UNRESPONSIVE = WorkerState.UNRESPONSIVE

WORKER_MOVES: dict[WorkerInput, dict[WorkerState, WorkerState | None]] = {
    WorkerInput.STOP: {
        READY: STOPPING,
        STOPPING: STOPPING,
        STOPPED: STOPPED,
        LOST: LOST,
        UNRESPONSIVE: STOPPING,
    },
    WorkerInput.LEAVE: {
        READY: None,
        STOPPING: STOPPED,
        STOPPED: None,
        LOST: LOST,
        UNRESPONSIVE: None,
    },
    WorkerInput.LOSE: {
        READY: LOST,
        STOPPING: LOST,
        STOPPED: STOPPED,
        LOST: LOST,
        UNRESPONSIVE: LOST,
    },
    WorkerInput.SUSPECT: {
        READY: UNRESPONSIVE,
        STOPPING: STOPPING,
        STOPPED: None,
        LOST: None,
        UNRESPONSIVE: UNRESPONSIVE,
    },
    WorkerInput.RECOVER: {
        READY: None,
        STOPPING: None,
        STOPPED: None,
        LOST: None,
        UNRESPONSIVE: READY,
    },
}

WORKER_EVENTS: dict[WorkerInput, Event] = {
    WorkerInput.STOP: StopRequested(),
    WorkerInput.LEAVE: WorkerLeft(0),
    WorkerInput.LOSE: RankLost(0),
}

WORKER_WAYS: dict[WorkerState, list[Event]] = {
    READY: [],
    STOPPING: [StopRequested()],
    STOPPED: [StopRequested(), WorkerLeft(0)],
    LOST: [RankLost(0)],
    UNRESPONSIVE: [],  # needs a task: see `_worker_in`
}

WORKER_PAIRS = list(itertools.product(WorkerInput, WorkerState))

THROUGH_EVENTS = [
    (what, state) for what, state in WORKER_PAIRS if what in WORKER_EVENTS
]
"""A worker sticks when time has passed, and recovers by a report: see below."""


def _worker_in(state: WorkerState) -> Driver:
    driver = Driver(workers=1)
    for event in WORKER_WAYS[state]:
        driver.handle(event)
    if state is UNRESPONSIVE:
        driver.submit(driver.task(task_spec=TaskSpec(timeout=1.0)))
        driver.wait_until(100.0)
    assert driver.worker_state(0) is state
    return driver


@pytest.mark.parametrize(("what", "state"), THROUGH_EVENTS)
def test_worker_input(what: WorkerInput, state: WorkerState) -> None:
    driver = _worker_in(state)
    expected = WORKER_MOVES[what][state]
    before = driver.snapshot()
    if expected is None:
        with pytest.raises(TransitionError, match=f"worker 0 .*{state.name}"):
            driver.handle(WORKER_EVENTS[what])
        assert driver.snapshot() == before
    else:
        driver.handle(WORKER_EVENTS[what])
        assert driver.worker_state(0) is expected
        if expected is state:
            assert driver.snapshot() == before


@pytest.mark.parametrize(("what", "state"), WORKER_PAIRS)
def test_worker_table(what: WorkerInput, state: WorkerState) -> None:
    assert WORKER_TRANSITIONS[what].get(state) is WORKER_MOVES[what][state]


@pytest.mark.parametrize("state", WorkerState)
def test_no_worker_joins_twice(state: WorkerState) -> None:
    driver = _worker_in(state)
    before = driver.snapshot()
    with pytest.raises(TransitionError, match="worker 0 joined twice"):
        driver.handle(WorkerJoined(0))
    assert driver.snapshot() == before


@pytest.mark.parametrize(
    "event",
    [
        WorkerLeft(9),
        RankLost(9),
        OutcomesArrived(9, 1, [], [], []),
        TaskSucceeded(9, 0, 0, 0.1, 0),
        TasksReturned(9, [1], None),
    ],
)
def test_an_unknown_worker_is_an_error(event: Event) -> None:
    driver = Driver(workers=1)
    before = driver.snapshot()
    with pytest.raises(TransitionError, match="worker 9"):
        driver.handle(event)
    assert driver.snapshot() == before


@pytest.mark.parametrize("state", [STOPPING, STOPPED, LOST, UNRESPONSIVE])
def test_only_a_ready_worker_is_given_tasks(state: WorkerState) -> None:
    driver = _worker_in(state)
    assert driver.scheduler.num_workers == 0
    assert not driver.has_capacity
    task = driver.task()
    actions = driver.submit(task)
    assert actions == ([] if state is UNRESPONSIVE else [Fail([task], None)])


@pytest.mark.parametrize(
    ("state", "running"),
    [(READY, [0]), (STOPPING, [0]), (STOPPED, []), (LOST, []), (UNRESPONSIVE, [0])],
)
def test_running_workers(state: WorkerState, running: list[int]) -> None:
    assert _worker_in(state).scheduler.running_workers() == running
