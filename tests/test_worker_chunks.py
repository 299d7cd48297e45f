"""Chunks on the worker: each item succeeds or fails for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import (
    SerializationError,
)
from mpitasks.wire.codec import THRESHOLD, Unsendable
from mpitasks.wire.messages import (
    LIST,
    STARMAP,
    STARMAP_PLAIN,
)
from working import (
    WHERE,
    BreaksOnArrival,
    Master,
    chunk,
    double,
    error_of,
    framed_chunk,
    run,
)


def test_a_chunk_of_plain_items() -> None:
    master = Master()
    master.send(chunk(0, double, [1, "a", 2.5]))
    assert master.serve() == {0: [2, "aa", 5.0]}
    assert master.replies[0].forms == {0: (LIST, 0)}


def test_a_chunk_of_plain_arguments() -> None:
    outcomes = run(chunk(0, divmod, [(7, 2), (9, 4)], STARMAP_PLAIN))
    assert outcomes[0] == [(3, 1), (2, 1)]


def test_a_chunk_of_any_items() -> None:
    large = np.arange(float(THRESHOLD))
    outcomes = run(
        framed_chunk(0, np.sum, [[1, 2], large, [3], large * 2]),
        framed_chunk(1, divmod, [(7, 2), (9, 4)], STARMAP),
    )
    assert outcomes[0] == [3, large.sum(), 3, large.sum() * 2]
    assert outcomes[1] == [(3, 1), (2, 1)]


@pytest.mark.parametrize("make", [chunk, framed_chunk])
@pytest.mark.parametrize("bad", [{0}, {2}, {4}, {1, 2}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize(
    "kind", [ValueError, StopIteration, SystemExit, KeyboardInterrupt]
)
def test_a_bad_item_fails_alone(
    make: Callable[..., Any], bad: set[int], kind: type[BaseException]
) -> None:
    def odd(x: int) -> int:
        if x in bad:
            raise kind
        return x * 2

    values = run(make(0, odd, [0, 1, 2, 3, 4]))[0]
    assert len(values) == 5
    for at, value in enumerate(values):
        if at in bad:
            assert type(error_of(value)) is kind
        else:
            assert value == at * 2


def test_an_item_that_cannot_be_unpickled_fails_alone() -> None:
    items = [[1], BreaksOnArrival(), [2]]
    values = run(framed_chunk(0, double, items))[0]
    assert (values[0], values[2]) == ([1, 1], [2, 2])
    assert f"an item cannot be unpickled on {WHERE}" in str(error_of(values[1]))


def test_an_item_that_could_not_be_pickled_fails_alone() -> None:
    error = SerializationError("item 1 cannot be pickled")
    values = run(framed_chunk(0, double, [[1], Unsendable(error), [2]]))[0]
    assert (values[0], values[2]) == ([1, 1], [2, 2])
    assert type(error_of(values[1])) is SerializationError
    assert str(error_of(values[1])) == "item 1 cannot be pickled"


def test_an_item_whose_result_cannot_be_pickled_fails_alone() -> None:
    def lock_if(x: int) -> Any:
        return threading.Lock() if x == 1 else x

    values = run(chunk(0, lock_if, [0, 1, 2]))[0]
    assert (values[0], values[2]) == (0, 2)
    assert type(error_of(values[1])) is SerializationError
