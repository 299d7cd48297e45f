"""The scheduler's vocabulary: ids, states, tasks, events and actions.

Events are in the past tense (what happened), actions in the imperative (what the engine
must do), messages are nouns (`mpitasks.wire.messages`). The records are slots classes
that do not change after creation, except `Task` and `Bulk`, which only the scheduler
changes. Nothing here waits, reads a clock or knows what a task computes.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpitasks.records import dataclass

if TYPE_CHECKING:
    from mpitasks.task_spec import TaskSpec

__all__ = [
    "Action",
    "ActorFailed",
    "ActorId",
    "ActorOpened",
    "ActorRestarted",
    "ActorTask",
    "Assign",
    "Bulk",
    "BulkCancelled",
    "BulkExtended",
    "CallRefused",
    "CancelRequested",
    "Cancelled",
    "ClosingTask",
    "Complete",
    "Cost",
    "DrainRequested",
    "EndSet",
    "Event",
    "Fail",
    "FunctionId",
    "GiveUp",
    "InputFailed",
    "InputGone",
    "InputReady",
    "MemoryChanged",
    "ObjectId",
    "OutcomesArrived",
    "Place",
    "QueueCancelled",
    "Rank",
    "RankLost",
    "Report",
    "Restart",
    "Revoke",
    "RunningAbandoned",
    "Stop",
    "StopRequested",
    "Task",
    "TaskId",
    "TaskState",
    "TaskSubmitted",
    "TaskSucceeded",
    "TasksPostponed",
    "TasksReturned",
    "TasksSubmitted",
    "TimePassed",
    "WorkerJoined",
    "WorkerLeft",
    "WorkerState",
    "WorkersLimited",
]

TaskId = int
FunctionId = int
ObjectId = int
ActorId = int
Rank = int
Place = tuple[Rank, int]
"""A worker that keeps a result, and the bytes of that."""


# IntEnum, because states are dict keys on the hot path, and the hash of a plain Enum
# member is computed in Python.


class TaskState(enum.IntEnum):
    """Where a task is. One meaning and one home collection for each state."""

    NEW = 0  # made, not yet handed to the scheduler
    QUEUED = 1  # in the ready queue, in no worker's hands
    ASSIGNED = 2  # sent to one worker, in that worker's `tasks`
    SUCCEEDED = 3  # its value arrived; in no collection
    FAILED = 4  # its error arrived, or its worker was lost
    CANCELLED = 5  # taken back before it was sent, or its process was ended
    POSTPONED = 6  # waits for its time, in no queue yet
    WAITING = 7  # waits for results of other tasks, in no queue yet


class WorkerState(enum.IntEnum):
    """Where a worker is."""

    READY = 0  # takes tasks
    STOPPING = 1  # told to stop, has not said goodbye
    STOPPED = 2  # said goodbye
    LOST = 3  # gone without goodbye; what it still says is ignored
    UNRESPONSIVE = 4  # far beyond the limit of a task; gets nothing until it reports


_NEW = TaskState.NEW  # an attribute of an enum costs 0.1 us on CPython 3.11


class Task:
    """What the scheduler knows of a unit of work: a call, or items of a bulk job.

    Attributes:
        id: Unique in the run.
        function: Which function it calls; measured durations are kept by it.
        payload: Whatever its owner wants to find there. The scheduler never looks at
            it.
        start: The index of its first item in the bulk job; 0 for a call.
        count: Number of items: 1 for a call.
        nbytes: Size of what must be sent, in bytes; an estimate is enough.
        priority: Higher goes first.
        task_spec: Its time limit, and whether it runs in a process of its own; None for
            neither.
        alone: Whether it shares its batch with no other task.
        inputs: The results that it needs and that are not there when it is submitted;
            each once.
        data: The workers that keep results which it needs, and their bytes there.
        state: Changed by the scheduler only.
    """

    __slots__ = (
        "alone",
        "count",
        "data",
        "function",
        "id",
        "inputs",
        "nbytes",
        "payload",
        "priority",
        "start",
        "state",
        "task_spec",
    )

    def __init__(
        self,
        id: TaskId,
        function: FunctionId,
        payload: Any = None,
        nbytes: int = 0,
        priority: int = 0,
        task_spec: TaskSpec | None = None,
        start: int = 0,
        count: int = 1,
        alone: bool = False,
        inputs: Sequence[ObjectId] = (),
    ) -> None:
        self.id = id
        self.function = function
        self.payload = payload
        self.nbytes = nbytes
        self.priority = priority
        self.task_spec = task_spec
        self.start = start
        self.count = count
        self.alone = alone
        self.inputs = inputs
        self.data: Sequence[Place] = ()
        self.state = _NEW

    def part(self, id: TaskId, first: int, count: int) -> Task:
        """Return a new task for some of the items, counted from its own first one."""
        return Task(
            id,
            self.function,
            self.payload,
            0,
            self.priority,
            self.task_spec,
            self.start + first,
            count,
        )


class ActorTask(Task):
    """A call of an actor: it has a place, the mailbox of that actor.

    Attributes:
        actor: The actor.
    """

    __slots__ = ("actor",)

    actor: ActorId

    @property
    def data(self) -> Sequence[Place]:
        """What says that it may not go anywhere, whatever data it needs."""
        return _OWN_PLACE

    @data.setter
    def data(self, places: Sequence[Place]) -> None:
        pass


class ClosingTask(ActorTask):
    """The last call of an actor, after which it is none any more."""

    __slots__ = ()


_OWN_PLACE: Sequence[Place] = ((-1, 0),)


class Bulk:
    """A bulk job: many items for one function, cut into chunks as workers want them.

    Attributes:
        function: As in `Task`.
        payload: As in `Task`; its chunks have the same.
        priority: As in `Task`.
        task_spec: As in `Task`.
        chunksize: Items per chunk if the user fixed it, else None.
        next: The index of the next item to be cut off; changed by the scheduler only.
        ready: Items that may be cut off now; changed by the scheduler only.
        sizes: What each of these weighs in a message, in bytes; empty if all are small.
            Changed by the scheduler only.
        cancelled: No more chunks are wanted; changed by the scheduler only.
    """

    __slots__ = (
        "cancelled",
        "chunksize",
        "function",
        "next",
        "payload",
        "priority",
        "ready",
        "sizes",
        "task_spec",
    )

    alone = True
    """Its items share no run of tasks with calls."""

    def __init__(
        self,
        function: FunctionId,
        payload: Any = None,
        *,
        chunksize: int | None = None,
        priority: int = 0,
        task_spec: TaskSpec | None = None,
    ) -> None:
        self.function = function
        self.payload = payload
        self.chunksize = chunksize
        self.priority = priority
        self.task_spec = task_spec
        self.next = 0
        self.ready = 0
        self.sizes: deque[int] = deque()
        self.cancelled = False


class Cost(NamedTuple):
    """What a run of items of one function took, as its worker measured it.

    Attributes:
        function: The function.
        items: How many items.
        seconds: Wall time for all of them.
        nbytes: Size of their results in bytes.
    """

    function: FunctionId
    items: int
    seconds: float
    nbytes: int = 0


_NO_FUNCTIONS: Mapping[TaskId, FunctionId] = {}


# Events: what happened.


@dataclass(slots=True)
class WorkerJoined:
    """A rank is there and takes tasks."""

    rank: Rank


@dataclass(slots=True)
class WorkerLeft:
    """A rank that was told to stop said goodbye."""

    rank: Rank


@dataclass(slots=True)
class RankLost:
    """A rank is gone without a goodbye."""

    rank: Rank


@dataclass(slots=True)
class WorkersLimited:
    """Only this many workers, the lowest ranks, are to be used; None for all."""

    count: int | None


@dataclass(slots=True)
class TasksReturned:
    """A worker is busy with a long task, and gives back what it has not begun.

    Attributes:
        rank: The worker.
        ids: Tasks that it has not begun.
        split: The task that it is busy with, if that is a chunk, and how many items it
            keeps of those that it has not reported; else None.
    """

    rank: Rank
    ids: Sequence[TaskId]
    split: tuple[TaskId, int] | None


@dataclass(slots=True)
class TasksSubmitted:
    """The user submitted calls, in this order."""

    tasks: Sequence[Task]


@dataclass(slots=True)
class TaskSubmitted:
    """The user submitted a call that a worker wants. As `TasksSubmitted`, for one."""

    task: Task


@dataclass(slots=True)
class ActorOpened:
    """The user made an actor. Its constructor comes as the first of its calls.

    Attributes:
        actor: Its number.
        ranks: Where it may live; None for any rank.
        restarts: How often it is restarted when its rank is gone.
        exclusive: Whether its rank is to run nothing else.
    """

    actor: ActorId
    ranks: Sequence[Rank] | None = None
    restarts: int = 0
    exclusive: bool = False


@dataclass(slots=True)
class ActorRestarted:
    """An actor can be made again on its new rank.

    Attributes:
        actor: The actor.
        tasks: Its constructor, and the calls that bring it up to date.
    """

    actor: ActorId
    tasks: Sequence[ActorTask]


@dataclass(slots=True)
class CallRefused:
    """A call of an actor is taken back, wherever it is: it would never be answered."""

    task: ActorTask


@dataclass(slots=True)
class TasksPostponed:
    """These tasks are to be run, but not before a certain time.

    Attributes:
        tasks: The tasks.
        until: That time, on the clock of `Scheduler.handle`.
    """

    tasks: Sequence[Task]
    until: float


@dataclass(slots=True)
class InputReady:
    """A result that tasks wait for is there.

    Attributes:
        id: The result.
        tasks: The tasks that have it now. Others may be given it later.
        nbytes: What it adds to the message of each of them, in bytes.
        functions: The functions of those that need another one for it.
        place: The worker that keeps it, and its bytes there; None if it is in the
            messages.
    """

    id: ObjectId
    tasks: Sequence[Task]
    nbytes: int = 0
    functions: Mapping[TaskId, FunctionId] = _NO_FUNCTIONS
    place: Place | None = None


@dataclass(slots=True)
class InputGone:
    """A result that tasks wait for will never be there.

    Attributes:
        id: The result.
        tasks: The tasks that wait for it.
        cancelled: Whether its task was cancelled; else that has failed.
    """

    id: ObjectId
    tasks: Sequence[Task]
    cancelled: bool = False


@dataclass(slots=True)
class TimePassed:
    """The scheduler's next deadline is here."""


