"""What workers do of a reduction: apply a function to some items, and combine values.

The functions here are what `Executor.map_reduce` and `Executor.reduce` submit. They do
not know how the items were divided: that is decided in `mpitasks.api.reducing`, by the
numbers of the items alone, so that the bits of the result depend on nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["Exact", "combine", "combine_exactly", "leaf", "leaf_exactly", "rounded"]

Op = Callable[[Any, Any], Any]

_LOWEST = 1074
"""A double is a multiple of 2 to the power of minus this."""


def leaf(function: Callable[[Any], Any], op: Op, items: Iterable[Any]) -> Any:
    """Return the values of a function for some items, combined from left to right."""
    return _fold(op, _values(function, items))


def combine(op: Op, *parts: Any) -> Any:
    """Return values combined from left to right."""
    return _fold(op, iter(parts))


def leaf_exactly(function: Callable[[Any], Any], items: Iterable[Any]) -> Exact:
    """Return the exact sum of the values of a function for some items."""
    return Exact(_values(function, items))


def combine_exactly(*parts: Any) -> Exact:
    """Return the exact sum of numbers, arrays and exact sums."""
    return Exact(parts)


def rounded(*parts: Any) -> Any:
    """Return the sum of numbers, arrays and exact sums, rounded once."""
    return Exact(parts).value()


def _values(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Yield what a function returns; unlike `map`, none of it ends by StopIteration.

    Raises:
        RuntimeError: The function raises StopIteration.
    """
    for item in items:
        yield function(item)


def _fold(op: Op, values: Iterator[Any]) -> Any:
    """Combine values. Arrays of one kind are combined in place from the second on."""
    np = sys.modules.get("numpy")
    total = next(values)
    in_place = False  # whether `total` is an array that nobody else can have
    for value in values:
        if in_place and _alike(np, total, value):
            try:
                op(total, value, out=total, casting="equiv")  # type: ignore[call-arg]
                continue
            except TypeError:  # its results are of another type than that
                in_place = False
        total = op(total, value)
        np = np or sys.modules.get("numpy")
        kind: Any = op
        in_place = np is not None and type(op) is np.ufunc and kind.nout == 1
    return total


def _alike(np: Any, total: Any, value: Any) -> bool:
    """Whether two values are arrays of the same shape and type."""
    return (
        type(total) is np.ndarray
        and type(value) is np.ndarray
        and total.dtype == value.dtype
        and total.shape == value.shape
    )


class Exact:
    """A sum of doubles without rounding: an integer, in units of the least double.

    Sums of arrays go by element. What is infinite or no number is summed beside, as
    doubles are.

    Args:
        values: Numbers, arrays, or exact sums.

    Raises:
        TypeError: A value is neither a real number of at most 64 bits, an integer, nor
            an array of these.
    """

    __slots__ = ("special", "total")

    def __init__(self, values: Iterable[Any]) -> None:
        self.total: Any = 0
        self.special: Any = 0.0
        for value in values:
            if type(value) is Exact:
                total, special = value.total, value.special
            else:
                total, special = _exactly(value)
            self.total = self.total + total
            self.special = _sum(self.special, special)

    def value(self) -> Any:
        """Return the sum, correctly rounded: a float, or an array of doubles.

        Raises:
            OverflowError: A sum of finite numbers is larger than the largest double.
        """
        if type(self.total) is int:
            if self.special != 0:  # inf or nan
                return float(self.special)
            return self.total / (1 << _LOWEST)
        import numpy as np

        finite = np.frompyfunc(lambda n: n / (1 << _LOWEST), 1, 1)(self.total)
        special = np.broadcast_to(self.special, finite.shape)
        return np.where(special != 0, special, finite.astype(np.float64))


def _sum(one: Any, other: Any) -> Any:
    """Return a sum of doubles; of inf and -inf it is nan, without a warning."""
    np = sys.modules.get("numpy")
    if np is None:
        return one + other
    with np.errstate(invalid="ignore"):
        return one + other


def _exactly(value: Any) -> tuple[Any, Any]:
    """Return a number, or an array, in units, and what of it is not finite."""
    if isinstance(value, int):
        return int(value) << _LOWEST, 0.0
    if isinstance(value, float):
        return _units(float(value))
    import numpy as np

    if isinstance(value, (np.integer, np.bool_)):
        return int(value) << _LOWEST, 0.0
    if isinstance(value, np.floating) and value.dtype.itemsize <= 8:
        return _units(float(value))
    array = np.asarray(value)
    if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"an exact sum is one of real numbers of at most 64 bits, or of arrays "
            f"of them, not of a {type(value).__name__}"
        )
    if array.dtype.kind in "biu":
        ints = array.astype(object)
        return ints * (1 << _LOWEST), 0.0
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        units: Any = np.frompyfunc(_units, 1, 2)
        total, special = units(array.astype(np.float64))
        return total, np.asarray(special, np.float64)
    raise TypeError(
        f"an exact sum is one of real numbers of at most 64 bits, or of arrays of "
        f"them, not of a {type(value).__name__} of {array.dtype}"
    )


def _units(number: float) -> tuple[int, float]:
    try:
        numerator, denominator = number.as_integer_ratio()
    except (ValueError, OverflowError):  # nan, inf
        return 0, number
    return numerator * ((1 << _LOWEST) // denominator), 0.0
