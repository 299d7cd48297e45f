"""`map_into`: results of a map as rows of an array that the script has.

The task itself makes a row of what the function returns, of the array's own type, so
rank 0 copies bytes and converts nothing. What does not fit fails its item, and its row
stays as it was.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mpitasks.row import row_of

if TYPE_CHECKING:
    import numpy as np

__all__ = ["check_array", "check_inputs", "counted", "fill", "row_function"]

Array = Any


def check_array(out: Any) -> Array:
    """Return the array, if rows can be written to it.

    Raises:
        TypeError: It is no array, or one of Python objects.
        ValueError: It is read-only, has no rows, or is not contiguous in C order.
    """
    np = sys.modules.get("numpy")
    if np is None or not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, not a {type(out).__name__}")
    if out.dtype.hasobject:
        raise TypeError("out has Python objects; use map for these")
    if not out.ndim:
        raise ValueError("out has no rows: it has no dimension")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if not out.flags.c_contiguous:
        raise ValueError("out must be contiguous, in C order")
    return out


def check_inputs(out: Array, iterables: Iterable[Any], *, lazy: bool) -> None:
    """Raise if the inputs do not fit the array.

    Args:
        out: The array.
        iterables: Where the items come from.
        lazy: Whether items are taken while rows are written.

    Raises:
        ValueError: There are more or fewer items than rows; or rows would be written
            over items that are not taken yet.
    """
    np = sys.modules["numpy"]
    sizes = [len(each) for each in iterables if hasattr(type(each), "__len__")]
    if sizes and min(sizes) != len(out):
        raise ValueError(f"{min(sizes)} items for {len(out)} rows of out")
    for each in iterables:
        if lazy and isinstance(each, np.ndarray) and np.may_share_memory(each, out):
            raise ValueError(
                "an input shares its memory with out: leave buffersize away, so that "
                "all items are taken first, or pass a copy"
            )


def counted(items: Iterator[Any], rows: int) -> Iterator[Any]:
    """Yield the items.

    Raises:
        ValueError: There are more or fewer of them than rows.
    """
    count = 0
    for item in items:
        if count == rows:
            raise ValueError(f"there are more items than the {rows} rows of out")
        count += 1
        yield item
    if count < rows:
        raise ValueError(f"{count} items for {rows} rows of out")


def row_function(fn: Callable[..., Any], out: Array) -> Callable[..., Any]:
    """Return the function that makes rows of the array."""
    return functools.partial(row_of, fn, out.dtype, out.shape[1:])


def fill(
    out: Array, results: Iterable[tuple[int, np.ndarray]]
) -> Generator[int, None, None]:
    """Write rows as they come; yield the number of each."""
    for index, row in results:
        out[index] = row
        yield index
