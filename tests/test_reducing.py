"""How a reduction is divided: by the numbers of the items, and nothing else."""

from __future__ import annotations

import concurrent.futures
import operator
from collections.abc import Iterator
from typing import Any

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.api.reducing import LEAVES, WIDTH, Tree, _leaves


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(1)
    yield hands
    hands.close()


def tree_of(count: int) -> str:
    """Return how so many values are combined, in brackets."""

    def combine(parts: list[Any]) -> Any:
        return "(" + " ".join(map(str, parts)) + ")"

    tree = Tree(combine)
    for number in range(count):
        tree.add(number)
    return combine(tree.parts())


@pytest.mark.parametrize("count", [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 5 * WIDTH**2 + 7])
def test_every_value_counts_once_and_in_order(count: int) -> None:
    shown = tree_of(count)
    numbers = shown.replace("(", "").replace(")", "").split()
    assert numbers == [str(number) for number in range(count)]


def test_more_values_change_nothing_in_full_branches() -> None:
    full = tree_of(WIDTH**2)[1:-1]
    assert full.count("(") == WIDTH + 1
    assert full in tree_of(3 * WIDTH**2 + 5)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("count", [0, 1, LEAVES, LEAVES + 1, 3 * LEAVES + 5, 40_000])
def test_leaves_grow_with_their_number(count: int, lazy: bool) -> None:
    items = range(count)
    leaves = list(_leaves(iter(items) if lazy else items))
    assert [item for leaf in leaves for item in leaf] == list(items)
    sizes = [len(leaf) for leaf in leaves]
    wanted = [2 ** (number // LEAVES) for number in range(len(sizes))]
    assert sizes[:-1] == wanted[:-1]
    assert not sizes or sizes[-1] <= wanted[-1]


def test_what_an_iterator_yields_again_was_copied() -> None:
    def source() -> Iterator[list[int]]:
        buffer = [0]
        for buffer[0] in range(LEAVES + 10):
            yield buffer

    leaves = _leaves(source())
    seen = [[item[0] for item in leaf] for leaf in leaves]
    assert [n for leaf in seen for n in leaf] == list(range(LEAVES + 10))


def test_bad_arguments(hands: Hands) -> None:
    executor = Executor()
    with pytest.raises(TypeError, match="op must be a function"):
        executor.map_reduce(abs, [1])
    with pytest.raises(ValueError, match="exact=True is for sums"):
        executor.map_reduce(abs, [1], operator.mul, exact=True)
    with pytest.raises(TypeError, match="no items"):
        executor.map_reduce(abs, [], operator.add)
    with pytest.raises(TypeError, match="no values"):
        executor.reduce(operator.add, [])
    with pytest.raises(TypeError):
        executor.map_reduce(abs, 5, operator.add)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nonsense"):
        executor.map_reduce(abs, [1], operator.add, nonsense=1)


def test_what_is_not_begun_is_cancelled_after_an_error(hands: Hands) -> None:
    executor = Executor()

    def source() -> Iterator[int]:
        yield from range(5)
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        executor.map_reduce(abs, source(), operator.add)
    hands.event_loop.nudge()
    counts = hands.event_loop.statistics()
    assert counts.queued == 0
    assert counts.cancelled >= 3


def test_a_timeout(hands: Hands) -> None:
    executor = Executor()
    with pytest.raises(concurrent.futures.TimeoutError):
        executor.map_reduce(abs, range(50), operator.add, timeout=0.01)
    assert hands.event_loop.statistics().queued == 0
