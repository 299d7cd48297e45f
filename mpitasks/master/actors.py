"""What rank 0 knows of actors: how their calls are made, and how they are made again.

A call of an actor is a `Call` whose task has a place, the actor's mailbox
(`mpitasks.scheduler.mailboxes`). An actor that may be restarted keeps what its
constructor was called with. With checkpoints it also keeps the calls that were sent
since the last one: a restart begins with the checkpoint, and runs those again of which
an outcome was reported. So the state equals what the outcomes say.

The threads that call run user code here, which pickling is. The rest is called under
the event loop's lock and runs none. What a user sees of an actor is in
`mpitasks.api.actors`, what happens to all actors in `mpitasks.master.actor_table`.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpitasks import actor_objects
from mpitasks.master.future import Future
from mpitasks.master.payloads import PLAIN_BYTES, Call
from mpitasks.scheduler.events import (
    ActorTask,
    ClosingTask,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpitasks.master.functions import Function, Functions, SetUp
    from mpitasks.master.future import Driver
    from mpitasks.master.inputs import Inputs
    from mpitasks.options import TaskOptions
    from mpitasks.scheduler.events import ActorId, Task
    from mpitasks.wire.codec import Buffer

__all__ = ["Actor", "ActorCall", "Sent"]

_numbers = itertools.count(2, 2)  # of all runs of a process
"""Actors of the script have even numbers, those of tasks odd ones: a worker has both in
one table (`mpitasks.actor_objects.objects`)."""


class ActorCall(Call):
    """A call of an actor: it is run once, on that actor's rank, or not at all."""

    __slots__ = ()

    is_checkpoint = False
    """Whether its result is the actor's state."""

    def __init__(
        self,
        actor: Actor,
        id: int,
        target: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
        kind: type[ActorTask] = ActorTask,
    ) -> None:
        super().__init__(
            id, target, args, kwargs, options, actor.event_loop, actor.owner
        )
        own = self.task
        task = kind.__new__(kind)
        task.id = id
        task.function = own.function
        task.payload = self
        task.nbytes = own.nbytes
        task.priority = own.priority
        task.task_spec = own.task_spec
        task.start = 0
        task.count = 1
        task.alone = False
        task.inputs = own.inputs
        task.state = own.state
        task.actor = actor.id
        self._task = task
        if self.inputs is not None:
            self.inputs.task = task

    def unfill(self, task: Task) -> Inputs | None:
        """Return None: it is not run again for an input that was lost."""
        return None


class _ClosingCall(ActorCall):
    """The last call of an actor. Until it is sent the actor may be made again."""

    actor: Actor


class Sent:
    """A call of an actor that was sent, for another time."""

    __slots__ = (
        "buffers",
        "id",
        "is_checkpoint",
        "needs",
        "options",
        "target",
        "wire",
    )

    def __init__(self, call: ActorCall, task: Task) -> None:
        self.id = task.id
        self.wire = call.wire
        self.target = call.target
        self.options = call.options
        self.buffers: Sequence[Buffer] = call.buffers
        self.needs = call.needs
        self.is_checkpoint: Future | None = call if call.is_checkpoint else None

    def again(self, actor: Actor, id: int) -> ActorCall:
        """Return the same call once more; nobody has its future."""
        call = ActorCall.__new__(ActorCall)
        Future.__init__(call, actor.event_loop)
        call.inputs = None
        call.wire = self.wire
        call.target = self.target
        call.options = self.options
        call.owner = actor.owner
        call.buffers = self.buffers
        call.needs = self.needs
        call.is_simple = False
        task = ActorTask(
            id,
            self.wire[1],
            call,
            PLAIN_BYTES + sum(memoryview(each).nbytes for each in self.buffers),
            self.options.priority,
            self.options.task_spec,
        )
        task.actor = actor.id
        call._task = task
        return call


