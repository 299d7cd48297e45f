"""Mailboxes: where calls of actors wait for the one worker that may run them.

Each actor has one. Its calls are sent to its rank in the order in which they came, and
to no other rank. A call that lacks inputs holds up the later ones. So there is one
order of all calls of an actor, whoever makes them.

    PENDING --send--> ALIVE --lose--> RESTARTING --renew--> PENDING
        |               |                 |
        `------close----'-----close-------'--> CLOSED
    all of them: --die--> DEAD

An actor is PENDING until its constructor is sent. If its rank is gone and it may be
restarted, it is RESTARTING until the constructor is in its mailbox once more. A mailbox
that is CLOSED takes no more calls and is forgotten when the last is sent.

A mailbox may send a batch whatever its worker does: a call for this worker could run
nowhere else, and the task that runs there may be waiting for just this actor. It sends
one batch ahead, as other tasks do (`mpitasks.scheduler.available_workers`).

Pure bookkeeping. What waits here is QUEUED or WAITING; `mpitasks.scheduler.backlog` and
`mpitasks.scheduler.assignments` change the states of tasks, `Mailboxes` those of
actors, and only for the scheduler.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.errors import TransitionError
from mpitasks.scheduler.events import ActorTask, ClosingTask, TaskState
from mpitasks.scheduler.policy import BATCH_BYTES, BATCH_TASKS, PREFETCH_SECONDS

if TYPE_CHECKING:
    from mpitasks.scheduler.events import ActorId, ActorOpened, Rank, Task, TaskId
    from mpitasks.scheduler.policy import Profiles

__all__ = [
    "ACTOR_TRANSITIONS",
    "ActorInput",
    "ActorState",
    "Mailbox",
    "Mailboxes",
]

_QUEUED = TaskState.QUEUED
_WAITING = TaskState.WAITING


class ActorState(enum.IntEnum):
    """Where an actor is."""

    PENDING = 0  # its constructor was not sent
    ALIVE = 1  # its constructor was sent, and its rank is there
    RESTARTING = 2  # its rank is gone; its constructor is not in its mailbox yet
    DEAD = 3  # its rank is gone, and it is not restarted
    CLOSED = 4  # it takes no more calls


class ActorInput(enum.IntEnum):
    """What can happen to an actor."""

    SEND = 0
    LOSE = 1
    RENEW = 2
    DIE = 3
    CLOSE = 4


_PENDING, _ALIVE, _RESTARTING, _DEAD, _CLOSED = ActorState

ACTOR_TRANSITIONS: dict[ActorInput, dict[ActorState, ActorState]] = {
    ActorInput.SEND: {
        _PENDING: _ALIVE,
        _ALIVE: _ALIVE,
        _CLOSED: _CLOSED,
    },
    ActorInput.LOSE: {
        _PENDING: _PENDING,
        _ALIVE: _RESTARTING,
        _RESTARTING: _RESTARTING,
    },
    ActorInput.RENEW: {_RESTARTING: _PENDING, _CLOSED: _CLOSED},
    ActorInput.DIE: dict.fromkeys(ActorState, _DEAD),
    ActorInput.CLOSE: {
        _PENDING: _CLOSED,
        _ALIVE: _CLOSED,
        _RESTARTING: _CLOSED,
        _DEAD: _DEAD,
        _CLOSED: _CLOSED,
    },
}


class Mailbox:
    """One actor, as the scheduler sees it.

    Attributes:
        actor: Its number.
        state: Changed by `Mailboxes` only.
        rank: Where its object lives, or will.
        ranks: Where it may live; None for any rank.
        restarts: How often it may still be restarted.
        exclusive: Whether its rank runs nothing else.
        queue: Its calls that were not sent, oldest first; some may be cancelled.
        sent: The id of the last call of each batch that its worker has, and the seconds
            that the batch should take.
        lacks_constructor: Whether it is to be made again, and its mailbox does not have
            what that takes.
    """

    __slots__ = (
        "actor",
        "exclusive",
        "lacks_constructor",
        "queue",
        "rank",
        "ranks",
        "restarts",
        "sent",
        "state",
    )

    def __init__(self, event: ActorOpened, rank: Rank) -> None:
        self.actor = event.actor
        self.state = _PENDING
        self.rank = rank
        self.ranks = event.ranks
        self.restarts = event.restarts
        self.exclusive = event.exclusive
        self.queue: deque[ActorTask] = deque()
        self.sent: deque[tuple[TaskId, float]] = deque()
        self.lacks_constructor = False

    def move(self, what: ActorInput) -> None:
        """Let something happen to the actor.

        Raises:
            TransitionError: Not in its state.
        """
        try:
            self.state = ACTOR_TRANSITIONS[what][self.state]
        except KeyError:
            text = f"actor {self.actor}: no {what.name} in {self.state.name}"
            raise TransitionError(text) from None

    def head(self) -> ActorTask | None:
        """Return the call that is sent next; None if there is none, or it waits."""
        queue = self.queue
        while queue:
            task = queue[0]
            if task.state is _QUEUED:
                return task
            if task.state is _WAITING:
                return None
            queue.popleft()  # it was cancelled, or has failed for want of an input
        return None

    def may_send(self, held: Container[TaskId]) -> bool:
        """Whether its worker has few enough of its batches.

        Args:
            held: The tasks that the worker holds.
        """
        if self.lacks_constructor:
            return False
        sent = self.sent
        while sent and sent[0][0] not in held:
            sent.popleft()
        return not sent or (len(sent) == 1 and sent[0][1] <= PREFETCH_SECONDS)

    def take(self, profiles: Profiles) -> tuple[list[Task], float]:
        """Take the next batch out of the queue.

        Args:
            profiles: What calls of the functions take.

        Returns:
            The calls, and the seconds that they should take; inf if that is not known.
        """
        batch: list[Task] = []
        seconds = 0.0
        nbytes = 0
        room = 1.0
        function = None
        while len(batch) < BATCH_TASKS and (task := self.head()) is not None:
            if task.function != function:
                function = task.function
                profile = profiles.get(function)
                if profile is None:
                    share = each = math.inf
                else:
                    share = 1.0 / profile.batch_items()
                    each = profile.seconds
            if batch and (share > room or nbytes >= BATCH_BYTES):
                break
            self.queue.popleft()
            batch.append(task)
            room -= share
            seconds += each
            nbytes += task.nbytes
        return batch, seconds


class Mailboxes:
    """The actors of a run.

    Attributes:
        items: How many of their calls are QUEUED.
        ready: Mailboxes that may have something to send.
        blocked: By rank, mailboxes that have sent as much as they may.
        undeliverable: Calls that were put into a mailbox that is none any more; with
            the rank that is gone with the actor, if it is not closed.
        exclusive: The ranks that run nothing but one actor each.
    """

    def __init__(self) -> None:
        self.items = 0
        self.ready: dict[ActorId, Mailbox] = {}
        self.blocked: dict[Rank, dict[ActorId, Mailbox]] = {}
        self.undeliverable: list[tuple[ActorTask, Rank | None]] = []
        self.exclusive: set[Rank] = set()
        self._boxes: dict[ActorId, Mailbox] = {}
        self._counts: dict[Rank, int] = {}

    def __iter__(self) -> Iterator[Mailbox]:
        return iter(self._boxes.values())

    def get(self, actor: ActorId) -> Mailbox | None:
        """Return the mailbox of an actor; None if it is closed, or never was."""
        return self._boxes.get(actor)

    def place(
        self,
        candidates: Iterable[Rank],
        allowed: Iterable[Rank] | None,
        exclusive: bool,
    ) -> Rank | None:
        """Return the rank with the fewest actors, the lowest of these; None if none.

        Args:
            candidates: Ranks that take tasks.
            allowed: Those that may be chosen; None for all.
            exclusive: Whether it must have no actor.
        """
        counts = self._counts
        fit = [
            rank
            for rank in candidates
            if (allowed is None or rank in allowed)
            and not (exclusive and counts.get(rank))
        ]
        return min(fit, key=lambda rank: (counts.get(rank, 0), rank), default=None)

    def open(self, event: ActorOpened, rank: Rank) -> Mailbox:
        """Take in a new actor, which is to live on that rank."""
        box = self._boxes[event.actor] = Mailbox(event, rank)
        self._settle(box)
        return box

    def _settle(self, box: Mailbox) -> None:
        """An actor lives on its rank."""
        self._counts[box.rank] = self._counts.get(box.rank, 0) + 1
        if box.exclusive:
            self.exclusive.add(box.rank)

    def put(self, task: ActorTask) -> None:
        """Put a call into its mailbox, behind all others."""
        box = self._boxes.get(task.actor)
        self.items += task.state is _QUEUED
        if box is None or box.state is _DEAD or box.state is _CLOSED:
            dead = box is not None and box.state is _DEAD
            self.undeliverable.append((task, box.rank if box and dead else None))
            if box is not None and type(task) is ClosingTask and box.state is _DEAD:
                del self._boxes[box.actor]
            return
        if type(task) is ClosingTask:
            box.move(ActorInput.CLOSE)
            self._counts[box.rank] -= 1
        box.queue.append(task)
        self.ready[box.actor] = box

    def wake(self, task: ActorTask) -> None:
        """A call has the last of its inputs, or will not run: look at its mailbox."""
        box = self._boxes.get(task.actor)
        if box is not None:
            self.ready[box.actor] = box

    def wake_rank(self, rank: Rank) -> None:
        """A worker has reported: those that wait for it may send."""
        self.ready.update(self.blocked.pop(rank, ()))

    def wake_all(self) -> None:
        """Look at all mailboxes again."""
        self.ready.update(self._boxes)
        self.blocked.clear()

    def block(self, box: Mailbox) -> None:
        """A mailbox can send nothing before its worker reports."""
        self.blocked.setdefault(box.rank, {})[box.actor] = box

    def note_sent(self, box: Mailbox, batch: list[Task], seconds: float) -> None:
        """Take note that a batch of a mailbox is at its worker."""
        box.move(ActorInput.SEND)
        self.items -= len(batch)
        box.sent.append((batch[-1].id, seconds))
        if box.state is _CLOSED and not box.queue:
            if box.exclusive:
                self.exclusive.discard(box.rank)
            del self._boxes[box.actor]

    def lose_rank(
        self, rank: Rank, place: Callable[[Mailbox], Rank | None]
    ) -> tuple[list[Mailbox], list[Mailbox]]:
        """A rank is gone: its actors move to others, or die.

        Args:
            rank: The rank.
            place: Returns where an actor is to live; None if there is no such rank.

        Returns:
            Those that need their constructor anew, and those that are dead. What waits
            in the latter is never sent.
        """
        self.blocked.pop(rank, None)
        restarted: list[Mailbox] = []
        dead: list[Mailbox] = []
        for box in [box for box in self if box.rank == rank and box.state is not _DEAD]:
            self._counts[rank] -= box.state is not _CLOSED
            if box.exclusive:
                self.exclusive.discard(rank)
            box.sent.clear()
            begun = box.state in (_ALIVE, _CLOSED)
            found = None if begun and not box.restarts else place(box)
            if found is None or box.state is _CLOSED:
                box.move(ActorInput.DIE)
                dead.append(box)
                continue
            if begun:
                box.restarts -= 1
                box.lacks_constructor = True
                restarted.append(box)
            else:
                self.ready[box.actor] = box
            box.move(ActorInput.LOSE)
            box.rank = found
            self._settle(box)
        return restarted, dead

    def restart(self, actor: ActorId, tasks: Sequence[ActorTask]) -> None:
        """Put the constructor, and what brings the object up to date, before all else.

        Where the actor is none any more, nobody will run them.
        """
        self.items += len(tasks)
        box = self._boxes.get(actor)
        if box is None or box.state is _DEAD:
            rank = None if box is None else box.rank
            self.undeliverable += [(task, rank) for task in tasks]
            return
        box.move(ActorInput.RENEW)
        box.lacks_constructor = False
        box.queue.extendleft(reversed(tasks))
        self.ready[actor] = box

    def empty(self, box: Mailbox) -> list[ActorTask]:
        """Take out what waits in the mailbox of a dead actor."""
        left = [task for task in box.queue if task.state in (_QUEUED, _WAITING)]
        box.queue.clear()
        self.ready.pop(box.actor, None)
        if any(type(task) is ClosingTask for task in left):
            del self._boxes[box.actor]
        return left

    def take_all(self) -> list[Task]:
        """Take out all calls that are QUEUED, but those that close an actor."""
        taken: list[Task] = []
        for box in self:
            closing = [task for task in box.queue if type(task) is ClosingTask]
            taken += [task for task in box.queue if type(task) is not ClosingTask]
            box.queue.clear()
            box.queue.extend(closing)
        taken = [task for task in taken if task.state is _QUEUED]
        self.items -= len(taken)
        return taken

    def tasks(self) -> Iterator[ActorTask]:
        """Yield the calls that are QUEUED."""
        for box in self:
            yield from (task for task in box.queue if task.state is _QUEUED)

    def check(self) -> None:
        """Assert every invariant. For tests and debugging; walks everything."""
        assert self.items == sum(1 for _ in self.tasks())
        for rank, count in self._counts.items():
            gone = (_DEAD, _CLOSED)
            here = [b for b in self if b.rank == rank and b.state not in gone]
            assert count == len(here), (rank, count, here)
        for box in self:
            if not box.lacks_constructor and box.head() is not None:
                waits = box.actor in self.blocked.get(box.rank, ())
                assert waits or box.actor in self.ready, box.actor
