"""What workers do of a `map_into`: make a row of what a function returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["row_of"]


_NUMBERS = "?bhilqBHILQefdFD"
"""Types of which Python's own numbers have each value."""


def row_of(
    function: Callable[..., Any], dtype: Any, shape: tuple[int, ...], *args: Any
) -> Any:
    """Return what a function returns, as an array of that type and shape.

    Raises:
        ValueError: It has another shape.
        TypeError: It cannot be converted without a loss, as NumPy's rule "safe" has it.
    """
    import numpy as np

    value = np.asarray(function(*args))
    if value.shape != shape:
        raise ValueError(f"the result has the shape {value.shape}, and a row {shape}")
    if not np.can_cast(value.dtype, dtype, "safe"):
        raise TypeError(f"the result is of {value.dtype}, and rows are of {dtype}")
    row = np.ascontiguousarray(value, dtype).reshape(shape)
    if not shape and dtype.char in _NUMBERS:
        return row.item()  # which travels faster, and is the same number
    return row
