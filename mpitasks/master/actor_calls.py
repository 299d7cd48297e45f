"""Calls of actors that tasks make: into the mailbox, and what came of them back.

A worker sends a call (`Called`), which becomes a task like those of the script; its
outcome goes back (`Answered`). A wait that takes long is told (`Awaited`), and if it
would never end its call is taken back. All this happens under the event loop's lock and
runs no code of the user. The other end is `mpitasks.worker.actor_calls`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from mpitasks import actor_objects
from mpitasks.errors import ActorCycle, ActorDied, RemoteError
from mpitasks.master.actors import ActorCall, Sent
from mpitasks.master.future import Future
from mpitasks.master.inputs import SOME, Arrived, Inputs, unnamed
from mpitasks.master.payloads import PLAIN_BYTES
from mpitasks.scheduler.actor_waits import ActorWaits
from mpitasks.scheduler.events import ActorTask, CallRefused, TasksSubmitted
from mpitasks.wire.inputs import Reference
from mpitasks.wire.messages import CALL_PLAIN, PLAIN, VALUE, Answered
from mpitasks.wire.outcomes import Encoded, Failure, encode_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpitasks.master.actors import Actor
    from mpitasks.master.functions import Function
    from mpitasks.master.passing import Passing
    from mpitasks.options import TaskOptions
    from mpitasks.scheduler.events import ActorId, Event, Rank, Task
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import Awaited, Called, Message
    from mpitasks.wire.outcomes import Form

__all__ = ["RemoteCalls"]


class RemoteCall(ActorCall):
    """A call of an actor that a task has made: the task gets what it comes to.

    Arguments that are not plain come to it as a result of another task does: they may
    refer to what the actor's rank lacks, and rank 0 looks into them where it may run
    code of the user.
    """

    _is_observed = True  # so that `_settle_observed` is called
    answer: Callable[[Any], None]
    log: Callable[[Sent], None] | None = None
    """Takes note of it when it is sent, if its actor may be restarted."""
    refusal: ActorCycle | None = None
    """Why it is taken back, if it is."""

    def __init__(
        self,
        actor: Actor,
        id: int,
        target: Function,
        called: Called,
        options: TaskOptions,
        answer: Callable[[Any], None],
    ) -> None:
        Future.__init__(self, actor.event_loop)
        self.answer = answer
        self.options = options
        self.owner = actor.owner
        self.target = target
        self.inputs = None
        args = called.payload
        task = ActorTask(id, target.id, self, PLAIN_BYTES, 0, options.task_spec)
        task.actor = actor.id
        if actor.is_logged:
            self.log = actor.note_sent
            self.is_simple = False
        if called.mode != CALL_PLAIN:
            inputs = self.inputs = Inputs.of_one(task, id)
            args = (Reference(inputs.token, 0),)
            task.inputs = SOME
        self.wire = (id, target.id, CALL_PLAIN, args, 0)
        self._task = task

    def encode(self, task: Task) -> tuple[tuple[Any, ...], Any, Sequence[Buffer]]:
        """Return the call as it stands in a message; take note that it is sent."""
        if self.log is not None:
            self.log(Sent(self, task))
        return super().encode(task)

    def _settle_observed(self, outcome: Any) -> None:
        super()._settle_observed(outcome)
        self.answer(outcome)

    def _settle_cancelled(self) -> None:
        super()._settle_cancelled()
        self.answer(Failure(self.refusal or CancelledError()))


class RemoteCalls:
    """The calls of actors that tasks on workers make. Under the event loop's lock.

    Args:
        find: Returns an actor by its number; None if it has ended.
        handle: Lets the scheduler decide about an event, and does what it decided.
        passing: Passes results on to calls that need them.
        send: Sends a worker a message.
    """

    def __init__(
        self,
        find: Callable[[ActorId], Actor | None],
        handle: Callable[[Event], None],
        passing: Passing,
        send: Callable[[Rank, Message], None],
    ) -> None:
        self._find = find
        self._handle = handle
        self._passing = passing
        self._send = send
        self._waits = ActorWaits()
        self._open: dict[tuple[Rank, int], RemoteCall] = {}
        self._gone: set[Rank] = set()

    def take(self, called: Called) -> None:
        """Put a call of a task into the actor's mailbox."""
        answer = functools.partial(self._answer, called.rank, called.number)
        actor = self._find(called.actor)
        if actor is None or actor.closed:
            error = ActorDied(f"{called.name} was called after its actor was closed")
            error.call = called.name
            answer(Failure(error))
            return
        call = _call_of_task(actor, called, answer)
        self._open[called.rank, called.number] = call
        task = call.task
        inputs = call.inputs
        if inputs is not None:
            self._passing.open(task)
        state = actor.due()
        tasks = [task] if state is None else [task, state.task]
        self._handle(TasksSubmitted(tasks))
        if inputs is not None:
            args = Encoded(VALUE, called.payload, list(called.buffers))
            arrived = Arrived(task.id, [(inputs, 0)], args, unnamed)
            self._passing.arrived.append(arrived)

    def look_at(self, awaited: Awaited) -> None:
        """Refuse a wait that never ends."""
        call = self._open.get((awaited.rank, awaited.number))
        if call is None:
            return  # it was answered meanwhile
        circle = self._waits.add(
            awaited.rank, awaited.number, awaited.actor, awaited.stack
        )
        if circle is None:
            return
        actors = [self._find(number) for number in circle]
        names = [
            f"{'an actor' if actor is None else actor.label} (number {number})"
            for number, actor in zip(circle, actors, strict=True)
        ]
        call.refusal = ActorCycle(
            f"this call would never be answered, and was taken back: each of these "
            f"actors waits for the next, {' -> '.join(names)}. Do not wait for it in "
            f"the method: return, and let the caller ask for the result"
        )
        task: Any = call.task
        self._handle(CallRefused(task))

    def lose(self, rank: Rank) -> None:
        """A worker is gone, with all that waited there."""
        self._gone.add(rank)
        self._waits.lose(rank)

    def _answer(self, rank: Rank, number: int, outcome: Any) -> None:
        self._waits.end(rank, number)
        self._open.pop((rank, number), None)
        if rank not in self._gone:
            form, value, buffers = _form_of(outcome)
            self._send(rank, Answered(number, form, value, buffers))


def _form_of(outcome: Any) -> Form:
    """Return what a call came to as it stands in a message."""
    if type(outcome) is Encoded:
        if not outcome.is_special:
            return outcome.lend()
        outcome = Failure(RemoteError("the call was not run: what it needs is lost"))
    if type(outcome) is Failure:
        return encode_error(outcome.error, "rank 0")
    return PLAIN, outcome, []


def _call_of_task(
    actor: Actor, called: Called, answer: Callable[[Any], None]
) -> RemoteCall:
    function: Callable[..., Any] = actor_objects.call
    if called.reads:
        function = actor_objects.read
    if called.mode != CALL_PLAIN:
        function = actor_objects.spread
    target = actor.for_task(function, called.name)
    options = actor.options_of_task(called.timeout, called.label)
    return RemoteCall(actor, actor.next_id(), target, called, options, answer)
