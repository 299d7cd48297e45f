"""Random histories: whatever happens in which order, each item is resolved once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from driver import OVER, SHORT, Driver, Recorder, costs_of, only, positions
from mpitasks.errors import TransitionError
from mpitasks.scheduler.available_workers import CREDIT
from mpitasks.scheduler.events import (
    Action,
    Assign,
    BulkCancelled,
    Cancelled,
    CancelRequested,
    Complete,
    Cost,
    Fail,
    GiveUp,
    InputFailed,
    InputGone,
    InputReady,
    MemoryChanged,
    Place,
    QueueCancelled,
    Revoke,
    RunningAbandoned,
    Stop,
    Task,
    TasksPostponed,
    TasksReturned,
    TasksSubmitted,
    TaskState,
    WorkerJoined,
    WorkerLeft,
    WorkersLimited,
    WorkerState,
)
from mpitasks.scheduler.policy import BATCH_BYTES
from mpitasks.task_spec import TaskSpec

SECONDS = st.sampled_from([0.0, 1e-6, 1e-4, 1.5e-3, 3e-3, 0.5])
FUNCTIONS = st.integers(0, 2)
PRIORITIES = st.integers(-1, 1)
INPUTS = st.integers(0, 4)
PLACES = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 5), st.sampled_from([1 << 20, 10 << 30, 1 << 40])),
)
TERMS = st.sampled_from(
    [
        None,
        TaskSpec("named"),
        TaskSpec(timeout=5.0),
        TaskSpec(isolate=True),
        TaskSpec(keep=True),
    ]
)
NBYTES = st.sampled_from([0, 100, 3 << 20, 9 << 20])

Item = tuple[Recorder | None, int]
"""A job and the position of one of its items, or None and the id of a call."""


def items_of(task: Task) -> list[Item]:
    """Return what a task is for."""
    job = task.payload
    if isinstance(job, Recorder):
        return [(job, at) for at in positions(task)]
    return [(None, task.id)]


class SchedulerMachine(RuleBasedStateMachine):
    """A master without a wire: does what actions say, and counts."""

    submitted = Bundle("submitted")
    bulks = Bundle("bulks")

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.calls: list[Task] = []
        self.lacks: dict[int, set[int]] = {}  # what each task waits for, by its id
        self.jobs: list[Recorder] = []
        self.offered: Counter[int] = Counter()  # items by the position of their job
        self.dropped: Counter[int] = Counter()
        self.resolved: Counter[Item] = Counter()
        self.assigned: Counter[int] = Counter()
        self.returned: Counter[int] = Counter()
        self.limit: int | None = None
        self.joined = 0
        self.steps = 0
        self.stopped = False
        self.told: list[int] = []

    # What a master does with actions.

    def perform(self, actions: list[Action]) -> None:
        for action in only(Assign, actions):
            assert action.tasks
            assert len(action.tasks) == 1 or not any(t.alone for t in action.tasks)
            self.assigned.update(task.id for task in action.tasks)
            assert len(self.driver.batches[action.rank]) <= CREDIT
            assert action.rank in self.used
        for complete in only(Complete, actions):
            self.resolve(task for task in complete.tasks if task)
        self.resolve(given_up.task for given_up in only(GiveUp, actions))
        for revoke in only(Revoke, actions):
            sent = [t.id for b in self.driver.batches[revoke.rank] for t in b]
            assert set(revoke.ids) <= set(sent)
        unruns: list[Cancelled | Fail | InputFailed] = [*only(Cancelled, actions)]
        unruns += only(Fail, actions)
        unruns += only(InputFailed, actions)
        for unrun in unruns:
            assert unrun.tasks
            self.resolve(unrun.tasks)
        self.told += [stop.rank for stop in only(Stop, actions)]
        for id, times in self.assigned.items():
            assert times <= 1 + self.returned[id]

    def resolve(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            assert task.state in OVER
            for item in items_of(task):
                self.resolved[item] += 1
                assert self.resolved[item] == 1

    def ranks(self, *states: WorkerState) -> list[int]:
        driver = self.driver
        return [r for r in range(self.joined) if driver.worker_state(r) in states]

    @property
    def alive(self) -> list[int]:
        return self.ranks(
            WorkerState.READY, WorkerState.STOPPING, WorkerState.UNRESPONSIVE
        )

    @property
    def used(self) -> list[int]:
        return self.ranks(WorkerState.READY)[: self.limit]

    @property
    def busy(self) -> list[int]:
        return [rank for rank in self.alive if self.driver.batches[rank]]

    # What may happen.

    @initialize(workers=st.integers(0, 4), known=st.sets(FUNCTIONS))
    def start(self, workers: int, known: set[int]) -> None:
        for function in known:
            self.driver.learn(function, SHORT)
        for _ in range(workers):
            self.join()

    @initialize(target=bulks, chunksize=st.integers(2, 9), count=st.integers(0, 50))
    def start_job(self, chunksize: int, count: int) -> int:
        self.jobs.append(Recorder(0, chunksize=chunksize))
        self.extend(0, count, None, [])
        return 0

    @precondition(lambda self: self.joined < 6 and not self.stopped)
    @rule()
    def join(self) -> None:
        self.joined += 1
        self.perform(self.driver.handle(WorkerJoined(self.joined - 1)))

    @rule(
        target=submitted,
        count=st.integers(1, 12),
        function=FUNCTIONS,
        priority=PRIORITIES,
        nbytes=NBYTES,
        task_spec=TERMS,
        delay=st.sampled_from([None, 0.0, 30.0]),
        alone=st.booleans(),
    )
    def submit(
        self,
        count: int,
        function: int,
        priority: int,
        nbytes: int,
        task_spec: TaskSpec | None,
        delay: float | None,
        *,
        alone: bool,
    ) -> list[Task]:
        tasks = self.driver.tasks(
            count, function, priority=priority, nbytes=nbytes, task_spec=task_spec
        )
        tasks[0].alone = alone
        self.calls += tasks
        if count == 1 and delay is None:
            self.perform(self.driver.submit_one(*tasks))
        elif delay is None:
            self.perform(self.driver.handle(TasksSubmitted(tasks)))
        else:
            until = self.driver._now + delay
            self.perform(self.driver.handle(TasksPostponed(tasks, until)))
        return tasks

    @rule(
        target=submitted,
        needs=st.lists(st.sets(INPUTS), min_size=1, max_size=5),
        function=FUNCTIONS,
        priority=PRIORITIES,
    )
    def submit_with_inputs(
        self, needs: list[set[int]], function: int, priority: int
    ) -> list[Task]:
        tasks = [
            self.driver.task(function, priority=priority, inputs=sorted(inputs))
            for inputs in needs
        ]
        self.calls += tasks
        for task in tasks:
            self.lacks[task.id] = set(task.inputs)
        if len(tasks) == 1:
            self.perform(self.driver.submit_one(*tasks))
        else:
            self.perform(self.driver.handle(TasksSubmitted(tasks)))
        return tasks

    @rule(id=INPUTS, nbytes=NBYTES, place=PLACES, data=st.data())
    def supply(
        self, id: int, nbytes: int, place: Place | None, data: st.DataObject
    ) -> None:
        users = [t for t in self.waiting if id in self.lacks[t.id]]
        users = users[: data.draw(st.integers(0, 9))]  # the others later
        gone = [task for task in self.calls if task.state in OVER]
        other = data.draw(FUNCTIONS)
        weights = {task.id: task.nbytes for task in users}
        functions = {task.id: other for task in users[::2]}
        for task in users:
            self.lacks[task.id].remove(id)
        self.perform(
            self.driver.handle(InputReady(id, users + gone, nbytes, functions, place))
        )
        for task in users:
            assert task.nbytes == weights[task.id] + nbytes
            assert task.function == functions.get(task.id, task.function)
            assert place is None or task.data[-1] == place
            assert (task.state is TaskState.WAITING) == bool(self.lacks[task.id])

    @rule(id=INPUTS, cancelled=st.booleans())
    def withhold(self, id: int, *, cancelled: bool) -> None:
        users = [t for t in self.waiting if id in self.lacks[t.id]]
        actions = self.driver.handle(InputGone(id, users, cancelled))
        over = TaskState.CANCELLED if cancelled else TaskState.FAILED
        assert all(task.state is over for task in users)
        kind: type = Cancelled if cancelled else InputFailed
        told = [task for action in only(kind, actions) for task in action.tasks]
        assert told == users
        self.perform(actions)

    @rule(is_full=st.booleans())
    def change_memory(self, *, is_full: bool) -> None:
        self.perform(self.driver.handle(MemoryChanged(is_full)))

    @property
    def waiting(self) -> list[Task]:
        return [task for task in self.calls if task.state is TaskState.WAITING]

    @rule(seconds=st.sampled_from([1.0, 8.0, 100.0]))
    def wait(self, seconds: float) -> None:
        now = self.driver._now + seconds
        self.perform(self.driver.wait_until(now))
        assert self.driver.scheduler.deadline > now

    @rule(
        target=bulks,
        function=FUNCTIONS,
        priority=PRIORITIES,
        chunksize=st.one_of(st.none(), st.integers(1, 5)),
        task_spec=TERMS,
    )
    def open_job(
        self,
        function: int,
        priority: int,
        chunksize: int | None,
        task_spec: TaskSpec | None,
    ) -> int:
        job = Recorder(
            function, priority=priority, chunksize=chunksize, task_spec=task_spec
        )
        self.jobs.append(job)
        return len(self.jobs) - 1

    @rule(
        at=bulks,
        count=st.integers(0, 100),
        function=st.one_of(st.none(), FUNCTIONS),
        sizes=st.lists(st.sampled_from([0, 100, 1 << 20, 9 << 20]), max_size=5),
    )
    def extend(
        self, at: int, count: int, function: int | None, sizes: list[int]
    ) -> None:
        job = self.jobs[at]
        if not job.cancelled:
            self.offered[at] += count
        repeated = sizes and (sizes * count)[:count]
        self.perform(self.driver.extend(job, count, function, repeated))
        if function is not None and count and not job.cancelled:
            assert job.function == function

    @precondition(lambda self: self.steps % 4 == 0)
    @rule(at=bulks)
    def cancel_job(self, at: int) -> None:
        self.drop([at])
        self.perform(self.driver.handle(BulkCancelled(self.jobs[at])))

    @rule(tasks=submitted, first=st.integers(0, 10))
    def cancel(self, tasks: list[Task], first: int) -> None:
        self.perform(self.driver.handle(CancelRequested(tasks[first:])))

    @rule(tasks=consumes(submitted))
    def cancel_before_submit(self, tasks: list[Task]) -> None:
        fresh = self.driver.tasks(len(tasks))
        self.calls += fresh
        self.perform(self.driver.handle(CancelRequested(fresh[::2])))
        self.perform(self.driver.handle(TasksSubmitted(fresh)))

    @precondition(lambda self: self.steps % 4 == 1)
    @rule(isolated=st.booleans())
    def cancel_queue(self, *, isolated: bool) -> None:
        self.drop(range(len(self.jobs)))
        self.perform(self.driver.handle(QueueCancelled(isolated)))

    def drop(self, positions: range | list[int]) -> None:
        for at in positions:
            self.dropped[at] += self.jobs[at].ready

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), seconds=SECONDS, fails=st.booleans())
    def finish(self, data: st.DataObject, seconds: float, *, fails: bool) -> None:
        rank = data.draw(st.sampled_from(self.busy))
        batch = self.driver.batches[rank][0]
        failed = range(0, len(batch), 2) if fails else ()
        self.perform(self.driver.finish(rank, seconds=seconds, failed=failed))

    @property
    def single(self) -> list[int]:
        first = [(rank, self.driver.batches[rank][0]) for rank in self.busy]
        return [rank for rank, batch in first if [t.count for t in batch] == [1]]

    @precondition(lambda self: self.single)
    @rule(data=st.data(), seconds=SECONDS)
    def succeed(self, data: st.DataObject, seconds: float) -> None:
        rank = data.draw(st.sampled_from(self.single))
        self.perform(self.driver.succeed(rank, seconds=seconds))

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), seconds=SECONDS, fails=st.booleans())
    def report_some(self, data: st.DataObject, seconds: float, *, fails: bool) -> None:
        rank = data.draw(st.sampled_from(self.busy))
        batch = self.driver.batches[rank][0]
        count = data.draw(st.integers(0, len(batch)))
        done, batch[:] = batch[:count], batch[count:]
        costs = costs_of(done, seconds)
        ids = [task.id for task in done]
        failed = ids[-1:] if fails else []
        self.perform(self.driver.report(rank, ids, failed=failed, costs=costs))

    @property
    def in_chunks(self) -> list[tuple[int, int]]:
        """Workers that hold chunks of more than an item, and the first one's place."""
        batches = [(rank, self.driver.batches[rank][0]) for rank in self.busy]
        return [
            (rank, next(at for at, task in enumerate(batch) if task.count > 1))
            for rank, batch in batches
            if any(task.count > 1 for task in batch)
        ]

    @precondition(lambda self: self.in_chunks)
    @rule(data=st.data(), seconds=SECONDS, fails=st.booleans())
    def report_part(self, data: st.DataObject, seconds: float, *, fails: bool) -> None:
        """Report what is before a chunk, and the first items of the chunk."""
        rank, at = data.draw(st.sampled_from(self.in_chunks))
        batch = self.driver.batches[rank][0]
        done, batch[:] = batch[:at], batch[at:]
        chunk = batch[0]
        count = data.draw(st.integers(1, chunk.count - 1))
        costs = costs_of(done, seconds)
        costs.append(Cost(chunk.function, count, seconds * count))
        ids = [task.id for task in done] + [chunk.id]
        self.perform(
            self.driver.report(
                rank,
                ids,
                failed=ids[-1:] if fails else [],
                costs=costs,
                parts={chunk.id: count},
            )
        )

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), count=st.integers(-2, 0))
    def report_parts_that_do_not_fit(self, data: st.DataObject, count: int) -> None:
        rank = data.draw(st.sampled_from(self.busy))
        held = self.driver.scheduler.held(rank)
        if held:
            task = data.draw(st.sampled_from(held))
            parts = {task.id: data.draw(st.sampled_from([count, task.count - count]))}
            before = self.driver.snapshot()
            with pytest.raises(TransitionError):
                self.driver.report(rank, [task.id], parts=parts)
            assert self.driver.snapshot() == before

    @precondition(lambda self: self.busy and self.steps % 4 == 2)
    @rule(data=st.data(), first=st.integers(0, 3))
    def abandon(self, data: st.DataObject, first: int) -> None:
        ranks = data.draw(st.sets(st.sampled_from(self.busy)))
        tasks = [t for rank in ranks for t in self.driver.scheduler.held(rank)[first:]]
        actions = self.driver.handle(RunningAbandoned(tasks))
        given_up = [action.task for action in only(GiveUp, actions)]
        assert sorted(task.id for task in given_up) == sorted(t.id for t in tasks)
        self.perform(actions)

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), splits=st.booleans(), strange=st.booleans())
    def give_back(self, data: st.DataObject, *, splits: bool, strange: bool) -> None:
        rank = data.draw(st.sampled_from(self.busy))
        first, *later = self.driver.batches[rank]
        begun, rest = first[:1], first[1:]
        split = None
        if begun and splits and begun[0].count > 1:
            split = begun[0].id, data.draw(st.integers(1, begun[0].count - 1))
        count = data.draw(st.integers(0, len(rest)))  # the others are not given back
        ids = [task.id for task in rest[count:]]
        del rest[count:]
        for batch in later:
            ids += [task.id for task in batch]
            batch.clear()
        first[:] = begun + rest
        self.returned.update(ids)
        if strange:  # what it does not hold is ignored
            held = {task.id for task in first} | set(ids)
            ids += [task.id for task in self.calls if task.id not in held]
        self.perform(self.driver.handle(TasksReturned(rank, ids, split)))

    @precondition(lambda self: self.joined)
    @rule(count=st.one_of(st.none(), st.integers(1, 5)))
    def limit_workers(self, count: int | None) -> None:
        self.limit = count
        self.perform(self.driver.handle(WorkersLimited(count)))

    @precondition(lambda self: self.joined)
    @rule(data=st.data())
    def report_late(self, data: st.DataObject) -> None:
        rank = data.draw(st.sampled_from(range(self.joined)))
        done = [t.id for t in self.calls if t.state is not TaskState.ASSIGNED]
        before = self.resolved.copy()
        parts = dict.fromkeys(done[::2], 1)
        self.perform(self.driver.report(rank, done, parts=parts))
        assert self.resolved == before

    @precondition(lambda self: self.joined and self.steps % 4 == 3)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        rank = data.draw(st.sampled_from(range(self.joined)))
        self.perform(self.driver.lose(rank))
        assert self.driver.worker_state(rank) in (
            WorkerState.LOST,
            WorkerState.STOPPED,
        )

    @precondition(lambda self: self.steps > 20)
    @rule()
    def stop(self) -> None:
        self.stopped = True
        self.perform(self.driver.stop())

    @precondition(lambda self: self.ranks(WorkerState.STOPPING))
    @rule(data=st.data(), early=st.booleans())
    def leave(self, data: st.DataObject, *, early: bool) -> None:
        rank = data.draw(st.sampled_from(self.ranks(WorkerState.STOPPING)))
        while self.driver.batches[rank] and not early:
            self.perform(self.driver.finish(rank))
        self.driver.batches[rank].clear()
        self.perform(self.driver.handle(WorkerLeft(rank)))

    # What always holds.

    @invariant()
    def check(self) -> None:
        self.steps += 1
        self.driver.scheduler.check()

    @invariant()
    def counts_add_up(self) -> None:
        statistics = self.driver.scheduler.statistics()
        total = len(self.calls) + self.offered.total()
        over = statistics.succeeded + statistics.failed + statistics.cancelled
        assert statistics.queued + statistics.assigned + over == total
        assert statistics.workers == len(self.used)
        assert self.driver.scheduler.outstanding == total - over

    @invariant()
    def states_and_actions_agree(self) -> None:
        for task in self.calls:
            assert self.resolved[None, task.id] == (task.state in OVER)
        for job in self.jobs:
            over = {at for resolved, at in self.resolved if resolved is job}
            rest = [chunk for chunk in job.chunks if chunk.state not in OVER]
            items = [item for chunk in rest for item in positions(chunk)]
            assert sorted([*over, *items]) == list(range(job.next))

    @invariant()
    def chunks_fit_into_a_message(self) -> None:
        for job in self.jobs:
            assert len(job.sizes) in (0, job.ready)
            for chunk in job.chunks:
                sizes = [job.sizes_given[at] for at in positions(chunk)]
                assert sum(sizes) <= BATCH_BYTES or chunk.count == 1

    @invariant()
    def nothing_is_sent_that_lacks_an_input(self) -> None:
        for task in self.calls:
            if task.state is TaskState.ASSIGNED and task.id in self.lacks:
                assert not self.lacks[task.id]

    def teardown(self) -> None:
        for id in range(5):
            self.withhold(id, cancelled=False)
        self.perform(self.driver.wait_until(self.driver._now + 1e6))
        while self.busy:
            self.perform(self.driver.finish(self.busy[0]))
        self.stop()
        if not self.joined:  # nobody ever came: only cancelling ends the wait
            self.cancel_queue(isolated=False)
        for rank in self.ranks(WorkerState.STOPPING):
            self.perform(self.driver.handle(WorkerLeft(rank)))
        assert sorted(self.told) == sorted(set(self.told))
        assert all(self.resolved[None, task.id] == 1 for task in self.calls)
        for at, job in enumerate(self.jobs):
            assert (job.ready, len(job.sizes)) == (0, 0)
            assert all(self.resolved[job, item] == 1 for item in range(job.next))
            assert job.next + self.dropped[at] == self.offered[at]
        assert self.driver.scheduler.outstanding == 0
        assert self.driver.scheduler.running_workers() == []


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=120, stateful_step_count=30)
