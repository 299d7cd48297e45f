"""What workers do of a reduction: the order, arrays in place, sums without rounding."""

from __future__ import annotations

import math
import operator
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpitasks.reduction import (
    Exact,
    combine,
    combine_exactly,
    leaf,
    leaf_exactly,
    rounded,
)
from mpitasks.wire import codec

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def test_values_are_combined_from_left_to_right() -> None:
    assert combine(operator.add, "a", "b", "c") == "abc"
    assert leaf(str, operator.add, [1, 2, 3]) == "123"
    assert leaf(str, operator.add, [1]) == "1"


def test_one_value_is_not_combined() -> None:
    value = object()
    assert combine(operator.add, value) is value


@pytest.mark.parametrize("op", [np.add, np.maximum, np.multiply, operator.add])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "c16", "u1", "?"])
def test_arrays_are_combined_as_the_operation_does(op: Any, dtype: str) -> None:
    rng = np.random.default_rng(1)
    parts = [(rng.random(7) * 100).astype(dtype) for _ in range(9)]
    kept = [part.copy() for part in parts]
    wanted = parts[0]
    for part in parts[1:]:
        wanted = op(wanted, part)
    got = combine(op, *parts)
    assert got.dtype == wanted.dtype
    assert got.tobytes() == wanted.tobytes()
    assert [part.tobytes() for part in parts] == [part.tobytes() for part in kept]


def test_an_operation_with_results_of_another_type() -> None:
    parts = [np.arange(5, dtype=np.int32) + n for n in range(4)]
    wanted = ((parts[0] / parts[1]) / parts[2]) / parts[3]
    assert combine(np.true_divide, *parts).tobytes() == wanted.tobytes()
    truths = [np.array([n % 2, 1.0]) for n in range(4)]
    got = combine(np.less, *truths)
    assert (
        got.tobytes()
        == np.less(np.less(np.less(*truths[:2]), truths[2]), truths[3]).tobytes()
    )


def test_memory_is_used_again() -> None:
    parts = [np.ones(100_000) for _ in range(10)]
    tracemalloc.start()
    total = combine(np.add, *parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total[0] == 10.0
    assert peak < 1.5 * total.nbytes


def test_an_array_of_a_class_of_its_own_is_not_written_to() -> None:
    class Own(np.ndarray):  # type: ignore[type-arg]
        pass

    parts = [np.ones(4).view(Own) for _ in range(3)]
    total = combine(np.add, *parts)
    assert type(total) is Own
    assert total.tolist() == [3.0] * 4
    assert [part.tolist() for part in parts] == [[1.0] * 4] * 3


def test_a_function_that_returns_one_buffer_again_and_again() -> None:
    buffer = np.zeros(3)

    def fill(n: int) -> Any:
        buffer[:] = n
        return buffer

    # As the script has it: the second value is the first one.
    plain = fill(1)
    wanted = np.add(plain, fill(2))
    assert leaf(fill, np.add, [1, 2]).tolist() == wanted.tolist()


@given(st.lists(NUMBERS, min_size=1), st.integers(1, 5))
def test_exact_sums_are_those_of_fsum(values: list[float], width: int) -> None:
    total = sum(map(Fraction, values))
    parts = [
        leaf_exactly(float, values[at : at + width])
        for at in range(0, len(values), width)
    ]
    try:
        wanted = float(total)
    except OverflowError:
        with pytest.raises(OverflowError):
            rounded(*parts)
        return
    assert rounded(combine_exactly(*parts)) == wanted
    if all(abs(value) < 1e300 for value in values):
        assert wanted == math.fsum(values)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_exact_sums_of_arrays_go_by_element(rows: list[tuple[float, float]]) -> None:
    rows = [(a / 1e10, b / 1e10) for a, b in rows]
    got = rounded(*[np.array([row]) for row in rows])
    wanted = [[math.fsum(column) for column in zip(*rows, strict=True)]]
    assert got.dtype == np.float64
    assert got.tolist() == wanted


def test_exact_sums_of_other_numbers() -> None:
    assert rounded(1, True, np.int8(2), np.float32(0.5), 2**60) == 2**60 + 4.5
    assert rounded(np.arange(3), 1).tolist() == [1.0, 2.0, 3.0]
    assert rounded(5e-324, 5e-324) == 1e-323
    assert type(rounded(1)) is float


def test_what_is_not_finite() -> None:
    assert rounded(1.0, math.inf) == math.inf
    assert math.isnan(rounded(math.inf, -math.inf))
    assert math.isnan(rounded(math.nan, 1.0))
    got = rounded(np.array([1.0, math.inf, math.nan]), np.array([0.5, 1.0, 1.0]))
    assert got[:2].tolist() == [1.5, math.inf]
    assert math.isnan(got[2])


@pytest.mark.parametrize("value", [1j, "x", np.longdouble(1), np.ones(2, "c8"), None])
def test_what_has_no_exact_sum(value: Any) -> None:
    with pytest.raises(TypeError, match="an exact sum is one of real numbers"):
        Exact([value])


def test_the_mask_of_an_array_is_not_ignored() -> None:
    with pytest.raises(TypeError, match="arrays of them"):
        Exact([np.ma.array([1.0, 2.0], mask=[0, 1])])


@pytest.mark.parametrize("way", [leaf_exactly, lambda f, x: leaf(f, operator.add, x)])
def test_a_function_that_raises_stop_iteration_ends_nothing(way: Any) -> None:
    def odd(n: int) -> int:
        if n == 2:
            raise StopIteration
        return n

    with pytest.raises(RuntimeError, match="StopIteration"):
        way(odd, [1, 2, 3])


def test_an_exact_sum_can_be_sent() -> None:
    sent = codec.decode(*codec.encode(Exact([0.1, np.ones(2)]), "it"))
    assert rounded(sent).tolist() == [1.1, 1.1]
