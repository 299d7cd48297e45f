"""The vocabulary: records, their grammar, and that nobody changes them."""

from __future__ import annotations

import copy
import typing

import pytest

from driver import Driver, PartsArrived
from mpitasks.scheduler import events
from mpitasks.scheduler.events import (
    ActorOpened,
    ActorRestarted,
    ActorTask,
    Bulk,
    BulkCancelled,
    BulkExtended,
    CallRefused,
    CancelRequested,
    Cost,
    DrainRequested,
    EndSet,
    Event,
    InputGone,
    InputReady,
    MemoryChanged,
    OutcomesArrived,
    QueueCancelled,
    RankLost,
    RunningAbandoned,
    StopRequested,
    Task,
    TasksPostponed,
    TasksReturned,
    TasksSubmitted,
    TaskState,
    TaskSubmitted,
    TaskSucceeded,
    TimePassed,
    WorkerJoined,
    WorkerLeft,
    WorkersLimited,
)
from mpitasks.task_spec import TaskSpec


def test_a_task_starts_new() -> None:
    payload = object()
    task = Task(7, 3, payload, start=4, count=2, nbytes=10, priority=-1, alone=True)
    assert task.state is TaskState.NEW
    assert (task.id, task.function, task.payload) == (7, 3, payload)
    assert (task.start, task.count, task.alone) == (4, 2, True)
    assert (task.nbytes, task.priority) == (10, -1)


def test_the_defaults_of_a_task_are_one_small_call() -> None:
    task = Task(0, 0)
    assert (task.start, task.count, task.nbytes, task.priority) == (0, 1, 0, 0)
    assert (task.payload, task.task_spec, task.alone) == (None, None, False)


def test_a_cost_may_be_of_results_that_weigh_nothing() -> None:
    assert Cost(3, 2, 0.5) == (3, 2, 0.5, 0)


def test_a_report_has_no_parts_unless_its_message_says_so() -> None:
    assert OutcomesArrived(0, 0, [], [], []).parts == {}
    assert PartsArrived(0, 0, [], [], [], {3: 1}).parts == {3: 1}
    assert OutcomesArrived(0, 0, [], [], []).parts == {}


def test_records_have_no_dict() -> None:
    with pytest.raises(AttributeError):
        Task(0, 0).colour = "red"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        Bulk(0).colour = "red"  # type: ignore[attr-defined]


def test_a_chunk_is_like_its_job() -> None:
    payload, task_spec = object(), TaskSpec("named")
    bulk = Bulk(4, payload, chunksize=5, priority=6, task_spec=task_spec)
    driver = Driver(workers=1)
    driver.extend(bulk, 8)
    (chunk,) = driver.scheduler.held(0)
    assert (chunk.function, chunk.payload, chunk.priority) == (4, payload, 6)
    assert chunk.task_spec is task_spec
    assert (chunk.start, chunk.count) == (0, 5)
    assert (bulk.next, bulk.ready) == (5, 3)


def test_a_part_of_a_task_is_like_the_task() -> None:
    payload, task_spec = object(), TaskSpec("named")
    task = Task(7, 3, payload, 90, 2, task_spec, start=10, count=5)
    part = task.part(8, 2, 3)
    assert (part.id, part.function, part.payload, part.priority) == (8, 3, payload, 2)
    assert part.task_spec is task_spec
    assert (part.start, part.count, part.nbytes) == (12, 3, 0)
    assert part.state is TaskState.NEW
    assert (task.id, task.start, task.count) == (7, 10, 5)


def test_the_scheduler_handles_every_event_of_the_union() -> None:
    handled = set(Driver().scheduler._handlers)
    assert handled == set(typing.get_args(events.Event))


def test_events_and_actions_share_no_class() -> None:
    assert not {*typing.get_args(events.Event)} & {*typing.get_args(events.Action)}


def test_all_public_names_exist() -> None:
    assert [name for name in events.__all__ if not hasattr(events, name)] == []


def _one_of_each() -> list[Event]:
    bulk = Bulk(0)
    tasks = [Task(0, 0), Task(1, 1)]
    waiting = [Task(3, 0, inputs=[1, 2]), Task(4, 0, inputs=[2])]
    call, again = ActorTask(10, 0), ActorTask(11, 0)
    call.actor, again.actor = 1, 2
    return [
        WorkerJoined(0),
        ActorOpened(1, [0], restarts=1),
        TasksSubmitted([call]),
        CallRefused(call),
        ActorRestarted(2, [again]),
        WorkersLimited(1),
        TasksSubmitted(tasks),
        TasksPostponed([Task(2, 0)], 1e9),
        TasksSubmitted(waiting),
        InputReady(1, waiting[:1], 10, {3: 0}),
        InputGone(2, waiting),
        TimePassed(),
        TaskSubmitted(Task(3, 0)),
        BulkExtended(bulk, 3, 1, [10, 20, 30]),
        TasksReturned(0, [1], (2, 1)),
        TaskSucceeded(0, 0, 0, 0.5, 10),
        OutcomesArrived(0, 0, [1], [1], [Cost(0, 1, 0.5)]),
        CancelRequested(tasks),
        BulkCancelled(bulk),
        QueueCancelled(),
        RunningAbandoned(tasks),
        MemoryChanged(is_full=True),
        MemoryChanged(is_full=False),
        EndSet(1e9),
        DrainRequested(),
        StopRequested(),
        WorkerLeft(0),
        RankLost(0),
    ]


def test_handling_an_event_does_not_change_it() -> None:
    driver = Driver()
    sequence = _one_of_each()
    assert {type(event) for event in sequence} == set(typing.get_args(events.Event))
    for event in sequence:
        fields = {name: getattr(event, name) for name in type(event).__slots__}
        before = {name: copy.copy(value) for name, value in fields.items()}
        driver.handle(event)
        for name, value in fields.items():
            assert getattr(event, name) is value
            if isinstance(value, (list, int)):
                assert value == before[name]
