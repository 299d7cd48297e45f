"""The scheduler's vocabulary: ids, states, tasks, events and actions.

Three grammars, no shared names: events are in the past tense (what happened),
actions in the imperative (what the shell must do), wire messages are nouns
(`mpitasks.wire.messages`). Records here are plain slots classes that nobody
changes after creation, except `Task` and `Bulk`, which the scheduler alone
changes. Nothing here waits, reads a clock or knows what a task computes.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mpitasks.records import dataclass

if TYPE_CHECKING:
    from mpitasks.terms import Terms

__all__ = [
    "Action",
    "Assign",
    "Bulk",
    "BulkCancelled",
    "BulkExtended",
    "CancelRequested",
    "Cancelled",
    "Complete",
    "Cost",
    "DrainRequested",
    "EndSet",
    "Event",
    "Fail",
    "FunctionId",
    "GiveUp",
    "OutcomesArrived",
    "QueueCancelled",
    "Rank",
    "Report",
    "Revoke",
    "RunningAbandoned",
    "Stop",
    "StopRequested",
    "Task",
    "TaskId",
    "TaskState",
    "TasksPostponed",
    "TasksReturned",
    "TasksSubmitted",
    "TimePassed",
    "WorkerJoined",
    "WorkerLeft",
    "WorkerLost",
    "WorkerState",
    "WorkersLimited",
]

TaskId = int
FunctionId = int
Rank = int


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


class WorkerState(enum.IntEnum):
    """Where a worker is."""

    READY = 0  # takes tasks
    STOPPING = 1  # told to stop, has not said goodbye
    STOPPED = 2  # said goodbye
    LOST = 3  # gone without goodbye; what it still says is ignored
    STUCK = 4  # far beyond the limit of a task; gets nothing until it reports


class Task:
    """What the scheduler knows of one unit of work: a call, or a chunk of a bulk job.

    The master derives from it to carry the payload along; the scheduler never
    looks at anything but these fields.

    Attributes:
        id: Unique in the run.
        function: Which function it calls; measured durations are kept by it.
        count: Number of items: 1 for a call, the chunk's length for a chunk.
        nbytes: Size of what must be sent, in bytes; an estimate is enough.
        priority: Higher goes first.
        terms: Its time limit, and whether it runs in a process of its own; None for
            neither.
        state: Changed by the scheduler only.
    """

    __slots__ = ("count", "function", "id", "nbytes", "priority", "state", "terms")

    terms: Terms | None

    def __init__(
        self,
        id: TaskId,
        function: FunctionId,
        *,
        count: int = 1,
        nbytes: int = 0,
        priority: int = 0,
        terms: Terms | None = None,
    ) -> None:
        self.id = id
        self.function = function
        self.count = count
        self.nbytes = nbytes
        self.priority = priority
        self.terms = terms
        self.state = TaskState.NEW

    def split(self, task_id: TaskId, keep: int) -> Task:
        """Keep the first items; return a new task, queued, with the rest of them."""
        rest = Task(
            task_id,
            self.function,
            count=self.count - keep,
            priority=self.priority,
            terms=self.terms,
        )
        self.count = keep
        return rest


class Bulk:
    """A bulk job: many items for one function, cut into chunks as workers want them.

    Attributes:
        function: As in `Task`.
        priority: As in `Task`.
        terms: As in `Task`.
        chunksize: Items per chunk if the user fixed it, else None.
        ready: Items that may be carved off now; changed by the scheduler only.
        cancelled: No more chunks are wanted; changed by the scheduler only.
    """

    __slots__ = ("cancelled", "chunksize", "function", "priority", "ready", "terms")

    def __init__(
        self,
        function: FunctionId,
        *,
        chunksize: int | None = None,
        priority: int = 0,
        terms: Terms | None = None,
    ) -> None:
        self.function = function
        self.chunksize = chunksize
        self.terms = terms
        self.priority = priority
        self.ready = 0
        self.cancelled = False

    def carve(self, task_id: TaskId, limit: int) -> Task:
        """Return the next chunk, of at least 1 and at most `limit` items.

        The master's override gives the chunk its items and may stop before
        `limit` where they are large.
        """
        return Task(
            task_id,
            self.function,
            count=min(limit, self.ready),
            priority=self.priority,
            terms=self.terms,
        )


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
class WorkerLost:
    """A rank is gone without a goodbye."""

    rank: Rank


@dataclass(slots=True)
class WorkersLimited:
    """Only so many workers, the lowest ranks, are to be used; None for all."""

    count: int | None


@dataclass(slots=True)
class TasksReturned:
    """A worker is stuck in a long task, and gives back what it has not begun.

    Attributes:
        rank: The worker.
        ids: Tasks that it has not begun.
        split: The task that it is stuck in, if that is a chunk, and how many of its
            items it keeps; else None.
    """

    rank: Rank
    ids: Sequence[TaskId]
    split: tuple[TaskId, int] | None


@dataclass(slots=True)
class TasksSubmitted:
    """The user submitted calls, in this order."""

    tasks: Sequence[Task]


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
class TimePassed:
    """The scheduler's next deadline is here."""


@dataclass(slots=True)
class BulkExtended:
    """A bulk job has `count` more items ready to be carved off."""

    bulk: Bulk
    count: int


@dataclass(slots=True)
class BulkCancelled:
    """Nobody wants the rest of a bulk job."""

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
    """Nobody waits any longer for what workers are running."""


@dataclass(slots=True)
class OutcomesArrived:
    """A worker reported tasks as done.

    The message that does so derives from this, as a call derives from `Task`: what
    the tasks returned travels along, and nothing here looks at it.

    Attributes:
        rank: The worker.
        batches: How many of the batches it was sent are finished by this report.
        ids: The tasks, in the order of the report.
        failed: Which of them failed.
        costs: What they took, by function.
    """

    rank: Rank
    batches: int
    ids: Sequence[TaskId]
    failed: Sequence[TaskId]
    costs: Sequence[Cost]


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
    | WorkerLost
    | WorkersLimited
    | TasksReturned
    | TasksSubmitted
    | TasksPostponed
    | TimePassed
    | BulkExtended
    | BulkCancelled
    | CancelRequested
    | QueueCancelled
    | RunningAbandoned
    | OutcomesArrived
    | EndSet
    | DrainRequested
    | StopRequested
)


# Actions: what the shell must do.


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
            and must be ignored.
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
class Revoke:
    """Have the worker end these tasks, which run in a process of their own.

    Nobody waits for them any more.
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
    """Tell the owner that nobody waits any more for a task that does not end."""

    rank: Rank
    task: Task


@dataclass(slots=True)
class Stop:
    """Tell the worker to stop."""

    rank: Rank


Action = Assign | Complete | Cancelled | Fail | Revoke | Report | GiveUp | Stop
