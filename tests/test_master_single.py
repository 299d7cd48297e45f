"""A single call on the master: what it sends, and what it makes of the result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import SerializationError
from mpitasks.task_spec import TaskSpec
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.messages import PLAIN, SURROUNDINGS, VALUE, Batch, Request


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(1)
    yield hands
    hands.close()


def _known(hands: Hands, *functions: Any) -> Executor:
    """Return an executor whose worker has the functions."""
    executor = Executor()
    for function in functions:
        executor.submit(function, 0)
        (call,) = hands.calls(1)
        hands.reply(1, call, 0)
    return executor


class Once:
    """What can be unpickled once, like a handle of something."""

    counts: dict[int, int] = {}  # noqa: RUF012  shared on purpose

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _arrive, (self.number,)


def _arrive(number: int) -> Once:
    Once.counts[number] = Once.counts.get(number, 0) + 1
    if Once.counts[number] > 1:
        raise RuntimeError("it is gone")
    return Once(number)


class Thorny:
    """What cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise OSError("not here")


# What it sends.


def test_a_function_that_is_new_to_the_worker_goes_in_a_batch(hands: Hands) -> None:
    executor = Executor()
    executor.submit(abs, -1)
    (message,) = hands.messages(1)
    assert isinstance(message, Batch)
    *ahead, (number, name, *_) = message.functions
    assert (number, name) == (message.calls[0][1], None)
    assert [entry[1] for entry in ahead] == [SURROUNDINGS]


def test_one_that_it_has_is_requested(hands: Hands) -> None:
    executor = _known(hands, abs)
    executor.submit(abs, -1)
    (message,) = hands.messages(1)
    assert isinstance(message, Request)
    assert message.call[3] == (-1,)
    assert message.task_spec is None


def test_a_label_goes_along(hands: Hands) -> None:
    executor = _known(hands, abs)
    executor.with_options(label="fit").submit(abs, -1)
    (message,) = hands.messages(1)
    assert isinstance(message, Request)
    assert message.task_spec is not None
    assert message.task_spec[0] == "fit"


def test_large_arguments_go_in_a_batch(hands: Hands) -> None:
    executor = _known(hands, len)
    executor.submit(len, np.zeros(THRESHOLD))
    (message,) = hands.messages(1)
    assert isinstance(message, Batch)
    assert len(message.buffers) == 1


def test_a_time_limit_goes_with_it(hands: Hands) -> None:
    executor = _known(hands, abs)
    executor.with_options(timeout=5.0).submit(abs, -1)
    (message,) = hands.messages(1)
    assert isinstance(message, Request)
    assert message.task_spec == tuple(TaskSpec(timeout=5.0))


# What it makes of results.


@pytest.mark.parametrize(("value", "form"), [(7, PLAIN), ((7, "a"), VALUE)])
@pytest.mark.parametrize("watched", [False, True])
def test_a_result_settles_the_future(
    hands: Hands, value: Any, form: int, *, watched: bool
) -> None:
    executor = _known(hands, abs)
    future = executor.submit(abs, -1)
    seen: list[Any] = []
    if watched:
        future.add_done_callback(lambda done: seen.append(done.result()))
    (call,) = hands.calls(1)
    hands.answer(1, call, value, form=form)
    assert future.done()
    assert future.result() == value
    assert seen == [value] * watched
    assert hands.event_loop.outstanding == 0


def test_one_that_cannot_be_unpickled_fails_the_future_alone(hands: Hands) -> None:
    executor = _known(hands, abs)
    future = executor.submit(abs, -1)
    (call,) = hands.calls(1)
    hands.answer(1, call, Thorny(), form=VALUE)
    error = future.exception()
    assert isinstance(error, SerializationError)
    assert "OSError: not here" in str(error)
    assert hands.event_loop.engine.error is None
    executor.submit(abs, -2)
    assert len(hands.calls(1)) == 1


@pytest.mark.parametrize("queued", [0, 1, 40])
def test_a_result_is_unpickled_once(hands: Hands, queued: int) -> None:
    executor = _known(hands, abs)
    future = executor.submit(abs, -1)
    others = [executor.submit(abs, -2) for _ in range(queued)]
    (call,) = hands.calls(1)[:1]
    hands.answer(1, call, Once(queued), form=VALUE)
    assert future.result().number == queued
    assert Once.counts.pop(queued) == 1
    assert not any(other.done() for other in others)


def test_a_result_is_unpickled_once_with_a_journal(
    hands: Hands, tmp_path: Path
) -> None:
    executor = Executor(journal=tmp_path / "run.db")
    for number in (100, 101):
        future = executor.submit(abs, number)
        (call,) = hands.calls(1)
        hands.answer(1, call, Once(number), form=VALUE)
        assert future.result().number == number
        assert Once.counts.pop(number) == 1
    executor.shutdown()
    again = Executor(journal=tmp_path / "run.db")
    future = again.submit(abs, 100)
    assert future.done()
    assert hands.calls(1) == []
    assert Once.counts.pop(100) == 1
    again.shutdown()


def test_a_result_that_comes_twice_is_late(hands: Hands) -> None:
    executor = _known(hands, abs)
    future = executor.submit(abs, -1)
    (call,) = hands.calls(1)
    hands.answer(1, call, 1)
    later = executor.submit(abs, -2)
    assert len(hands.calls(1)) == 1
    hands.answer(1, call, 2)
    assert future.result() == 1
    assert not later.done()
    assert hands.event_loop.engine.error is None
