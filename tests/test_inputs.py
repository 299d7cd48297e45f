"""Futures among arguments, on the master: what is sent when, in which form."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import SerializationError
from mpitasks.master.future import Future
from mpitasks.master.payloads import Call
from mpitasks.options import DEFAULTS
from mpitasks.runner.mirror import unpickle
from mpitasks.wire import codec
from mpitasks.wire.messages import CALL, CALL_PLAIN, ERROR, PLAIN, VALUE, Outcomes
from mpitasks.wire.outcomes import encode_error


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(1)
    yield hands
    hands.close()


def arguments(call: Any, buffers: list[Any] | None = None) -> Any:
    """Return the arguments of a call, as its worker sees them."""
    if call[2] == CALL_PLAIN:
        return call[3], {}
    assert call[2] == CALL
    return unpickle(call[3], buffers or [], "the arguments", "here")


def reply_array(hands: Hands, call: Any, array: Any) -> None:
    """Have worker 1 return an array, in memory of its own."""
    frame, buffers = codec.encode(array, "the result")
    own = [bytearray(buffer) for buffer in buffers]
    costs = [(call[1], 1, 1e-5, array.nbytes)]
    forms = {0: (VALUE, len(own))}
    outcomes = Outcomes(1, 1, [call[0]], [], costs, [frame], forms, buffers=own)
    hands.say(1, outcomes)


def reply_error(hands: Hands, call: Any, error: BaseException) -> None:
    """Have worker 1 raise."""
    form, frame, _ = encode_error(error, "there")
    assert form == ERROR
    costs = [(call[1], 1, 1e-5, 0)]
    at = [call[0]]
    hands.say(1, Outcomes(1, 1, at, at, costs, [frame], {0: (ERROR, 0)}))


def turn(hands: Hands) -> list[Any]:
    """Return the calls that worker 1 gets now."""
    hands.event_loop.nudge()
    return hands.calls(1)


class Point:
    """Something of the script: the test puts it into `__main__`."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __setstate__(self, state: dict[str, Any]) -> None:
        import hands  # here, so that the class refers to no global

        self.__dict__.update(state)
        hands.look()  # type: ignore[attr-defined]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, hands: Hands) -> list[bool]:
    """Return what tells whether each `Point` of the script was loaded under a lock."""
    looks: list[bool] = []
    monkeypatch.setattr(Point, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Point", Point, raising=False)
    is_locked = hands.event_loop._lock.locked
    module = sys.modules[Hands.__module__]
    monkeypatch.setattr(
        module, "look", lambda: looks.append(is_locked()), raising=False
    )
    return looks


def test_a_call_is_sent_when_its_input_is_there(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    second = executor.submit(divmod, 7, first)
    (call,) = turn(hands)
    assert not second.running()
    hands.reply(1, call, 3)
    (call,) = turn(hands)
    assert arguments(call) == ((7, 3), {})
    hands.reply(1, call, 4)
    assert second.result(0) == 4


def test_it_is_sent_as_it_came(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    executor.submit(len, first)
    (call,) = turn(hands)
    frame = pickle.dumps(["not", "looked", "at"], 5)
    costs = [(call[1], 1, 1e-5, 0)]
    hands.say(1, Outcomes(1, 1, [call[0]], [], costs, [frame], {0: (VALUE, 0)}))
    (call,) = turn(hands)
    assert call[3][2] == [(VALUE, frame, 0)]


def test_what_is_there_already_needs_no_waiting(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    (call,) = turn(hands)
    hands.answer(1, call, [1, 2], form=VALUE)
    executor.submit(len, first)
    (call,) = turn(hands)
    assert [form for form, _, _ in call[3][2]] == [VALUE]
    hands.reply(1, call, 2)
    first.result(0).append(3)
    executor.submit(len, first)
    (call,) = turn(hands)
    assert arguments(call) == (([1, 2, 3],), {})


@pytest.mark.parametrize("twice", [False, True])
def test_the_memory_of_an_input_is_not_given_away(hands: Hands, twice: bool) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    users = [executor.submit(abs, first) for _ in range(2 if twice else 1)]
    (call,) = turn(hands)
    reply_array(hands, call, np.arange(20_000.0))
    first.result(0)[:] = -1
    hands.event_loop.nudge()
    seen = []
    for batch in hands.batches(1):
        buffers = list(batch.buffers)
        for call in batch.calls:
            own, buffers = buffers[: call[4]], buffers[call[4] :]
            (array,), _ = arguments(call, own)
            seen.append(float(array.sum()))
    assert seen == [float(np.arange(20_000.0).sum())] * len(users)


def test_an_input_that_comes_before_its_call_is_taken_in(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    (sent,) = turn(hands)
    target = hands.event_loop.functions.register(abs)
    call = Call(10**6, target, (first,), {}, DEFAULTS, hands.event_loop)
    hands.reply(1, sent, 5)  # the thread that submits was interrupted here
    assert first.result(0) == 5
    hands.event_loop.submit(call.task)
    (sent,) = turn(hands)
    assert arguments(sent) == ((5,), {})


def test_each_call_is_given_an_input_by_itself(hands: Hands) -> None:
    """Calls that come together need the same result, which was there before."""
    executor = Executor()
    first, other = executor.submit(abs, -1), executor.submit(abs, -2)
    sent = turn(hands)
    target = hands.event_loop.functions.register(divmod)
    calls = [
        Call(10**6 + n, target, (first, second), {}, DEFAULTS, hands.event_loop)
        for n, second in enumerate([1, other, first])
    ]
    hands.reply(1, sent[0], 5)
    for call in calls:
        hands.event_loop.submit(call.task)
    seen = []
    for _ in range(9):
        for call in [*sent[1:], *turn(hands)]:
            if len(call[3]) == 2:
                seen.append(arguments(call)[0])
            hands.reply(1, call, 7)
        sent = []
    assert sorted(seen) == [(5, 1), (5, 5), (5, 7)]


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_an_input_that_is_gone_before_its_call_is_taken_in(
    hands: Hands, how: str
) -> None:
    executor = Executor()
    busy = executor.submit(abs, -1)
    first = executor.submit(abs, -2)
    first_sent = turn(hands)
    target = hands.event_loop.functions.register(abs)
    call = Call(10**6, target, (busy, first), {}, DEFAULTS, hands.event_loop)
    if how == "fails":
        for sent in [*first_sent]:
            reply_error(hands, sent, KeyError("no"))
        for sent in turn(hands):
            reply_error(hands, sent, KeyError("no"))
    else:
        assert busy.cancel() or first.cancel()
    hands.event_loop.submit(call.task)
    hands.event_loop.nudge()
    with pytest.raises(KeyError if how == "fails" else CancelledError):
        call.result(0)
    assert hands.calls(1) == []


def test_a_failure_is_everybodys_own_and_names_its_task(hands: Hands) -> None:
    executor = Executor().with_options(label="fit")
    first = executor.submit(abs, -1)
    chain = [first]
    for _ in range(3):
        chain.append(executor.submit(abs, chain[-1]))
    (call,) = turn(hands)
    reply_error(hands, call, KeyError("no"))
    errors = [future.exception(0) for future in chain]
    assert len(set(map(id, errors))) == 4
    assert not hasattr(errors[0], "__notes__")
    for future, error in zip(chain[1:], errors[1:], strict=True):
        (note,) = error.__notes__
        assert "the result of task" in note
        assert "('fit': abs), which failed" in note
        assert future.named() in note
    assert [type(error) for error in errors] == [KeyError] * 4


def test_a_chain_of_any_length_ends_with_its_root(hands: Hands) -> None:
    executor = Executor()
    last = first = executor.submit(abs, -1)
    for _ in range(5000):
        last = executor.submit(abs, last)
    (call,) = turn(hands)
    reply_error(hands, call, KeyError("no"))
    assert type(last.exception(0)) is KeyError
    second = executor.submit(abs, first)
    hands.event_loop.nudge()
    assert type(second.exception(0)) is KeyError


def test_a_class_of_the_script_goes_along(hands: Hands, looks: list[bool]) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    second = executor.submit(abs, first)
    (call,) = turn(hands)
    frame, _ = codec.encode(Point(3), "the result")
    costs = [(call[1], 1, 1e-5, 0)]
    hands.say(1, Outcomes(1, 1, [call[0]], [], costs, [frame], {0: (VALUE, 0)}))
    assert not second.done(), second.exception(0)
    (batch,) = hands.batches(1)
    assert "Point" in [name for _, name, *_ in batch.functions]
    assert looks == [False]  # no lock of ours was held
    assert not second.done()


def test_code_that_raises_while_a_result_is_looked_into(
    hands: Hands, looks: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Point, state: Any) -> None:
        raise SystemExit(3)

    executor = Executor()
    first = executor.submit(abs, -1)
    users = [executor.submit(abs, first) for _ in range(3)]
    (call,) = turn(hands)
    frame, _ = codec.encode(Point(3), "the result")
    monkeypatch.setattr(Point, "__setstate__", refuse)
    costs = [(call[1], 1, 1e-5, 0)]
    hands.say(1, Outcomes(1, 1, [call[0]], [], costs, [frame], {0: (VALUE, 0)}))
    for user in users:
        assert type(user.exception(0)) is SerializationError
    assert hands.event_loop.error is None


def test_a_cancelled_call_lets_go_of_its_arguments(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    array = np.ones(20_000)
    second = executor.submit(divmod, first, array)
    kept = [weakref.ref(part) for part in second.buffers]
    hands.event_loop.nudge()
    assert second.cancel()
    assert [ref() for ref in kept] == [None] * len(kept)
    assert len(kept) == 1


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_call_that_is_over_lets_go_of_its_inputs(hands: Hands, how: str) -> None:
    executor = Executor()
    first, other = executor.submit(abs, -1), executor.submit(abs, -2)
    waiting = executor.submit(divmod, first, other)
    sent = turn(hands)
    array = np.ones(20_000)
    reply_array(hands, sent[0], array)
    assert waiting.inputs is not None
    (held,) = [form for form in waiting.inputs.forms if form is not None]
    kept = weakref.ref(memoryview(held[2][0]))
    inputs = waiting.inputs
    del held
    if how == "cancelled":
        assert waiting.cancel()
    else:
        for call in [*sent[1:], *turn(hands)]:
            reply_error(hands, call, KeyError("no"))
        assert type(waiting.exception(0)) is KeyError
    assert waiting.inputs is None
    assert inputs.forms == []
    assert kept() is None


def test_a_result_that_is_looked_into_may_wait_for_another(
    hands: Hands, looks: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each needs a class of the script, so rank 0 must look into both."""
    executor = Executor()
    outer, inner = executor.submit(abs, -1), executor.submit(abs, -2)
    users = [executor.submit(abs, outer), executor.submit(abs, inner)]
    frame, _ = codec.encode(Point(3), "the result")
    sent = turn(hands)

    def reply() -> None:
        call = sent.pop(0) if sent else turn(hands)[0]
        costs = [(call[1], 1, 1e-5, 0)]
        hands.say(1, Outcomes(1, 1, [call[0]], [], costs, [frame], {0: (VALUE, 0)}))

    seen: list[Any] = []

    def look() -> None:
        if not seen:
            seen.append(None)
            reply()
            seen.append(hands.batches(1))

    monkeypatch.setattr(sys.modules[Hands.__module__], "look", look)
    reply()
    assert len(seen) == 2
    assert not users[1].done()
    assert seen[1]  # what needs the inner one was sent meanwhile


def test_a_waiting_call_takes_less_than_a_kilobyte(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    executor.submit(abs, first)
    count = 5000
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    waiting = [executor.submit(divmod, first, n) for n in range(count)]
    hands.event_loop.nudge()
    gc.collect()
    nbytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert nbytes / count < 1024
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)


def test_items_that_wait_are_numbered_by_themselves(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    (sent,) = turn(hands)
    results = executor.map_unordered(abs, [10, first, 12])
    hands.reply(1, sent, 5)
    for _ in range(3):
        for call in turn(hands):
            values = codec.decode(call[3]) if type(call[3]) is bytes else None
            if values is None:
                ((frame, count),) = call[3]
                values = [unpickle(frame, [], "an item", "here")]
                assert count == 0
            hands.reply(1, call, [value * 2 for value in values])
    assert dict(results) == {0: 20, 1: 10, 2: 24}


def test_futures_of_another_run_are_refused(hands: Hands) -> None:
    executor = Executor()
    stranger = Future(type("Loop", (), {"is_shut": True})())
    failed = executor.submit(abs, stranger)
    assert "of another run" in str(failed.exception(0))


def test_a_future_in_a_function_is_refused(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    failed = executor.submit(lambda: first)
    assert "as an argument of submit" in str(failed.exception(0))
    with pytest.raises(SerializationError, match="as an argument of submit"):
        executor.map(lambda _: first, [1])


def test_only_the_thread_that_pickles_finds_futures(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    errors: list[Any] = []

    class Nosy:
        def __reduce__(self) -> Any:
            def look() -> None:
                try:
                    pickle.dumps(first)
                except TypeError as error:
                    errors.append(error)

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            return int, (1,)

    second = executor.submit(divmod, Nosy(), first)
    assert len(errors) == 1
    (call,) = turn(hands)
    hands.reply(1, call, 1)
    (call,) = turn(hands)
    assert arguments(call) == ((1, 1), {})
    assert not second.done()


def test_a_plain_result_stands_beside_the_frame(hands: Hands) -> None:
    executor = Executor()
    first = executor.submit(abs, -1)
    executor.submit(abs, [first, first])
    (call,) = turn(hands)
    hands.reply(1, call, 7)
    (call,) = turn(hands)
    assert call[3][1:3] == (0, [(PLAIN, 7, 0)])
    assert arguments(call) == (([7, 7],), {})
