"""NumPy arrays and scalars as canonical bytes. Imports NumPy.

An array is its type, dtype, shape, order and elements, as it arrives at a worker: in C
order, unless it is contiguous in Fortran's order only; writable, whether it is or not.
Padding counts for nothing: in structures, whose fields are taken one by one, and in a
longdouble, which fills 10 of its 16 bytes on most processors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpitasks.master.journal.objects import walk_object

if TYPE_CHECKING:
    from mpitasks.master.journal.walk import Walker

__all__ = ["walk_numpy"]

_BYTE_KINDS = "biufcmMSUV"

_EXTENDED = 63
"""Bits of the mantissa of a longdouble that has 10 bytes, whatever it fills."""


def walk_numpy(walker: Walker, value: Any) -> bool:
    """Write `value` if it is an array or a scalar; return whether it is.

    Those that hold more than an array does are not written: they pickle by themselves.
    """
    kind: Any = type(value)
    if isinstance(value, np.dtype):
        walker.tag("dtype")
        _dtype(walker, value)
        return True
    if isinstance(value, np.generic):
        if value.dtype.hasobject or kind is not value.dtype.type:
            return False
        walker.tag("scalar")
        _dtype(walker, value.dtype)
        _elements(walker, np.asarray(value))
        return True
    if (
        not isinstance(value, np.ndarray)
        or kind.__reduce__ is not np.ndarray.__reduce__
    ):
        return False
    if walker.again(value):
        return True
    walker.tag("array")
    walker.walk(kind)
    bare = value.view(np.ndarray)
    _dtype(walker, bare.dtype)
    walker.walk(bare.shape)
    if bare.flags.f_contiguous and not bare.flags.c_contiguous:
        walker.tag("F")
        bare = bare.T
    _elements(walker, bare)
    return True


def _dtype(walker: Walker, dtype: Any) -> None:
    """Write a dtype, whose identity nobody asks for."""
    if dtype.metadata is not None:
        walker.tag("metadata")
        walker.pairs(b"=", list(dtype.metadata.items()))
    if dtype.fields:
        walker.tag(f"fields {dtype.itemsize} {dtype.isalignedstruct}")
        walker.walk(dtype.type)
        for name in dtype.names:
            field, offset, *title = dtype.fields[name]
            walker.walk((name, offset))
            walker.items(b"(", title)
            _dtype(walker, field)
        walker.tag("end")
    elif dtype.subdtype is not None:
        walker.walk(dtype.shape)
        _dtype(walker, dtype.base)
    elif dtype.kind in _BYTE_KINDS or dtype.kind == "O":
        walker.walk((dtype.str, dtype.type.__name__))
    else:
        walk_object(walker, dtype)


def _elements(walker: Walker, array: Any) -> None:
    """Write the elements, in C order."""
    dtype = array.dtype
    if dtype.fields:
        for name in dtype.names:
            _elements(walker, array[name])
    elif dtype.hasobject or dtype.kind not in _BYTE_KINDS:
        for item in array.ravel(order="C").tolist():
            walker.walk(item)
    else:
        if dtype.char in "gG":
            array = _significant(array)
        own = np.ascontiguousarray(array).reshape(-1)
        walker.data(b"", own.view("u1").data if own.nbytes else b"")


def _significant(array: Any) -> Any:
    """Return the bytes of long doubles that mean something."""
    own = array.astype(array.dtype.newbyteorder("=")).reshape(-1).view(np.longdouble)
    parts = own.view("u1").reshape(own.size, own.itemsize)
    return parts[:, :10] if np.finfo(np.longdouble).nmant == _EXTENDED else parts
