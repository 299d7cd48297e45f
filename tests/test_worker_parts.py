"""What is finished of a chunk reaches the master while the rest still runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import working
from mpitasks import randomness
from mpitasks.runner.chunks import Chunk
from mpitasks.wire import codec
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.local_transport import LocalTransport
from mpitasks.wire.messages import (
    ITEMS,
    LIST,
    MAP,
    MAP_PLAIN,
    STARMAP,
    STARMAP_PLAIN,
    Message,
    Opening,
    Outcomes,
    Returned,
)
from mpitasks.wire.outcomes import decode_outcome, encode_items
from mpitasks.worker import listener as listeners
from working import (
    PATIENCE,
    WHERE,
    Gate,
    Running,
    chunk,
    double,
    double_or_hold,
    error_of,
    framed_chunk,
    hold,
    plain,
)

MODES = [MAP_PLAIN, STARMAP_PLAIN, MAP, STARMAP]


def make(mode: int, task_id: int, function: Any, items: list[Any]) -> Any:
    """Return a chunk of that kind, of items that are one argument each."""
    if mode in (STARMAP_PLAIN, STARMAP):
        items = [(item,) for item in items]
    if mode in (MAP_PLAIN, STARMAP_PLAIN):
        return chunk(task_id, function, items, mode)
    return framed_chunk(task_id, function, items, mode)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def master() -> Running:
    return Running()


def send_finished(master: Running) -> None:
    """Do what the listener does while items are finished now and then."""
    assert master.worker.lock.acquire(timeout=PATIENCE)
    master.worker.send_finished()
    master.worker.lock.release()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("slow", [0, 1, 3, 5])
def test_finished_items_are_sent(
    master: Running, gate: Gate, mode: int, slow: int
) -> None:
    task = partial(double_or_hold, gate.number, slow)
    master.send(make(mode, 5, task, list(range(6))), plain(6, double, 1))
    gate.await_task()
    send_finished(master)
    send_finished(master)  # with nothing more to send
    if slow:
        report = master.receive(Outcomes)
        assert (report.batches, report.ids, report.failed) == (0, [5], [])
        assert report.parts == {5: slow}
        assert report.costs[0][1] == slow
        assert report.forms[0][0] == LIST
    gate.open()
    assert master.finish() == {5: [2 * n for n in range(6)], 6: 2}
    parts = [reply.parts for reply in master.replies if 5 in reply.ids]
    assert parts == [{5: slow}] * bool(slow) + [{}]
    costs = [cost for reply in master.replies for cost in reply.costs]
    assert [cost[1] for cost in costs] == [slow] * bool(slow) + [6 - slow, 1]
    assert master.returned == []


@pytest.mark.parametrize("mode", MODES)
def test_values_that_can_change_are_sent_as_they_were(
    master: Running, gate: Gate, mode: int
) -> None:
    number = gate.number

    def task(x: int) -> Any:
        double_or_hold(number, 3, x)
        kept = working.seen_at(number)
        return kept if x % 2 else len(kept)

    master.send(make(mode, 5, task, list(range(6))))
    gate.await_task()
    send_finished(master)
    report = master.receive(Outcomes)
    assert report.parts == {5: 3}
    assert report.forms[0][0] == ITEMS
    gate.open()
    grown = [[*range(x + 1)] if x % 2 else x + 1 for x in range(6)]
    assert master.finish() == {5: grown}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [StopIteration, ValueError, SystemExit])
def test_items_that_raise_fail_alone(
    master: Running, gate: Gate, mode: int, kind: type[BaseException]
) -> None:
    number = gate.number

    def task(x: int) -> int:
        value: int = double_or_hold(number, 3, x)
        if x in (1, 3, 4):
            raise kind
        return value

    master.send(make(mode, 5, task, list(range(6))))
    gate.await_task()
    send_finished(master)
    report = master.receive(Outcomes)
    assert (report.parts, report.failed) == ({5: 3}, [])
    gate.open()
    values = master.finish()[5]
    assert [type(error_of(values[at])) for at in (1, 3, 4)] == [kind] * 3
    assert [values[at] for at in (0, 2, 5)] == [0, 4, 10]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_kept_counts_from_what_was_reported(
    master: Running, gate: Gate, mode: int
) -> None:
    second = Gate()
    gates = {2: gate.number, 4: second.number}

    def task(x: int) -> int:
        if x in gates:
            hold(gates[x])
        return x

    master.send(make(mode, 5, task, list(range(9))))
    gate.await_task()
    send_finished(master)
    assert master.receive(Outcomes).parts == {5: 2}
    gate.open()
    second.await_task()
    master.give_back()
    assert master.receive(Outcomes).parts == {5: 2}
    # Items 0 to 3 were reported, item 4 runs, and the others are given back.
    assert master.receive(Returned) == Returned(1, [], (5, 1))
    second.open()
    assert master.finish() == {5: [0, 1, 2, 3, 4]}


def test_large_results_are_let_go_when_they_were_sent(
    master: Running, gate: Gate
) -> None:
    number = gate.number

    def task(x: int) -> Any:
        return hold(number) if x == 2 else np.full(THRESHOLD, float(x))

    master.send(chunk(5, task, [0, 1, 2, 3]))
    gate.await_task()
    send_finished(master)
    report = master.receive(Outcomes)
    assert [buffer.nbytes for buffer in map(memoryview, report.buffers)] == [
        8 * THRESHOLD
    ] * 2
    running = master.worker.state.chunk
    assert running is not None
    assert (running.reported, running._values) == (2, [None, None])
    gate.open()
    values = master.finish()[5]
    assert [value if value is None else value[0] for value in values] == [0, 1, None, 3]


@pytest.mark.parametrize("mode", MODES)
def test_a_part_of_which_an_item_drew_says_so(
    master: Running, gate: Gate, mode: int
) -> None:
    number = gate.number

    def task(x: int) -> float:
        import mpitasks

        if x == 2:
            hold(number)
        return 0.0 if x in (0, 3) else float(mpitasks.rng().random())

    randomness.provide(master.worker.draw)
    try:
        master.end.send(1, Opening([(0, (0,), 1)]))
        places = {5: (1, (0, 2), 0)}
        master.send(make(mode, 5, task, [0, 1, 2, 3]), places=places)
        gate.await_task()
        send_finished(master)
        report = master.receive(Outcomes)
        assert (report.parts, report.drawn) == ({5: 2}, [5])
        gate.open()
        master.finish()
    finally:
        randomness.provide(lambda: None)
    assert [reply.drawn for reply in master.replies] == [[5], [5]]


def test_the_item_that_runs_may_have_drawn(master: Running, gate: Gate) -> None:
    """A draw is said of the report that covers its item, whatever was sent before."""
    number = gate.number

    def task(x: int) -> None:
        if x == 1:
            import mpitasks

            mpitasks.rng()
            hold(number)

    randomness.provide(master.worker.draw)
    try:
        master.end.send(1, Opening([(0, (0,), 1)]))
        master.send(chunk(5, task, [0, 1]), places={5: (1, (0, 2), 0)})
        gate.await_task()
        send_finished(master)
        gate.open()
        master.finish()
    finally:
        randomness.provide(lambda: None)
    assert master.replies[-1].drawn == [5]
    assert master.replies[-1].parts == {}


class _Full(LocalTransport):
    """Has no room for a message with large results."""

    def send(self, rank: int, message: Message) -> None:
        if isinstance(message, Outcomes) and message.buffers:
            raise MemoryError("no room")
        super().send(rank, message)


def test_a_part_that_does_not_fit_into_a_message_fails_alone(gate: Gate) -> None:
    master = Running()
    master.worker_end.__class__ = _Full
    number = gate.number

    def task(x: int) -> Any:
        return hold(number, x) if x == 2 else np.zeros(THRESHOLD) if x < 2 else x

    master.send(chunk(5, task, [0, 1, 2, 3]))
    gate.await_task()
    send_finished(master)
    report = master.receive(Outcomes)
    assert (report.parts, report.failed) == ({5: 2}, [])
    gate.open()
    values = master.finish()[5]
    assert [type(error_of(value)) for value in values[:2]] == [MemoryError] * 2
    assert values[2:] == [2, 3]


# By the listener.


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A master whose worker has a listener that gives nothing back."""
    monkeypatch.setattr(listeners, "UNRESPONSIVE_SECONDS", 1e9)
    master = Running(listens=True)
    yield master
    if master.thread.is_alive():
        master.finish()


