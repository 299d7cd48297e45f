"""A `map` with a journal: what was found is handed out in its place, the rest runs.

With a real worker, in a thread; the journal is opened anew for each run.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpitasks
from hands import Hands
from mpitasks import randomness
from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.journal.recorded_job import ITEMS_AT_ONCE
from mpitasks.journal.recorder import listen
from mpitasks.journal.store import Store
from mpitasks.scheduler.events import Complete
from mpitasks.wire.messages import PLAIN, Outcomes, Result
from mpitasks.worker.loop import Worker

Run = Callable[..., Executor]

RAN: list[Any] = []
"""The items that the worker ran, which is a thread of this process."""


def double(x: Any) -> Any:
    RAN.append(x)
    return x * 2


def total(x: Any) -> Any:
    RAN.append(x)
    return float(np.sum(x))


def large(x: int) -> Any:
    RAN.append(x)
    return np.full(200_000, x)


def thing(x: Any) -> Any:
    RAN.append(x)
    return {x, "a"} if x % 2 else x


def add(x: int, y: Any) -> Any:
    RAN.append(x)
    return x + len(y)


def size(x: Any) -> int:
    RAN.append(x)
    return len(x)


def odd(x: int) -> int:
    RAN.append(x)
    if x % 2 == 0:
        raise ValueError(x)
    return x


def later(x: int) -> int:
    RAN.append(x)
    if x == 3 and RAN.count(3) < 2:
        raise OSError("not yet")
    return x


def draw(x: int) -> float:
    RAN.append(x)
    return float(mpitasks.rng().random())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Opens an Executor with the journal; the one before is closed then."""
    hands = Hands(1)
    worker = Worker(hands.ends[1], "rank 1 on here")
    randomness.provide(worker.draw)
    thread = threading.Thread(target=worker.serve)
    thread.start()
    opened: list[Executor] = []

    def opening(**options: Any) -> Executor:
        if opened:
            opened.pop().shutdown()
        RAN.clear()
        opened.append(Executor(journal=tmp_path / "run.db", **options))
        return opened[0]

    yield opening
    for executor in opened:
        executor.shutdown(cancel_futures=True)  # not for ever, if it failed
    session.uninstall()
    assert hands.event_loop.close(10.0) == []
    thread.join(10.0)
    assert not thread.is_alive()
    randomness.provide(lambda: None)


def rows(tmp_path: Path) -> list[Any]:
    """Return the rows of the closed journal, oldest first."""
    store = Store(tmp_path / "run.db", writable=False)
    found = [store.read(number) for number in store.numbers()]
    store.close()
    return found


ITEMS: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "numbers": (double, list(range(40))),
    "lists": (double, [[n] for n in range(40)]),
    "of both kinds": (double, [n if n % 3 else [n] for n in range(40)]),
    "large arrays": (total, [np.full(100_000, n) for n in range(12)]),
    "results of both kinds": (thing, list(range(40))),
    "large results": (large, list(range(8))),
}


def equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.all(one == other))


@pytest.mark.parametrize("kind", ITEMS)
@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_what_is_missing_runs_and_all_comes_in_order(
    run: Run, kind: str, chunksize: int | None
) -> None:
    function, items = ITEMS[kind]
    right = [function(item) for item in items]
    some = [item for at, item in enumerate(items) if at % 5 in (1, 2)]
    assert len(list(run().map(function, some))) == len(some)
    assert len(RAN) == len(some)
    found = list(run().map(function, items, chunksize=chunksize))
    assert all(map(equal, found, right))
    assert len(found) == len(items)
    assert len(RAN) == len(items) - len(some)
    again = list(run().map(function, items, chunksize=chunksize))
    assert all(map(equal, again, right))
    assert len(again) == len(items)
    assert RAN == []


def test_all_come_that_are_unordered(run: Run) -> None:
    list(run().map(double, range(5, 30, 3)))
    found = list(run().map_unordered(double, range(40)))
    assert sorted(found) == [(n, 2 * n) for n in range(40)]
    assert len(RAN) == 40 - 9
    assert sorted(run().map_unordered(double, range(40))) == sorted(found)
    assert RAN == []


