"""The worker's loop, by hand: messages put in, run to the stop, replies read."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import pytest

from mpitasks.errors import (
    InternalError,
    RemoteError,
    RemoteTraceback,
    SerializationError,
)
from mpitasks.wire import codec, messages
from mpitasks.wire.codec import THRESHOLD, Unsendable
from mpitasks.wire.local import LocalTransport, local_pair
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    LIST,
    MAP,
    MAP_PLAIN,
    STARMAP,
    STARMAP_PLAIN,
    Batch,
    Goodbye,
    Message,
    Outcomes,
    Stop,
    Welcome,
)
from mpitasks.wire.outcomes import Failure, decode_outcome
from mpitasks.worker import loop
from mpitasks.worker.loop import Worker

WHERE = "rank 1 on node7"


class Master:
    """The other end: sends batches, and reads what comes back."""

    def __init__(self) -> None:
        self.end, self.worker_end = local_pair()
        self.functions: dict[int, Callable[..., Any]] = {}
        self.replies: list[Outcomes] = []

    def send(
        self,
        *calls: tuple[int, Any, int, Any, list[Any]],
        forget: Iterable[Callable[..., Any]] = (),
    ) -> None:
        """Send one batch; a call is (task id, function, mode, payload, buffers)."""
        batch = Batch([], forget=[self._id(function) for function in forget])
        buffers = []
        for task_id, function, mode, payload, own in calls:
            number = self._id(function)
            if number not in self.functions:
                self.functions[number] = function
                frame, parts = codec.encode(function, "the function")
                batch.functions.append((number, frame, len(parts)))
                batch.buffers += parts
            batch.calls.append((task_id, number, mode, payload, len(own)))
            buffers += own
        batch.buffers += buffers
        self.end.send(1, batch)

    def _id(self, function: Callable[..., Any]) -> int:
        for number, known in self.functions.items():
            if known is function:
                return number
        return len(self.functions)

    def serve(self) -> dict[int, Any]:
        """Let the worker work until it stops; return outcomes by task id."""
        self.end.send(1, Stop())
        Worker(self.worker_end, WHERE).serve()
        outcomes: dict[int, Any] = {}
        received: list[Message] = []
        while (arrived := self.end.poll()) is not None:
            assert arrived[0] == 1
            received.append(arrived[1])
        assert received.pop() == Goodbye()
        for reply in received:
            assert isinstance(reply, Outcomes)
            self.replies.append(reply)
            buffers = list(reply.buffers)
            for at, (task_id, value) in enumerate(
                zip(reply.ids, reply.values, strict=True)
            ):
                form, count = reply.forms.get(at, (messages.PLAIN, 0))
                own, buffers = buffers[:count], buffers[count:]
                assert task_id not in outcomes
                outcomes[task_id] = decode_outcome(form, value, own)
            assert buffers == []
        return outcomes


def plain(task_id: int, function: Any, *args: Any) -> Any:
    """Return a call with plain arguments."""
    return task_id, function, CALL_PLAIN, args, []


def framed(task_id: int, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a call with any arguments."""
    return task_id, function, CALL, *codec.encode((args, kwargs), "it")


def chunk(task_id: int, function: Any, items: list[Any], mode: int = MAP_PLAIN) -> Any:
    """Return a chunk of plain items."""
    return task_id, function, mode, codec.encode(items, "it")[0], []


def framed_chunk(task_id: int, function: Any, items: list[Any], mode: int = MAP) -> Any:
    """Return a chunk of any items."""
    entries, buffers = [], []
    for item in items:
        frame, own = codec.encode(item, "it")
        entries.append((frame, len(own)))
        buffers += own
    return task_id, function, mode, entries, buffers


def run(*calls: Any) -> dict[int, Any]:
    """Run one batch and return its outcomes."""
    master = Master()
    master.send(*calls)
    return master.serve()


def error_of(outcome: Any) -> BaseException:
    """Return what a task raised."""
    assert type(outcome) is Failure
    return outcome.error


