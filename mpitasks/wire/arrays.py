"""How NumPy arrays are taken apart and put together again. Imports NumPy.

NumPy's own pickling is close to what is wanted, but loses three things on the
way: a read-only array stays read-only, datetime arrays and masked arrays are
copied into the frame, and small arrays cost a dtype object each. The reducers
here hand every array over as (buffer, dtype, shape, order), whose buffer travels
out of band when it is large (PEP 574), and `rebuild` makes a writable array on
top of whatever buffer arrives, without a copy.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

__all__ = ["REDUCERS", "Writable", "rebuild", "rebuild_masked"]

# Kinds whose dtype is told by its short string: numbers, bytes, text, dates.
_SIMPLE_KINDS = frozenset("biufcmMSU")


class Writable:
    """The memory of a read-only array, offered as writable; keeps the array alive.

    `pickle` marks buffers of read-only arrays so that they arrive read-only. The
    receiver has its own copy, so that mark serves nobody. Nobody writes here.

    Attributes:
        array: The array.
    """

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.base = array  # as an array's: whose memory it is


def rebuild(
    buffer: Any, dtype: Any, shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray[Any, Any]:
    """Return the array that `_reduce_array` took apart, on top of `buffer`.

    Args:
        buffer: At least as many writable bytes as the array needs.
        dtype: A dtype or its string.
        shape: Dimensions.
        order: "C" or "F".
    """
    return np.ndarray(shape, dtype, buffer, order=order)


def rebuild_masked(
    data: np.ndarray[Any, Any], mask: Any, fill_value: Any, hard: bool
) -> np.ma.MaskedArray[Any, Any]:
    """Return the masked array that `_reduce_masked` took apart."""
    return np.ma.MaskedArray(
        data, mask=mask, fill_value=fill_value, hard_mask=hard, copy=False
    )


def _reduce_array(array: np.ndarray[Any, Any]) -> Any:
    dtype = array.dtype
    if dtype.kind in _SIMPLE_KINDS and dtype.metadata is None:
        described: Any = dtype.str
    elif dtype.kind == "V" and not dtype.hasobject:
        described = dtype
    else:  # objects, StringDType and what else NumPy may grow
        return array.__reduce_ex__(2)
    flags = array.flags
    order = "C"
    if flags.c_contiguous:
        flat = array
    elif flags.f_contiguous:
        order = "F"
        flat = array.T
    else:
        flat = np.ascontiguousarray(array)
    if not flat.flags.writeable:
        flat = np.asarray(Writable(flat))
    raw: Any = flat.reshape(-1).view(np.uint8) if flat.nbytes else bytearray(0)
    return rebuild, (pickle.PickleBuffer(raw), described, array.shape, order)


def _reduce_masked(array: np.ma.MaskedArray[Any, Any]) -> Any:
    mask: Any = False if array.mask is np.ma.nomask else array.mask
    fill_value = array._fill_value  # type: ignore[attr-defined]
    state = (np.asarray(array.data), mask, fill_value, array.hardmask)
    return rebuild_masked, state


REDUCERS: dict[type, Callable[[Any], Any]] = {
    np.ndarray: _reduce_array,
    np.ma.MaskedArray: _reduce_masked,
}
