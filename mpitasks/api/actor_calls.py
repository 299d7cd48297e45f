"""Calls of actors that a task makes: what stands behind its handles and their futures.

Rank 0 runs the calls of all. This sends them there and gets what they come to by what
the process provides (`mpitasks.actor_objects.caller`), which also drives the futures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpitasks import actor_objects
from mpitasks.errors import ConfigurationError, OptionError
from mpitasks.master.future import Future, settle
from mpitasks.options import DEFAULTS
from mpitasks.wire import codec
from mpitasks.wire.messages import CALL, CALL_PLAIN, PLAIN
from mpitasks.wire.outcomes import Encoded

if TYPE_CHECKING:
    from mpitasks.options import TaskOptions
    from mpitasks.wire.codec import Buffer

__all__ = ["TaskFuture", "TaskHold"]

NO_WAY = (
    "an actor can be called by the script and by tasks that are not isolated: an "
    "isolated task, and a program that a task starts, has no way to rank 0"
)


class TaskHold:
    """A way to an actor that rank 0 knows by its number.

    Attributes:
        cls: The class of the actor's object.
        label: What messages call the actor.
        number: Its number in the run.
        options: Those of its calls.
        closed: False: only rank 0 knows.
    """

    __slots__ = ("cls", "label", "number", "options")

    closed = False

    def __init__(self, number: int, cls: type, label: str) -> None:
        self.cls = cls
        self.label = label
        self.number = number
        self.options = DEFAULTS

    def call(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Future:
        """Send a call to rank 0; the arguments are those of `Actor.call`."""
        calls = actor_objects.caller()
        if calls is None:
            raise ConfigurationError(NO_WAY)
        if options.keep:
            raise OptionError("keep=True is for calls of the script, not of tasks")
        mode = CALL_PLAIN
        payload: Any = args
        buffers: list[Buffer] = []
        if kwargs or not codec.is_plain(args):
            payload, buffers = codec.encode((args, kwargs), "the arguments")
            mode = CALL
        future = TaskFuture(calls)
        number = calls.call(
            self.number,
            name,
            mode,
            payload,
            buffers,
            future.take,
            reads=function is actor_objects.read,
            timeout=options.timeout,
            label=options.label,
        )
        future.actor_call = number, self.number
        return future

    def close(self) -> None:
        """Do nothing: the script says when the actor ends.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "a task cannot close an actor: that is for the script that made it"
        )

    def travel(self) -> None:
        """A handle is about to be pickled: it may go anywhere."""


class TaskFuture(Future):
    """The result-to-be of a call that a task has made.

    Attributes:
        actor_call: The number of the call, and the actor.
    """

    actor_call: tuple[int, int]

    def take(self, form: int, payload: Any, buffers: list[Buffer]) -> None:
        """Become finished."""
        outcome = payload if form == PLAIN else Encoded(form, payload, buffers)
        settle([self], [outcome])
