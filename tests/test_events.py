"""The vocabulary: records, their grammar, and that nobody changes them."""

from __future__ import annotations

import copy
import typing

import pytest

from driver import Driver
from mpitasks.core import events
from mpitasks.core.events import (
    Bulk,
    BulkCancelled,
    BulkExtended,
    CancelRequested,
    Cost,
    DrainRequested,
    EndSet,
    Event,
    OutcomesArrived,
    QueueCancelled,
    RunningAbandoned,
    StopRequested,
    Task,
    TasksPostponed,
    TasksReturned,
    TasksSubmitted,
    TaskState,
    TimePassed,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkersLimited,
)


def test_a_task_starts_new() -> None:
    task = Task(7, 3, count=2, nbytes=10, priority=-1)
    assert task.state is TaskState.NEW
    assert (task.id, task.function, task.count) == (7, 3, 2)
    assert (task.nbytes, task.priority) == (10, -1)


def test_the_defaults_of_a_task_are_one_small_call() -> None:
    task = Task(0, 0)
    assert (task.count, task.nbytes, task.priority) == (1, 0, 0)


def test_records_have_no_dict() -> None:
    with pytest.raises(AttributeError):
        Task(0, 0).colour = "red"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        Bulk(0).colour = "red"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("ready", "limit", "count"), [(5, 3, 3), (2, 3, 2), (3, 3, 3)])
def test_a_chunk_has_as_many_items_as_are_ready_and_wanted(
    ready: int, limit: int, count: int
) -> None:
    bulk = Bulk(4, priority=6)
    bulk.ready = ready
    chunk = bulk.carve(11, limit)
    assert (chunk.id, chunk.function, chunk.priority) == (11, 4, 6)
    assert chunk.count == count
    assert bulk.ready == ready  # the scheduler takes them off


def test_a_split_task_keeps_its_first_items() -> None:
    task = Task(7, 3, count=5, priority=2)
    rest = task.split(8, 2)
    assert (task.id, task.count) == (7, 2)
    assert (rest.id, rest.function, rest.count, rest.priority) == (8, 3, 3, 2)
    assert rest.state is TaskState.NEW


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
    return [
        WorkerJoined(0),
        WorkersLimited(1),
        TasksSubmitted(tasks),
        TasksPostponed([Task(2, 0)], 1e9),
        TimePassed(),
        BulkExtended(bulk, 3),
        TasksReturned(0, [1], (2, 1)),
        OutcomesArrived(0, 0, [0], [0], [Cost(0, 1, 0.5)]),
        CancelRequested(tasks),
        BulkCancelled(bulk),
        QueueCancelled(),
        RunningAbandoned(),
        EndSet(1e9),
        DrainRequested(),
        StopRequested(),
        WorkerLeft(0),
        WorkerLost(0),
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