@dataclass(slots=True)
class BulkExtended:
    """A bulk job has more items.

    Attributes:
        bulk: The job.
        count: How many.
        function: The function that it calls from now on; None if that is the same.
        sizes: What each of these items weighs in a message, in bytes; empty if all are
            small.
    """

    bulk: Bulk
    count: int
    function: FunctionId | None = None
    sizes: Sequence[int] = ()


@dataclass(slots=True)
class BulkCancelled:
    """The rest of a bulk job is no longer wanted."""

    bulk: Bulk


@dataclass(slots=True)
class CancelRequested:
    """The user wants these tasks not to run."""

    tasks: Sequence[Task]


@dataclass(slots=True)
class QueueCancelled:
    """The user wants nothing to run that was not sent yet.

    Attributes:
        isolated: Nor what runs in a process of its own, which can be ended.
    """

    isolated: bool = False


@dataclass(slots=True)
class RunningAbandoned:
    """These tasks, which workers are running, are no longer waited for."""

    tasks: Sequence[Task]


_NO_PARTS: Mapping[TaskId, int] = {}


@dataclass(slots=True)
class TaskSucceeded:
    """A worker reported a batch of a single call as done: it succeeded.

    The message that does so derives from this: the result travels along, and nothing
    here looks at it.

    Attributes:
        rank: The worker.
        id: The task.
        function: Its function.
        seconds: How long it took.
        nbytes: The size of its result.
    """

    rank: Rank
    id: TaskId
    function: FunctionId
    seconds: float
    nbytes: int


