"""Initializers that fail, on rank 0: what becomes of the Executor and of all it has.

What they do on workers is in `tests/test_script.py` and
`tests/programs/initializers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import InitializerError, RemoteTraceback
from mpitasks.wire import codec
from mpitasks.wire.messages import ITEMS, MAP_PLAIN, Outcomes
from mpitasks.wire.outcomes import Sealed, encode_error, encode_items


def initialize(*args: Any) -> None:
    """Is never called here."""


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(2)
    yield hands
    hands.close()


def failure_of(executor: Executor) -> InitializerError:
    """Return what a worker makes of an initializer that raises."""
    (initializer,) = executor._handle.set_up.initializers
    error = InitializerError("the initializer failed on this worker")
    error.definition = initializer.id
    error.__context__ = LookupError("no licence")
    return error


def sent(hands: Hands) -> list[tuple[int, Any]]:
    """Return the calls that went out since the last look, each with its rank."""
    return [(rank, call) for rank in (1, 2) for call in hands.calls(rank)]


def fail(hands: Hands, rank: int, call: Any, error: BaseException) -> None:
    """Have a worker report that a call, or each item of a chunk, raised."""
    if call[2] == MAP_PLAIN:
        failed = Sealed(encode_error(error, f"rank {rank}"))
        form, value, _ = encode_items([failed] * len(codec.decode(call[3])), "there")
        assert form == ITEMS
    else:
        form, value, _ = encode_error(error, f"rank {rank}")
    costs = [(call[1], 1, 1e-5, 0)]
    whole = [] if form == ITEMS else [call[0]]
    report = Outcomes(rank, 0, [call[0]], whole, costs, [value], {0: (form, 0)})
    hands.say(rank, report)


def test_all_that_waits_fails_with_it(hands: Hands) -> None:
    executor, other = Executor(initializer=initialize), Executor()
    futures = [executor.submit(abs, -n) for n in range(2000)]
    theirs = [other.submit(abs, -n) for n in range(10)]
    held = sent(hands)
    rank, call = next((rank, call) for rank, call in held if call[3] == (0,))
    fail(hands, rank, call, failure_of(executor))
    done = [future for future in futures if future.done()]
    assert len(done) > len(futures) - len(held)
    errors = [future.exception() for future in done]
    assert {type(error) for error in errors} == {InitializerError}
    assert len({id(error) for error in errors}) == len(errors)  # each has its own
    for error in (errors[0], errors[-1]):
        assert isinstance(error, BrokenExecutor)
        assert isinstance(error.__cause__, RemoteTraceback)
        assert repr(error.__context__) == "LookupError('no licence')"
    assert not any(future.done() for future in theirs)


def test_what_runs_elsewhere_ends_as_it_would(hands: Hands) -> None:
    executor = Executor(initializer=initialize)
    first, second = executor.submit(abs, -1), executor.submit(abs, -2)
    [(rank, one), (other, two)] = sorted(sent(hands), key=lambda each: -each[1][3][0])
    fail(hands, rank, one, failure_of(executor))
    assert type(first.exception(0)) is InitializerError
    assert not second.done()
    hands.reply(other, two, 2)
    assert second.result(0) == 2


def test_what_comes_later_fails_at_once(hands: Hands) -> None:
    executor = Executor(initializer=initialize, label="fit")
    future = executor.submit(abs, -1)
    executor.submit(abs, -2)  # so that the function is known by its object
    rank, call = next((rank, call) for rank, call in sent(hands) if call[3] == (-1,))
    fail(hands, rank, call, failure_of(executor))
    assert future.done()
    later = executor.submit(abs, -3)
    assert later.done()
    error = later.exception()
    assert type(error) is InitializerError
    assert str(error).startswith("task 'fit': the initializer failed")
    assert executor.submit(abs, -3).exception() is not error
    with pytest.raises(InitializerError):
        executor.map(abs, range(3))
    with pytest.raises(InitializerError):
        executor.with_options(priority=1).map(abs, [[]])
    with pytest.raises(InitializerError):
        executor.map_reduce(abs, range(3), max)
    fresh = Executor(initializer=initialize)
    assert not fresh.submit(abs, -1).done()


@pytest.mark.parametrize("lazily", [False, True])
def test_a_map_ends_with_it(hands: Hands, lazily: bool) -> None:
    executor = Executor(initializer=initialize, return_exceptions=True)
    other = Executor()
    size = {"buffersize": 4} if lazily else {}
    results = executor.map(abs, iter(range(1000)), **size)
    [call, *_] = hands.calls(1)
    fail(hands, 1, call, failure_of(executor))
    with pytest.raises(InitializerError):
        list(results)
    theirs = other.map(abs, range(4))
    while hands.event_loop.outstanding:
        for rank in (1, 2):
            for batch in hands.batches(rank):
                for call in batch.calls:
                    last = int(call is batch.calls[-1])
                    values = list(codec.decode(call[3]))
                    hands.reply(rank, call, values, batches=last)
    assert list(theirs) == [0, 1, 2, 3]


def test_there_is_no_other_attempt(hands: Hands) -> None:
    executor = Executor(initializer=initialize, retries=5)
    future = executor.submit(abs, -1)
    [(rank, call)] = sent(hands)
    fail(hands, rank, call, failure_of(executor))
    assert type(future.exception(0)) is InitializerError
    assert hands.event_loop.outstanding == 0


def test_a_task_that_raises_the_like_breaks_nothing(hands: Hands) -> None:
    executor = Executor(initializer=initialize)
    future = executor.submit(abs, -1)
    [(rank, call)] = sent(hands)
    fail(
        hands, rank, call, InitializerError("of another Executor, which a task caught")
    )
    assert type(future.exception(0)) is InitializerError
    assert not executor.submit(abs, -1).done()


def test_a_journal_keeps_nothing_of_it(hands: Hands, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    executor = Executor(initializer=initialize, journal=path)
    future = executor.submit(abs, -1)
    [(rank, call)] = sent(hands)
    fail(hands, rank, call, failure_of(executor))
    assert future.exception(0) is not None
    executor.shutdown()
    again = Executor(initializer=initialize, journal=path, keep_failures=True)
    future = again.submit(abs, -1)
    assert not future.done()
    [(rank, call)] = sent(hands)
    hands.reply(rank, call, 1)
    assert future.result(0) == 1
    again.shutdown()


def test_dependents_fail_with_it(hands: Hands) -> None:
    executor, other = Executor(initializer=initialize), Executor()
    future = executor.submit(abs, -1)
    own = executor.submit(divmod, future, 1)
    theirs = other.submit(divmod, future, 1)
    [(rank, call)] = sent(hands)
    fail(hands, rank, call, failure_of(executor))
    assert type(own.exception(0)) is InitializerError
    assert type(theirs.exception(0)) is InitializerError
    assert not other.submit(abs, -1).done()
