"""A call that comes alone: answered by a result, or by a report that says more."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import SerializationError, TaskTimeout
from mpitasks.task_spec import TaskSpec
from mpitasks.wire import messages
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.messages import Outcomes, Request, Result, Returned
from working import Gate, Master, Running, double, error_of, framed, hold, plain


def _answer(call: Any) -> tuple[Any, list[Result], list[Outcomes]]:
    """Return the outcome of a call, and the answers to it."""
    master = Master()
    master.request(call)
    (outcome,) = master.serve().values()
    replies = [reply for reply in master.replies if reply.ids]
    return outcome, master.results, replies


@pytest.mark.parametrize(
    "call",
    [plain(7, double, 4), framed(7, double, 4), framed(7, lambda *, x: 2 * x, x=4)],
)
def test_a_plain_value_comes_back_as_a_result(call: Any) -> None:
    outcome, (result,), _ = _answer(call)
    assert outcome == 8
    assert (result.rank, result.id, result.function, result.value) == (1, 7, 0, 8)


def test_a_result_says_how_long_it_took() -> None:
    _, (result,), _ = _answer(plain(7, time.sleep, 0.02))
    assert 0.02 <= result.seconds < 10.0


def test_so_does_any_other_as_a_frame() -> None:
    outcome, (result,), _ = _answer(plain(7, list, "abc"))
    assert outcome == ["a", "b", "c"]
    assert result.form == messages.VALUE
    assert result.nbytes == len(result.value) > 0


def test_what_cannot_be_pickled_comes_back_in_a_report() -> None:
    outcome, results, (report,) = _answer(plain(7, threading.Lock))
    assert isinstance(error_of(outcome), SerializationError)
    assert results == []
    assert report.failed == [7]


def test_an_array_comes_back_as_a_buffer() -> None:
    outcome, results, (report,) = _answer(plain(7, np.ones, THRESHOLD))
    assert (outcome == 1).all()
    assert results == []
    assert [len(buffer) for buffer in report.buffers] == [8 * THRESHOLD]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_error_comes_back_in_a_report(kind: type[BaseException]) -> None:
    def fail(text: str) -> None:
        raise kind(text)

    outcome, results, (report,) = _answer(plain(7, fail, "on purpose"))
    error = error_of(outcome)
    assert (type(error), error.args) == (kind, ("on purpose",))
    assert results == []
    assert report.failed == [7]


def test_a_label_and_a_time_limit_hold() -> None:
    master = Master()
    named = TaskSpec("fit", timeout=0.05)
    master.request(plain(0, time.sleep, 30.0), task_spec=named)
    master.request(plain(1, double, 2))
    outcomes = master.serve()
    assert isinstance(error_of(outcomes[0]), TaskTimeout)
    assert outcomes[1] == 4


def test_a_task_knows_its_task_spec_and_the_next_has_none() -> None:
    gate, master = Gate(), Running()
    master.request(plain(0, hold, gate.number), task_spec=TaskSpec("fit", 2))
    gate.await_task()
    task = master.worker.current_task(1, "node7")
    assert task is not None
    assert (task.label, task.attempt) == ("fit", 2)
    gate.open()
    after = Gate()
    master.request(plain(1, hold, after.number))
    after.await_task()
    task = master.worker.current_task(1, "node7")
    assert task is not None
    assert (task.label, task.attempt) == (None, 1)
    after.open()
    master.finish()


def test_one_with_task_spec_is_given_back_as_well() -> None:
    gate, master = Gate(), Running()
    master.request(plain(0, hold, gate.number))
    gate.await_task()
    master.request(plain(1, hold, gate.number, "later"), task_spec=TaskSpec("fit"))
    with master.worker.lock:
        master.worker.take_in()
    gate.open()
    assert master.finish() == {0: None, 1: "later"}


def test_an_isolated_one_runs_in_a_process_of_its_own() -> None:
    master = Master()
    master.request(plain(0, os.getpid), task_spec=TaskSpec(isolate=True))
    assert master.serve()[0] != os.getpid()


def test_requests_and_batches_are_answered_in_order() -> None:
    master = Master()
    master.request(plain(0, double, 1))
    master.send(plain(1, double, 2), plain(2, double, 3))
    master.request(plain(3, double, 4))
    assert list(master.serve().items()) == [(0, 2), (1, 4), (2, 6), (3, 8)]
    assert [result.id for result in master.results] == [0, 3]


def test_one_that_comes_while_a_task_runs_is_given_back() -> None:
    gate, master = Gate(), Running()
    master.request(plain(0, hold, gate.number, "held"))
    gate.await_task()
    master.request(plain(1, hold, gate.number))
    master.give_back()
    assert master.receive(Returned) == Returned(1, [1], None)
    gate.open()
    assert master.finish() == {0: "held"}


def test_one_that_comes_while_a_task_runs_is_run_later_if_nobody_asks() -> None:
    gate, master = Gate(), Running()
    master.request(plain(0, hold, gate.number))
    gate.await_task()
    master.request(plain(1, hold, gate.number, "later"))
    with master.worker.lock:
        master.worker.take_in()
    gate.open()
    assert master.finish() == {0: None, 1: "later"}


def test_what_is_given_back_of_a_request_that_runs_is_nothing() -> None:
    gate, master = Gate(), Running()
    master.request(plain(0, hold, gate.number))
    gate.await_task()
    master.give_back()
    gate.open()
    assert master.finish() == {0: None}
    assert master.returned == []


def test_a_request_is_small() -> None:
    frame, buffers = messages.pack(Request((1, 2, messages.CALL_PLAIN, (3,), 0)))
    assert len(frame) < 40
    assert list(buffers) == []


def test_the_listener_answers_for_it_while_it_runs() -> None:
    gate, master = Gate(), Running(listens=True)
    master.request(plain(0, hold, gate.number))
    gate.await_task()
    master.request(plain(1, hold, gate.number))
    assert master.receive(Returned) == Returned(1, [1], None)
    gate.open()
    assert master.finish() == {0: None}


_made: list[weakref.ref[Any]] = []


def make(size: int) -> Any:
    """A task that returns an array, and remembers it."""
    array = np.ones(size)
    _made.append(weakref.ref(array))
    return array


def lives() -> bool:
    """A task that tells whether that array is still there."""
    return _made.pop()() is not None


def test_an_array_does_not_outlive_its_call() -> None:
    master = Master()
    master.request(plain(0, make, THRESHOLD))
    master.request(plain(1, lives))
    outcomes = master.serve()
    assert (outcomes[0] == 1).all()
    assert outcomes[1] is False
