"""The worker's state: each event in each phase, and any history of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from mpitasks.errors import InternalError
from mpitasks.runner.chunks import Chunk
from mpitasks.task_spec import TaskSpec
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    CALL_PLAIN,
    MAP_PLAIN,
    Batch,
    Cancel,
    EndMoved,
    Goodbye,
    Heartbeat,
    Lost,
    Opening,
    Ping,
    Request,
    Returned,
    Shutdown,
    bound_id,
)
from mpitasks.worker.state import (
    Foresee,
    Leave,
    Open,
    Perish,
    Phase,
    Run,
    Send,
    WorkerState,
)

RANK = 3
ISOLATED = tuple(TaskSpec("fit", isolate=True))


def call(task_id: int, *, count: int = 0, function: int = 1) -> Any:
    return task_id, function, CALL_PLAIN, (task_id,), count


def chunk_of(count: int) -> Chunk:
    return Chunk(MAP_PLAIN, codec.encode_plain(range(count)), [])


def state_in(phase: Phase) -> WorkerState:
    """Return a state in that phase, with calls 10 to 13, of which the first runs."""
    state = WorkerState(RANK)
    if phase is Phase.IDLE:
        return state
    if phase is Phase.STOPPED:
        state.receive(Shutdown())
        state.take()
        return state
    specs = dict.fromkeys((10, 11), ISOLATED) if phase is Phase.SANDBOX else None
    state.begin(Batch([call(id) for id in range(10, 14)], task_spec=specs), [])
    state.next()
    if phase is Phase.CHUNK:
        state.enter(chunk_of(3))
    if phase is Phase.SANDBOX:
        state.visit(64)
    return state


# What each event does in each phase: None stands for one that is our mistake.
IDLE, CALLS, CHUNK, SANDBOX, STOPPED = Phase
EVENTS: dict[str, tuple[Callable[[WorkerState], Any], dict[Phase, Phase]]] = {
    "begin": (lambda state: state.begin(Batch([call(1)]), []), {IDLE: CALLS}),
    "begin_request": (
        lambda state: state.begin_request(Request(call(1))),
        {IDLE: CALLS},
    ),
    "next": (lambda state: state.next(), {CALLS: CALLS}),
    "finish": (lambda state: state.finish(), {CALLS: IDLE}),
    "enter": (lambda state: state.enter(chunk_of(2)), {CALLS: CHUNK}),
    "visit": (lambda state: state.visit(2), {CALLS: SANDBOX}),
    "keep_inside": (lambda state: state.keep_inside(1), {SANDBOX: SANDBOX}),
    "leave": (lambda state: state.leave(), {CHUNK: CALLS, SANDBOX: CALLS}),
    "give_back": (lambda state: state.give_back(), {phase: phase for phase in Phase}),
    "give_back items": (
        lambda state: state.give_back(1),
        {CHUNK: CHUNK, SANDBOX: SANDBOX},
    ),
    "take": (lambda state: state.take(), {phase: phase for phase in Phase}),
    "batch": (
        lambda state: state.receive(Batch([call(1)])),
        {phase: phase for phase in Phase if phase is not STOPPED},
    ),
    "request": (
        lambda state: state.receive(Request(call(1))),
        {phase: phase for phase in Phase if phase is not STOPPED},
    ),
    "opening": (
        lambda state: state.receive(Opening([])),
        {phase: phase for phase in Phase if phase is not STOPPED},
    ),
    "shutdown": (
        lambda state: state.receive(Shutdown()),
        {phase: phase for phase in Phase if phase is not STOPPED},
    ),
    "ping": (lambda state: state.receive(Ping()), {phase: phase for phase in Phase}),
    "lost": (lambda state: state.receive(Lost()), {phase: phase for phase in Phase}),
    "cancel": (
        lambda state: state.receive(Cancel([1, 10])),
        {phase: phase for phase in Phase},
    ),
    "end moved": (
        lambda state: state.receive(EndMoved(1.0, 2.0)),
        {phase: phase for phase in Phase},
    ),
    "nonsense": (lambda state: state.receive(Goodbye()), {}),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("phase", Phase)
def test_each_event_in_each_phase(phase: Phase, event: str) -> None:
    act, table = EVENTS[event]
    state = state_in(phase)
    held = seen(state)
    if phase in table:
        act(state)
        assert state.phase is table[phase]
    else:
        with pytest.raises(InternalError):
            act(state)
        assert seen(state) == held


def seen(state: WorkerState) -> list[Any]:
    """Return all that a state has."""
    return [
        list(value) if isinstance(value := getattr(state, name), list) else value
        for name in WorkerState.__slots__
    ]


# What is to be done about messages.


@pytest.mark.parametrize("phase", Phase)
def test_some_messages_are_answered_at_once(phase: Phase) -> None:
    state = state_in(phase)
    assert state.receive(Ping()) == Send(Heartbeat())
    assert state.receive(Lost()) == Perish()
    assert state.receive(EndMoved(5.0, 2.0)) == Foresee(5.0, 2.0)
    assert state.receive(Cancel([10])) is None


def test_an_idle_worker_takes_one_after_the_other() -> None:
    state = WorkerState(RANK)
    batch = Batch([call(1)])
    request = Request(call(2), ISOLATED)
    for message in (batch, request, Opening([], None), Shutdown(True)):
        assert state.receive(message) is None
    assert state.take() == Run(batch)
    assert state.take() == Run(Batch([call(2)], task_spec={2: ISOLATED}))
    assert state.take() == Open(None)
    assert state.take() == Leave(True)
    assert state.phase is STOPPED


@pytest.mark.parametrize("phase", [CALLS, CHUNK, SANDBOX])
def test_a_busy_worker_keeps_the_others_in_order(phase: Phase) -> None:
    state = state_in(phase)
    setup: Any = ({}, [], 0, False)
    assert state.receive(Batch([call(1)])) is None
    assert state.receive(Request(call(2))) is None
    assert state.receive(Opening([(0, (0,), 7)], setup)) is None
    assert state.receive(Shutdown(False)) is None
    assert state.take() is None
    if phase is not CALLS:
        state.leave()
    while state.next() is not None:
        pass
    state.finish()
    assert state.take() == Run(Batch([call(1)]))
    assert state.places(2) is None
    assert state.take() == Run(Batch([call(2)]))
    assert state.take() == Open(setup)
    assert state.places(2) == (7, (0, 1), None)
    assert state.take() == Leave(False)
    assert state.take() is None


def test_messages_are_kept_while_a_worker_makes_ready() -> None:
    """It is idle until the function of its batch is loaded, which takes long."""
    state = WorkerState(RANK)
    state.receive(Batch([call(1)]))
    state.take()
    assert state.receive(Batch([call(2)])) is None
    assert state.receive(Ping()) == Send(Heartbeat())
    assert state.give_back() == Returned(RANK, [2], None)


# Calls.


def test_calls_come_in_order_with_their_buffers_and_terms() -> None:
    state = WorkerState(RANK)
    spec = tuple(TaskSpec("a", timeout=3.0))
    calls = [call(1, count=2), call(2), call(3, count=1)]
    state.begin(Batch(calls, task_spec={2: spec}), ["c", "b", "a"])
    assert state.current() is None
    assert state.next() == calls[0]
    assert state.current() == calls[0]
    assert (state.take_buffers(2), state.spec) == (["a", "b"], None)
    assert state.next() == calls[1]
    assert state.spec == TaskSpec("a", timeout=3.0)
    assert state.next() == calls[2]
    assert (state.take_buffers(1), state.spec) == (["c"], None)
    assert state.next() is None
    assert state.current() == calls[2]
    assert state.begun == 3
    state.finish()
    assert state.current() is None


def test_a_request_runs_at_once() -> None:
    state = WorkerState(RANK)
    state.begin_request(Request(call(4), tuple(TaskSpec("b"))))
    assert state.current() == call(4)
    assert (state.begun, state.spec) == (1, TaskSpec("b"))
    assert state.next() is None
    state.finish()
    assert state.spec is None


def test_progress_is_that_of_calls_and_items() -> None:
    state = state_in(CALLS)
    before = state.progress()
    chunk = chunk_of(3)
    state.enter(chunk)
    assert state.progress() == before
    chunk.run(abs, "here")
    assert state.progress() == (before[0], 3)
    state.leave()
    assert state.chunk is None
    state.next()
    assert state.progress() == (before[0] + 1, 0)


# Cancellation.


def test_what_is_held_can_be_cancelled() -> None:
    state = WorkerState(RANK)
    specs = dict.fromkeys(range(5), ISOLATED)
    calls = [call(n, count=1) for n in range(5)]
    state.begin(Batch(calls, task_spec=specs), list("edcba"))
    state.next()
    state.take_buffers(1)
    state.next()
    state.take_buffers(1)
    state.receive(Batch([call(7)], task_spec={7: ISOLATED}))
    state.receive(Cancel([0, 1, 2, 3, 7, 99]))
    assert state.revoked == {1, 2, 3, 7}  # 0 is done, and 99 is unknown
    state.visit(1)
    state.leave()  # 1 was ended
    assert state.revoked == {2, 3, 7}
    assert state.next() == calls[4]
    assert state.take_buffers(1) == ["e"]
    assert state.next() is None
    state.finish()
    assert state.revoked == {7}
    action = state.take()
    assert isinstance(action, Run)
    state.begin(action.batch, [])
    assert state.next() is None
    state.finish()
    assert state.revoked == set()


def test_a_cancellation_that_came_too_late_is_forgotten() -> None:
    state = state_in(CALLS)
    state.receive(Cancel([10, 12]))
    while state.next() is not None:
        pass
    state.finish()
    assert state.revoked == set()


# The sandbox.


def visited(calls: list[Any], specs: dict[int, Any], most: int = 64) -> list[int]:
    state = WorkerState(RANK)
    state.begin(Batch(calls, task_spec=specs), [])
    state.next()
    ids = [each[0] for each in state.visit(most)]
    assert [each[0] for each in state.inside()] == ids
    state.leave()
    following = state.next()
    rest = [each[0] for each in calls][len(ids) :]
    assert (following or [None])[0] == (rest or [None])[0]
    return ids


def test_calls_that_are_alike_run_together() -> None:
    calls = [call(n) for n in range(6)]
    specs = dict.fromkeys(range(6), ISOLATED)
    assert visited(calls, specs) == [0, 1, 2, 3, 4, 5]
    assert visited(calls, specs, 4) == [0, 1, 2, 3]
    assert visited(calls, specs, 1) == [0]
    again = tuple(TaskSpec("fit", 2, isolate=True))
    assert visited(calls, {**specs, 3: again}) == [0, 1, 2, 3, 4, 5]
    other = tuple(TaskSpec("other", isolate=True))
    assert visited(calls, {**specs, 3: other}) == [0, 1, 2]
    counted = tuple(TaskSpec("fit", isolate=True, max_tasks_per_child=9))
    assert visited(calls, dict.fromkeys(range(6), counted)) == [0]  # each one counts
    del specs[2]
    assert visited(calls, specs) == [0, 1]
    specs[2] = ISOLATED
    calls[2] = call(2, function=5)
    assert visited(calls, specs) == [0, 1]
    calls[2] = call(2, count=1)
    assert visited(calls, specs) == [0, 1]
    calls[2] = 2, 1, MAP_PLAIN, b"", 0
    assert visited(calls, specs) == [0, 1]
    assert visited(calls[2:], specs) == [2]


def test_a_cancelled_call_does_not_run_together_with_others() -> None:
    state = WorkerState(RANK)
    specs = dict.fromkeys(range(4), ISOLATED)
    state.begin(Batch([call(n) for n in range(4)], task_spec=specs), [])
    state.next()
    state.receive(Cancel([2]))
    assert [each[0] for each in state.visit(64)] == [0, 1]
    state.receive(Cancel([0, 1]))
    assert state.revoked == {0, 1, 2}
    state.leave()
    assert state.revoked == {2}
    assert state.next() == call(3)


def test_calls_that_the_sandbox_did_not_begin_come_next_or_go_back() -> None:
    state = WorkerState(RANK)
    specs = dict.fromkeys(range(6), ISOLATED)
    state.begin(Batch([call(n) for n in range(6)], task_spec=specs), [])
    state.next()
    state.visit(4)
    state.keep_inside(2)
    assert state.inside() == [call(0), call(1)]
    state.leave()
    assert state.next() == call(2)
    state.visit(4)
    state.keep_inside(2)
    assert state.give_back() == Returned(RANK, [4, 5], None)
    state.leave()
    assert state.next() is None


# Giving back.


def test_what_is_not_begun_is_given_back() -> None:
    state = state_in(CALLS)
    state.receive(Batch([call(1), call(2)]))
    state.receive(Request(call(3)))
    state.receive(Shutdown())
    assert state.give_back() == Returned(RANK, [11, 12, 13, 1, 2, 3], None)
    assert state.give_back() is None
    assert state.next() is None
    state.finish()
    for _ in range(2):  # they are answered all the same
        action = state.take()
        assert isinstance(action, Run)
        assert action.batch.calls == []
    assert state.take() == Leave(False)


def test_a_call_that_comes_again_is_not_cancelled() -> None:
    state = state_in(SANDBOX)
    state.receive(Cancel([12]))
    assert state.revoked == {12}
    state.give_back()
    assert state.revoked == set()


def test_items_of_the_chunk_are_given_back() -> None:
    state = state_in(CHUNK)
    assert state.give_back(2) == Returned(RANK, [11, 12, 13], (10, 2))
    assert state.give_back(1) == Returned(RANK, [], (10, 1))


def test_an_idle_worker_has_nothing_to_give_back() -> None:
    state = state_in(CALLS)
    while state.next() is not None:
        pass
    state.finish()
    assert state.give_back() is None


# Any history.


class Histories(RuleBasedStateMachine):
    """Every call is run, given back or cancelled, once; in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.state = WorkerState(RANK)
        self.waiting: list[int] = []  # sent, and neither run nor given back
        self.cancelled: set[int] = set()
        self.running: list[int] = []
        self.isolated: set[int] = set()
        self.ids = 0
        self.last = -1  # the last call of the batch
        self.stopped = False

    def batch(self, count: int, isolated: int) -> Batch:
        ids = range(self.ids, self.ids + count)
        self.ids += count
        self.waiting += ids
        self.isolated.update(ids[:isolated])
        specs = dict.fromkeys(ids[:isolated], ISOLATED)
        return Batch([call(id) for id in ids], task_spec=specs or None)

    @precondition(lambda self: not self.stopped)
    @rule(count=st.integers(1, 6), isolated=st.integers(0, 6))
    def send(self, count: int, isolated: int) -> None:
        batch = self.batch(count, isolated)
        assert self.state.receive(batch) is None

    @precondition(lambda self: not self.stopped)
    @rule()
    def send_request(self) -> None:
        [(id, *_)] = self.batch(1, 0).calls
        if self.state.phase is IDLE and not self.state._kept:
            self.state.begin_request(Request(call(id)))
            assert self.waiting.pop(0) == id
            self.running = [id]
            self.last = id
        else:
            assert self.state.receive(Request(call(id))) is None

    @precondition(lambda self: not self.stopped)
    @rule()
    def stop(self) -> None:
        self.stopped = True
        assert self.state.receive(Shutdown()) is None

    @rule(ids=st.lists(st.integers(0, 40), max_size=4))
    def cancel(self, ids: list[int]) -> None:
        ids = [id for id in ids if id in self.isolated]  # the others cannot be ended
        assert self.state.receive(Cancel(ids)) is None
        self.cancelled.update({*ids}.intersection(self.waiting))

    def act(self, action: Any) -> None:
        if isinstance(action, Run):
            self.last = action.batch.calls[-1][0] if action.batch.calls else -1
            self.state.begin(action.batch, [])
        elif isinstance(action, Leave):
            assert not self.waiting
        else:
            assert action is None

    @precondition(lambda self: self.state.phase is IDLE)
    @rule()
    def take(self) -> None:
        self.act(self.state.take())

    @precondition(lambda self: self.state.phase is CALLS)
    @rule()
    def proceed(self) -> None:
        self.running = []
        found = self.state.next()
        if found is None:
            while self.waiting and self.waiting[0] <= self.last:
                assert self.waiting.pop(0) in self.cancelled
            self.state.finish()
            return
        while self.waiting[0] != found[0]:
            skipped = self.waiting.pop(0)
            assert skipped in self.cancelled
        self.waiting.pop(0)
        assert found[0] not in self.cancelled or found[0] not in self.isolated
        self.running = [found[0]]

    @precondition(lambda self: self.state.phase is CALLS and self.running)
    @rule(count=st.integers(1, 4))
    def enter_chunk(self, count: int) -> None:
        self.state.enter(chunk_of(count))

    @precondition(
        lambda self: (
            self.state.phase is CALLS
            and self.running
            and self.running[0] in self.isolated
        )
    )
    @rule(most=st.integers(1, 4))
    def visit(self, most: int) -> None:
        ids = [each[0] for each in self.state.visit(most)]
        assert ids[0] == self.running[0]
        assert ids[1:] == self.waiting[: len(ids) - 1]
        assert not self.cancelled.intersection(ids[1:])
        del self.waiting[: len(ids) - 1]
        self.running = ids

    @precondition(lambda self: self.state.phase is SANDBOX)
    @rule(data=st.data())
    def shorten(self, data: st.DataObject) -> None:
        kept = data.draw(st.integers(1, len(self.running)))
        self.state.keep_inside(kept)
        self.waiting[:0] = self.running[kept:]
        self.cancelled.update(self.state.revoked.intersection(self.running[kept:]))
        self.running = self.running[:kept]

    @precondition(lambda self: self.state.phase in (CHUNK, SANDBOX))
    @rule()
    def leave(self) -> None:
        self.state.leave()
        self.running = self.running[-1:]

    @precondition(lambda self: self.state.phase is not STOPPED)
    @rule()
    def give_back(self) -> None:
        kept = None
        if self.state.chunk is not None:
            kept = self.state.chunk.cut()
        returned = self.state.give_back(kept)
        ids = [] if returned is None else list(returned.ids)
        assert ids == self.waiting
        if kept is not None:
            assert returned is not None
            assert returned.split == (self.running[0], kept)
        self.waiting.clear()

    @invariant()
    def what_runs_is_known(self) -> None:
        if self.running:
            current = self.state.current()
            assert current is not None
            assert current[0] == self.running[-1]

    @invariant()
    def only_what_is_held_is_cancelled(self) -> None:
        assert self.state.revoked <= {*range(self.ids)}
        if self.state.phase is IDLE and not self.state._kept:
            assert not self.state.revoked


