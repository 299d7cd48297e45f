"""Passing on: brings results of tasks to the tasks that wait for them.

A future that is settled says who needs its result. Mostly that is passed on as it came,
and the scheduler is told. A result that refers to classes or functions of the script
must be looked into first, since the next worker may lack these; that runs code of the
user, and is done later, when the event loop's lock is released. Everything else here is
called under the lock.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.master.inputs import (
    CANCELLED,
    NEVER,
    Arrived,
    pending_of,
    prepare,
    quick,
    unnamed,
)
from mpitasks.scheduler.events import Event, InputGone, InputReady, TaskState
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.outcomes import Failure, has_failed

if TYPE_CHECKING:
    from mpitasks.master.completion import Completion
    from mpitasks.master.functions import Function
    from mpitasks.master.inputs import Prepared, User
    from mpitasks.scheduler.events import Task

__all__ = ["Passing"]

_WAITING = TaskState.WAITING  # an attribute of an enum costs 0.1 us on CPython 3.11


class Passing:
    """Passes results on.

    Args:
        handle: Lets the scheduler decide about an event, and does what it decided.
        completion: Calls something later, under the lock or not.

    Attributes:
        arrived: Results that tasks need and that nobody has looked at yet.
    """

    def __init__(self, handle: Callable[[Event], None], completion: Completion) -> None:
        self._handle = handle
        self._completion = completion
        self.arrived: deque[Arrived] = deque()
        self._passes_on = False

    def open(self, task: Task) -> None:
        """A task with inputs comes, some of which may have come before it."""
        inputs = task.payload.inputs_of(task)
        if inputs.lost is not None:
            self.arrived.append(Arrived(NEVER, [(inputs, 0)], inputs.lost, unnamed))
            return
        task.inputs = inputs.ids
        self.arrived.extend(inputs.early)
        task.data = inputs.places
        if inputs.is_complete:
            task.nbytes += inputs.nbytes
            task.payload.fill(task)

    def pass_on(self) -> None:
        """Tell the scheduler of results that tasks wait for.

        It may tell of others then: what needs a task that fails, fails.
        """
        if self._passes_on:
            return
        self._passes_on = True
        try:
            while self.arrived:
                self._take_arrived()
        finally:
            self._passes_on = False

    def _take_arrived(self) -> None:
        arrived = self.arrived.popleft()
        for inputs, _ in arrived.users:
            if inputs.task.state is not _WAITING:
                arrived = self._leave_out(arrived)
                break
        if not arrived.users:
            return
        outcome = arrived.outcome
        if outcome is CANCELLED or has_failed(outcome):
            self._lose_input(arrived, outcome)
        elif (pending := pending_of(outcome)) is not None:
            for user in arrived.users:
                if pending.need(user) is None:
                    again = arrived._replace(users=[user], outcome=pending.outcome())
                    self.arrived.append(again)
        elif (prepared := quick(outcome)) is not None:
            event = self._give_input(arrived, prepared)
            # Nothing here is to hold the result any more: see `mark_last_uses`.
            del arrived, outcome, prepared, inputs
            self._handle(event)
        else:
            self._prepare_later(arrived)

    def _leave_out(self, arrived: Arrived) -> Arrived:
        """Keep a result for tasks that are in the inbox; return it for those that wait.

        Others were cancelled, or are lost.
        """
        users = []
        for user in arrived.users:
            inputs, _ = user
            if inputs.task.state is TaskState.NEW:
                inputs.early = [*inputs.early, arrived._replace(users=[user])]
            elif inputs.task.state is _WAITING:
                users.append(user)
        return arrived._replace(users=users)

    def _lose_input(self, arrived: Arrived, outcome: Any) -> None:
        tasks = []
        for inputs, _ in arrived.users:
            if inputs.task.state is _WAITING:  # it may be cancelled meanwhile
                inputs.lose(outcome, arrived.named)
                tasks.append(inputs.task)
        self._handle(InputGone(arrived.id, tasks, outcome is CANCELLED))

    def _give_input(self, arrived: Arrived, prepared: Prepared) -> InputReady:
        """Give tasks a result that they need; return the event that tells of it."""
        tasks = []
        functions = {}
        for inputs, index in arrived.users:
            task = inputs.task
            if task.state is not _WAITING:
                continue
            tasks.append(task)
            inputs.put(index, prepared)
            if prepared.names:
                functions[task.id] = task.payload.target_of(task).id
            if inputs.is_complete:
                task.payload.fill(task)
        place = prepared.place
        return InputReady(arrived.id, tasks, prepared.nbytes, functions, place)

    def _prepare(self, arrived: Arrived) -> None:
        """Look into a result: called without the lock, since that is code of the user.

        What it refers to must be known to the workers, too.
        """
        text = "the result of another task could not be passed on: interrupted"
        prepared: Any = Failure(SerializationError(text))
        targets = []
        try:
            found = prepare(arrived.outcome)
            for inputs, _ in arrived.users:
                payload = inputs.task.payload
                before = after = (
                    None if payload is None else payload.target_of(inputs.task)
                )
                if before is not None and found.names:  # it may be cancelled any time
                    after = before.including(found.names)
                targets.append((before, after))
            prepared = found
        except BaseException as error:
            if interrupts(error):
                raise
            prepared = Failure(error)
        finally:
            step = functools.partial(self._prepared, arrived, prepared, targets)
            self._completion.enter(step)

    def _prepared(
        self,
        arrived: Arrived,
        prepared: Any,
        targets: Sequence[tuple[Function | None, Function | None]],
    ) -> None:
        if type(prepared) is Failure:
            self._lose_input(arrived, prepared)
            return
        ready: list[User] = []
        again: list[User] = []
        for user, (before, after) in zip(arrived.users, targets, strict=True):
            task = user[0].task
            if task.state is not _WAITING or after is None:
                continue
            if task.payload.target_of(task) is not before:  # for another input
                again.append(user)
                continue
            if after is not before:
                task.payload.widen(task, after)
            ready.append(user)
        self._handle(self._give_input(arrived._replace(users=ready), prepared))
        if again:
            self._prepare_later(arrived._replace(users=again))

    def _prepare_later(self, arrived: Arrived) -> None:
        self._completion.defer(functools.partial(self._prepare, arrived))
