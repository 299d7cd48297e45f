"""The actors of a run that have not ended: what happens to them on rank 0.

When the scheduler says so, calls of an actor that is gone get their error, and an actor
is made again. Called under the event loop's lock; making an actor again pickles, so
that is done later, under no lock.
"""

from __future__ import annotations

import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any

from mpitasks.errors import ActorDied
from mpitasks.master.actor_calls import RemoteCalls
from mpitasks.scheduler.events import ActorFailed, ActorRestarted, ActorTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mpitasks.errors import MpiTasksError
    from mpitasks.master.actors import Actor
    from mpitasks.master.completion import Completion
    from mpitasks.master.passing import Passing
    from mpitasks.scheduler.events import ActorId, Event, Rank, Task
    from mpitasks.wire.messages import Message

__all__ = ["Actors"]


class Actors:
    """The actors of a run that have not ended, and what happens to them.

    Args:
        handle: Lets the scheduler decide about an event, and does what it decided.
        completion: Gives calls their errors; calls something later, under no lock.
        passing: Passes results on to calls that need them.
        losses: What became of ranks that are gone.
        send: Sends a worker a message.

    Attributes:
        remote: The calls that tasks make.
        hosts: Where the workers are, by rank.
    """

    def __init__(
        self,
        handle: Callable[[Event], None],
        completion: Completion,
        passing: Passing,
        losses: Mapping[Rank, str],
        send: Callable[[Rank, Message], None],
    ) -> None:
        self._handle = handle
        self._completion = completion
        self._passing = passing
        self.hosts: Mapping[Rank, str] = {}
        self.remote = RemoteCalls(self.get, handle, passing, send)
        self._losses = losses
        self._known: weakref.WeakValueDictionary[ActorId, Actor] = (
            weakref.WeakValueDictionary()
        )

    def add(self, actor: Actor) -> None:
        """Take in a new one."""
        self._known[actor.id] = actor

    def get(self, actor: ActorId) -> Actor | None:
        """Return an actor; None if it has ended."""
        return self._known.get(actor)

    def fail(self, action: ActorFailed, broken: MpiTasksError | None) -> None:
        """Give calls of actors that are dead or closed their errors.

        Args:
            action: The calls.
            broken: Why the engine is broken, if it is.
        """
        rank = action.rank
        by_actor: dict[ActorId, list[Task]] = {}
        for task in action.tasks:
            by_actor.setdefault(task.actor, []).append(task)
        for number, tasks in by_actor.items():
            actor = self._known.get(number)
            if actor is not None:
                actor.forget_lost(tasks)
        self._completion.fail(
            action.tasks, lambda task: broken or self._error(task, rank)
        )

    def _error(self, task: Task, rank: Rank | None) -> ActorDied:
        assert isinstance(task, ActorTask)
        name = task.payload.target_of(task).label
        actor = self._known.get(task.actor)
        if rank is None:
            error = ActorDied(f"{name} was called after its actor was closed")
            error.call = name
            return error
        how = self._losses.get(rank, f"rank {rank} is gone or stuck")
        then = "max_restarts=1 would make it again on another rank"
        if actor is not None and actor.restarts > actor.restarted:
            then = "calls that come later run on another rank, if there is one"
        elif actor is not None and actor.restarts:
            then = f"it was made again {actor.restarted} times, as max_restarts allows"
        error = ActorDied(
            f"{how} with the actor that {name} was called on (the call may have run; "
            f"{then})"
        )
        error.rank, error.host, error.call = rank, self.hosts.get(rank), name
        return error

    def restart(self, number: ActorId, rank: Rank) -> None:
        """Make an actor again: later, since that pickles."""
        actor = self._known.get(number)
        if actor is None:
            return  # its last call was sent, and it was lost with that
        print(
            f"mpitasks: the actor {actor.label} is made again on rank {rank}",
            file=sys.stderr,
            flush=True,
        )
        self._completion.defer(functools.partial(self._make_again, actor))

    def _make_again(self, actor: Actor) -> None:
        tasks: Any = [call.task for call in actor.again()]

        def enter() -> None:
            for task in tasks:
                if task.inputs:  # the checkpoint, which is there
                    self._passing.open(task)
            self._handle(ActorRestarted(actor.id, tasks))

        self._completion.enter(enter)