def test_arguments_of_a_starmap(run: Run, tmp_path: Path) -> None:
    pairs = [(n, [n] if n % 4 else "ab") for n in range(20)]
    right = [x + len(y) for x, y in pairs]
    assert list(run().starmap(add, pairs[3:9])) == right[3:9]
    assert list(run().starmap(add, pairs)) == right
    assert sorted(RAN) == [0, 1, 2, *range(9, 20)]
    run()
    assert list(run().starmap(add, iter(pairs))) == right
    assert RAN == []


def test_many_items_are_looked_up_some_at_a_time(run: Run) -> None:
    count = 2 * ITEMS_AT_ONCE + 100
    list(run().map(double, range(0, count, 7)))
    stream = run().map(double, (n for n in range(count)), buffersize=30)
    assert next(stream) == 0
    assert len(RAN) <= 60
    assert list(stream) == [2 * n for n in range(1, count)]
    assert len(RAN) == count - len(range(0, count, 7))
    pulled: list[int] = []
    items = (pulled.append(n) or n for n in range(count))  # type: ignore[func-returns-value]
    assert next(run().map(double, items)) == 0
    assert len(pulled) == count
    assert RAN == []


def test_what_a_row_tells_of_an_item(run: Run, tmp_path: Path) -> None:
    executor = run().with_options(label="fit", key=lambda x: f"key {x[0]}")
    assert list(executor.map(double, [[1], [2]])) == [[1, 1], [2, 2]]
    plain = run().with_options(label="own")
    assert list(plain.map(double, [3, "b"])) == [6, "bb"]
    assert list(plain.starmap(add, [(5, "a"), (6, [7])])) == [6, 7]
    run().shutdown()
    told = [(row.name, row.call, row.label) for row in rows(tmp_path)]
    assert told == [
        ("key 1", None, "fit"),
        ("key 2", None, "fit"),
        (None, "(3)", "own"),
        (None, "('b')", "own"),
        (None, "(5, 'a')", "own"),
        (None, None, "own"),
    ]


def test_a_key_that_raises_is_the_items_own(run: Run) -> None:
    def key(x: int) -> int:
        return 12 // (x - 3)

    for _ in range(2):
        stream = run().with_options(key=key).map(double, range(1, 6))
        assert [next(stream), next(stream)] == [2, 4]
        with pytest.raises(ZeroDivisionError):
            next(stream)
    assert 3 not in RAN
    with pytest.raises(ZeroDivisionError):
        list(run().with_options(key=key).map_unordered(double, [3]))


def test_items_without_a_key_run_each_time(run: Run, tmp_path: Path) -> None:
    view = dict.fromkeys("ab").keys()  # which cloudpickle knows, and no pickle
    for ran in (5, 2):
        found = list(run().map(size, ["a", view, "abc", view, ["d"]], chunksize=2))
        assert found == [1, 2, 3, 2, 1]
        assert len(RAN) == ran
    assert len(_closed(run, tmp_path)) == 3


def test_a_failure_is_that_of_its_item(run: Run, tmp_path: Path) -> None:
    stream = run().map(odd, [1, 3, 4, 5], chunksize=4)
    assert [next(stream), next(stream)] == [1, 3]
    with pytest.raises(ValueError, match="4"):
        next(stream)
    assert sorted(row.failed for row in _closed(run, tmp_path)) == [0, 0, 0, 1]
    stream = run(keep_failures=True).map(odd, [1, 3, 4, 5])
    assert [next(stream), next(stream)] == [1, 3]
    with pytest.raises(ValueError, match="4"):
        next(stream)
    assert RAN == []
    stream = run().map(odd, [1, 3, 4, 5])
    assert next(stream) == 1
    with pytest.raises(ValueError, match="4"):
        list(stream)
    assert RAN == [4]
    assert sorted(row.failed for row in _closed(run, tmp_path)) == [0, 0, 0, 1]