@dataclass(slots=True)
class OutcomesArrived:
    """A worker reported tasks as done.

    The message that does so derives from this: what the tasks returned travels along,
    and nothing here looks at it.

    Attributes:
        rank: The worker.
        batches: How many of the batches it was sent are finished by this report.
        ids: The tasks, in the order of the report.
        failed: Which of them failed.
        costs: What they took, by function.
        parts: Of which chunks among them only the first items are reported, and how
            many: the others are still at work.
    """

    parts = _NO_PARTS
    rank: Rank
    batches: int
    ids: Sequence[TaskId]
    failed: Sequence[TaskId]
    costs: Sequence[Cost]


@dataclass(slots=True)
class MemoryChanged:
    """Workers keep as many results as they may; or less again.

    Attributes:
        is_full: Which of the two.
    """

    is_full: bool


@dataclass(slots=True)
class EndSet:
    """Whatever is started from now on should be finished by `at`."""

    at: float


@dataclass(slots=True)
class DrainRequested:
    """Nothing new is to be started any more; what workers have, they finish."""


@dataclass(slots=True)
class StopRequested:
    """The run is over: let every worker go."""


Event = (
    WorkerJoined
    | WorkerLeft
    | RankLost
    | WorkersLimited
    | TasksReturned
    | TaskSubmitted
    | TasksSubmitted
    | ActorOpened
    | ActorRestarted
    | CallRefused
    | TasksPostponed
    | InputReady
    | InputGone
    | TimePassed
    | BulkExtended
    | BulkCancelled
    | CancelRequested
    | QueueCancelled
    | RunningAbandoned
    | TaskSucceeded
    | OutcomesArrived
    | MemoryChanged
    | EndSet
    | DrainRequested
    | StopRequested
)


