"""What a run has done so far: counts, seconds of the workers, by label and by link.

`Accounts` is a listener of the engine (`mpitasks.master.engine`), and pure: it adds up
what reports say, and reads no clock. Rank 0 knows what the scheduler knows. A worker
measures runs of calls of one function, so what a single short call took is not known.
How statistics are shown is not known here either.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.records import dataclass
from mpitasks.scheduler.events import (
    ActorFailed,
    Assign,
    Complete,
    Fail,
    GiveUp,
    InputFailed,
    OutcomesArrived,
    RankLost,
    TasksPostponed,
    TaskSubmitted,
    TaskSucceeded,
    WorkerLeft,
)
from mpitasks.scheduler.statistics import NO_DATA

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Action, Event, Rank, Task
    from mpitasks.scheduler.statistics import DataStatistics, Statistics
    from mpitasks.wire.messages import Overhead

__all__ = [
    "MOST_LABELS",
    "OTHERS",
    "Accounts",
    "LabelStatistics",
    "LinkStatistics",
    "RunStatistics",
    "label_of",
    "parts_of",
]

MOST_LABELS = 10_000
"""Who gives each task a label of its own does not want a sum for each."""

OTHERS = "(other labels)"
"""Stands for all labels that came later."""

_RARE = frozenset({TasksPostponed, RankLost, WorkerLeft})
_nbytes = operator.attrgetter("nbytes")
_count = operator.attrgetter("count")
_spec = operator.attrgetter("task_spec")


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """What became of the tasks with one label.

    Attributes:
        succeeded: Calls and items that returned a value.
        failed: Calls and items that failed for good.
        retries: Further attempts.
        seconds: Time in the function, all workers and all attempts together.
        nbytes: Size of the results in bytes, of those that are not plain values.
    """

    succeeded: int
    failed: int
    retries: int
    seconds: float
    nbytes: int


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """What went between one worker, rank 0 and other workers.

    Attributes:
        host: Where the worker is.
        sent: Bytes of arguments that rank 0 sent.
        received: Bytes of results that rank 0 received, also of those that the worker
            kept at first.
        tasks: Calls and chunks that rank 0 sent.
        near: Bytes of kept results that the worker got from others of its host.
        far: Bytes of kept results that it got from workers of other hosts.
        shared: Bytes of shared objects that rank 0 sent. Workers of rank 0's host read
            the large ones from its memory instead.
        loading: Seconds in which the worker made functions of tasks and imported what
            these need.
        copying: Seconds in which it got kept results.
    """

    host: str
    sent: int
    received: int
    tasks: int
    near: int = 0
    far: int = 0
    shared: int = 0
    loading: float = 0.0
    copying: float = 0.0


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """What a run has done up to a moment; see `mpitasks.Executor.statistics`.

    A call of `submit` counts as one task, and so does each item of a map.

    Attributes:
        seconds: Since the run has workers.
        workers: Workers that take tasks.
        queued: Tasks that wait for a worker, or for inputs.
        running: Tasks in the hands of workers.
        succeeded: Tasks that returned a value.
        failed: Tasks that failed for good.
        cancelled: Tasks that were taken back.
        retries: Further attempts.
        running_seconds: Time in functions of tasks, summed over the workers, as they
            have reported it.
        assigned_seconds: Time in which workers held tasks, summed over them. It
            contains the running seconds; the rest are transfers, pickling, messages,
            and tasks that are not over.
        idle_seconds: Time in which workers held no task, summed over them.
        labels: The same by label. Tasks without a label have the name of their
            function. Of more than `MOST_LABELS` labels the later ones are one.
        links: Bytes by the rank of the worker. Functions and the heads of messages are
            not counted, nor results that are a number, None or short text.
        kept: Bytes of results that workers keep now, by host.
        most_kept: The most that they have kept, by host.
    """

    seconds: float
    workers: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    retries: int
    running_seconds: float
    assigned_seconds: float
    idle_seconds: float
    labels: dict[str, LabelStatistics]
    links: dict[int, LinkStatistics]
    kept: dict[str, int]
    most_kept: dict[str, int]


class _Label:
    """What is added up for a label.

    `ended` are items of attempts that are over, whatever they came to.
    """

    __slots__ = ("ended", "failed", "nbytes", "retries", "seconds")

    def __init__(self) -> None:
        self.ended = self.failed = self.retries = self.nbytes = 0
        self.seconds = 0.0

    def add(self, items: int, seconds: float, nbytes: int) -> None:
        """Take in what items of it took."""
        self.ended += items
        self.seconds += seconds
        self.nbytes += nbytes

    @property
    def succeeded(self) -> int:
        """How many items returned a value, as far as the others are decided."""
        return max(self.ended - self.failed - self.retries, 0)


class _Link:
    """What is added up for a worker; `batches` of tasks are with it at the moment."""

    __slots__ = (
        "batches",
        "copying",
        "far",
        "idle",
        "loading",
        "near",
        "received",
        "running",
        "sent",
        "since",
        "tasks",
    )

    def __init__(self, since: float) -> None:
        self.batches = self.sent = self.received = self.tasks = 0
        self.near = self.far = 0
        self.running = self.idle = self.loading = self.copying = 0.0
        self.since: float | None = since  # when it had nothing any more; None: it has


class Accounts:
    """Adds up what a run does.

    Args:
        ranks: The workers.
        now: The time, on the clock of the events.
        hosts: Where the workers are, by rank, as far as that is known.

    Attributes:
        hosts: The same.
    """

    def __init__(
        self,
        ranks: Iterable[Rank],
        now: float,
        hosts: Mapping[Rank, str] | None = None,
    ) -> None:
        self._start = now
        self.hosts = {} if hosts is None else hosts
        self._links = {rank: _Link(now) for rank in ranks}
        self._left: dict[Rank, float] = {}  # when those went that are gone
        self._labels: dict[str, _Label] = {}
        self._retries = 0
        self._latest: tuple[Any, Any, _Label] = None, None, _Label()

    # Under the event loop's lock.

    def listen(self, now: float, event: Event, actions: Sequence[Action]) -> None:
        """Take in an event. A listener of the engine; written to cost little."""
        if type(event) is TaskSubmitted and len(actions) == 1:
            # Who waits for one call after another would notice the loop below.
            only = actions[0]
            if type(only) is Assign:
                self._assign(now, only.rank, event.task.nbytes, 1)
                return
        for action in actions:
            if type(action) is Assign:
                nbytes = sum(map(_nbytes, action.tasks))
                self._assign(now, action.rank, nbytes, len(action.tasks))
            elif type(action) is Complete:
                self._complete(now, event, action.tasks)
            elif (
                type(action) is Fail
                or type(action) is InputFailed
                or type(action) is ActorFailed
            ):
                for task in action.tasks:
                    self._of(task).ended += task.count
            elif type(action) is GiveUp:
                self._of(action.task).ended += action.task.count
        if type(event) in _RARE:
            self._take_rare(now, event)

    def _assign(self, now: float, rank: Rank, nbytes: int, tasks: int) -> None:
        """A worker was sent a batch."""
        link = self._links[rank]
        link.batches += 1
        link.sent += nbytes
        link.tasks += tasks
        if link.since is not None:
            link.idle += now - link.since
            link.since = None

    def note_failure(self, task: Task, items: int) -> None:
        """Some items of a task have failed for good."""
        self._of(task).failed += items

    def note_overhead(self, rank: Rank, told: Overhead) -> None:
        """Take in what a worker did beside running functions."""
        link = self._links[rank]
        link.loading += told.loading
        link.copying += told.copying
        host = self.hosts.get(rank)
        for holder, nbytes in told.copied.items():
            if self.hosts.get(holder) == host:
                link.near += nbytes
            else:
                link.far += nbytes

    def _complete(self, now: float, event: Any, tasks: Sequence[Task | None]) -> None:
        """Take a report in."""
        link = self._links[event.rank]
        if isinstance(event, TaskSucceeded):
            (task,) = tasks
            seconds, nbytes = event.seconds, event.nbytes
            link.running += seconds
            link.received += nbytes
            link.batches -= 1
            if task is not None:
                payload = task.payload
                options, target, label = self._latest
                if payload.options is not options or payload.target is not target:
                    label = self._of(task)
                    self._latest = payload.options, payload.target, label
                label.ended += 1
                label.seconds += seconds
                label.nbytes += nbytes
        else:
            self._take_report(link, event, tasks)
        if link.batches <= 0 and link.since is None:
            link.batches = 0
            link.since = now

    def _take_report(
        self, link: _Link, event: OutcomesArrived, tasks: Sequence[Task | None]
    ) -> None:
        """Share out what a report of several tasks says."""
        link.batches -= event.batches
        for _, _, seconds, nbytes in event.costs:
            link.running += seconds
            link.received += nbytes
        for part, items, seconds, nbytes in parts_of(event.costs, tasks):
            self._add(part[0], items, seconds, nbytes)

    def _add(self, task: Task, items: int, seconds: float, nbytes: int) -> None:
        """Take in what items of the kind of a task took."""
        payload = task.payload
        options, target, label = self._latest
        if payload.options is not options or payload.target is not target:
            label = self._of(task)
            self._latest = payload.options, payload.target, label
        label.add(items, seconds, nbytes)

    def _take_rare(self, now: float, event: Event) -> None:
        if isinstance(event, TasksPostponed):
            for task in event.tasks:
                self._of(task).retries += 1
                self._retries += 1
        elif isinstance(event, (RankLost, WorkerLeft)):
            link = self._links[event.rank]
            if link.since is not None:
                link.idle += now - link.since
                link.since = None
            self._left[event.rank] = now

    def _of(self, task: Task) -> _Label:
        name = label_of(task.payload)
        label = self._labels.get(name)
        if label is None:
            if len(self._labels) >= MOST_LABELS:
                name = OTHERS
            label = self._labels.setdefault(name, _Label())
        return label

    # From any thread.

    def seconds_each(self, name: str) -> float | None:
        """Return what an item with a label takes; None if none is over."""
        label = self._labels.get(name)
        return (
            label.seconds / label.ended if label is not None and label.ended else None
        )

    def statistics(
        self, counts: Statistics, now: float, data: DataStatistics = NO_DATA
    ) -> RunStatistics:
        """Return what there is.

        Args:
            counts: The counts of this moment.
            now: The time, on the clock of the events.
            data: Bytes of kept results and shared objects.
        """
        running = span = idle = 0.0
        links = self._links.copy()
        for rank, link in links.items():
            since, end = link.since, self._left.get(rank, now)
            running += link.running
            span += max(end - self._start, 0.0)
            idle += link.idle
            if since is not None:
                idle += max(end - since, 0.0)
        return RunStatistics(
            seconds=max(now - self._start, 0.0),
            workers=counts.workers,
            queued=counts.queued,
            running=counts.assigned,
            succeeded=counts.succeeded,
            failed=counts.failed,
            cancelled=counts.cancelled,
            retries=self._retries,
            running_seconds=running,
            assigned_seconds=max(span - idle, 0.0),
            idle_seconds=idle,
            labels={
                name: LabelStatistics(
                    each.succeeded,
                    each.failed,
                    each.retries,
                    each.seconds,
                    each.nbytes,
                )
                for name, each in self._labels.copy().items()
            },
            links={
                rank: LinkStatistics(
                    self.hosts.get(rank, ""),
                    link.sent,
                    link.received + data.fetched.get(rank, 0),
                    link.tasks,
                    link.near,
                    link.far,
                    data.shared.get(rank, 0),
                    link.loading,
                    link.copying,
                )
                for rank, link in links.items()
            },
            kept=data.kept,
            most_kept=data.most_kept,
        )


def parts_of(
    costs: Sequence[Any], tasks: Sequence[Task | None]
) -> Iterator[tuple[Sequence[Task], int, float, int]]:
    """Yield what a report says of tasks with one label in a row.

    Args:
        costs: Those of the report: of one run of tasks of a function after the other.
        tasks: The tasks of the report, None for those that came too late.

    Yields:
        The tasks, their items, their seconds and their bytes. Of what was measured
        together, each gets a part by the number of its items.
    """
    known: Sequence[Any] = tasks
    if None in tasks:
        known = [task for task in tasks if task is not None]
    if not known:
        return
    if len(costs) == 1 and known is tasks:
        _, items, seconds, nbytes = costs[0]
        yield from _by_label(known, items, seconds, nbytes)
    elif known is tasks:
        rest = iter(known)
        for _, items, seconds, nbytes in costs:
            run, left = [], items
            while left > 0 and (task := next(rest, None)) is not None:
                run.append(task)
                left -= task.count
            yield from _by_label(run, items, seconds, nbytes)
    else:
        seconds = sum([cost[2] for cost in costs])
        nbytes = sum([cost[3] for cost in costs])
        yield from _by_label(known, sum(map(_count, known)), seconds, nbytes)


def _by_label(
    run: Sequence[Task], items: int, seconds: float, nbytes: int
) -> Iterator[tuple[Sequence[Task], int, float, int]]:
    """Yield the parts of a run of tasks, which are of one function."""
    # A task that has a label has it in what its worker must know of it, too.
    spec = run[0].task_spec
    specs = map(_spec, run)
    if (
        not any(specs)
        if spec is None
        else all(map(operator.is_, specs, itertools.repeat(spec)))
    ):
        yield run, items, seconds, nbytes
        return
    for _, group in itertools.groupby(run, lambda task: label_of(task.payload)):
        part = [*group]
        count = sum(map(_count, part))
        yield part, count, seconds * count / items, nbytes * count // items


def label_of(payload: Any) -> str:
    """Return the label of a call or a map, or the name of its function.

    A label may be of the user's own class, so it is made plain text without a call of
    its methods: this is called under the event loop's lock.
    """
    name = payload.options.label
    if name is None:
        name = payload.target.label
    return name if type(name) is str else str.__str__(name)
