"""`collect` and `compose`: futures of futures, whatever settles these, in any order.

With futures of the standard library, which the tests settle themselves. That ours work
as well is tried by `tests/mpi/test_futures.py`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, NoReturn

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.futures import collect, compose

AnyFuture = Future[Any]


class Own(Future[Any]):
    """A class of futures of the user's."""


def made(count: int) -> list[AnyFuture]:
    """Return futures that nobody has begun."""
    return [Future() for _ in range(count)]


def refuse(*_: Any) -> NoReturn:
    """Raise what no ``except Exception`` catches."""
    raise SystemExit("a hook")


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_results_stand_in_the_order_of_the_futures(order: tuple[int, ...]) -> None:
    parts = made(3)
    total = collect(iter(parts))
    for place in order:
        assert not total.done()
        parts[place].set_result(place)
    assert total.result(0) == [0, 1, 2]


def test_what_is_done_already_counts() -> None:
    parts = made(3)
    parts[1].set_result("one")
    total = collect([parts[1], parts[0], parts[1]])
    assert not total.done()
    parts[0].set_result("nought")
    assert total.result(0) == ["one", "nought", "one"]
    assert collect([parts[1]]).result(0) == ["one"]


def test_none_at_all() -> None:
    assert collect([]).result(0) == []


def test_it_is_of_the_class_of_its_first() -> None:
    first = Own()
    assert type(collect([first, Future()])) is Own
    assert type(compose(first)) is Own
    assert type(collect([Future(), first])) is Future


def test_ours_make_plain_ones() -> None:
    hands = Hands(1)
    try:
        call = Executor().submit(abs, -3)
        total, double = collect([call]), compose(call, lambda x: 2 * x)
        assert type(total) is type(double) is Future
        (sent,) = hands.calls(1)
        hands.reply(1, sent, 3)
        assert (total.result(0), double.result(0)) == ([3], 6)
    finally:
        hands.close()


@pytest.mark.parametrize("error", [LookupError("lost"), SystemExit(3)])
def test_the_first_failure_is_its_failure(error: BaseException) -> None:
    parts = made(3)
    total = collect(parts)
    parts[0].set_result(0)
    parts[1].set_exception(error)
    assert total.exception(0) is error
    assert parts[2].cancelled()


def test_later_failures_change_nothing() -> None:
    parts = made(2)
    for part in parts:
        assert part.set_running_or_notify_cancel()
    total = collect(parts)
    parts[0].set_exception(LookupError("first"))
    parts[1].set_exception(ValueError("second"))
    assert type(total.exception(0)) is LookupError


def test_a_cancelled_one_cancels_it_and_the_others() -> None:
    parts = made(3)
    total = collect(parts)
    parts[2].cancel()
    parts[2].set_running_or_notify_cancel()
    with pytest.raises(CancelledError):
        total.result(0)
    assert parts[0].cancelled()


def test_cancelling_it_cancels_what_has_not_begun() -> None:
    parts = made(2)
    assert parts[0].set_running_or_notify_cancel()
    total = collect(parts)
    assert total.cancel()
    assert parts[1].cancelled()
    assert parts[0].running()
    parts[0].set_result(0)
    with pytest.raises(CancelledError):
        total.result(0)


def test_callbacks_run_under_no_lock() -> None:
    parts = made(2)
    assert parts[1].set_running_or_notify_cancel()
    total = collect(parts)
    seen: list[Any] = []

    def settle_the_other(_: Any) -> None:
        other = threading.Thread(target=parts[1].set_result, args=(1,))
        other.start()
        other.join(60)
        seen.append(other.is_alive())

    total.add_done_callback(settle_the_other)
    parts[0].set_exception(LookupError())
    assert seen == [False]


def test_many_threads_settle_at_a_time() -> None:
    parts = made(400)
    total = collect(parts)
    start = threading.Barrier(4)

    def settle(own: list[AnyFuture]) -> None:
        start.wait(60)
        for part in own:
            part.set_result(parts.index(part))

    threads = [threading.Thread(target=settle, args=(parts[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    assert total.result(60) == list(range(400))
    for thread in threads:
        thread.join()


HOOKS: dict[str, tuple[Callable[..., Any] | None, Callable[..., Any] | None]] = {
    "none": (None, None),
    "of results": (lambda x: -x, None),
    "of errors": (None, repr),
    "both": (lambda x: -x, repr),
}


@pytest.mark.parametrize("hooks", HOOKS.values(), ids=HOOKS.keys())
def test_hooks(hooks: tuple[Any, Any]) -> None:
    good, bad = made(2)
    results = [compose(future, *hooks) for future in (good, bad)]
    error = LookupError("lost")
    good.set_result(3)
    bad.set_exception(error)
    assert results[0].result(0) == (-3 if hooks[0] else 3)
    if hooks[1]:
        assert results[1].result(0) == repr(error)
    else:
        assert results[1].exception(0) is error


def test_an_exception_that_a_hook_returns_is_raised() -> None:
    (future,) = made(1)
    composed = compose(future, None, lambda error: KeyError(str(error)))
    future.set_exception(LookupError("lost"))
    assert repr(composed.exception(0)) == "KeyError('lost')"


def test_a_result_that_is_an_exception_is_a_result() -> None:
    (future,) = made(1)
    error = LookupError("kept")
    composed = compose(future, lambda _: error)
    future.set_result(1)
    assert composed.result(0) is error


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_hook_raises_is_the_exception(fails: bool) -> None:
    (future,) = made(1)
    composed = compose(future, refuse, refuse)
    if fails:
        future.set_exception(LookupError())
    else:
        future.set_result(1)
    assert repr(composed.exception(0)) == "SystemExit('a hook')"


def test_cancelling_goes_both_ways() -> None:
    first, second = made(2)
    composed = compose(first, refuse, refuse)
    first.cancel()
    assert composed.cancelled()
    assert compose(second, refuse, refuse).cancel()
    assert second.cancelled()


def test_a_composed_future_cannot_stop_what_runs() -> None:
    (future,) = made(1)
    assert future.set_running_or_notify_cancel()
    composed = compose(future)
    assert composed.cancel()
    future.set_result(1)
    assert composed.cancelled()


def test_a_hook_may_take_long_and_still_be_cancelled() -> None:
    (future,) = made(1)
    composed: AnyFuture = compose(future, lambda x: composed.cancel())
    future.set_result(1)
    assert composed.cancelled()