Histories.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase


# Calls of actors, which stay with their worker.


def calls_of(actor: int, *ids: int) -> Batch:
    return Batch([call(id, function=bound_id(1, actor)) for id in ids])


def test_calls_of_actors_are_not_given_back() -> None:
    state = WorkerState(RANK)
    state.begin(calls_of(7, 1, 2), [])
    state.next()
    state.receive(calls_of(8, 3))
    state.receive(Batch([call(4)]))
    returned = state.give_back()
    assert returned is not None
    assert returned.ids == [4]


def test_who_waits_runs_batches_of_free_actors_in_order() -> None:
    state = WorkerState(RANK)
    state.begin(Batch([call(1)]), [])
    state.next()
    plain, first, other, second = (
        Batch([call(2)]),
        calls_of(7, 3),
        calls_of(8, 4),
        calls_of(7, 5),
    )
    for batch in (plain, first, other, second):
        state.receive(batch)
    assert state.take_served([7]) == (other, [plain, first])
    inner = state.nested()
    inner.receive(third := calls_of(7, 6))  # it must not overtake the others
    taken = []
    while (served := inner.take_served([])) is not None:
        taken.append(served[0])
    assert taken == [first, second, third]
    state.resume(inner)
    assert state.take_served([]) is None
    assert [*state._kept] == [plain]


def test_a_call_of_an_actor_that_was_taken_back() -> None:
    state = WorkerState(RANK)
    batch = Batch(
        [call(id, count=id, function=bound_id(1, 7)) for id in (1, 2)],
        buffers=[b"function", b"one", b"two", b"more"],
    )
    state.receive(batch)
    state.receive(Cancel([1]))
    assert [each[0] for each in batch.calls] == [2]
    assert batch.buffers == [b"function", b"two", b"more"]
