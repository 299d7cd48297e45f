"""The worker's loop, by hand: messages put in, run to the stop, replies read."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import (
    RemoteError,
    RemoteTraceback,
    SerializationError,
)
from mpitasks.wire.codec import THRESHOLD
from working import (
    WHERE,
    BreaksOnArrival,
    EndsOnArrival,
    Master,
    chunk,
    double,
    error_of,
    fail,
    framed,
    plain,
    run,
)

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
    error = error_of(master.serve()[1])  # which no master asks for
    assert isinstance(error, SerializationError)
    assert "KeyError" in str(error)


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
