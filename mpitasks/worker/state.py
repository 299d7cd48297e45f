"""The state of a worker: messages and completions in, actions out.

    IDLE --begin--> CALLS --enter--> CHUNK     a chunk runs in this process
      ^               |  ^--leave------'
      |               |--visit--> SANDBOX      calls, or a chunk, run in the child
      '----finish-----'  ^--leave-----'
    IDLE --take, of a Shutdown--> STOPPED

Only this class changes what the worker holds. The loop, `mpitasks.worker.loop`, asks it
what comes next. The listener and `mpitasks.worker.isolation` tell it what was cut. It
has no clock, no lock and no transport; callers hold the worker's lock.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import InternalError
from mpitasks.records import dataclass
from mpitasks.task_spec import Origin, TaskSpec
from mpitasks.wire.inputs import needs_kept
from mpitasks.wire.messages import (
    BOUND,
    CALL,
    CALL_PLAIN,
    Batch,
    Cancel,
    EndMoved,
    Fetch,
    Fetched,
    Heartbeat,
    HolderGone,
    Lost,
    Opening,
    Ping,
    Release,
    Request,
    Returned,
    Shutdown,
    actor_of,
)

if TYPE_CHECKING:
    from mpitasks.runner.chunks import Chunk
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import LogSetup, Message

__all__ = [
    "Action",
    "Foresee",
    "Leave",
    "Open",
    "Perish",
    "Phase",
    "Run",
    "Send",
    "Tell",
    "Urgent",
    "WorkerState",
]

Call = tuple[int, int, int, Any, int]
"""As in `Batch.calls`."""

Places = tuple[int, tuple[int, ...], Any]
"""As in `Batch.places`."""


class Phase(enum.Enum):
    """What the worker does."""

    IDLE = "waits for a message"
    CALLS = "works on a batch"
    CHUNK = "runs a chunk of the batch"
    SANDBOX = "has the sandbox run something of the batch"
    STOPPED = "was told to stop"


_IDLE, _CALLS, _CHUNK, _SANDBOX, _STOPPED = Phase

_NO_CALLS: list[Call] = []


@dataclass(slots=True)
class Run:
    """Begin this batch."""

    batch: Batch


@dataclass(slots=True)
class Send:
    """Send this to the master."""

    message: Heartbeat


@dataclass(slots=True)
class Foresee:
    """Take note of another end of the job."""

    seconds_left: float
    margin: float


@dataclass(slots=True)
class Tell:
    """Tell this to whatever keeps results (`mpitasks.worker.kept_results`)."""

    message: Fetch | Fetched | Release | HolderGone


@dataclass(slots=True)
class Open:
    """An Executor begins: follow how `logging` is set up on rank 0."""

    logs: LogSetup | None


@dataclass(slots=True)
class Leave:
    """Say goodbye to the master, and end."""

    degraded: bool


@dataclass(slots=True)
class Perish:
    """End at once: the master is dead."""


Urgent = Send | Foresee | Perish | Tell
"""What is done whatever the worker is doing."""

Action = Run | Open | Leave
"""What an idle worker does."""


class WorkerState:
    """What one worker holds, and how far it is.

    Attributes:
        phase: What it does.
        begun: How many calls and chunks it has begun since it was made.
        spec: What was sent with the call that runs; None for the default.
        chunk: The chunk that runs in this process, if one does.
        buffers: Those of the calls that are not begun, the next one last.
        drew: Whether the call that runs has asked for random numbers of ours.
        revoked: Calls that the worker holds and that were cancelled.
    """

    __slots__ = (
        "_at",
        "_calls",
        "_inside",
        "_kept",
        "_origins",
        "_places",
        "_rank",
        "_specs",
        "begun",
        "buffers",
        "chunk",
        "drew",
        "phase",
        "revoked",
        "spec",
    )

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self.phase = _IDLE
        self.begun = 0
        self.spec: TaskSpec | None = None
        self.chunk: Chunk | None = None
        self.buffers: list[Buffer] = []
        self.drew = False
        self.revoked: set[int] = set()
        self._calls = _NO_CALLS
        self._at = 0  # how many of them were begun
        self._inside = 0  # how many of those, the last, are in the sandbox
        self._specs: dict[int, tuple[Any, ...]] | None = None
        self._places: dict[int, Any] | None = None
        self._origins: list[Origin] = []
        self._kept: deque[Batch | Opening | Shutdown] = deque()  # until it is idle

    # Messages.

    def receive(self, message: Message) -> Urgent | None:
        """Take in a message; return what is to be done about it at once.

        Whatever can wait for the end of the batch is kept, for `take`.

        Raises:
            InternalError: No worker is ever sent such a message.
        """
        # By `type`, since a task may have replaced `isinstance`.
        if type(message) is Ping:
            return Send(Heartbeat())
        if type(message) is Lost:
            return Perish()
        if type(message) is Cancel:
            self._revoke(message.ids)
        elif type(message) is EndMoved:
            return Foresee(message.seconds_left, message.margin)
        elif (
            type(message) is Fetch
            or type(message) is Fetched
            or type(message) is Release
            or type(message) is HolderGone
        ):
            return Tell(message)
        elif self.phase is _STOPPED:
            raise InternalError(f"a worker was sent {message!r} after its end")
        elif type(message) is Request:
            self._kept.append(batch_of(message))  # which can be given back
        elif (
            type(message) is Batch
            or type(message) is Opening
            or type(message) is Shutdown
        ):
            self._kept.append(message)
        else:
            raise InternalError(f"a worker was sent {message!r}")
        return None

    def take(self) -> Action | None:
        """Return what an idle worker does about the first message that was kept."""
        if self.phase is not _IDLE or not self._kept:
            return None
        message = self._kept.popleft()
        if type(message) is Batch:
            return Run(message)
        if type(message) is Opening:
            self._origins = [Origin._make(fields) for fields in message.origins]
            return Open(message.logs)
        assert type(message) is Shutdown
        self.phase = _STOPPED
        return Leave(message.degraded)

    def take_served(self, busy: Container[int]) -> tuple[Batch, Sequence[Batch]] | None:
        """Return the first batch that was kept and that a task which waits may run.

        Args:
            busy: The actors that are in the middle of a call.

        Returns:
            The batch, and those that came before it.
        """
        for at, message in enumerate(self._kept):
            if type(message) is not Batch or not _is_bound(message.calls):
                continue
            if actor_of(message.calls[0][1]) not in busy:
                before = [each for each in self._kept if type(each) is Batch]
                del self._kept[at]
                return message, before[: [*map(id, before)].index(id(message))]
        return None

    def nested(self) -> WorkerState:
        """Return a state for a batch that runs while a task of this one waits."""
        inner = WorkerState(self._rank)
        inner._origins = self._origins
        inner._kept = self._kept  # or batches of an actor would overtake each other
        inner.begun = self.begun
        return inner

    def resume(self, inner: WorkerState) -> None:
        """That batch is complete."""
        self.begun = inner.begun

    def _revoke(self, ids: Sequence[int]) -> None:
        """Note which of the calls that the worker holds were cancelled."""
        for message in self._kept:
            if type(message) is Batch and _is_bound(message.calls):
                _drop(message, ids)
        held = {call[0] for call in self._calls[max(self._at - 1, 0) :]}
        if self._inside:
            held.update(call[0] for call in self.inside())
        held |= self.unbegun()
        self.revoked.update(held.intersection(ids))
        if self.revoked:  # and let them be looked at
            self._specs = self._specs or {}
            for message in self._kept:
                if type(message) is Batch:
                    message.task_spec = message.task_spec or {}

    def unbegun(self) -> set[int]:
        """Return the calls and chunks that the worker holds and has not begun."""
        ids = {call[0] for call in self._calls[self._at :]}
        for message in self._kept:
            if type(message) is Batch:
                ids.update(call[0] for call in message.calls)
        return ids

    # Calls.

    def begin(self, batch: Batch, buffers: list[Buffer]) -> None:
        """Begin a batch.

        Args:
            batch: The batch.
            buffers: The buffers of its calls, in reverse order.
        """
        self._expect(_IDLE)
        self.phase = _CALLS
        self._calls = batch.calls
        self._specs = batch.task_spec
        self._places = batch.places
        self._at = 0
        self.buffers = buffers

    def begin_request(self, request: Request) -> None:
        """Begin a call that came alone, and is not isolated: it runs now."""
        if self.phase is not _IDLE:
            self._expect(_IDLE)
        self.phase = _CALLS
        self._calls = [request.call]
        self._specs = self._places = None
        self._at = 1
        self.begun += 1
        if request.task_spec is not None:
            self.spec = TaskSpec(*request.task_spec)

    def next(self) -> Call | None:
        """Return the call that comes next, which runs now; None if there is no more.

        What ran before is complete. Cancelled calls are left out.
        """
        if self.phase is not _CALLS:
            self._expect(_CALLS)
        while True:
            try:
                call = self._calls[self._at]
            except IndexError:  # no `len`: a task may have replaced it
                return None
            self._at += 1
            if self._specs is None or self._has_spec(call):
                self.begun += 1
                return call

    def _has_spec(self, call: Call) -> bool:
        """Take what was sent with a call; return whether the call is to run."""
        id = call[0]
        fields = None if self._specs is None else self._specs.get(id)
        self.spec = None if fields is None else TaskSpec(*fields)
        if id not in self.revoked:
            return True
        self.revoked.discard(id)
        self.take_buffers(call[4])
        return False

    def replace(self, payload: Any, count: int) -> None:
        """The call that runs has another payload, and that many buffers."""
        self._expect(_CALLS)
        id, function, mode, _, _ = self._calls[self._at - 1]
        self._calls[self._at - 1] = id, function, mode, payload, count

    def take_buffers(self, count: int) -> list[Buffer]:
        """Return the buffers of the call that runs, which are the next ones."""
        buffers = self.buffers
        return [buffers.pop() for _ in range(count)]

    def finish(self) -> None:
        """The batch is complete, and reported."""
        if self.phase is not _CALLS:
            self._expect(_CALLS)
        self.phase = _IDLE
        self.spec = None
        self._calls = _NO_CALLS
        self._at = 0
        if self.revoked and not self._kept:
            self.revoked.clear()  # these calls ran all the same

    def enter(self, chunk: Chunk) -> None:
        """The call that runs is this chunk."""
        self._expect(_CALLS)
        self.phase = _CHUNK
        self.chunk = chunk

    def visit(self, most: int) -> list[Call]:
        """Have the call that runs, and perhaps some behind it, run in the sandbox.

        Args:
            most: How many calls may run there together.

        Returns:
            These calls. They are of one function and differ in their payloads only.
        """
        self._expect(_CALLS)
        self.phase = _SANDBOX
        start = self._at - 1
        self._inside = 1
        first = self._calls[start]
        spec = self.spec_of(first)
        if _is_simple(first) and spec.max_tasks_per_child is None:
            for call in self._calls[start + 1 : start + most]:
                if call[1] != first[1] or not _is_simple(call):
                    break
                if self._specs is None or call[0] not in self._specs:
                    break
                if self.spec_of(call)._replace(attempt=spec.attempt) != spec:
                    break
                if call[0] in self.revoked:
                    break
                self._inside += 1
        self._at += self._inside - 1
        return self.inside()

    def inside(self) -> list[Call]:
        """Return the calls that are in the sandbox."""
        return self._calls[self._at - self._inside : self._at]

    def keep_inside(self, count: int) -> None:
        """The sandbox runs only this many of its calls; the others come next again."""
        self._expect(_SANDBOX)
        self._at += count - self._inside
        self._inside = count

    def leave(self) -> None:
        """The chunk, or what is in the sandbox, is complete."""
        if self.phase is not _CHUNK:
            self._expect(_SANDBOX)
            self.revoked.difference_update([call[0] for call in self.inside()])
        self.phase = _CALLS
        self.chunk = None
        self._inside = 0

    def give_back(self, kept: int | None = None) -> Returned | None:
        """Drop what is not begun, for others to run; return the message about it.

        Args:
            kept: How many items that were not reported the chunk that runs keeps, if it
                was cut.
        """
        split = None
        if kept is not None:
            if self.phase is not _CHUNK:
                self._expect(_SANDBOX)
            split = self._calls[self._at - 1][0], kept
        ids = []
        if not _is_bound(self._calls):
            ids = [call[0] for call in self._calls[self._at :]]
            del self._calls[self._at :]
        for message in self._kept:
            if type(message) is Batch and not _is_bound(message.calls):
                ids += [call[0] for call in message.calls]
                message.calls.clear()
        if not ids and split is None:
            return None
        self.revoked.difference_update(ids)
        return Returned(self._rank, ids, split)

    # What runs.

    def current(self) -> Call | None:
        """Return the call that runs, or the last that did of the batch."""
        return self._calls[self._at - 1] if self._at else None

    def spec_of(self, call: Call) -> TaskSpec:
        """Return what was sent with a call of the batch."""
        fields = None if self._specs is None else self._specs.get(call[0])
        return TaskSpec() if fields is None else TaskSpec(*fields)

    def places(self, task_id: int) -> Places | None:
        """Return the place of a call of the batch, or of the items of a chunk of it."""
        first = task_id if self._places is None else self._places.get(task_id, task_id)
        if type(first) is tuple:
            return first
        for origin in reversed(self._origins):
            if origin.first <= first and not first % 2:
                return (*origin.place(first), None)
        return None

    def progress(self) -> tuple[int, int]:
        """Return `begun`, and the number of items finished of the chunk."""
        chunk = self.chunk
        return self.begun, 0 if chunk is None else chunk.finished

    def _expect(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise InternalError(
                f"a worker that {self.phase.value} was to act as one that {phase.value}"
            )


def batch_of(request: Request) -> Batch:
    """Return a request as a batch."""
    spec = request.task_spec
    return Batch(
        [request.call], task_spec=None if spec is None else {request.call[0]: spec}
    )


def _drop(batch: Batch, ids: Sequence[int]) -> None:
    """Take calls out of a batch that has not begun."""
    own = sum([call[4] for call in batch.calls])
    start = len(batch.buffers) - own
    buffers = list(batch.buffers[:start])
    calls = []
    for call in batch.calls:
        if call[0] not in ids:
            calls.append(call)
            buffers += batch.buffers[start : start + call[4]]
        start += call[4]
    batch.calls, batch.buffers = calls, buffers


def _is_bound(calls: Sequence[Call]) -> bool:
    """Whether the calls of a batch can run on this worker only."""
    return bool(calls) and calls[0][1] <= BOUND


def _is_simple(call: Call) -> bool:
    """Whether it is no chunk, has no buffers, and needs no kept results."""
    return call[2] in (CALL_PLAIN, CALL) and not call[4] and not needs_kept(call[3])