class _LoggedCall(ActorCall):
    """A call of an actor that may be restarted: it is remembered when it is sent."""

    # The slots of a class whose attributes have defaults stand in its `__dict__`.
    actor: Actor
    is_simple = False  # so that whoever sends it asks for its `encode`

    def encode(self, task: Task) -> tuple[tuple[Any, ...], Any, Sequence[Buffer]]:
        """Return the call as it stands in a message; take note that it is sent."""
        self.actor.note_sent(Sent(self, task))
        return super().encode(task)


class Actor:
    """An actor, as rank 0 knows it.

    Args:
        cls: Its class.
        options: The options of its calls.
        restarts: How often it is restarted when its rank is gone.
        checkpoint: After how many calls its state is taken; None for never.
        survives: Whether the run goes on when a rank dies: else nothing restarts it.
        event_loop: The run's.
        functions: The run's.
        ids: Where its calls get their ids from that stand nowhere in the program.
        owner: Whose it is: an Executor's handle.
        set_up: What its functions need first.
        is_of_task: Whether a task makes it.

    Attributes:
        id: Its number.
        label: What messages call it.
        closed: Whether it takes no more calls.
        restarted: How often it was restarted.
        is_logged: Whether its calls are remembered when they are sent.
        cls: As given; so are the others.
    """

    def __init__(
        self,
        cls: type,
        options: TaskOptions,
        *,
        restarts: int,
        checkpoint: int | None,
        survives: bool,
        event_loop: Driver,
        functions: Functions,
        ids: Iterator[int],
        owner: Any,
        set_up: SetUp,
        is_of_task: bool,
    ) -> None:
        self.id: ActorId = next(_numbers) + is_of_task
        self.cls = cls
        self.label = options.label or cls.__qualname__
        self.options = options
        self.event_loop = event_loop
        self.owner = owner
        self.closed = False
        self.restarts = restarts
        self.restarted = 0
        self.checkpoint = checkpoint if survives else None
        self._functions = functions
        self._ids = ids
        self._set_up = set_up
        self._names: frozenset[str] = frozenset()  # of the script, that its class needs
        self._targets: dict[tuple[Callable[..., Any], str], Function] = {}
        self._seen: dict[tuple[Callable[..., Any], str], Function] = {}
        self._constructor: Function | None = None
        self.is_logged = restarts > 0 and survives
        # Those of calls of tasks, by time limit and label.
        self._options: dict[tuple[float | None, str | None], TaskOptions] = {}
        self._first: Sent | None = None  # the constructor
        self._log: deque[Sent] = deque()
        self._calls = itertools.count(1)

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ActorCall:
        """Return the call of the constructor.

        Raises:
            SerializationError: The class, or an argument, cannot be pickled.
        """
        make = functools.partial(actor_objects.construct, self.id, self.cls)
        # Kept, so that the workers do not forget what the class needs.
        self._constructor = target = self._functions.register(
            make, self._set_up, whole=True, actor=self.id
        )
        target.label = self.cls.__qualname__
        self._names = target.names
        return self._made(target, args, kwargs, self.options.replace(keep=False))

    def call(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> ActorCall:
        """Return a call that was not submitted.

        Args:
            function: One of `mpitasks.actor_objects`.
            name: The method, or the attribute.
            args: The arguments of the method.
            kwargs: Its keyword arguments.
            options: The options.

        Raises:
            SerializationError: An argument cannot be pickled.
        """
        target = self._targets.get((function, name))
        if target is None:
            target = self._register(function, name)
        if self._names:  # the method is to see these as they are now
            target = self._seen[function, name] = target.including(self._names)
        return self._made(target, args, kwargs, options)

    def options_of_task(self, timeout: float | None, label: str | None) -> TaskOptions:
        """Return the options of a call that a task has made."""
        wanted = timeout, label or self.options.label
        options = self._options.get(wanted)
        if options is None:
            options = self._options[wanted] = self.options.replace(
                keep=False, timeout=wanted[0], label=wanted[1], progress=False
            )
        return options

    def next_id(self) -> int:
        """Return an id for a call that stands nowhere in the program."""
        return next(self._ids)

    def due(self) -> ActorCall | None:
        """Return a call that takes the state, if one is to follow the last call."""
        if self.checkpoint is None or next(self._calls) % self.checkpoint:
            return None
        call = self._take_state()
        call.is_checkpoint = True
        return call

    def closing(self) -> ActorCall:
        """Return the last call, which lets go of the object. It runs no user code."""
        target = self._register(actor_objects.drop, None)
        options = self.options.replace(keep=False, timeout=None, progress=False)
        id = next(self._ids)
        call = _ClosingCall(self, id, target, (), {}, options, ClosingTask)
        call.actor = self
        return call

    def _take_state(self) -> _LoggedCall:
        target = self._register(actor_objects.state, None)
        options = self.options.replace(keep=False, timeout=None, progress=False)
        id = next(self._ids)
        call = _LoggedCall(self, id, target, (), {}, options)
        call.actor = self
        return call

    def _register(self, function: Callable[..., Any], name: str | None) -> Function:
        names = () if name is None else (name,)
        target = self._targets.get((function, name or ""))
        if target is None:
            bound = functools.partial(function, self.id, *names)
            target = self._functions.register(bound, self._set_up, actor=self.id)
            target.label = f"{self.cls.__qualname__}.{name or function.__name__}"
            self._targets[function, name or ""] = target
        return target

    def for_task(self, function: Callable[..., Any], name: str) -> Function:
        """Return a function as a call of the script has sent it last.

        Else it has with it what the class needs, as that was for the constructor. To
        look whether it is the same still would run code of the user.
        """
        seen = self._seen.get((function, name))
        if seen is not None:
            return seen
        target = self._register(function, name)
        first = self._constructor
        if self._names and first is not None:
            target = target.twin(first.needs, first.refers, first.names)
        self._seen[function, name] = target
        return target

    def _made(
        self,
        target: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> ActorCall:
        id = next(self.owner.ids)
        if not self.is_logged:
            return ActorCall(self, id, target, args, kwargs, options)
        call = _LoggedCall(self, id, target, args, kwargs, options)
        call.actor = self
        if call.buffers:  # copies, which may stay for long
            call.buffers = [memoryview(bytes(each)) for each in call.buffers]
        return call

    # Of an actor that may be restarted. Under the event loop's lock.

    def note_sent(self, sent: Sent) -> None:
        """Take note that a call is sent; let go of what a checkpoint makes needless."""
        if self._first is None:
            self._first = sent
            return
        if self.checkpoint is None:
            return
        self._log.append(sent)
        if sent.is_checkpoint is None:
            return
        done = [at for at, each in enumerate(self._log) if _is_taken(each)]
        for _ in range(done[-1] if done else 0):
            self._log.popleft()

    def forget_lost(self, tasks: Sequence[Task]) -> None:
        """Let go of calls that were lost with the rank: these are not run again."""
        lost = {task.id for task in tasks}
        while self._log and self._log[-1].id in lost:
            self._log.pop()

    def again(self) -> list[ActorCall]:
        """Return the calls that make the actor again. Called under no lock."""
        self.restarted += 1
        first = self._first
        assert first is not None
        log = [*self._log]  # those that were lost are out of it
        taken = [at for at, each in enumerate(log) if _is_taken(each)]
        calls: list[ActorCall] = []
        if taken:
            state = log[taken[-1]].is_checkpoint
            target = self._register(actor_objects.restore, None)
            if self._names:
                target = target.including(self._names)
            options = self.options.replace(keep=False, timeout=None, progress=False)
            calls.append(
                ActorCall(self, next(self._ids), target, (state,), {}, options)
            )
            log = log[taken[-1] + 1 :]
        else:
            calls.append(first.again(self, next(self._ids)))
        calls += [
            each.again(self, next(self._ids))
            for each in log
            if each.is_checkpoint is None
        ]
        return calls


def _is_taken(sent: Sent) -> bool:
    """Whether it is a checkpoint that is there."""
    state = sent.is_checkpoint
    return state is not None and state.done() and not state.has_failed()
