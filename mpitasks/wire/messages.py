"""The messages between master and workers: nouns, and how they become frames.

A message is a slots record. On the wire it is one pickle frame,
``(number, sizes, fields)``, where `number` says which record it is, `sizes` are
the lengths of the buffers that follow the frame as messages of their own, and
`fields` are the record's fields without the last, `buffers`. Positions and codes
that stand in tuples, because a record each would cost more than the task:

Call, in `Batch.calls` and `Request.call`: ``(task id, function id, mode, payload,
buffers)``, where `buffers` is how many of the message's buffers belong to it, and by
`mode`

    CALL_PLAIN     payload = positional arguments, a tuple of plain values
    CALL           payload = frame of (args, kwargs)
    MAP_PLAIN      payload = frame of a list of plain items
    STARMAP_PLAIN  the same; each item is a tuple of plain arguments
    MAP            payload = list of (frame, buffers), one an item
    STARMAP        payload = as MAP; each item is a tuple of arguments

A frame of arguments, or of an item, with results of other tasks among them
(`mpitasks.wire.inputs`) is a tuple ``(frame, own, inputs, token)``: of its buffers the
first `own` belong to the frame; `inputs` has ``(form, payload, buffers)`` for each such
result, where form is PLAIN, VALUE, SHARED or KEPT; `token` is that of the references to
them.

Value, in `Outcomes.values`: by default a plain value, as it is. `Outcomes.forms` names
the others by their position, ``position: (form, buffers)``. `Result.value` has its form
beside it, PLAIN or VALUE.

    VALUE   frame of the value
    ERROR   frame of (exception, traceback text)
    LIST    frame of a list of plain values, one for each item of a chunk
    ITEMS   list of (form, payload, buffers), one for each item of a chunk, where
            form is PLAIN, VALUE or ERROR
    SHARED  id of a shared object, which stands in `Batch.functions`
    KEPT    where the result is (`mpitasks.wire.kept.Kept`): it stays with its worker

Workers send each other `Fetch` and `Fetched`, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pickle import dumps, loads  # by themselves: a task may patch the module
from typing import TYPE_CHECKING, Any

from mpitasks.errors import TransportError
from mpitasks.records import dataclass, field, names_of
from mpitasks.scheduler.events import OutcomesArrived, TasksReturned, TaskSucceeded
from mpitasks.wire.missing_buffers import check

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = [
    "Announcement",
    "Answered",
    "Awaited",
    "Batch",
    "Called",
    "Cancel",
    "EndMoved",
    "Fetch",
    "Fetched",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "HolderGone",
    "LogSetup",
    "Logged",
    "Lost",
    "Message",
    "Opening",
    "Outcomes",
    "Overhead",
    "PeerFailure",
    "Ping",
    "Release",
    "Request",
    "Result",
    "Returned",
    "Shutdown",
    "Welcome",
    "actor_of",
    "announce",
    "bound_id",
    "pack",
    "unpack",
]

MASTER = 0

LogSetup = tuple[dict[str, int], list[str], int, bool]
"""Of the module `logging`: levels of loggers, by name (the root's is empty); names of
those that are disabled; what `logging.disable` has set; whether warnings are captured.
"""

CALL_PLAIN, CALL, MAP_PLAIN, STARMAP_PLAIN, MAP, STARMAP = range(6)
PLAIN, VALUE, ERROR, LIST, ITEMS, SHARED, KEPT = range(7)

SURROUNDINGS, INITIALIZER = "<surroundings>", "<initializer>"
SHARED_OBJECT = "<shared>"
"""In the place of a global's name, in `Batch.functions`: what the script has set up
(`mpitasks.wire.script_setup`); a frame of what each process calls first, as (function,
arguments); and one of a shared object."""


BOUND = -2
"""Functions with this id and below are called on one worker only: they are those of an
actor. The worker gives none of their calls back. All calls of a batch are of functions
of one actor, or none are."""

_FUNCTION_BITS = 40


@dataclass(slots=True)
class Hello:
    """Worker to master, before anything else: who is there."""

    rank: int
    host: str
    pid: int
    cores: list[int]
    """Numbers of the cores that it may use."""
    python: str
    version: str
    library: str
    machine: str = ""
    """Two ranks that say the same here see each other's processes."""
    quota: float | None = None
    """How many cores' time its control group has, if that is limited."""
    threads: int | None = None
    """How many threads BLAS or OpenMP would start in it, if that is settled."""
    memory: int | None = None
    """How many bytes the job may use on its host, if that is known."""
    place: tuple[int, int] | None = None
    """Its rank among those of its host and their number, if the launcher tells."""


@dataclass(slots=True)
class Welcome:
    """Master to worker, once every rank has said hello."""

    size: int
    spare_cores: bool
    """Whether the worker's node has a core for each of its ranks."""
    run: str
    """A name that no other run has. Others of the machine may see it."""
    master: int | None = None
    """The process id of rank 0, if the worker sees its processes."""
    peers: Sequence[tuple[int, int]] = ()
    """Ranks and process ids of workers to watch over, which rank 0 does not see."""
    share: int = 1
    """How many cores the rank may keep busy."""
    seconds_left: float = math.inf
    """Until the job is ended by force."""
    margin: float = 0.0
    """How long before that everything should be finished."""
    alone: bool = True
    """Whether all ranks are on one host."""
    secret: bytes = b""
    """What only the ranks of the run know."""


@dataclass(slots=True)
class Batch:
    """Master to worker: run these calls, in order."""

    calls: list[tuple[int, int, int, Any, int]]
    functions: Sequence[tuple[Any, ...]] = ()
    """(id, name, frame, head, places, needs, refers) of the functions, and of the
    globals of the script, that this worker has not seen; only the latter have a name.
    `head` is the frame that makes a class without its attributes, or None; `places` has
    the `mpitasks.wire.node_memory.Reference` of each buffer, None for one that is in
    the message; `needs` are ids of globals, `refers` names of those whose objects a
    global holds, or that a function refers to but the script has no longer. Their
    buffers come first in the message's `buffers`."""
    forget: Sequence[int] = ()
    """Functions and globals that the master will send again before it uses them."""
    task_spec: dict[int, tuple[Any, ...]] | None = None
    """Fields of the `mpitasks.options.TaskSpec` of the calls, by their ids, that have
    other terms than the default."""
    places: dict[int, Any] | None = None
    """By their ids, the places of what is no first attempt at a call: the id of that
    first attempt; or (seed, place, items), where items is None, the index of a chunk's
    first item in its map, or a list with the index of each (`mpitasks.task_spec`)."""
    buffers: Sequence[Buffer] = ()


@dataclass(slots=True)
class Request:
    """Master to worker: run this call. As a batch of it alone, that needs no more."""

    call: tuple[int, int, int, Any, int]
    task_spec: tuple[Any, ...] | None = None
    """Fields of its `mpitasks.task_spec.TaskSpec`, if these are not the default."""


@dataclass(slots=True)
class Opening:
    """Master to worker, before the first call of an Executor: what holds for its calls.

    It takes the place of all that was said before.
    """

    origins: Sequence[tuple[Any, ...]]
    """Fields of the `mpitasks.task_spec.Origin` of each Executor that may have calls,
    the latest last."""
    logs: LogSetup | None = None
    """How `logging` is set up on rank 0, if records are wanted there."""


@dataclass(slots=True)
class EndMoved:
    """Master to worker: the job ends at another time than the welcome said."""

    seconds_left: float
    margin: float


@dataclass(slots=True)
class Cancel:
    """Master to worker: end these tasks, which run in a process of their own."""

    ids: list[int]


@dataclass(slots=True)
class Release:
    """Master to worker: these kept results are needed no longer."""

    ids: list[int]


@dataclass(slots=True)
class HolderGone:
    """Master to worker: a worker that kept results has died."""

    rank: int
    how: str


@dataclass(slots=True)
class Fetch:
    """Any rank to a worker: send me the result that you keep."""

    rank: int
    """Who asks."""
    id: int


@dataclass(slots=True)
class Fetched:
    """The answer to a `Fetch`."""

    id: int
    is_there: bool
    buffers: Sequence[Buffer] = ()
    """The frame and its buffers."""

    @property
    def parts(self) -> tuple[Buffer, list[Buffer]] | None:
        """The frame and its buffers; None if the result is not there.

        Raises:
            MemoryError: One of them did not fit into memory.
        """
        if not self.is_there:
            return None
        check(self.buffers)
        frame, *buffers = self.buffers
        return frame, buffers


@dataclass(slots=True)
class Called:
    """Worker to master: a task calls an actor."""

    rank: int
    number: int
    """Which of the worker's calls it is."""
    actor: int
    reads: bool
    """Whether it reads an attribute."""
    name: str
    """The method, or the attribute."""
    mode: int
    """CALL_PLAIN or CALL."""
    payload: Any
    timeout: float | None
    label: str | None
    buffers: Sequence[Buffer] = ()


@dataclass(slots=True)
class Answered:
    """The answer to a `Called`: what the call came to."""

    number: int
    form: int
    """PLAIN, VALUE or ERROR."""
    value: Any
    buffers: Sequence[Buffer] = ()


@dataclass(slots=True)
class Awaited:
    """Worker to master: a task waits for the answer to a call, and does so for long."""

    rank: int
    number: int
    actor: int
    stack: Sequence[int]
    """The actors whose calls on this worker end only after that."""


@dataclass(slots=True)
class Shutdown:
    """Master to worker: the run is over; say goodbye."""

    degraded: bool = False
    """Whether ranks were lost: then MPI must be left without its own farewell."""


@dataclass(slots=True)
class Outcomes(OutcomesArrived):
    """Worker to master: what became of some calls. It is the scheduler's event, too.

    Costs travel as bare lists: (function id, items, seconds, bytes).
    """

    ids: list[int]
    failed: list[int]
    costs: list[Any]
    values: list[Any]
    forms: dict[int, tuple[int, int]]
    drawn: list[int] = field(default_factory=list)
    """Those of the ids whose values depend on `mpitasks.rng`."""
    parts: dict[int, int] = field(default_factory=dict)
    """Chunks of which this reports a part: their ids, and how many items it covers.
    These are the first of those not reported before; more of the chunk follows under
    the same id. The last report of a chunk covers what is left, and does not stand
    here."""
    buffers: list[Buffer] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether its parts fit together, as those of each worker do that is intact."""
        if len(self.ids) != len(self.values):
            return False
        if any(not items for _, items, _, _ in self.costs):
            return False
        if not self.forms:
            return True
        return sum([count for _, count in self.forms.values()]) == len(self.buffers)


@dataclass(slots=True)
class Result(TaskSucceeded):
    """Worker to master: the value of a request's call, if it has no buffers.

    It is the scheduler's event, too.
    """

    form: int
    """PLAIN, or VALUE for the frame of a value."""
    value: Any


@dataclass(slots=True)
class Logged:
    """Worker to master: log records, before the results of the tasks that made them."""

    records: list[bytes]


@dataclass(slots=True)
class Returned(TasksReturned):
    """Worker to master: calls that others may run. It is the scheduler's event, too."""


@dataclass(slots=True)
class Goodbye:
    """Worker to master: nothing more will come from here."""


@dataclass(slots=True)
class Ping:
    """Master to worker that has been silent: are you there?"""


@dataclass(slots=True)
class Heartbeat:
    """Worker to master: a sign of life."""


@dataclass(slots=True)
class PeerFailure:
    """Worker to master: a fellow worker of this machine has died."""

    rank: int
    how: str


@dataclass(slots=True)
class Overhead:
    """Worker to master, before results: what it did beside running functions.

    Since it said so last; sent only if there is something.
    """

    loading: float
    """Seconds in which it made functions, which imports what they need."""
    copying: float
    """Seconds in which it got copies of kept results."""
    copied: dict[int, int]
    """Their bytes, by the rank of the other worker that keeps them."""


@dataclass(slots=True)
class Lost:
    """In the place of a message, from the transport itself: the rank is dead."""


@dataclass(slots=True)
class Announcement:
    """In the place of a message whose frame is too long for the transport.

    Transports send it to each other and never hand it out.
    """

    more: bool
    """Whether another announcement follows, with the sizes of more buffers."""


Message = (
    Hello
    | Welcome
    | Batch
    | Request
    | Cancel
    | Shutdown
    | Outcomes
    | Result
    | Returned
    | Goodbye
    | Announcement
    | Ping
    | Heartbeat
    | PeerFailure
    | Lost
    | Opening
    | Logged
    | EndMoved
    | Release
    | HolderGone
    | Fetch
    | Fetched
    | Overhead
    | Called
    | Answered
    | Awaited
)

ANNOUNCED_SIZES = 128
"""Sizes of buffers in one announcement: as a pickle, up to 11 bytes each."""

_KINDS: tuple[type, ...] = (
    Hello,
    Welcome,
    Batch,
    Shutdown,
    Outcomes,
    Returned,
    Goodbye,
    Announcement,
    Ping,
    Heartbeat,
    PeerFailure,
    Lost,
    Cancel,
    Request,
    Result,
    Opening,
    Logged,
    EndMoved,
    Release,
    HolderGone,
    Fetch,
    Fetched,
    Overhead,
    Called,
    Answered,
    Awaited,
)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}


