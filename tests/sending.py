"""What the tests of the codec share."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpitasks.wire.codec import decode, encode


def send(value: Any) -> Any:
    """Return what arrives of a value: buffers are copied on the way, as over MPI."""
    frame, buffers = encode(value, "it")
    return decode(frame, [bytearray(buffer) for buffer in buffers])


def assert_same(again: np.ndarray[Any, Any], array: np.ndarray[Any, Any]) -> None:
    """Assert that an array arrived: equal, of the same kind, writable, elsewhere."""
    assert type(again) is type(array)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert_equal(again, array)
    assert again.flags.writeable
    assert not array.nbytes or not np.may_share_memory(again, array)


def assert_equal(again: np.ndarray[Any, Any], array: np.ndarray[Any, Any]) -> None:
    """Assert that two arrays are equal bit by bit, but for padding."""
    if array.dtype.names is not None:
        for name in array.dtype.names:
            assert_equal(again[name], array[name])
    elif array.dtype.hasobject or array.dtype.kind == "T":
        assert again.tolist() == array.tolist()
    else:
        assert again.tobytes() == array.tobytes()
