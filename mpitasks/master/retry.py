"""Retries: which failed task gets another attempt, and when.

An attempt is a task of its own; the future, or the place in the job, waits for the
last one. A final error carries the earlier ones: each is the last cause of the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpitasks.master.payloads import History
from mpitasks.scheduler.events import Task, TaskId
from mpitasks.scheduler.postponed import retry_delay
from mpitasks.task_spec import TaskSpec
from mpitasks.wire.exceptions import cause_of, set_cause

if TYPE_CHECKING:
    from mpitasks.master.payloads import Payload
    from mpitasks.options import TaskOptions

__all__ = ["Again", "next_attempt"]

Again = tuple[float, Task]
"""Seconds to wait, and the task to run then."""


def next_attempt(
    task: Task,
    error: BaseException,
    ids: Iterator[TaskId],
    *,
    crashed: bool = False,
    alone: bool = True,
) -> Again | None:
    """Return the next attempt at a failed task, or None if the error is final.

    A final error is given the earlier ones.

    Args:
        task: The task, of one item.
        error: What it ended with.
        ids: Where the next attempt gets its id from.
        crashed: Whether it lost its rank.
        alone: Whether the rank held nothing else then. Of several tasks one is to
            blame, and it is not known which. So each is blamed the first time, and goes
            alone from then on.
    """
    payload: Payload = task.payload
    options = payload.options
    history = payload.history(task)
    blamed = crashed and (alone or history is None or not history.blamed)
    if not payload.is_sendable() or not _again(
        options, history, error, crashed=crashed, blamed=blamed
    ):
        if history is not None:
            _chain([*history.errors, error])
        return None
    if history is None:
        history = History()
    history.errors.append(error)
    history.crashes += crashed
    history.blamed += blamed
    failed = len(history.errors)
    again = Task(
        next(ids),
        task.function,
        payload,
        task.nbytes,
        task.priority,
        (options.task_spec or TaskSpec())._replace(attempt=failed + 1),
        start=task.start,
        alone=crashed or task.alone,
    )
    again.data = task.data
    payload.try_again(again, history)
    if crashed:
        return 0.0, again
    return retry_delay(failed - history.crashes, options.retry_delay), again


def _again(
    options: TaskOptions,
    history: History | None,
    error: BaseException,
    *,
    crashed: bool,
    blamed: bool,
) -> bool:
    if crashed:
        before = 0 if history is None else history.blamed
        return before + blamed < options.max_crashes
    raised = 0 if history is None else len(history.errors) - history.crashes
    return raised < options.retries and isinstance(error, options.retry_on)


def _chain(errors: list[BaseException]) -> None:
    """Make each error the cause, in the end, of the one after it."""
    for earlier, later in itertools.pairwise(errors):
        last = later
        seen = {id(last)}
        while (cause := cause_of(last)) is not None and id(cause) not in seen:
            last = cause
            seen.add(id(last))
        if id(earlier) not in seen:  # some unpickle as one and the same object
            set_cause(last, earlier)
