"""How far the calls of one Executor are, for those that ask for progress.

`CallCounter` is a listener of the engine, and there only where progress is wanted. It
runs no code of the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.observe.accounts import label_of
from mpitasks.observe.progress import Counts
from mpitasks.scheduler.events import (
    ActorFailed,
    Cancelled,
    Complete,
    Fail,
    GiveUp,
    InputFailed,
    TasksPostponed,
    TasksSubmitted,
    TaskSubmitted,
)

if TYPE_CHECKING:
    from mpitasks.observe.accounts import Accounts
    from mpitasks.scheduler.events import Action, Event, Task

__all__ = ["CallCounter"]


class CallCounter:
    """Counts calls; a source of progress (`mpitasks.observe.progress.Source`).

    Args:
        owner: Whose calls: an Executor's handle.
        accounts: Those of the run, which know what calls take.

    Attributes:
        name: "tasks".
    """

    name = "tasks"

    def __init__(self, owner: object, accounts: Accounts) -> None:
        self._owner = owner
        self._accounts = accounts
        self._left: dict[str, int] = {}  # calls that are not over, by label
        self._total = self._done = self._failed = 0

    # Under the event loop's lock.

    def listen(self, now: float, event: Event, actions: Sequence[Action]) -> None:
        """Take in an event. A listener of the engine."""
        if isinstance(event, TaskSubmitted):
            self._begin([event.task])
        elif isinstance(event, TasksSubmitted):
            self._begin(event.tasks)
        elif isinstance(event, TasksPostponed):
            for task in self._own(event.tasks):
                self._done -= 1
                self._move(task, 1)
        for action in actions:
            if isinstance(action, (Complete, Fail, ActorFailed, InputFailed)):
                for task in self._own(action.tasks):
                    self._done += 1
                    self._move(task, -1)
            elif isinstance(action, GiveUp):
                for task in self._own([action.task]):
                    self._done += 1
                    self._move(task, -1)
            elif isinstance(action, Cancelled):
                for task in self._own(action.tasks):
                    self._total -= 1
                    self._move(task, -1)

    def note_failure(self, task: Task, items: int) -> None:
        """A task has failed for good."""
        for _ in self._own([task]):
            self._failed += 1

    def _begin(self, tasks: Sequence[Task]) -> None:
        for task in self._own(tasks):
            self._total += 1
            self._move(task, 1)

    def _move(self, task: Task, by: int) -> None:
        label = label_of(task.payload)
        left = self._left.get(label, 0) + by
        if left:
            self._left[label] = left
        else:
            self._left.pop(label, None)

    def _own(self, tasks: Iterable[Task | None]) -> Iterator[Task]:
        for task in tasks:
            if task is None:
                continue
            payload = task.payload
            if (
                payload.is_call
                and payload.owner is self._owner
                and payload.options.progress
            ):
                yield task

    # From any thread.

    def counts(self) -> Counts:
        """Return how far the calls are."""
        work: float | None = 0.0
        for label, left in self._left.copy().items():
            each = self._accounts.seconds_each(label)
            work = None if each is None or work is None else work + left * each
        return Counts(self._done, self._failed, self._total, work, grows=True)
