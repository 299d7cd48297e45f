"""What stands behind a task on rank 0: its payload, a call or a bulk job.

A `Call` is the future of a call and holds the encoded call until it has an outcome. A
`BulkJob` (`mpitasks.master.bulk_job`) has chunks of its items as tasks. The scheduler
carries payloads along and never looks at them. `Payload` says what the master asks of
both.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures._base import PENDING
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.master.future import Driver, Future
from mpitasks.master.inputs import SOME, Inputs
from mpitasks.scheduler.events import Task, TaskState
from mpitasks.wire import codec
from mpitasks.wire.inputs import Collector, Reference, collecting
from mpitasks.wire.messages import CALL, CALL_PLAIN
from mpitasks.wire.outcomes import repeated

if TYPE_CHECKING:
    from typing import Protocol

    from mpitasks.master.functions import Function
    from mpitasks.master.kept_results import KeptResult
    from mpitasks.master.script_state import Definition
    from mpitasks.options import TaskOptions
    from mpitasks.scheduler.events import Place, TaskId
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.outcomes import Name
    from mpitasks.wire.script_pickle import ScriptPickler

    class Payload(Protocol):
        """What the master asks of a payload."""

        @property
        def is_call(self) -> bool:
            """Whether it is a `Call`."""

        @property
        def options(self) -> TaskOptions:
            """What was asked for it."""

        @property
        def target(self) -> Function:
            """The function as it is sent."""

        @property
        def owner(self) -> object:
            """Whose it is: an Executor's handle."""

        @property
        def wanted(self) -> bool:
            """Whether what it still lacks is worth another attempt."""

        @property
        def wire(self) -> tuple[Any, ...] | None:
            """The first attempt as it stands in a message, if it is a call."""

        @property
        def is_simple(self) -> bool:
            """Whether its `wire` has neither buffers nor a place beside it."""

        def encode(self, task: Task) -> tuple[tuple[Any, ...], Any, Sequence[Buffer]]:
            """Return a task as it stands in a message, its place, and its buffers."""

        def history(self, task: Task) -> History | None:
            """Return what became of earlier attempts at a task of one item."""

        def try_again(self, task: Task, history: History) -> None:
            """Take note that this task is the next attempt."""

        def is_sendable(self) -> bool:
            """Whether another attempt can be sent."""

        def give(self, task: Task, outcome: Any) -> None:
            """Give a task of one item the failure that it ended with."""

        def drop(self, task: Task) -> None:
            """A task will not be run."""

        def describe(self, task: Task) -> str:
            """Return what messages call a task."""

        def name_of(self, task: Task) -> Name:
            """Return what tells that, also when the task is over."""

        def target_of(self, task: Task) -> Function:
            """Return the function of a task as it was encoded."""

        def needs_of(self, task: Task) -> Sequence[Definition]:
            """Return the shared objects that a task needs."""

        def inputs_of(self, task: Task) -> Inputs:
            """Return what a task needs of other tasks, if it does."""

        def widen(self, task: Task, target: Function) -> None:
            """Take note that a task needs its function with more globals."""

        def fill(self, task: Task) -> None:
            """All inputs of a task are there: make it ready to be sent."""

        def unfill(self, task: Task) -> Inputs | None:
            """Take all inputs of a task out again; return them, if it has any."""

        def replace_task(self, task: Task) -> None:
            """The latest attempt is another task, with the same items."""


__all__ = ["Call", "History", "named"]

_NO_BUFFERS: Sequence[Buffer] = ()
_NO_INPUTS: Sequence[int] = ()
_NO_DATA: Sequence[Place] = ()

_NEW = TaskState.NEW
_new_task = Task.__new__

PLAIN_BYTES = 32
"""What a call with plain arguments is taken to weigh in a message."""


class History:
    """What became of earlier attempts.

    Attributes:
        crashes: How many of them lost their rank.
        blamed: How often that may have been its own doing.
        errors: What each ended with, in order.
    """

    __slots__ = ("blamed", "crashes", "errors")

    def __init__(self) -> None:
        self.crashes = 0
        self.blamed = 0
        self.errors: list[BaseException] = []