# Actions: what the engine must do.


@dataclass(slots=True)
class Assign:
    """Send these tasks to the worker as one batch."""

    rank: Rank
    tasks: list[Task]


@dataclass(slots=True)
class Complete:
    """Resolve the tasks of the report that was just handled.

    Attributes:
        tasks: Aligned with the report's `ids`; None where an outcome is late
            and must be ignored. Of a chunk that is at work still, a task for those of
            its items that were reported.
    """

    tasks: list[Task | None]


@dataclass(slots=True)
class Cancelled:
    """Tell the owners that these tasks will not run."""

    tasks: list[Task]


@dataclass(slots=True)
class Fail:
    """Tell the owners that these tasks were lost with their worker.

    Attributes:
        tasks: The tasks.
        rank: The worker that held them; None if no worker is left to run them.
    """

    tasks: list[Task]
    rank: Rank | None


@dataclass(slots=True)
class ActorFailed:
    """Tell the owners that these calls of an actor will not run, or were lost.

    Attributes:
        tasks: The calls.
        rank: The rank that is gone with the actor; None if the actor was closed before.
        held: Whether that rank held them; else nobody did.
    """

    tasks: list[ActorTask]
    rank: Rank | None
    held: bool


@dataclass(slots=True)
class Restart:
    """Have the actor made again; it lives on that rank now."""

    actor: ActorId
    rank: Rank


@dataclass(slots=True)
class InputFailed:
    """Tell the owners that these tasks will not run: something they need has failed.

    Attributes:
        tasks: The tasks.
        id: The result that they do not get.
    """

    tasks: list[Task]
    id: ObjectId


@dataclass(slots=True)
class Revoke:
    """Have the worker end these tasks, which run in a process of their own.

    They are no longer waited for.
    """

    rank: Rank
    ids: list[TaskId]


@dataclass(slots=True)
class Report:
    """Tell the user that a worker is overdue with a task."""

    rank: Rank
    task: Task


@dataclass(slots=True)
class GiveUp:
    """Tell the owner that a task that does not end is no longer waited for."""

    rank: Rank
    task: Task


@dataclass(slots=True)
class Stop:
    """Tell the worker to stop."""

    rank: Rank


Action = (
    Assign
    | Complete
    | Cancelled
    | Fail
    | ActorFailed
    | Restart
    | InputFailed
    | Revoke
    | Report
    | GiveUp
    | Stop
)
