"""What happened in a run, for its trace and its report: a listener of the engine.

Rank 0 knows when it sent tasks and when their results came, and workers say what they
took. From that `Recording` makes *slices*: a worker, from when to when, what it ran.
Tasks that were measured together are one slice. The memory that it needs has a bound:
above `MOST_SLICES` neighbours of one label are joined. So a slice says of how many
tasks it is, and nothing is left out (`mpitasks.observe.slices`). Sums and the slowest
tasks are kept beside that.

Idle time gets its cause at once, from what else goes on (`mpitasks.observe.idleness`).
Nothing here writes a file or runs code of the user.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.observe.accounts import MOST_LABELS, OTHERS, label_of, parts_of
from mpitasks.observe.idleness import Idleness
from mpitasks.observe.slices import (
    JOIN_SECONDS,
    Arrow,
    Durations,
    Instant,
    Sample,
    Slice,
    Slow,
    Unfinished,
    join,
)
from mpitasks.scheduler.events import (
    Assign,
    Complete,
    DrainRequested,
    GiveUp,
    InputReady,
    RankLost,
    Report,
    TasksPostponed,
    TasksSubmitted,
    TaskSubmitted,
    TaskSucceeded,
)
from mpitasks.wire.messages import CALL_PLAIN

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Action, Event, Rank, Task
    from mpitasks.scheduler.statistics import Statistics

__all__ = ["Recording"]

MOST_SLICES = 60_000
MOST_SAMPLES = 4_000
MOST_INSTANTS = 5_000
MOST_ARROWS = 20_000
MOST_SLOW = 20
SAMPLE_SECONDS = 1e-3
_nbytes = operator.attrgetter("nbytes")
_inputs = operator.attrgetter("inputs")

SHOWN = 120
"""Characters of arguments that are kept of a slow task."""


class _Worker:
    """What is known of a worker."""

    __slots__ = ("assigned", "batches", "busy", "ended", "held", "slices")

    def __init__(self) -> None:
        self.batches = 0
        self.assigned = 0.0  # since when it holds something
        self.held = 0.0  # how long it has held something, in all
        self.busy = 0.0
        self.ended = 0.0  # its last slice
        self.slices: list[Slice] = []


class Recording:
    """Takes down what happens.

    Args:
        ranks: The workers.
        now: The time, on the clock of the events.
        counts: Returns the counts of this moment; called under the event loop's lock.
        cpu: Returns the seconds of processor time that this process has used.

    Attributes:
        start: When it began, on that clock.
        end: The time of the last event.
        workers: The workers, by rank.
        instants: What happened at moments; the first `MOST_INSTANTS`.
        happened: How many there were.
        samples: Counts of moments.
        arrows: Results that tasks waited for; the first `MOST_ARROWS`.
        passed: How many there were.
        durations: By label.
        retries: How many further attempts there were.
        messages: How many batches were sent, and reports received.
        sent: Bytes of arguments.
        received: Bytes of results.
        idleness: Why workers were idle, and for how long.
        joined: Whether slices were joined.
    """

    def __init__(
        self,
        ranks: Sequence[Rank],
        now: float,
        counts: Callable[[], Statistics],
        cpu: Callable[[], float],
    ) -> None:
        self.start = self.end = now
        self.workers: Mapping[Rank, _Worker] = {rank: _Worker() for rank in ranks}
        self._counts = counts
        self._cpu = cpu
        self.instants: list[Instant] = []
        self.happened = 0
        self.samples: list[Sample] = []
        self._step = SAMPLE_SECONDS
        self._next_sample = now
        self.arrows: list[Arrow] = []
        self.passed = 0
        self._needed: set[int] = set()  # calls whose results are needed
        self._ended: dict[int, tuple[int, float]] = {}  # those of them that are over
        self._waits: dict[int, list[tuple[int, float]]] = {}  # for which, by their ids
        self.durations: dict[str, Durations] = {}
        self.retries = 0
        self.messages = 0
        self.sent = self.received = 0
        self._count = 0  # slices
        self._join = JOIN_SECONDS
        self.joined = False
        self._slow: list[Slow] = []
        self.idleness = Idleness(now, len(self.workers))

    # Under the event loop's lock.

    def listen(self, now: float, event: Event, actions: Sequence[Action]) -> None:
        """Take an event in. A listener of the engine."""
        self.idleness.pass_time(now)
        self.end = now
        for action in actions:
            if type(action) is Assign:
                self._assign(now, action)
            elif type(action) is Complete:
                self._complete(now, event, action.tasks)
            elif type(action) is Report or type(action) is GiveUp:
                self._note(now, "overdue", action.rank)
        if isinstance(event, (TaskSubmitted, TasksSubmitted)):
            self.idleness.submitted = True
            tasks = [event.task] if isinstance(event, TaskSubmitted) else event.tasks
            for inputs in filter(None, map(_inputs, tasks)):
                self._needed.update(inputs)
        elif isinstance(event, TasksPostponed):
            self.retries += len(event.tasks)
            self._note(now, "retry", 0)
        elif isinstance(event, InputReady):
            self._pass(event)
        elif isinstance(event, RankLost):
            self._lose(now, event.rank)
        elif type(event) is DrainRequested:
            self._note(now, "nothing new is started", 0)
        if self.idleness.idle or now >= self._next_sample:
            counts = self._counts()
            self.idleness.look(counts)
            if now >= self._next_sample:
                self._sample(now, counts)

    def _assign(self, now: float, action: Assign) -> None:
        worker = self.workers[action.rank]
        if not worker.batches:
            worker.assigned = now
            self.idleness.idle -= 1
        worker.batches += 1
        self.messages += 1
        self.idleness.submitted = True
        self.sent += sum(map(_nbytes, action.tasks))

    def _complete(self, now: float, event: Any, tasks: Sequence[Task | None]) -> None:
        worker = self.workers[event.rank]
        self.messages += 1
        failed: Sequence[int] = ()
        if isinstance(event, TaskSucceeded):
            batches = 1
            costs = [(event.function, 1, event.seconds, event.nbytes)]
        else:
            batches, costs, failed = event.batches, event.costs, event.failed
        total = sum([cost[2] for cost in costs])
        worker.busy += total
        now -= self.start
        begin = max(now - total, worker.ended)
        scale = min((now - begin) / total, 1.0) if total > 0 else 0.0
        self.received += sum([cost[3] for cost in costs])
        for part, items, seconds, _ in parts_of(costs, tasks):
            end = begin + seconds * scale
            self._add(event.rank, begin, end, part, items, seconds, failed)
            begin = end
        worker.ended = begin
        if worker.batches and worker.batches <= batches:
            worker.held += now + self.start - worker.assigned
            self.idleness.idle += 1
        worker.batches = max(worker.batches - batches, 0)

    def _add(
        self,
        rank: Rank,
        begin: float,
        end: float,
        tasks: Sequence[Task],
        items: int,
        seconds: float,
        failed: Sequence[int],
    ) -> None:
        """Add a slice of tasks with one label."""
        first = tasks[0]
        label = label_of(first.payload)
        if label not in self.durations and len(self.durations) >= MOST_LABELS:
            label = OTHERS
        durations = self.durations.get(label)
        if durations is None:
            durations = self.durations[label] = Durations()
        durations.add(items, seconds)
        id = item = None
        inputs = 0
        if not first.payload.is_call:
            item = first.start
        elif len(tasks) == 1:
            id, inputs = first.id, len(first.inputs)
        if self._needed or self._waits:
            for task in tasks:
                for source, sent in self._waits.pop(task.id, ()):
                    self._arrow(Arrow(source, sent, rank, begin))
                wire = task.payload.wire
                if wire is not None and wire[0] in self._needed:
                    self._needed.discard(wire[0])
                    self._ended[wire[0]] = rank, end
        spec = first.task_spec
        self.workers[rank].slices.append(
            Slice(
                begin,
                end,
                label,
                items,
                seconds,
                sum([t.id in failed for t in tasks]) if failed else 0,
                1 if spec is None else spec.attempt,
                id,
                item,
                inputs,
            )
        )
        self._count += 1
        if self._count > MOST_SLICES:
            self._join_slices()
        slow = self._slow
        each = seconds / items
        if len(slow) < MOST_SLOW or each > slow[0][0]:
            name, arguments = _shown(first, items)
            number = self._count
            entry = Slow(each, number, label, name, rank, begin, arguments)
            if len(slow) < MOST_SLOW:
                heapq.heappush(slow, entry)
            else:
                heapq.heapreplace(slow, entry)

    def _join_slices(self) -> None:
        """Join neighbours until there is room again."""
        self.joined = True
        lanes = {rank: worker.slices for rank, worker in self.workers.items()}
        self._join = join(lanes, MOST_SLICES // 2, self._join)
        for rank, slices in lanes.items():
            self.workers[rank].slices = slices
        self._count = sum(map(len, lanes.values()))

    def _pass(self, event: InputReady) -> None:
        found = self._ended.pop(event.id, None)
        if found is not None:
            for task in event.tasks:
                self._waits.setdefault(task.id, []).append(found)

    def _arrow(self, arrow: Arrow) -> None:
        self.passed += 1
        if len(self.arrows) < MOST_ARROWS:
            self.arrows.append(arrow)

    def _lose(self, now: float, rank: Rank) -> None:
        worker = self.workers[rank]
        if worker.batches:
            worker.held += now - worker.assigned
            worker.batches = 0
            self.idleness.idle += 1
        self.idleness.lose_worker()
        self._note(now, "rank lost", rank)

    def _note(self, now: float, name: str, rank: Rank) -> None:
        self.happened += 1
        if len(self.instants) < MOST_INSTANTS:
            self.instants.append(Instant(now - self.start, name, rank))

    def _sample(self, now: float, counts: Statistics) -> None:
        nbytes = self.sent + self.received
        self.samples.append(
            Sample(
                now - self.start, counts.queued, counts.assigned, nbytes, self._cpu()
            )
        )
        if len(self.samples) > MOST_SAMPLES:
            self.samples = self.samples[::2]
            self._step *= 2
        self._next_sample = now + self._step

    # Afterwards, from any thread.

    def unfinished(self, held: Mapping[Rank, Sequence[Task]]) -> Iterator[Unfinished]:
        """Yield what workers were at when the recording ended.

        Args:
            held: The tasks that each of them holds, oldest first.
        """
        for rank, tasks in held.items():
            worker = self.workers[rank]
            if tasks and worker.batches:
                begin = max(worker.assigned - self.start, worker.ended)
                label = label_of(tasks[0].payload)
                yield Unfinished(rank, begin, label, len(tasks))

    def slices(self) -> Iterator[tuple[Rank, Slice]]:
        """Yield the slices of each worker."""
        for rank, worker in self.workers.items():
            for each in worker.slices.copy():
                yield rank, each

    def slowest(self) -> list[Slow]:
        """Return the slowest tasks, the slowest first."""
        return sorted(self._slow.copy(), reverse=True)


def _shown(task: Task, items: int) -> tuple[str, str]:
    """Return what a task is called, and its arguments if they are plain values.

    The representation of a plain value runs no code of the user.
    """
    payload = task.payload
    if payload.is_call:
        wire = payload.wire
        plain = wire is not None and wire[2] == CALL_PLAIN
        return f"task {task.id}", repr(wire[3])[:SHOWN] if plain else ""
    first = payload.positions(task.start, task.count)[0]
    name = f"item {first}" if items == 1 else f"items {first} to {first + items - 1}"
    item = payload.items_of(task)[0]
    plain = type(item) in (int, float, bool, str, type(None))
    return name, repr(item)[:SHOWN] if plain else ""