class Call(Future):
    """One submitted call: its future, and what is sent of it until it is done.

    Attributes:
        target: The function as it is sent.
        wire: The call as it stands in a message, with the id of its first attempt.
        buffers: Its out-of-band buffers: the memory of the user's own arrays.
        options: What was asked for it.
        owner: Whose it is: an Executor's handle.
        place: Its place, as in `Batch.places`, if the id does not tell.
    """

    __slots__ = ("inputs", "options", "owner")

    is_call = True
    wanted = True
    # What most calls have.
    buffers: Sequence[Buffer] = _NO_BUFFERS
    place: Any = None
    revives: KeptResult | None = None
    """The kept result that it makes again, if it is a call for that."""
    needs: Sequence[Definition] = ()
    inputs: Inputs | None  # until they are all there
    _history: History | None = None

    def __init__(
        self,
        id: TaskId,
        target: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
        event_loop: Driver,
        owner: object = None,
    ) -> None:
        """Pickle the call.

        Raises:
            SerializationError: An argument cannot be pickled, nor a result in the place
                of one.
        """
        self._event_loop = event_loop
        self._state = PENDING
        self._result = self._exception = None
        self.inputs = found = None
        self.options = options
        self.owner = owner
        nbytes = PLAIN_BYTES
        if not kwargs and codec.is_plain(args):
            self.wire = (id, target.id, CALL_PLAIN, args, 0)
        elif not kwargs and (met := _refer(args, event_loop)) is not None:
            args, found = met
            self.wire = (id, target.id, CALL_PLAIN, args, 0)
        else:
            frame, buffers, notes, found = _encode_arguments(args, kwargs, event_loop)
            if notes is not None:
                target = target.including(notes.names)
            self.wire = (id, target.id, CALL, frame, len(buffers))
            if buffers:
                self.buffers = buffers
                self.is_simple = False
            nbytes = len(frame) + sum(map(len, buffers))
        self.target = target
        # A call of Task.__init__ costs as much as all of these.
        self._task = task = _new_task(Task)
        task.id = id
        task.function = target.id
        task.payload = self
        task.nbytes = nbytes
        task.priority = options.priority
        task.task_spec = options.task_spec
        task.start = 0
        task.count = 1
        task.alone = False
        task.inputs = _NO_INPUTS
        task.data = _NO_DATA
        task.state = _NEW
        if found is not None:
            self._need(found)

    @classmethod
    def anew(
        cls,
        id: TaskId,
        wire: tuple[Any, ...],
        target: Function,
        options: TaskOptions,
        owner: object,
        place: Any,
        needs: Sequence[Definition],
        event_loop: Driver,
    ) -> Call:
        """Return a call that is like one that is done; nobody has its future.

        Args:
            id: The id of its task.
            wire: The call as it stood in a message: its first attempt, which counts
                for its random numbers.
            target: As that one's; so are all that follow.
            options: What was asked for it.
            owner: Whose it is.
            place: Its place.
            needs: The shared objects that it needs.
            event_loop: The run's.
        """
        call = cls.__new__(cls)
        Future.__init__(call, event_loop)
        call.inputs = None
        call.wire = wire
        call.target = target
        call.options = options
        call.owner = owner
        if place is not None:
            call.place = place
        call.needs = needs
        call.is_simple = False
        call._task = Task(
            id, wire[1], call, PLAIN_BYTES, options.priority, options.task_spec
        )
        return call

    @property
    def task(self) -> Task:
        """The latest attempt; not for a call that is done."""
        assert self._task is not None
        return self._task

    def _need(self, found: Collector) -> None:
        """Wait for the futures that were found among the arguments."""
        task = self.task
        inputs = self.inputs = Inputs(task)
        task.inputs = SOME
        names = inputs.require(found)
        if names:
            self.widen(task, self.target.including(names))
            task.function = self.target.id

    def target_of(self, task: Task) -> Function:
        """Return the function as it is sent."""
        target: Function = self.target
        return target

    def needs_of(self, task: Task) -> Sequence[Definition]:
        """Return the shared objects that the call needs."""
        return self.needs

    def inputs_of(self, task: Task) -> Inputs:
        """Return what the call needs of other tasks."""
        assert self.inputs is not None
        return self.inputs

    def widen(self, task: Task, target: Function) -> None:
        """Take note that it needs its function with more globals of the script."""
        self.target = target
        self.wire = (self.wire[0], target.id, *self.wire[2:])

    def fill(self, task: Task) -> None:
        """All inputs are there: make it ready to be sent."""
        inputs = self.inputs_of(task)
        self.inputs = None
        if inputs.needs or inputs.places:
            self.needs = inputs.needs
            self.is_simple = False
        id, function, mode, payload, _ = self.wire
        if mode == CALL_PLAIN:
            args = inputs.into(payload)
            if args is not None:
                self.wire = (id, function, CALL_PLAIN, args, 0)
                return
            payload = codec.encode_plain((payload, {}))
        frame, buffers = inputs.around(payload, self.buffers)
        inputs.forms = []  # nothing but the call holds the results now
        self.wire = (id, function, CALL, frame, len(buffers))
        if buffers:
            self.buffers = buffers
            self.is_simple = False

    def unfill(self, task: Task) -> Inputs | None:
        """Take all inputs out again, the reverse of `fill`; None if there are none."""
        id, function, mode, payload, _ = self.wire
        if mode != CALL or type(payload) is not tuple:
            return None
        inputs = self.inputs = Inputs.again(task, payload, self.buffers)
        inputs.needs = tuple(self.needs)
        frame, own, _, _ = payload
        self.buffers = self.buffers[:own]
        self.wire = (id, function, CALL, frame, own)
        return inputs

    def replace_task(self, task: Task) -> None:
        """The latest attempt is another task."""
        self._task = task

    def encode(self, task: Task) -> tuple[tuple[Any, ...], Any, Sequence[Buffer]]:
        """Return the call as it stands in a message, its place, and its buffers."""
        wire = self.wire
        if wire[0] == task.id:
            return wire, self.place, self.buffers
        place = wire[0] if self.place is None else self.place
        return (task.id, *wire[1:]), place, self.buffers

    def history(self, task: Task) -> History | None:
        """Return what became of earlier attempts."""
        return self._history

    def try_again(self, task: Task, history: History) -> None:
        """Take note that this task is the next attempt."""
        self._history = history
        self._task = task

    def is_sendable(self) -> bool:
        """Whether another attempt can be sent.

        Large arguments that were sent at once were not kept
        (`mpitasks.master.argument_memory`).
        """
        return bool(len(self.buffers) == self.wire[4])

    def give(self, task: Task, outcome: Any) -> None:
        """Give the future the failure that the call ended with."""
        self.keep_name()
        self._let_go_of_inputs()
        self._settle(outcome)

    def keep_name(self) -> None:
        """Keep what messages call it: other tasks may fail for its sake."""
        if self._task is not None:
            self.named = self.name_of(self._task)

    def drop(self, task: Task) -> None:
        """The call will not be run: it was cancelled, or its Executor is broken."""
        initializer = self.target.initializer
        if initializer is not None and initializer.failure is not None:
            self.give(task, repeated(initializer.failure))
            return
        self._let_go_of_inputs()
        self._settle_cancelled()

    def _let_go_of_inputs(self) -> None:
        inputs, self.inputs = self.inputs, None
        if inputs is not None:
            inputs.clear()

    def describe(self, task: Task) -> str:
        """Return what messages call it."""
        return self.name_of(task)()

    def name_of(self, task: Task) -> Name:
        """Return what tells what messages call it."""
        return functools.partial(_name, task.id, self.options, self.target.label)


