"""Mailboxes: calls of an actor go to its rank, in order, each once, or fail."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from driver import LONG, OVER, SHORT, Driver, only
from mpitasks.errors import TransitionError
from mpitasks.scheduler.actor_waits import ActorWaits
from mpitasks.scheduler.events import (
    Action,
    ActorFailed,
    ActorOpened,
    ActorRestarted,
    ActorTask,
    Assign,
    CallRefused,
    Cancelled,
    CancelRequested,
    ClosingTask,
    Complete,
    InputFailed,
    InputGone,
    InputReady,
    QueueCancelled,
    RankLost,
    Restart,
    Revoke,
    Task,
    TasksSubmitted,
    TaskState,
)
from mpitasks.scheduler.mailboxes import (
    ACTOR_TRANSITIONS,
    ActorInput,
    ActorState,
    Mailbox,
)


def call(
    driver: Driver, actor: int, function: int = 0, *, kind: type[ActorTask] = ActorTask
) -> ActorTask:
    """Return a new call of an actor."""
    task = kind(next(driver.ids), function)
    task.actor = actor
    return task


def open_actor(
    driver: Driver, actor: int = 1, *, restarts: int = 0, exclusive: bool = False
) -> list[Action]:
    """Make an actor; return what is done about its constructor."""
    driver.handle(ActorOpened(actor, None, restarts, exclusive))
    return driver.submit(call(driver, actor))


@pytest.mark.parametrize("state", ActorState)
@pytest.mark.parametrize("what", ActorInput)
def test_states(what: ActorInput, state: ActorState) -> None:
    box = Mailbox(ActorOpened(1), 0)
    box.state = state
    follows = ACTOR_TRANSITIONS[what].get(state)
    if follows is None:
        with pytest.raises(TransitionError, match=f"{what.name} in {state.name}"):
            box.move(what)
        assert box.state is state
    else:
        box.move(what)
        assert box.state is follows


def test_calls_go_to_one_rank_in_order() -> None:
    driver = Driver(3)
    (sent,) = only(Assign, open_actor(driver))
    calls = [call(driver, 1) for _ in range(9)]
    driver.submit(*calls)
    got = []
    while driver.batches[sent.rank]:
        got += driver.batches[sent.rank][0]
        driver.finish(sent.rank)
    assert got[1:] == calls
    assert not any(driver.batches[rank] for rank in range(3))


def test_actors_are_spread() -> None:
    driver = Driver(3)
    ranks = [
        assign.rank
        for actor in range(6)
        for assign in only(Assign, open_actor(driver, actor))
    ]
    assert ranks == [0, 1, 2, 0, 1, 2]


def test_a_busy_worker_is_sent_the_first_calls_all_the_same() -> None:
    """Its task may wait for just this actor."""
    driver = Driver(1)
    driver.submit(driver.task())
    assert only(Assign, open_actor(driver))
    assert not only(Assign, driver.submit(call(driver, 1)))  # it has enough now


def test_calls_are_sent_ahead_if_those_before_are_short() -> None:
    driver = Driver(1)
    driver.learn(7, SHORT)
    driver.learn(8, LONG)
    open_actor(driver)
    driver.finish(0)
    for function, ahead in ((7, True), (8, False)):
        driver.submit(call(driver, 1, function))
        assert bool(only(Assign, driver.submit(call(driver, 1, function)))) is ahead
        while driver.batches[0]:
            driver.finish(0, seconds=SHORT if ahead else LONG)


def test_mail_goes_before_shared_work() -> None:
    driver = Driver(1)
    open_actor(driver)
    driver.submit(*driver.tasks(3), call(driver, 1))
    driver.finish(0)
    assert [type(task) for task in driver.batches[0][0]] == [ActorTask]


def test_a_call_without_its_inputs_holds_up_the_later_ones() -> None:
    driver = Driver(2)
    open_actor(driver)
    driver.finish(0)
    first, second = call(driver, 1), call(driver, 1)
    first.inputs = [99]
    assert not only(Assign, driver.submit(first, second))
    driver.handle(InputReady(99, [first]))
    sent = [task for batch in driver.batches[0] for task in batch]
    driver.finish(0)
    sent += [task for batch in driver.batches[0] for task in batch]
    assert list(dict.fromkeys(sent)) == [first, second]


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_call_whose_input_is_gone_lets_the_later_ones_pass(cancelled: bool) -> None:
    driver = Driver(1)
    open_actor(driver)
    driver.finish(0)
    first, second = call(driver, 1), call(driver, 1)
    first.inputs = [99]
    driver.submit(first, second)
    driver.handle(InputGone(99, [first], cancelled))
    assert driver.batches[0][0] == [second]


def test_an_exclusive_actor_keeps_other_tasks_off() -> None:
    driver = Driver(2)
    (sent,) = only(Assign, open_actor(driver, exclusive=True))
    driver.finish(sent.rank)
    driver.submit(*driver.tasks(9))
    assert not driver.batches[sent.rank]
    driver.submit(call(driver, 1))
    assert driver.batches[sent.rank]
    assert not driver.scheduler.can_place(ActorOpened(2, exclusive=True))
    driver.finish(sent.rank)
    driver.submit(call(driver, 1, kind=ClosingTask))
    driver.finish(sent.rank)
    assert driver.batches[sent.rank]  # of the others


def test_a_dead_actor() -> None:
    driver = Driver(2)
    (sent,) = only(Assign, open_actor(driver))
    waiting = call(driver, 1)
    driver.submit(waiting)
    actions = driver.handle(RankLost(sent.rank))
    failed = only(ActorFailed, actions)
    assert [each.held for each in failed] == [True, False]
    assert failed[1].tasks == [waiting]
    late = call(driver, 1)
    (told,) = only(ActorFailed, driver.submit(late))
    assert (told.tasks, told.rank) == ([late], sent.rank)
    (told,) = only(ActorFailed, driver.submit(call(driver, 1, kind=ClosingTask)))
    (told,) = only(ActorFailed, driver.submit(call(driver, 1)))
    assert told.rank is None  # it was closed


def test_a_restarted_actor_begins_with_its_constructor() -> None:
    driver = Driver(2)
    driver.learn(0, LONG)
    (sent,) = only(Assign, open_actor(driver, restarts=1))
    driver.finish(sent.rank, seconds=LONG)
    lost, later = call(driver, 1), call(driver, 1)
    driver.submit(lost)
    driver.submit(later)
    actions = driver.handle(RankLost(sent.rank))
    assert [each.tasks for each in only(ActorFailed, actions)] == [[lost]]
    (restart,) = only(Restart, actions)
    assert restart.rank != sent.rank
    driver.submit(last := call(driver, 1))
    assert not driver.batches[restart.rank]  # nothing before the constructor
    fresh = [call(driver, 1), call(driver, 1)]
    driver.handle(ActorRestarted(1, fresh))
    got = []
    while driver.batches[restart.rank]:
        got += driver.batches[restart.rank][0]
        driver.finish(restart.rank)
    assert got == [*fresh, later, last]
    actions = driver.handle(RankLost(restart.rank))
    assert not only(Restart, actions)  # once was enough


def test_a_closing_call_is_not_cancelled() -> None:
    driver = Driver(1)
    driver.learn(0, LONG)
    open_actor(driver)
    calls = [call(driver, 1), call(driver, 1), call(driver, 1, kind=ClosingTask)]
    driver.submit(*calls)
    (cancelled,) = only(Cancelled, driver.handle(QueueCancelled()))
    assert cancelled.tasks == calls[:2]
    driver.finish(0)
    assert driver.batches[0][0] == calls[2:]


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_refused_call_is_taken_back(is_sent: bool) -> None:
    driver = Driver(1)
    driver.learn(0, SHORT if is_sent else LONG)
    open_actor(driver)
    driver.submit(refused := call(driver, 1))
    assert (refused.state is TaskState.ASSIGNED) is is_sent
    actions = driver.handle(CallRefused(refused))
    assert [each.tasks for each in only(Cancelled, actions)] == [[refused]]
    assert bool(only(Revoke, actions)) is is_sent
    assert not driver.handle(CallRefused(refused))


class ActorMachine(RuleBasedStateMachine):
    """Whatever happens, each call is resolved once, and runs in order if it does."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(3)
        self.alive = {0, 1, 2}
        self.opened = 0
        self.closed: set[int] = set()
        self.submitted: dict[int, list[Task]] = defaultdict(list)
        self.sent: dict[int, list[Task]] = defaultdict(list)
        self.resolved: set[int] = set()
        self.lacking: list[ActorTask] = []
        self.restarting: list[int] = []

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Assign):
                for task in action.tasks:
                    if isinstance(task, ActorTask):
                        self.sent[task.actor].append(task)
            elif isinstance(action, Complete):
                self.resolve([task for task in action.tasks if task])
            elif isinstance(action, (ActorFailed, Cancelled, InputFailed)):
                self.resolve(action.tasks)
        self.restarting += [action.actor for action in only(Restart, actions)]

    def resolve(self, tasks: list[Task] | list[ActorTask]) -> None:
        for task in tasks:
            assert task.state in OVER
            assert task.id not in self.resolved
            self.resolved.add(task.id)

    @precondition(lambda self: self.alive)
    @rule(restarts=st.integers(0, 2))
    def open(self, restarts: int) -> None:
        self.opened += 1
        self.driver.handle(ActorOpened(self.opened, None, restarts))
        self.submit(self.opened, 1, lacks=False)

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), count=st.integers(1, 5), lacks=st.booleans())
    def call(self, data: st.DataObject, count: int, *, lacks: bool) -> None:
        self.submit(data.draw(st.integers(1, self.opened)), count, lacks=lacks)

    def submit(self, actor: int, count: int, *, lacks: bool) -> None:
        tasks = [call(self.driver, actor, index % 2) for index in range(count)]
        if lacks:
            tasks[0].inputs = [1]
            self.lacking.append(tasks[0])
        self.submitted[actor] += tasks
        self.perform(self.driver.handle(TasksSubmitted(tasks)))

    @precondition(lambda self: self.opened)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        actor = data.draw(st.integers(1, self.opened))
        if actor not in self.closed:
            self.closed.add(actor)
            task = call(self.driver, actor, kind=ClosingTask)
            self.submitted[actor].append(task)
            self.perform(self.driver.handle(TasksSubmitted([task])))

    @rule(count=st.integers(1, 4))
    def submit_others(self, count: int) -> None:
        self.perform(self.driver.submit(*self.driver.tasks(count, 5)))

    @precondition(lambda self: self.lacking)
    @rule(gone=st.booleans(), cancelled=st.booleans())
    def supply(self, *, gone: bool, cancelled: bool) -> None:
        task = self.lacking.pop(0)
        event = InputGone(1, [task], cancelled) if gone else InputReady(1, [task])
        self.perform(self.driver.handle(event))

    @rule(data=st.data(), seconds=st.sampled_from([SHORT, LONG]))
    def finish(self, data: st.DataObject, seconds: float) -> None:
        busy = [rank for rank in sorted(self.alive) if self.driver.batches[rank]]
        if busy:
            rank = data.draw(st.sampled_from(busy))
            self.perform(self.driver.finish(rank, seconds=seconds))

    @precondition(lambda self: self.restarting)
    @rule()
    def make_again(self) -> None:
        actor = self.restarting.pop(0)
        fresh = [call(self.driver, actor) for _ in range(2)]
        waiting = [
            task
            for task in self.submitted[actor]
            if task.state in (TaskState.QUEUED, TaskState.WAITING)
        ]
        done = [task for task in self.submitted[actor] if task not in waiting]
        self.submitted[actor] = [*done, *fresh, *waiting]
        self.perform(self.driver.handle(ActorRestarted(actor, fresh)))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        tasks = [t for ts in self.submitted.values() for t in ts]
        if tasks:
            task = data.draw(st.sampled_from(tasks))
            self.perform(self.driver.handle(CancelRequested([task])))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        rank = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(rank)
        self.driver.batches[rank].clear()
        self.perform(self.driver.handle(RankLost(rank)))

    def teardown(self) -> None:
        while self.restarting:
            self.make_again()
        while self.lacking:
            self.supply(gone=False, cancelled=False)
        for _ in range(1000):
            busy = [rank for rank in sorted(self.alive) if self.driver.batches[rank]]
            if not busy:
                break
            self.perform(self.driver.finish(busy[0]))
        for actor, tasks in self.submitted.items():
            assert {task.id for task in tasks} <= self.resolved, "one is left"
            sent = self.sent[actor]
            order = {task.id: at for at, task in enumerate(tasks)}
            places = [order[task.id] for task in sent]
            assert places == sorted(places), "out of order"
            assert len(set(places)) == len(places), "sent twice"


TestActors = ActorMachine.TestCase
TestActors.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_waits_that_end() -> None:
    waits = ActorWaits()
    assert waits.add(1, 1, 7, []) is None  # a task waits for an actor
    assert waits.add(2, 1, 8, [7]) is None
    assert waits.add(3, 1, 9, [8]) is None
    assert waits.add(1, 2, 9, [6]) is None


def test_a_circle_is_named() -> None:
    for length in range(1, 5):
        waits = ActorWaits()
        actors = [*range(10, 10 + length)]
        for number, (actor, after) in enumerate(itertools.pairwise(actors)):
            assert waits.add(number, 1, after, [actor]) is None
        circle = waits.add(99, 1, actors[0], [actors[-1]])
        assert circle == [actors[-1], *actors]
        waits.end(0, 1)
        if length > 1:
            assert waits.add(99, 1, actors[0], [actors[-1]]) is None


def test_who_is_below_on_the_stack_waits_as_well() -> None:
    waits = ActorWaits()
    assert waits.add(1, 1, 5, [3, 4]) is None
    assert waits.add(2, 1, 3, [5]) == [5, 3, 5]
    waits.lose(1)
    assert waits.add(2, 1, 3, [5]) is None
