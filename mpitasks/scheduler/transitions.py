"""Which state follows which: one table for tasks, one for workers.

A pair that is absent is illegal. Only `mpitasks.scheduler.scheduler`, and what it leads
to, uses the tables to change a state; what they mean is drawn at its head.
"""

from __future__ import annotations

import enum
from typing import Any

from mpitasks.errors import TransitionError
from mpitasks.scheduler.events import TaskState, WorkerState

__all__ = [
    "TASK_TRANSITIONS",
    "WORKER_TRANSITIONS",
    "TaskInput",
    "WorkerInput",
    "next_state",
]


class TaskInput(enum.IntEnum):
    """What can happen to a task."""

    SUBMIT = 0
    ASSIGN = 1
    SUCCEED = 2
    FAIL = 3
    LOSE = 4
    CANCEL = 5
    RETURN = 6
    POSTPONE = 7
    RELEASE = 8
    REVOKE = 9
    WAIT = 10
    READY = 11


class WorkerInput(enum.IntEnum):
    """What can happen to a worker."""

    STOP = 0
    LEAVE = 1
    LOSE = 2
    SUSPECT = 3
    RECOVER = 4


TASK_TRANSITIONS: dict[TaskInput, dict[TaskState, TaskState]] = {
    TaskInput.SUBMIT: {TaskState.NEW: TaskState.QUEUED},
    TaskInput.ASSIGN: {
        TaskState.NEW: TaskState.ASSIGNED,
        TaskState.QUEUED: TaskState.ASSIGNED,
    },
    TaskInput.SUCCEED: {TaskState.ASSIGNED: TaskState.SUCCEEDED},
    TaskInput.FAIL: {
        TaskState.ASSIGNED: TaskState.FAILED,
        TaskState.WAITING: TaskState.FAILED,
    },
    TaskInput.LOSE: {
        TaskState.NEW: TaskState.FAILED,
        TaskState.QUEUED: TaskState.FAILED,
        TaskState.ASSIGNED: TaskState.FAILED,
    },
    TaskInput.CANCEL: {
        TaskState.NEW: TaskState.CANCELLED,
        TaskState.QUEUED: TaskState.CANCELLED,
        TaskState.ASSIGNED: TaskState.ASSIGNED,
        TaskState.SUCCEEDED: TaskState.SUCCEEDED,
        TaskState.FAILED: TaskState.FAILED,
        TaskState.CANCELLED: TaskState.CANCELLED,
        TaskState.POSTPONED: TaskState.CANCELLED,
        TaskState.WAITING: TaskState.CANCELLED,
    },
    TaskInput.RETURN: {
        TaskState.NEW: TaskState.QUEUED,
        TaskState.ASSIGNED: TaskState.QUEUED,
    },
    TaskInput.POSTPONE: {TaskState.NEW: TaskState.POSTPONED},
    TaskInput.RELEASE: {TaskState.POSTPONED: TaskState.QUEUED},
    TaskInput.REVOKE: {TaskState.ASSIGNED: TaskState.CANCELLED},
    TaskInput.WAIT: {TaskState.NEW: TaskState.WAITING},
    TaskInput.READY: {TaskState.WAITING: TaskState.QUEUED},
}

WORKER_TRANSITIONS: dict[WorkerInput, dict[WorkerState, WorkerState]] = {
    WorkerInput.STOP: {
        WorkerState.READY: WorkerState.STOPPING,
        WorkerState.UNRESPONSIVE: WorkerState.STOPPING,
        WorkerState.STOPPING: WorkerState.STOPPING,
        WorkerState.STOPPED: WorkerState.STOPPED,
        WorkerState.LOST: WorkerState.LOST,
    },
    WorkerInput.LEAVE: {
        WorkerState.STOPPING: WorkerState.STOPPED,
        WorkerState.LOST: WorkerState.LOST,
    },
    WorkerInput.LOSE: {
        WorkerState.READY: WorkerState.LOST,
        WorkerState.UNRESPONSIVE: WorkerState.LOST,
        WorkerState.STOPPING: WorkerState.LOST,
        WorkerState.STOPPED: WorkerState.STOPPED,
        WorkerState.LOST: WorkerState.LOST,
    },
    WorkerInput.SUSPECT: {
        WorkerState.READY: WorkerState.UNRESPONSIVE,
        WorkerState.UNRESPONSIVE: WorkerState.UNRESPONSIVE,
        WorkerState.STOPPING: WorkerState.STOPPING,
    },
    WorkerInput.RECOVER: {WorkerState.UNRESPONSIVE: WorkerState.READY},
}


def next_state(
    moves: dict[Any, Any], state: TaskState | WorkerState, what: object
) -> Any:
    """Look one transition up.

    Raises:
        TransitionError: The table has no row for it.
    """
    try:
        return moves[state]
    except KeyError:
        raise TransitionError(f"{what}: no transition from {state.name}") from None