def _name(id: TaskId, options: TaskOptions, function: str) -> str:
    return f"task {id} ({named(options, function)})"


def named(options: TaskOptions, function: str) -> str:
    """Return the name of a function, with the label that its task was given."""
    label = options.label
    return function if label is None else f"{label!r}: {function}"


def _refer(
    args: tuple[Any, ...], event_loop: Driver
) -> tuple[tuple[Any, ...], Collector | None] | None:
    """Put references in the place of futures, if all other arguments are plain.

    Returns:
        The arguments and the futures, if any is not done; None if this is not so.
    """
    if not any(type(arg) is Call for arg in args):
        return None
    found = Collector(event_loop)
    try:
        own = [arg.stand_in(found) if type(arg) is Call else arg for arg in args]
    except TypeError:  # which is said in the usual way
        return None
    if not codec.is_plain([arg for arg in own if type(arg) is not Reference]):
        return None
    return tuple(own), None if found.is_empty else found


def _encode_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], event_loop: Driver
) -> tuple[bytes, list[Buffer], ScriptPickler | None, Collector | None]:
    """Return what `encode_noting` does, and the futures that were met, if any."""
    found = Collector(event_loop)
    before = collecting(found)
    try:
        encoded = codec.encode_noting((args, kwargs), "the arguments")
    except SerializationError:
        # One by one, so that the message names the one that is to blame.
        for index, value in enumerate(args):
            codec.encode(value, f"argument {index}")
        for name, value in kwargs.items():
            codec.encode(value, f"argument {name!r}")
        raise
    finally:
        collecting(before)
    return (*encoded, None if found.is_empty else found)