def _closed(run: Run, tmp_path: Path) -> list[Any]:
    run().shutdown()
    return rows(tmp_path)


@pytest.mark.parametrize("chunksize", [1, 5])
def test_another_attempt_is_what_is_recorded(
    run: Run, tmp_path: Path, chunksize: int
) -> None:
    executor = run().with_options(retries=1)
    assert list(executor.map(later, range(6), chunksize=chunksize)) == list(range(6))
    assert RAN.count(3) == 2
    assert [row.failed for row in _closed(run, tmp_path)] == [0] * 6
    assert list(run().map(later, range(6))) == list(range(6))
    assert RAN == []


@pytest.mark.parametrize(
    "make",
    [int, lambda n: [n], lambda n: np.full(9000, n)],
    ids=["int", "list", "array"],
)
def test_a_damaged_result_runs_again(
    run: Run, tmp_path: Path, make: Callable[[int], Any]
) -> None:
    items = [make(n) for n in range(4)]
    right = [np.full(200_000, n) for n in range(4)]
    list(run().map(first_of, items))
    run().shutdown()
    (tmp_path / "run.db.d" / rows(tmp_path)[2].file).unlink()
    found = list(run().map(first_of, items))
    assert all(map(equal, found, right))
    assert RAN == [2]
    again = list(run().map(first_of, items))
    assert all(map(equal, again, right))
    assert RAN == []
    assert len(_closed(run, tmp_path)) == 4


def first_of(x: Any) -> Any:
    RAN.append(int(np.max(x)))
    return np.full(200_000, int(np.max(x)))


def test_what_was_drawn_depends_on_the_place(run: Run) -> None:
    first = list(run(seed=1).map(draw, range(6), chunksize=3))
    assert len(set(first)) == 6
    assert list(run(seed=1).map(draw, range(6), chunksize=2)) == first
    assert RAN == []
    other = list(run(seed=1).map(draw, [0, 1, 3, 2, 4, 5]))
    assert sorted(RAN) == [2, 3]
    assert other[:2] + other[4:] == first[:2] + first[4:]
    assert {other[2], other[3]} == {first[2], first[3]}
    list(run(seed=2).map(draw, range(6)))
    assert len(RAN) == 6


def test_equal_items_have_results_of_their_own(run: Run, tmp_path: Path) -> None:
    assert list(run().map(double, [1, 1, 1])) == [2, 2, 2]
    assert list(run().map(double, [1, 1, 1, 1])) == [2, 2, 2, 2]
    assert RAN == [1]
    assert len(_closed(run, tmp_path)) == 4


def test_single_calls_that_draw(run: Run, tmp_path: Path) -> None:
    def calls(count: int, **options: Any) -> list[Any]:
        executor = run(**options)
        found = [executor.submit(draw_odd, n) for n in range(count)]
        return [(f.exception() and str(f.exception())) or f.result() for f in found]

    first = calls(4, seed=1)
    assert [type(value) for value in first] == [str, float, str, float]
    assert RAN == [0, 1, 2, 3]
    assert calls(4, seed=1) == first
    assert RAN == [0, 2]  # those that failed, in the place of what they left
    assert len(_closed(run, tmp_path)) == 4
    assert calls(4, seed=1, keep_failures=True) == first
    assert RAN == []
    assert calls(2, seed=2)[1] != first[1]
    assert RAN == [0, 1]


def draw_odd(x: int) -> float:
    RAN.append(x)
    drawn = float(mpitasks.rng().random())
    if x % 2 == 0:
        raise ValueError(x)
    return drawn


def test_a_map_of_a_function_without_an_identity(run: Run, tmp_path: Path) -> None:
    view = dict.fromkeys("ab").keys()
    function = functools.partial(both, view)
    for _ in range(2):
        assert list(run().map(function, range(4))) == [2, 3, 4, 5]
        assert RAN == [0, 1, 2, 3]
    assert _closed(run, tmp_path) == []


