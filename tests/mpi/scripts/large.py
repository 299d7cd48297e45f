"""Sends an array of so many bytes to a worker and back. Usage: large.py BYTES."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import mpitasks as mt


def stamp(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Task: change both ends and the middle, and return all of it."""
    assert values[-1] == 7
    values[:: values.size // 2] = 1
    values[-1] = 9
    return values


def main() -> None:
    """Send it, and look at what comes back."""
    values = np.zeros(int(sys.argv[1]), np.uint8)
    values[-1] = 7
    with mt.Executor() as executor:
        back = executor.submit(stamp, values).result()
    assert back.shape == values.shape
    assert back.dtype == values.dtype
    assert back[0] == back[back.size // 2] == 1
    assert np.count_nonzero(back) == 3
    assert np.count_nonzero(values) == 1
    print("back and right")


if __name__ == "__main__":
    main()
