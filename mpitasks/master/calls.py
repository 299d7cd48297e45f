"""What the master carries along with a task: its payload, and who waits for it.

`Call` is one submitted call, `Chunk` some items of a `Job` (`mpitasks.master.job`).
The scheduler knows both as a `Task` and never looks at what is added here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpitasks.core.events import Task, TaskId, TaskState
from mpitasks.errors import SerializationError
from mpitasks.wire import codec
from mpitasks.wire.messages import CALL, CALL_PLAIN

if TYPE_CHECKING:
    from mpitasks.master.attempts import History
    from mpitasks.master.functions import Function
    from mpitasks.master.future import Future
    from mpitasks.master.job import Job
    from mpitasks.options import TaskOptions
    from mpitasks.terms import Terms
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.script import ScriptPickler

__all__ = ["Call", "Chunk"]

_NEW = TaskState.NEW
_NO_BUFFERS: list[Buffer] = []

PLAIN_BYTES = 32
"""What a call with plain arguments is taken to weigh in a message."""


class Call(Task):
    """One submitted call.

    Attributes:
        target: The function as it is sent.
        wire: The call as it stands in a message.
        buffers: Its out-of-band buffers: the memory of the user's own arrays.
        options: What was asked for it.
        future: Who waits for it.
        history: What became of earlier attempts, if there were any.
    """

    __slots__ = ("buffers", "future", "history", "options", "target", "wire")

    future: Future
    wire: tuple[int, int, int, Any, int]
    history: History | None

    def __init__(
        self,
        id: TaskId,
        target: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> None:
        """Pickle the call.

        Raises:
            SerializationError: An argument cannot be pickled.
        """
        # All fields are set right here: a call of Task.__init__ costs as much as they.
        self.id = id
        self.count = 1
        self.priority = options.priority
        self.options = options
        self.terms = options.terms
        self.history = None
        self.state = _NEW
        if not kwargs and codec.is_plain(args):
            self.wire = (id, target.id, CALL_PLAIN, args, 0)
            self.buffers = _NO_BUFFERS
            self.nbytes = PLAIN_BYTES
        else:
            frame, buffers, notes = _encode_arguments(args, kwargs)
            if notes is not None:
                target = target.including(notes.names)
            self.wire = (id, target.id, CALL, frame, len(buffers))
            self.buffers = buffers
            self.nbytes = len(frame) + sum(map(len, buffers))
        self.target = target
        self.function = target.id

    def again(self, task_id: TaskId, terms: Terms, history: History) -> Call:
        """Return the same call as another attempt, which the future waits for now."""
        call = object.__new__(Call)
        for name in ("buffers", "future", "options", "target"):
            setattr(call, name, getattr(self, name))
        Task.__init__(
            call,
            task_id,
            self.function,
            nbytes=self.nbytes,
            priority=self.priority,
            terms=terms,
        )
        call.wire = (task_id, *self.wire[1:])
        call.history = history
        call.future._call = call
        return call


def _encode_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bytes, list[Buffer], ScriptPickler | None]:
    try:
        return codec.encode_noting((args, kwargs), "the arguments")
    except SerializationError:
        # One by one, so that the message names the one that is to blame.
        for index, value in enumerate(args):
            codec.encode(value, f"argument {index}")
        for name, value in kwargs.items():
            codec.encode(value, f"argument {name!r}")
        raise


class Chunk(Task):
    """Some consecutive items of a job.

    Attributes:
        job: The job that they are from.
        start: The index of the first in the job.
        items: The items; each a tuple of arguments if the job says so.
        history: As that of a `Call`; only of a chunk of one item.
    """

    __slots__ = ("history", "items", "job", "start")

    def __init__(
        self, id: TaskId, job: Job, start: int, items: list[Any] | range
    ) -> None:
        super().__init__(
            id,
            job.function,
            count=len(items),
            priority=job.priority,
            terms=job.terms,
        )
        self.history: History | None = None
        self.job = job
        self.start = start
        self.items = items

    def split(self, task_id: TaskId, keep: int) -> Chunk:
        rest = Chunk(task_id, self.job, self.start + keep, self.items[keep:])
        self.items = self.items[:keep]
        self.count = keep
        return rest

    def single(self, task_id: TaskId, at: int) -> Chunk:
        """Return a chunk of one of the items, for when each goes its own way."""
        one = Chunk(task_id, self.job, self.start + at, self.items[at : at + 1])
        one.terms = self.terms
        one.history = self.history
        return one

    def again(self, task_id: TaskId, terms: Terms, history: History) -> Chunk:
        """Return the same item as another attempt."""
        chunk = Chunk(task_id, self.job, self.start, self.items)
        chunk.terms = terms
        chunk.history = history
        return chunk
