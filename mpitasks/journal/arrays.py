"""NumPy arrays and scalars as canonical bytes. Imports NumPy.

An array is its type, dtype, shape, order and elements, as it arrives at a worker: in C
order, unless it is contiguous in Fortran's order only; writable, whether it is or not.
Padding counts for nothing: in structures, whose fields are taken one by one, and in a
longdouble, which fills 10 of its 16 bytes on most processors.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from mpitasks.journal.objects import walk_object
from mpitasks.journal.structures import LONG_BYTES

if TYPE_CHECKING:
    from mpitasks.journal.walk import Walker

__all__ = ["walk_numpy"]

_BYTE_KINDS = "biufcmMSUV"


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
    if _is_masked(value):
        _masked(walker, value)
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


def _is_masked(value: Any) -> bool:
    """Whether a value is a masked array that pickles as bytes: with its padding."""
    ma: Any = sys.modules.get("numpy.ma")
    if ma is None or not isinstance(value, ma.MaskedArray) or value.dtype.hasobject:
        return False
    kind: Any = type(value)
    return all(
        getattr(kind, name) is getattr(ma.MaskedArray, name)
        for name in ("__new__", "__reduce__", "__getstate__")
    )


def _masked(walker: Walker, value: Any) -> None:
    """Write a masked array: data, mask, and what stands for what is masked."""
    if walker.again(value):
        return
    walker.tag("masked")
    walker.walk(type(value))
    walker.walk(value.baseclass)
    # A view is asked, since who is asked for the default takes it for its own.
    filling = np.array(value.view().fill_value, value.dtype)
    for part in (value.data, np.ma.getmaskarray(value), filling):
        walker.walk(part)


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
    return parts[:, :LONG_BYTES]