@pytest.mark.parametrize("mode", MODES)
def test_the_listener_sends_items(listening: Running, gate: Gate, mode: int) -> None:
    task = partial(double_or_hold, gate.number, 2)
    listening.send(make(mode, 5, task, [0, 1, 2, 3]))
    assert listening.receive(Outcomes).parts == {5: 2}
    gate.open()
    assert listening.finish() == {5: [0, 2, 4, 6]}


def test_the_listener_sends_calls(listening: Running, gate: Gate) -> None:
    listening.send(plain(0, double, 1), plain(1, hold, gate.number))
    assert listening.receive(Outcomes).ids == [0]
    gate.open()
    listening.finish()


def test_the_listener_sends_items_while_others_make_progress(
    listening: Running,
) -> None:
    """A chunk of many short items is reported as it goes."""

    def nap(x: int) -> int:
        threading.Event().wait(0.005)
        return x

    listening.send(chunk(5, nap, list(range(60))))
    parts = 0
    while not parts:
        parts = listening.receive(Outcomes).parts[5]
    assert parts < 60
    assert listening.finish() == {5: list(range(60))}


def test_the_listener_wakes_for_work_behind_a_long_call(gate: Gate) -> None:
    """It looks rarely while one call takes long, but not at what comes after it."""
    master = Running(listens=True)
    long, slow = gate, Gate()
    master.send(plain(0, hold, long.number))
    listener = master.worker._listener
    assert listener is not None
    while not listener.asleep:  # until it looks rarely
        threading.Event().wait(0.001)
    long.open()
    task = partial(double_or_hold, slow.number, 2)
    master.send(chunk(5, task, [0, 1, 2]))
    while not (report := master.receive(Outcomes)).parts:
        pass
    assert report.parts == {5: 2}
    slow.open()
    assert master.finish() == {0: None, 5: [0, 2, 4]}


