"""The workers of a run, and which of them could take a batch now.

The scheduler changes a worker's state and its batches. After each change the worker is
filed here under what it could take:

    idle      holds nothing: takes work at once
    short     works on one short batch: a second may be sent ahead
    longer    works on one longer batch: as short, but only while the queue is deep

A worker that could take nothing, or that is more than the wanted number, is filed
nowhere.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from mpitasks.scheduler.events import ActorTask, Rank, Task, TaskId, WorkerState
from mpitasks.scheduler.policy import (
    DEEP_PREFETCH_SECONDS,
    DEEP_QUEUE,
    PREFETCH_SECONDS,
)

__all__ = ["CREDIT", "AvailableWorkers", "WorkerRecord"]

CREDIT = 2
"""The most batches that a worker holds: one that it works on, and one sent ahead."""

_READY = WorkerState.READY  # an attribute of an enum costs 0.2 us on CPython 3.11


class WorkerRecord:
    """One worker rank, as the scheduler sees it.

    Attributes:
        rank: The rank.
        state: Changed by the scheduler only.
        tasks: What it holds, by id.
        batches: Expected seconds of each batch it holds, oldest first; inf if unknown.
        used: Whether it is among the wanted number of workers.
        filed: Where it is filed.
    """

    __slots__ = ("batches", "filed", "rank", "state", "tasks", "used")

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self.state = WorkerState.READY
        self.tasks: dict[TaskId, Task] = {}
        self.batches: deque[float] = deque()
        self.used = True
        self.filed: dict[Rank, WorkerRecord] | None = None


class AvailableWorkers:
    """The workers of a run.

    Attributes:
        used: How many workers are ready and wanted.
        reserved: Those that are ready, and have work of their own only.
    """

    def __init__(self) -> None:
        self.used = 0
        self.reserved: set[Rank] = set()
        self._workers: dict[Rank, WorkerRecord] = {}
        self._limit: int | None = None
        # A plain dict where the last goes first; it would be slow to take the first.
        self._idle: dict[Rank, WorkerRecord] = {}
        self._short: OrderedDict[Rank, WorkerRecord] = OrderedDict()
        self._longer: OrderedDict[Rank, WorkerRecord] = OrderedDict()

    def __iter__(self) -> Iterator[WorkerRecord]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, rank: Rank) -> WorkerRecord | None:
        """Return the worker of that rank, if it ever joined."""
        return self._workers.get(rank)

    def add(self, worker: WorkerRecord) -> None:
        """Take in a new worker."""
        self._workers[worker.rank] = worker
        self.used += 1
        self.file(worker)
        if self._limit is not None:
            self._choose()

    def retire(self, worker: WorkerRecord) -> None:
        """Take note that a worker is ready no longer."""
        self.used -= worker.used
        self.file(worker)
        if self._limit is not None:
            self._choose()

    def restore(self) -> None:
        """Take note that a worker is ready again."""
        self._choose()

    def limit(self, count: int | None) -> None:
        """Use this many workers from now on, the lowest ranks; None for all."""
        self._limit = count
        self._choose()

    def reserve(self, ranks: set[Rank]) -> None:
        """Keep tasks for any worker off these from now on, and off no others."""
        self.reserved = ranks
        self._choose()

    def takers(self) -> list[Rank]:
        """Return the workers that are ready and wanted."""
        return [w.rank for w in self._workers.values() if w.state is _READY and w.used]

    def _choose(self) -> None:
        """Say which workers are used."""
        ready = [
            w
            for w in self._workers.values()
            if w.state is _READY and w.rank not in self.reserved
        ]
        for rank in self.reserved:
            self._workers[rank].used = False
            self.file(self._workers[rank])
        limit = len(ready) if self._limit is None else self._limit
        if limit < len(ready):
            ready.sort(key=lambda worker: worker.rank)
        self.used = min(limit, len(ready))
        for at, worker in enumerate(ready):
            worker.used = at < limit
            self.file(worker)

    def file(self, worker: WorkerRecord) -> None:
        """File a worker under what it could take."""
        rank = worker.rank
        where = worker.filed
        if where is not None:
            del where[rank]
            where = None
        if worker.used and worker.state is _READY:
            batches = worker.batches
            if not batches:
                where = self._idle
            elif len(batches) < CREDIT:
                seconds = batches[0]
                if seconds <= PREFETCH_SECONDS:
                    where = self._short
                elif seconds <= DEEP_PREFETCH_SECONDS:
                    where = self._longer
        worker.filed = where
        if where is not None:
            where[rank] = worker

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return bool(self._idle)

    @property
    def has_capacity(self) -> bool:
        """Whether a worker would take a single task now."""
        return bool(self._idle or self._short)

    def has_room(self, worker: WorkerRecord) -> bool:
        """Whether this worker would take a single task now."""
        return worker.filed is self._idle or worker.filed is self._short

    def pick_idle(self) -> WorkerRecord | None:
        """Return the worker that became idle last, which is awake best, if any is."""
        if not self._idle:
            return None
        # Taken out and put back: `reversed` would walk over all that was deleted at the
        # end, which with 100,000 idle workers costs more than everything else.
        rank, worker = self._idle.popitem()
        self._idle[rank] = worker
        return worker

    def pick(self, queued: int) -> WorkerRecord | None:
        """Return a worker that is to get a batch now, if there is one.

        An idle one first. Then those with a batch, which had theirs longest.

        Args:
            queued: Items in the queue.
        """
        if self._idle:
            return self.pick_idle()
        if self._short:
            return next(iter(self._short.values()))
        if self._longer and queued > DEEP_QUEUE * self.used:
            return next(iter(self._longer.values()))
        return None

    def check(self) -> None:
        """Assert that every worker is filed where it belongs."""
        for worker in self:
            ready = worker.state is _READY and worker.used
            assert (worker.rank in self._idle) == (ready and not worker.batches)
            ahead = worker.rank in self._short or worker.rank in self._longer
            assert not ahead or (ready and len(worker.batches) == 1)
            mail = any(isinstance(task, ActorTask) for task in worker.tasks.values())
            assert mail or len(worker.batches) <= CREDIT
        used = [w for w in self if w.state is _READY and w.used]
        assert len(used) == self.used