def both(x: Any, y: int) -> int:
    RAN.append(y)
    return len(x) + y


def test_a_result_that_draws_in_its_second_attempt(run: Run, tmp_path: Path) -> None:
    """Each report of a chunk files its results by their places, once."""
    executor = run(seed=1).with_options(retries=1)
    first = list(executor.map(draw_late, range(4), chunksize=4))
    assert RAN == [0, 1, 2, 3, 3]
    assert list(run(seed=1).map(draw_late, range(4))) == first
    assert RAN == []
    other = run(seed=2).with_options(retries=1)
    assert set(other.map(draw_late, range(4))).isdisjoint(first)
    assert set(RAN) == {0, 1, 2, 3}


def draw_late(x: int) -> float:
    RAN.append(x)
    if x == 3 and RAN.count(3) < 2:
        raise OSError
    return float(mpitasks.rng().random())


def test_what_was_drawn_of_given_keys(run: Run, tmp_path: Path) -> None:
    def draws(items: list[int], **options: Any) -> list[float]:
        executor = run(**options).with_options(key=lambda x: f"item {x}")
        return list(executor.map(draw, items, chunksize=2))

    first = draws([0, 1, 2], seed=1)
    assert draws([0, 1, 2], seed=1) == first
    assert RAN == []
    assert draws([0, 2, 1], seed=1)[0] == first[0]
    assert sorted(RAN) == [1, 2]
    assert {row.name for row in _closed(run, tmp_path)} == {f"item {n}" for n in "012"}


def test_a_failing_item_without_a_key(run: Run, tmp_path: Path) -> None:
    view = dict.fromkeys("ab").keys()
    executor = run().with_options(return_exceptions=True)
    found = list(executor.map(reversed_sum, [[1, 2], view, [3]], chunksize=1))
    assert (found[0], type(found[1]), found[2]) == (3, TypeError, 3)
    assert len(_closed(run, tmp_path)) == 2


def reversed_sum(x: Any) -> int:
    RAN.append(x)
    return int(sum(x[::-1]))


def test_what_comes_twice_is_not_recorded_again() -> None:
    done = Outcomes(1, 1, [5, 6], [], [], [1.0, 2.0], {}, [5])
    # Nobody waits for it any more.
    listen(0.0, done, [Complete([None, None])])
    result = Result(1, 7, 0, 0.1, 0, PLAIN, 1.0)
    listen(0.0, result, [Complete([None])])


def test_only_what_was_drawn_is_filed_by_its_place(run: Run) -> None:
    def calls(**options: Any) -> list[float]:
        executor = run(**options)
        assert executor.submit(draw_if_odd, 100).result() == 0.0
        futures = [executor.submit(draw_if_odd, n) for n in range(40)]  # in batches
        return [future.result() for future in futures]

    first = calls(seed=1)
    assert calls(seed=1) == first
    assert RAN == []
    other = calls(seed=2)
    assert sorted(RAN) == list(range(1, 40, 2))
    assert other[::2] == first[::2]
    assert set(other[1::2]).isdisjoint(first)


def draw_if_odd(x: int) -> float:
    RAN.append(x)
    return float(mpitasks.rng().random()) if x % 2 else 0.0


class Waiter:
    """Is 1. It is pickled once a future is done; the journal tells its key before."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def __reduce_ex__(self, protocol: Any) -> Any:
        if protocol == 5:
            assert self.future.exception(20.0) is None
        return int, (1,)


def plus(x: float, y: int) -> float:
    RAN.append("plus")
    return x + y


def test_an_input_that_draws_after_its_item_was_looked_up(run: Run) -> None:
    """Only then is it known that the item's result is for this seed alone."""
    for seed in (1, 2, 1):
        executor = run(seed=seed)
        drawn = executor.submit(draw, 0)
        results = executor.starmap(plus, [(drawn, Waiter(drawn))])
        assert list(results) == [drawn.result() + 1]
