"""Another attempt, or the final word: calls, items of a map, and lost ranks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import (
    OptionError,
    RemoteTraceback,
    TaskTimeout,
    TooManyFailures,
    WorkerLost,
)
from mpitasks.master.retry import next_attempt
from mpitasks.options import DEFAULTS
from mpitasks.task_spec import TaskSpec
from mpitasks.wire.messages import ITEMS, Cancel, Outcomes
from mpitasks.wire.outcomes import Sealed, encode_error, encode_items


@pytest.fixture
def hands() -> Iterator[Hands]:
    made = Hands(2)
    yield made
    made.close()


def raise_on(hands: Hands, rank: int, call: Any, error: Exception) -> None:
    """Have a worker report that a call raised."""
    form, frame, _ = encode_error(error, f"rank {rank}")
    costs = [(call[1], 1, 1e-5, 0)]
    hands.say(
        rank,
        Outcomes(rank, 1, [call[0]], [call[0]], costs, [frame], {0: (form, 0)}),
    )


def failed(error: Exception) -> Sealed:
    """Return what stands for an item that raised, before a chunk is encoded."""
    return Sealed(encode_error(error, "there"))


def sent(hands: Hands) -> tuple[int, Any, TaskSpec]:
    """Return the one call that is out: its rank, itself, and its terms."""
    [(rank, batch)] = [(r, b) for r in (1, 2) for b in hands.batches(r)]
    [call] = batch.calls
    return rank, call, TaskSpec(*(batch.task_spec or {}).get(call[0], ()))


def test_a_failed_call_is_tried_again_as_another_task(hands: Hands) -> None:
    executor = Executor(retries=2, label="fit")
    future = executor.submit(abs, -3)
    rank, first, task_spec = sent(hands)
    assert task_spec == TaskSpec("fit")
    raise_on(hands, rank, first, OSError("one"))
    rank, second, task_spec = sent(hands)
    assert (task_spec, future.done()) == (TaskSpec("fit", 2), False)
    assert future.running()
    assert second[1:] == first[1:]
    assert second[0] != first[0]
    hands.reply(rank, second, 3)
    assert future.result() == 3


def test_the_final_error_carries_the_earlier_ones(hands: Hands) -> None:
    future = Executor(retries=2).submit(abs, -3)
    for text in ("one", "two", "three"):
        rank, call, _ = sent(hands)
        raise_on(hands, rank, call, OSError(text))
    chain = []
    error: BaseException | None = future.exception()
    while error is not None:
        chain.append(error)
        error = error.__cause__
    assert [str(e) for e in chain if isinstance(e, OSError)] == ["three", "two", "one"]
    assert all(isinstance(e, RemoteTraceback) for e in chain[1::2])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, OSError()),
        ({"retries": 3, "retry_on": KeyError}, OSError()),
        ({"retries": 3, "retry_on": (KeyError, IndexError)}, OSError()),
    ],
)
def test_who_gets_no_other_attempt(
    hands: Hands, options: dict[str, Any], error: Exception
) -> None:
    future = Executor(**options).submit(abs, -3)
    rank, call, _ = sent(hands)
    raise_on(hands, rank, call, error)
    assert isinstance(future.exception(timeout=0), OSError)


def test_it_waits_for_its_time(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    future = Executor(retries=1, retry_delay=3600.0).submit(abs, -3)
    rank, call, _ = sent(hands)
    raise_on(hands, rank, call, OSError())
    assert hands.batches(1) + hands.batches(2) == []
    assert hands.event_loop.outstanding == 1
    later = time.monotonic() + 3600.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    hands.event_loop.nudge()
    rank, call, _ = sent(hands)
    hands.reply(rank, call, 3)
    assert future.result() == 3


def test_a_postponed_attempt_can_be_cancelled(hands: Hands) -> None:
    future = Executor(retries=1, retry_delay=3600.0).submit(abs, -3)
    rank, call, _ = sent(hands)
    raise_on(hands, rank, call, OSError())
    assert not future.running()
    assert future.cancel()
    assert hands.event_loop.outstanding == 0


def test_only_the_items_that_failed_are_tried_again(hands: Hands) -> None:
    executor = Executor(retries=1, chunksize=4)
    results = executor.map(abs, range(4))
    rank, call, _ = sent(hands)
    values = [0, failed(OSError("one")), 2, failed(OSError("three"))]
    form, items, _ = encode_items(values, "there")
    costs = [(call[1], 4, 1e-5, 0)]
    hands.say(rank, Outcomes(rank, 1, [call[0]], [], costs, [items], {0: (form, 0)}))
    assert form == ITEMS
    batches = [(r, b) for r in (1, 2) for b in hands.batches(r)]
    again = [(r, c) for r, b in batches for c in b.calls]
    again.sort(key=lambda sent: sent[1][0])  # by task id: in the order of the items
    assert len(again) == 2
    for _, batch in batches:
        for task_spec in (batch.task_spec or {}).values():
            assert TaskSpec(*task_spec).attempt == 2
    for value, (rank, call) in zip([10, 30], again, strict=True):
        hands.reply(rank, call, [value], batches=0)
    assert list(results) == [0, 10, 2, 30]


def lose(hands: Hands, rank: int) -> None:
    """Lose a rank."""
    from mpitasks.scheduler.events import RankLost

    hands.event_loop._handle_now(RankLost(rank))


def test_a_call_of_a_lost_rank_goes_elsewhere(hands: Hands) -> None:
    future = Executor().submit(abs, -3)
    rank, _, _ = sent(hands)
    lose(hands, rank)
    other, call, task_spec = sent(hands)
    assert (other, task_spec.attempt) == (3 - rank, 2)
    hands.reply(other, call, 3)
    assert future.result() == 3


def test_a_call_that_loses_too_many_ranks_fails(hands: Hands) -> None:
    future = Executor(max_crashes=2, label="bomb").submit(abs, -3)
    lose(hands, sent(hands)[0])
    lose(hands, sent(hands)[0])
    error = future.exception(timeout=0)
    assert isinstance(error, WorkerLost)
    assert "'bomb'" in str(error)
    assert isinstance(error.__cause__, WorkerLost)


def test_what_was_lost_together_goes_alone_from_then_on(hands: Hands) -> None:
    """So that tasks beside a deadly one do not take the blame again and again."""
    executor = Executor(chunksize=3, max_crashes=2)
    known = executor.submit(abs, -3)
    rank, call, _ = sent(hands)
    hands.reply(rank, call, 3)  # measured: many would go in one batch
    number = call[1]
    assert known.result() == 3
    results = executor.map(abs, [-1, -2, -3])
    lose(hands, sent(hands)[0])
    for value in (1, 2, 3):
        rank, call, _ = sent(hands)
        assert call[1] == number  # for the worker it is the same function
        hands.reply(rank, call, [value])
    assert list(results) == [1, 2, 3]


@pytest.mark.parametrize(
    ("alone", "fails"),
    [
        ([True, True], [False, True]),
        ([False, True], [False, True]),
        ([False, False, True], [False, False, True]),
    ],
)
def test_of_several_lost_together_each_is_blamed_once(
    hands: Hands, alone: list[bool], fails: list[bool]
) -> None:
    task = Executor(max_crashes=2).submit(abs, -3)._task
    assert task is not None
    for one, fatal in zip(alone, fails, strict=True):
        again = next_attempt(task, WorkerLost(), count(9), crashed=True, alone=one)
        assert (again is None) == fatal
        task = task if again is None else again[1]


def test_items_of_a_lost_rank_go_elsewhere_and_the_last_rank_fails_them(
    hands: Hands,
) -> None:
    results = Executor(chunksize=2, return_exceptions=True).map(abs, range(2))
    lose(hands, sent(hands)[0])
    lose(hands, 1)
    lose(hands, 2)
    assert [type(value) for value in results] == [WorkerLost, WorkerLost]


def test_an_overdue_call_fails_and_is_reported(
    hands: Hands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    future = Executor(timeout=5.0, label="slow").submit(abs, -3)
    rank, call, _ = sent(hands)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 8.0)
    hands.event_loop.nudge()
    line = capsys.readouterr().err
    assert f"'slow') on rank {rank} has not ended at its limit of 5 s" in line
    assert not future.done()
    monkeypatch.setattr(time, "monotonic", lambda: now + 16.0)
    hands.event_loop.nudge()
    assert isinstance(future.exception(timeout=0), TaskTimeout)
    hands.reply(rank, call, 3)  # late
    assert isinstance(future.exception(timeout=0), TaskTimeout)


def test_a_running_isolated_call_can_be_cancelled(hands: Hands) -> None:
    future = Executor(isolate=True).submit(abs, -3)
    rank, call, task_spec = sent(hands)
    assert task_spec.isolate
    assert future.cancel()
    arrived = hands.ends[rank].poll()
    assert arrived is not None
    assert arrived[1] == Cancel([call[0]])
    hands.reply(rank, call, 3)  # it was done all the same
    assert future.cancelled()


def say_failing(hands: Hands, rank: int, call: Any) -> None:
    """Report a chunk of four items, two of which failed."""
    values = [0, failed(OSError("one")), 2, failed(KeyError("three"))]
    form, items, _ = encode_items(values, "there")
    hands.say(
        rank,
        Outcomes(
            rank, 1, [call[0]], [], [(call[1], 4, 1e-5, 0)], [items], {0: (form, 0)}
        ),
    )


def failing_map(hands: Hands, **options: Any) -> list[Any]:
    """Run a map of four items, two of which fail; return what it yields."""
    results = Executor(chunksize=4, **options).map(abs, range(4))
    rank, call, _ = sent(hands)
    say_failing(hands, rank, call)
    return list(results)


# What a map of four items comes to, of which one and three fail: values, or what it
# raises. By return_exceptions, max_failures, fail_fast.
ZERO_AND = "0, OSError, 2, KeyError"
COMBINATIONS = {
    (False, None, False): "raises OSError",
    (False, None, True): "raises OSError",
    (False, 0, False): "raises TooManyFailures",
    (False, 0, True): "raises OSError",
    (False, 1, False): "raises OptionError",
    (False, 1, True): "raises OSError",
    (False, 2, False): "raises OptionError",
    (False, 2, True): "raises OSError",
    (True, None, False): ZERO_AND,
    (True, None, True): "raises OSError",
    (True, 0, False): "raises TooManyFailures",
    (True, 0, True): "raises OSError",
    (True, 1, False): "raises TooManyFailures",
    (True, 1, True): "raises OSError",
    (True, 2, False): ZERO_AND,
    (True, 2, True): "raises OSError",
}


@pytest.mark.parametrize("asked", COMBINATIONS)
def test_what_becomes_of_items_that_fail(
    hands: Hands, asked: tuple[bool, int | None, bool]
) -> None:
    names = ("return_exceptions", "max_failures", "fail_fast")
    try:
        values = failing_map(hands, **dict(zip(names, asked, strict=True)))
    except Exception as error:
        found = f"raises {type(error).__name__}"
    else:
        found = ", ".join(
            str(v) if type(v) is int else type(v).__name__ for v in values
        )
    assert found == COMBINATIONS[asked]


def test_failures_are_no_values_unless_asked_for() -> None:
    with pytest.raises(OptionError, match="return_exceptions=True") as caught:
        DEFAULTS.replace(max_failures=3).check_for_map()
    assert "max_failures=3" in str(caught.value)


def test_the_first_in_order_is_raised(hands: Hands) -> None:
    results = Executor(chunksize=4).map(abs, range(4))
    rank, call, _ = sent(hands)
    say_failing(hands, rank, call)
    assert next(results) == 0
    with pytest.raises(OSError, match="one"):
        next(results)


def test_too_many_failures(hands: Hands) -> None:
    with pytest.raises(TooManyFailures, match=r"^2 items failed, and max_failures=1"):
        failing_map(hands, max_failures=1, return_exceptions=True)


def test_fail_fast_does_not_wait_for_those_before(hands: Hands) -> None:
    results = Executor(chunksize=1, fail_fast=True).map(abs, range(3))
    [first] = hands.batches(1) or hands.batches(2)
    [(rank, second)] = [(r, b.calls[0]) for r in (1, 2) for b in hands.batches(r)]
    form, items, _ = encode_items([failed(OSError("second"))], "there")
    hands.say(
        rank,
        Outcomes(
            rank, 1, [second[0]], [], [(second[1], 1, 1e-5, 0)], [items], {0: (form, 0)}
        ),
    )
    assert first.calls[0][0] != second[0]
    with pytest.raises(OSError, match="second"):
        next(results)
    assert hands.event_loop.outstanding <= 2  # what was sent; nothing else is to be run