def bound_id(function_id: int, actor: int) -> int:
    """Return the id of a function that belongs to an actor."""
    return BOUND - (actor << _FUNCTION_BITS | function_id)


def actor_of(function_id: int) -> int:
    """Return the actor that a function belongs to; 0 if it belongs to none."""
    return max(BOUND - function_id, 0) >> _FUNCTION_BITS


def pack(message: Message) -> tuple[bytes, Sequence[Buffer]]:
    """Return the message's frame, and the buffers to send after it."""
    kind = type(message)
    fields: tuple[Any, ...]
    buffers: Sequence[Buffer] = ()
    # The fields of those that travel for every few calls are written out.
    if type(message) is Request:
        fields = message.call, message.task_spec
    elif type(message) is Result:
        fields = (
            message.rank,
            message.id,
            message.function,
            message.seconds,
            message.nbytes,
            message.form,
            message.value,
        )
    elif type(message) is Batch:
        buffers = message.buffers
        fields = (
            message.calls,
            message.functions,
            message.forget,
            message.task_spec,
            message.places,
        )
    elif type(message) is Outcomes:
        buffers = message.buffers
        fields = (
            message.rank,
            message.batches,
            message.ids,
            message.failed,
            message.costs,
            message.values,
            message.forms,
            message.drawn,
            message.parts,
        )
    else:
        names = names_of(message)
        if (
            type(message) is Fetched
            or type(message) is Called
            or type(message) is Answered
        ):
            buffers, names = message.buffers, names[:-1]
        fields = tuple([getattr(message, name) for name in names])
    sizes = _sizes(buffers) if buffers else ()
    return dumps((_NUMBERS[kind], sizes, fields), 5), buffers


def _sizes(buffers: Sequence[Buffer]) -> list[int]:
    return [memoryview(buffer).nbytes for buffer in buffers]


def announce(buffers: Sequence[Buffer]) -> list[bytes]:
    """Return frames that say: the frame itself comes as the first of these buffers.

    For transports, where a frame is too long to be received in one piece. More than
    one, if the sizes of the buffers alone make a long frame.
    """
    sizes = _sizes(buffers)
    starts = range(0, len(sizes), ANNOUNCED_SIZES)
    number = _NUMBERS[Announcement]
    return [
        dumps((number, sizes[at : at + ANNOUNCED_SIZES], (at < starts[-1],)), 5)
        for at in starts
    ]


def unpack(frame: Any) -> tuple[Message, Sequence[int]]:
    """Return the message of a frame, and the sizes of the buffers that follow it.

    Bytes behind the end of the frame are ignored.

    Raises:
        TransportError: The frame is no message of this version.
    """
    try:
        number, sizes, fields = loads(frame)
        return _KINDS[number](*fields), sizes
    except Exception as error:
        raise TransportError(f"a damaged message arrived ({error!r})") from error
