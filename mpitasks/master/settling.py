"""What became of tasks, brought to who waits for them: futures and jobs.

Called under the pump's lock. Which task is done was decided before, by the scheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpitasks.master import future
from mpitasks.master.calls import Call, Chunk
from mpitasks.wire.messages import LIST
from mpitasks.wire.outcomes import Failure, decode_outcome

if TYPE_CHECKING:
    from mpitasks.core.events import Task
    from mpitasks.wire.messages import Outcomes

__all__ = ["complete", "fail"]


def complete(tasks: Sequence[Task | None], outcomes: Outcomes) -> None:
    """Give each task what the report says of it.

    Args:
        tasks: The tasks of the report, in its order; None where it came too late.
        outcomes: The report.
    """
    values = outcomes.values
    if outcomes.forms:
        buffers = outcomes.buffers
        buffers.reverse()
        for at, (form, count) in outcomes.forms.items():
            own = [buffers.pop() for _ in range(count)]
            values[at] = decode_outcome(form, values[at], own, _label(tasks[at]))
    futures = []
    for at, task in enumerate(tasks):
        if type(task) is Call:
            futures.append(task.future)
        elif type(task) is Chunk:
            form, _ = outcomes.forms[at]
            task.job.deliver(task, values[at], mixed=form != LIST)
    if len(futures) != len(tasks):  # some are chunks, or late
        values = [v for t, v in zip(tasks, values, strict=True) if type(t) is Call]
    future.settle(futures, values)


def fail(tasks: Sequence[Task], error: BaseException) -> None:
    """Give each task the same error."""
    failure = Failure(error)
    calls = [task for task in tasks if type(task) is Call]
    future.settle([call.future for call in calls], [failure] * len(calls))
    for task in tasks:
        if type(task) is Chunk:
            task.job.deliver(task, failure, mixed=True)


def _label(task: Task | None) -> str | None:
    if type(task) is Call:
        return task.options.label
    if type(task) is Chunk:
        return task.job.options.label
    return None  # the outcome is late