def double(x: Any) -> Any:
    """A task."""
    return x * 2


def fail(error: Any) -> NoReturn:
    """A task that raises what it is given."""
    raise error


# Calls.


def test_nothing_but_a_stop_is_answered_by_a_goodbye() -> None:
    assert Master().serve() == {}


def test_plain_calls() -> None:
    assert run(plain(7, double, 4), plain(9, double, "a")) == {7: 8, 9: "aa"}


def test_calls_with_any_arguments() -> None:
    assert run(
        framed(0, sorted, [3, 1, 2], reverse=True),
        framed(1, double, (1,)),
        framed(2, lambda **names: names, a=1),
    ) == {0: [3, 2, 1], 1: (1, 1), 2: {"a": 1}}


def test_arrays_go_and_come_as_buffers_and_are_writable() -> None:
    def add_one(array: Any) -> Any:
        array += 1
        return array

    array = np.zeros(THRESHOLD)
    outcomes = run(framed(0, add_one, array), framed(1, add_one, array * 5))
    assert (outcomes[0] == 1).all()
    assert (outcomes[1] == 1).all()
    assert not array.any()


def test_a_batch_is_answered_by_one_message_in_order() -> None:
    master = Master()
    master.send(*[plain(at, double, at) for at in (3, 1, 2)])
    master.serve()
    (reply,) = master.replies
    assert (reply.batches, reply.ids, reply.values) == (1, [3, 1, 2], [6, 2, 4])


def test_each_batch_is_answered() -> None:
    master = Master()
    for at in range(3):
        master.send(plain(at, double, at))
    assert master.serve() == {0: 0, 1: 2, 2: 4}
    assert [reply.batches for reply in master.replies] == [1, 1, 1]


def test_a_function_is_sent_once_and_remembered() -> None:
    master = Master()
    master.send(plain(0, double, 1))
    master.send(plain(1, double, 2))
    assert master.serve() == {0: 2, 1: 4}


def test_a_forgotten_function_is_gone() -> None:
    master = Master()
    master.send(plain(0, double, 1))
    master.send(plain(1, double, 2), forget=[double])
    assert type(error_of(master.serve()[1])) is KeyError


def test_a_function_with_a_large_array_inside() -> None:
    array = np.arange(float(THRESHOLD))
    outcomes = run(plain(0, lambda at: array[at], 5), framed(1, np.sum, array * 2))
    assert outcomes == {0: 5.0, 1: array.sum() * 2}


