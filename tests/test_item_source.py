"""Items on their way from the user's iterable: taken, pickled, held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from mpitasks.master.argument_memory import ArgumentMemory
from mpitasks.master.functions import Functions
from mpitasks.master.item_source import END, PACKED_AT_ONCE, ItemSource, Packed
from mpitasks.wire import codec
from mpitasks.wire.codec import THRESHOLD


class Full(ArgumentMemory):
    """Has no room until somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[bool] = []

    def has_room(self, nbytes: int) -> bool:
        return False

    def make_room(self, nbytes: int, given_up: Any) -> None:
        self.waited.append(given_up())


def make(
    iterable: Iterable[Any], memory: ArgumentMemory | None = None, *, star: bool = False
) -> ItemSource:
    """Return a source."""
    return ItemSource(
        iterable,
        Functions().register(abs),
        star=star,
        argument_memory=memory or ArgumentMemory(),
    )


def take(source: ItemSource, limit: int | None = None, position: int = 0) -> list[Any]:
    """Take items; what was pickled is shown as it was then."""
    fresh = source.take(limit, position, lambda: False)
    return [
        codec.decode(item.frame, [bytearray(part) for part in item.buffers])
        if type(item) is Packed
        else item
        for item in fresh
    ]


def test_what_can_change_is_pickled_before_the_next_is_asked_for() -> None:
    def source() -> Any:
        buffer = [0]
        for buffer[0] in range(3):
            yield buffer

    items = make(source())
    assert take(items) == [[0], [1], [2]]
    assert (items.has_packed, items.is_exhausted) == (True, True)


def test_what_cannot_change_is_not_pickled() -> None:
    items = make(iter([1, "x", None, 2.0]))
    assert take(items) == [1, "x", None, 2.0]
    assert (items.has_packed, items.is_exhausted) == (False, True)


@pytest.mark.parametrize("kinds", ["ss", "pp", "sp", "ps"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5, None])
def test_all_kinds_are_taken_in_order_and_never_more_than_wanted(
    kinds: str, limit: int | None
) -> None:
    wanted = [n if kind == "s" else [n] for n, kind in enumerate(kinds * 4)]
    items = make(iter(wanted))
    taken: list[Any] = []
    while not items.is_exhausted:
        part = take(items, limit, len(taken))
        assert limit is None or len(part) <= limit
        taken += part
    assert taken == wanted


def test_workers_get_what_there_is_before_all_is_pickled() -> None:
    items = make([[n] for n in range(PACKED_AT_ONCE + 3)])
    assert len(take(items)) == PACKED_AT_ONCE
    assert not items.is_exhausted
    assert len(take(items)) == 3
    assert items.is_exhausted


def test_an_array_without_room_is_held_while_others_can_be_sent() -> None:
    memory = Full()
    array = np.arange(float(THRESHOLD))
    items = make([[1], array, [2]], memory)
    assert take(items) == [[1]]
    assert items.is_holding
    assert memory.waited == []
    first, second = take(items)
    assert np.array_equal(first, array)
    assert second == [2]
    assert memory.waited == [False]
    assert not items.is_holding


def test_items_can_be_taken_one_by_one() -> None:
    items = make([1, 2])
    assert [items.next_item() for _ in range(4)] == [1, 2, END, END]
    assert items.is_exhausted


def test_a_range_is_taken_whole_unless_some_of_it_was_taken() -> None:
    assert make([1]).take_range() is None
    items = make(range(5))
    assert items.take_range() == range(5)
    assert items.is_exhausted
    begun = make(range(5))
    assert take(begun, 2) == [0, 1]
    assert begun.take_range() is None
    assert take(begun, 9) == [2, 3, 4]


def test_a_closed_source_lets_go_of_all() -> None:
    items = make([np.arange(float(THRESHOLD))] * 2, Full())
    items.hold(items.next_item(), 0)
    items.close()
    assert (items.is_exhausted, items.is_holding) == (True, False)
    assert items.next_item() is END
