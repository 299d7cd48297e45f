"""Another attempt: which failed task gets one, when, and what it knows of the others.

An attempt is a task of its own; the future, or the place in the job, waits for the
last. An error that is final carries those before: each is the last cause of the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mpitasks.core.postponed import retry_delay
from mpitasks.master.calls import Call, Chunk
from mpitasks.terms import Terms

if TYPE_CHECKING:
    from mpitasks.core.events import TaskId
    from mpitasks.options import TaskOptions

__all__ = ["Again", "History", "next_attempt"]

Again = tuple[float, "Call | Chunk"]
"""Seconds to wait, and the task to run then."""


class History:
    """What became of earlier attempts.

    Args:
        place: The call's, as in `Batch.places`: the id of its first attempt. A chunk
            has it from its job.

    Attributes:
        place: As given.
        crashes: How many of them lost their rank.
        blamed: How often that may have been its own doing.
        errors: What each ended with, in order.
    """

    __slots__ = ("blamed", "crashes", "errors", "place")

    def __init__(self, place: Any) -> None:
        self.place = place
        self.crashes = 0
        self.blamed = 0
        self.errors: list[BaseException] = []


def next_attempt(
    task: Call | Chunk,
    error: BaseException,
    ids: Iterator[TaskId],
    *,
    crashed: bool = False,
    alone: bool = True,
) -> Again | None:
    """Return the next attempt at a failed task, or None if the error is final.

    The task is a call, or a chunk of one item. A final error is given the earlier
    ones.

    Args:
        task: The task.
        error: What it ended with.
        ids: Where the next attempt gets its id from.
        crashed: Whether it lost its rank.
        alone: Whether the rank held nothing else then. Of several, one is to blame and
            nobody knows which. So each is blamed the first time; and goes alone from
            then on, so that the innocent come through.
    """
    options = task.options if isinstance(task, Call) else task.job.options
    history = task.history
    blamed = crashed and (alone or history is None or not history.blamed)
    # Large arguments that were sent at once were not kept: `mpitasks.master.keeping`.
    sendable = not isinstance(task, Call) or len(task.buffers) == task.wire[4]
    if not sendable or not _again(
        options, history, error, crashed=crashed, blamed=blamed
    ):
        if history is not None:
            _chain([*history.errors, error])
        return None
    if history is None:
        history = History(task.id)
    history.errors.append(error)
    history.crashes += crashed
    history.blamed += blamed
    failed = len(history.errors)
    terms = (options.terms or Terms())._replace(attempt=failed + 1)
    again = task.again(next(ids), terms, history)
    if crashed:
        again.function = -1 - again.id  # for the scheduler: one that nobody measured
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
        while last.__cause__ is not None:
            last = last.__cause__
        if last is not earlier:  # some unpickle as one and the same object
            last.__cause__ = earlier