# Errors.


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(4),
        MemoryError(),
        RecursionError("deep"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_task_raises_fails_it_alone(error: BaseException) -> None:
    outcomes = run(plain(0, double, 1), framed(1, fail, error), plain(2, double, 3))
    assert (outcomes[0], outcomes[2]) == (2, 6)
    again = error_of(outcomes[1])
    assert type(again) is type(error)
    assert again.args == error.args
    assert type(again.__cause__) is RemoteTraceback
    text = str(again.__cause__)
    assert text.startswith(f"\nTraceback from {WHERE}:\n")
    assert "in fail" in text
    assert "loop.py" not in text


def test_a_task_may_call_exit() -> None:
    error = error_of(run(plain(0, sys.exit, 5))[0])
    assert type(error) is SystemExit
    assert error.code == 5


def test_an_endless_recursion_fails_its_task() -> None:
    def endless(x: int) -> int:
        return endless(x + 1)

    outcomes = run(plain(0, endless, 0), plain(1, double, 1))
    assert type(error_of(outcomes[0])) is RecursionError
    assert outcomes[1] == 2


def test_a_result_that_cannot_be_pickled_fails_its_task() -> None:
    outcomes = run(framed(0, threading.Lock), plain(1, double, 1))
    error = error_of(outcomes[0])
    assert type(error) is SerializationError
    assert "the result is a _thread.lock" in str(error)
    assert outcomes[1] == 2


def test_an_error_that_cannot_be_pickled_arrives_as_text() -> None:
    def fail_oddly() -> None:
        raise ValueError("odd", threading.Lock())

    error = error_of(run(plain(0, fail_oddly))[0])
    assert type(error) is RemoteError
    assert "ValueError: ('odd', " in str(error)


class BreaksOnArrival:
    """Pickles, but does not unpickle."""

    def __reduce__(self) -> Any:
        return fail, (OSError("not here"),)

    def __call__(self, *args: Any) -> None:
        """Never called."""


class EndsOnArrival:
    """As bad as it can be."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)

    def __call__(self, *args: Any) -> None:
        """Never called."""


@pytest.mark.parametrize(
    ("kind", "reason"), [(BreaksOnArrival, "OSError: not here"), (EndsOnArrival, "3")]
)
def test_a_function_that_cannot_be_loaded_fails_each_of_its_calls(
    kind: type, reason: str
) -> None:
    function = kind()
    outcomes = run(
        plain(0, function, 1),
        plain(1, double, 1),
        plain(2, function, 2),
        chunk(3, function, [1, 2]),
    )
    for outcome in (outcomes[0], outcomes[2], *outcomes[3]):
        error = error_of(outcome)
        assert type(error) is SerializationError
        assert "the function cannot be loaded: " in str(error)
        assert reason in str(error)
    assert outcomes[1] == 2


def test_arguments_that_cannot_be_unpickled_fail_their_call() -> None:
    outcomes = run(framed(0, double, BreaksOnArrival()), plain(1, double, 1))
    error = error_of(outcomes[0])
    assert type(error) is SerializationError
    expected = f"the arguments cannot be unpickled on {WHERE}: OSError: not here"
    assert str(error) == expected
    assert outcomes[1] == 2


# Chunks.


def test_a_chunk_of_plain_items() -> None:
    master = Master()
    master.send(chunk(0, double, [1, "a", 2.5]))
    assert master.serve() == {0: [2, "aa", 5.0]}
    assert master.replies[0].forms == {0: (LIST, 0)}


def test_a_chunk_of_plain_arguments() -> None:
    outcomes = run(chunk(0, divmod, [(7, 2), (9, 4)], STARMAP_PLAIN))
    assert outcomes[0] == [(3, 1), (2, 1)]


def test_a_chunk_of_any_items() -> None:
    large = np.arange(float(THRESHOLD))
    outcomes = run(
        framed_chunk(0, np.sum, [[1, 2], large, [3], large * 2]),
        framed_chunk(1, divmod, [(7, 2), (9, 4)], STARMAP),
    )
    assert outcomes[0] == [3, large.sum(), 3, large.sum() * 2]
    assert outcomes[1] == [(3, 1), (2, 1)]


@pytest.mark.parametrize("make", [chunk, framed_chunk])
@pytest.mark.parametrize("bad", [{0}, {2}, {4}, {1, 2}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize(
    "kind", [ValueError, StopIteration, SystemExit, KeyboardInterrupt]
)
def test_a_bad_item_fails_alone(
    make: Callable[..., Any], bad: set[int], kind: type[BaseException]
) -> None:
    def odd(x: int) -> int:
        if x in bad:
            raise kind
        return x * 2

    values = run(make(0, odd, [0, 1, 2, 3, 4]))[0]
    assert len(values) == 5
    for at, value in enumerate(values):
        if at in bad:
            assert type(error_of(value)) is kind
        else:
            assert value == at * 2


def test_an_item_that_cannot_be_unpickled_fails_alone() -> None:
    items = [[1], BreaksOnArrival(), [2]]
    values = run(framed_chunk(0, double, items))[0]
    assert (values[0], values[2]) == ([1, 1], [2, 2])
    assert f"an item cannot be unpickled on {WHERE}" in str(error_of(values[1]))


def test_an_item_that_could_not_be_pickled_fails_alone() -> None:
    error = SerializationError("item 1 cannot be pickled")
    values = run(framed_chunk(0, double, [[1], Unsendable(error), [2]]))[0]
    assert (values[0], values[2]) == ([1, 1], [2, 2])
    assert type(error_of(values[1])) is SerializationError
    assert str(error_of(values[1])) == "item 1 cannot be pickled"


def test_an_item_whose_result_cannot_be_pickled_fails_alone() -> None:
    def lock_if(x: int) -> Any:
        return threading.Lock() if x == 1 else x

    values = run(chunk(0, lock_if, [0, 1, 2]))[0]
    assert (values[0], values[2]) == (0, 2)
    assert type(error_of(values[1])) is SerializationError


# Costs and the time of replies.


def test_costs_are_counted_by_runs_of_one_function() -> None:
    master = Master()
    array = np.zeros(THRESHOLD)
    master.send(
        plain(0, double, 1),
        plain(1, double, 2),
        chunk(2, abs, [1, 2, 3]),
        framed(3, double, array),
    )
    master.serve()
    costs = [list(cost) for cost in master.replies[0].costs]
    assert [cost[:2] for cost in costs] == [[0, 2], [1, 3], [0, 1]]
    assert all(cost[2] >= 0 for cost in costs)
    assert costs[0][3] == 0
    assert costs[2][3] >= array.nbytes


def _batches(master: Master) -> list[int]:
    master.serve()
    return [reply.batches for reply in master.replies]


def test_results_wait_for_each_other_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "FLUSH_SECONDS", -1.0)
    master = Master()
    master.send(*[plain(at, double, at) for at in range(3)])
    assert _batches(master) == [0, 0, 1]
    assert [reply.ids for reply in master.replies] == [[0], [1], [2]]


def test_small_results_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FLUSH_SECONDS", math.inf)
    master = Master()
    master.send(*[framed(at, double, [at]) for at in range(3)])
    assert _batches(master) == [1]


def test_large_results_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FLUSH_SECONDS", math.inf)
    monkeypatch.setattr(loop, "REPLY_BYTES", 8 * THRESHOLD)
    master = Master()
    array = np.zeros(THRESHOLD)
    master.send(*[framed(at, np.copy, array) for at in range(3)])
    assert _batches(master) == [0, 0, 1]


class _Slow(LocalTransport):
    """A transport whose buffers take a few looks to leave."""

    looks = 0

    def sending(self) -> bool:
        self.looks += 1
        return self.looks % 4 != 0


@pytest.mark.parametrize(("size", "looks"), [(THRESHOLD, 4), (8, 0)])
def test_large_results_are_let_leave_before_the_next_call(
    monkeypatch: pytest.MonkeyPatch, size: int, looks: int
) -> None:
    monkeypatch.setattr(loop, "FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(loop, "SETTLE_SECONDS", 60.0)
    master = Master()
    slow = _Slow(1, master.worker_end._mailboxes)
    master.worker_end = slow
    master.send(framed(0, np.zeros, size), framed(1, np.zeros, 1))
    master.serve()
    assert slow.looks == looks


def test_large_results_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(loop, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(_Slow, "sending", lambda self: True)
    master = Master()
    master.worker_end = _Slow(1, master.worker_end._mailboxes)
    master.send(framed(0, np.zeros, THRESHOLD), framed(1, np.zeros, 1))
    assert sorted(master.serve()) == [0, 1]


def test_the_worker_waits_when_nothing_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master = Master()
    waits = []

    def wait(limit: float) -> None:
        waits.append(limit)
        master.end.send(1, Stop())

    monkeypatch.setattr(master.worker_end, "wait", wait)
    Worker(master.worker_end, WHERE).serve()
    assert len(waits) == 1
    assert master.end.poll() == (1, Goodbye())


def test_an_unexpected_message_is_our_fault() -> None:
    master = Master()
    master.end.send(1, Welcome(2, True))
    with pytest.raises(InternalError, match="a worker was sent Welcome"):
        Worker(master.worker_end, WHERE).serve()