# The chunk itself.


VALUES = st.sampled_from(["int", "text", "list", "tuple", "bytes", "raise", "stop"])
LOOKS = st.sampled_from(["", "look", "cut", "undo"])


def value_of(kind: str, at: int) -> Any:
    """Return, or raise, a value of some kind."""
    if kind == "raise":
        raise ValueError(at)
    if kind == "stop":
        raise StopIteration
    made = {"int": at, "text": str(at), "list": [at], "tuple": (at,), "bytes": b"x"}
    return made[kind]


def shown(value: Any) -> Any:
    """Return something to compare: an outcome, or what it raised."""
    return value if not hasattr(value, "error") else repr(value.error)


@given(
    st.sampled_from(MODES),
    st.lists(st.tuples(VALUES, LOOKS), min_size=1, max_size=40),
)
def test_parts_are_the_chunk_in_order(mode: int, plan: list[tuple[str, str]]) -> None:
    """Looks and cuts come while items run, as another thread makes them."""
    reported: list[Any] = []
    kept = len(plan)
    running: list[Chunk] = []
    kinds = [kind for kind, _ in plan]
    ran = []

    def take(values: list[Any]) -> None:
        reported.extend(decode_outcome(*encode_items(values, WHERE)))

    def task(at: int) -> Any:
        nonlocal kept
        ran.append(at)
        [own] = running
        look = plan[at][1]
        if look in ("look", "cut"):
            values = own.head()
            assert len(values) == at - own.reported
            take(values)
            own.note_reported(len(values))
            assert own.finished == at
        if look == "cut":
            rest = own.cut()
            assert (rest is None) == (at + 1 == kept)
            if rest is not None:
                assert rest == 1
                kept = at + 1
        if look == "undo":
            own._items.extend(own._items[at + 1 :])
            del own._items[kept:]
        return value_of(kinds[at], at)

    _, _, _, payload, buffers = make(mode, 0, task, list(range(len(plan))))
    own = Chunk(mode, payload, buffers)
    running.append(own)
    while not own.done:
        own.run(task, WHERE)
    rest = own.rest()
    assert rest, "the last report must have an item"
    take(rest)
    assert ran == list(range(kept))

    def alone(at: int) -> Any:
        try:
            return value_of(kinds[at], at)
        except BaseException as error:
            return repr(error)

    assert list(map(shown, reported)) == list(map(alone, ran))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["int", "list", "mixed"])
def test_two_threads_at_a_chunk(mode: int, kind: str) -> None:
    """One runs it; another looks all the time, and cuts it once."""
    count = 3000
    before = sys.getswitchinterval()

    def task(x: int) -> Any:
        return x if kind == "int" or (kind == "mixed" and x % 50) else [x]

    _, _, _, payload, buffers = make(mode, 0, task, list(range(count)))
    own = Chunk(mode, payload, buffers)
    lock, reported = threading.Lock(), []

    def look() -> None:
        while not over.is_set():
            with lock:
                if over.is_set():
                    return
                values = own.head()
                reported.extend(decode_outcome(*encode_items(values, WHERE)))
                own.note_reported(len(values))
                if own.finished > count // 2:
                    own.cut()

    over = threading.Event()
    thread = threading.Thread(target=look)
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        with lock:
            while not own.done:
                lock.release()
                try:
                    own.run(task, WHERE)
                finally:
                    lock.acquire()
            over.set()
            rest = own.rest()
        thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(before)
    assert rest
    reported.extend(decode_outcome(*encode_items(rest, WHERE)))
    assert [x if type(x) is int else x[0] for x in reported] == [*range(len(reported))]
    assert len(reported) > count // 2


def test_a_value_that_is_not_encoded_yet_is_not_sent() -> None:
    seen: list[int] = []

    class Curious:
        """Looks at the chunk while it is being encoded, as another thread may."""

        def __reduce__(self) -> Any:
            seen.append(len(own.head()))
            return int, (7,)

    def task(x: int) -> Any:
        return Curious() if x == 1 else x

    own = Chunk(MAP_PLAIN, codec.encode_plain([0, 1, 2]), [])
    own.run(task, WHERE)
    assert seen == [1]
    assert decode_outcome(*encode_items(own.rest(), WHERE)) == [0, 7, 2]


def test_looking_at_a_value_never_makes_its_finalizer_run_here() -> None:
    """Only its type is looked at, so no reference to it is held meanwhile."""
    head: Callable[[Chunk], list[Any]] = Chunk.head
    own = Chunk(MAP_PLAIN, codec.encode_plain([0, 1, 2]), [])
    value: list[int] = []
    own._values.append(value)
    before = sys.getrefcount(value)
    assert head(own) == []
    assert sys.getrefcount(value) == before
