"""Arrays of any kind arrive equal and writable; large ones travel without a copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mpitasks.wire.codec import THRESHOLD, decode, encode
from sending import assert_same, send

Array = np.ndarray[Any, Any]

LARGE = (THRESHOLD // 8 + 3,)
RECORD = np.dtype([("a", "<i4"), ("b", "<f8", (2, 3)), ("c", "U5"), ("d", "M8[us]")])
PADDED = np.dtype({"names": ["x", "y"], "formats": ["i1", "f8"], "offsets": [1, 16]})

DTYPES: list[Any] = [
    *"?bBhHiIlLqQefdgFDG",
    ">i4",
    ">f8",
    "M8[ns]",
    "M8[D]",
    "m8[s]",
    ">M8[us]",
    "S7",
    "U3",
    ">U3",
    "V6",
    "O",
    RECORD,
    PADDED,
    np.dtype([("o", "O"), ("i", "i4")]),
    np.dtype([("n", [("m", "f4")]), ("t", "?")], align=True),
]


def make(dtype: Any, shape: tuple[int, ...] = (6, 4)) -> Any:
    """Return an array of the dtype, whose items differ as far as they can."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape))
    if kind.hasobject and kind.names is None:
        items = np.empty(count, object)
        items[:] = [("item", at) for at in range(count)]
        return items.reshape(shape)
    if kind.names is not None and kind.hasobject:
        record = np.zeros(count, kind)
        record["o"] = [str(at) for at in range(count)]
        return record.reshape(shape)
    if kind.kind in "SU":
        return np.arange(count).astype(kind).reshape(shape)
    if kind.kind in "V":
        raw = np.zeros(count * kind.itemsize, np.uint8)
        raw[::7] = 1
        return raw.view(kind).reshape(shape)
    if kind.kind in "mM":
        return (
            np.arange(count)
            .astype("i8")
            .view(kind.newbyteorder("="))
            .astype(kind)
            .reshape(shape)
        )
    return np.arange(count).astype(kind).reshape(shape)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[::2, 1::2],
    "reversed": lambda a: a[::-1, ::-1],
    "column": lambda a: a[:, 1],
    "0-d": lambda a: a[1, 1:2].reshape(()),
    "empty": lambda a: a[:0],
    "no columns": lambda a: a[:, :0],
    "3-d": lambda a: a.reshape(2, 3, 4).transpose(1, 0, 2),
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
}


def _read_only(array: Array) -> Array:
    array = array.view()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("guard", [lambda a: a, _read_only], ids=["rw", "ro"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_dtype_in_any_layout(
    dtype: Any, layout: str, guard: Callable[[Array], Array]
) -> None:
    array = guard(LAYOUTS[layout](make(dtype)))
    assert_same(send(array), array)


@pytest.mark.parametrize("guard", [lambda a: a, _read_only], ids=["rw", "ro"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f8", "M8[ns]", "U9", "?", RECORD, PADDED], ids=str)
def test_large_arrays_of_any_layout(
    dtype: Any, layout: str, guard: Callable[[Array], Array]
) -> None:
    array = np.tile(make(dtype, (60, 40)), (1, 1))
    if layout == "3-d":
        array = guard(array.reshape(30, 20, 4).transpose(1, 0, 2))
    else:
        array = guard(LAYOUTS[layout](np.tile(array, (10, 4))))
    assert_same(send(array), array)


def test_variable_length_strings() -> None:
    if not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"):
        pytest.skip("this NumPy has no StringDType")
    array = np.array(["a", "", "b" * 1000, "ü"] * 10, np.dtypes.StringDType())
    assert_same(send(array), array)
    assert_same(send(array[::-3]), array[::-3])


def test_a_dtype_with_metadata() -> None:
    array = np.zeros(3, np.dtype("i4", metadata={"unit": "m"}))
    assert_same(send(array), array)


@given(
    hnp.arrays(
        st.one_of(
            hnp.scalar_dtypes(),
            hnp.unicode_string_dtypes(),
            hnp.byte_string_dtypes(),
            hnp.array_dtypes(),
            hnp.nested_dtypes(),
        ),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    ),
    st.data(),
)
def test_any_array(array: Array, data: st.DataObject) -> None:
    if array.ndim:
        array = data.draw(
            st.one_of(
                st.just(array),
                st.just(array.T),
                st.just(array[::-1]),
                st.just(array[..., ::2]),
            )
        )
    assert_same(send(array), array)


# No copy.


def _copyless(array: Array) -> None:
    frame, (buffer,) = encode({"key": [array]}, "it")
    assert len(frame) < 1000
    assert np.shares_memory(np.frombuffer(buffer, np.uint8), array)
    memory = bytearray(buffer)
    again = decode(frame, [memory])["key"][0]
    assert_same(again, array)
    assert np.shares_memory(again, np.frombuffer(memory, np.uint8))


@pytest.mark.parametrize("dtype", ["f8", "M8[ns]", "m8[s]", "c16", "i8", "U2", "S8"])
def test_large_arrays_are_not_copied(dtype: str) -> None:
    _copyless(make(dtype, LARGE))
    _copyless(_read_only(make(dtype, LARGE)))


@pytest.mark.parametrize("dtype", [RECORD, PADDED], ids=str)
def test_large_structured_arrays_are_not_copied(dtype: Any) -> None:
    _copyless(make(dtype, LARGE))
    _copyless(_read_only(make(dtype, LARGE)))


def test_large_fortran_arrays_are_not_copied() -> None:
    _copyless(np.asfortranarray(make("f8", (300, 300))))
    _copyless(make("f8", (300, 20, 30)).T)


def test_a_contiguous_part_is_not_copied() -> None:
    whole = make("f8", (1000, 100))
    _copyless(whole[200:800])


@pytest.mark.parametrize(
    ("nbytes", "outside"), [(0, 0), (THRESHOLD - 1, 0), (THRESHOLD, 1)]
)
def test_the_threshold(nbytes: int, outside: int) -> None:
    frame, buffers = encode(np.ones(nbytes, np.uint8), "it")
    assert len(buffers) == outside
    assert (len(frame) > THRESHOLD - 1) == (0 < nbytes < THRESHOLD)


def test_the_source_is_not_changed_through_what_arrives() -> None:
    for array in (np.zeros(3), np.zeros(THRESHOLD)):
        again = send(array)
        again += 1
        assert not array.any()


def test_a_strided_array_is_copied_once_and_alone() -> None:
    whole = np.zeros((1000, 1000))
    _, (buffer,) = encode(whole[:, ::10], "it")
    assert memoryview(buffer).nbytes == whole.nbytes // 10


def test_a_read_only_source_stays_read_only() -> None:
    array = _read_only(np.zeros(THRESHOLD))
    assert send(array).flags.writeable
    assert not array.flags.writeable


# Other kinds of arrays.


@pytest.mark.parametrize("size", [5, THRESHOLD])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_masked_arrays(size: int, *, mask: bool, hard: bool) -> None:
    array = np.ma.MaskedArray(
        np.arange(size, dtype="f8"),
        mask=np.arange(size) % 3 == 0 if mask else np.ma.nomask,
        fill_value=-5.0,
        hard_mask=hard,
    )
    again = send(array)
    assert type(again) is np.ma.MaskedArray
    assert_same(again.data, array.data)
    assert np.array_equal(np.ma.getmaskarray(again), np.ma.getmaskarray(array))
    assert again.fill_value == -5.0
    assert again.hardmask is hard
    again.soften_mask()
    again[0] = 7.0
    assert again[0] == 7.0


def test_a_structured_masked_array() -> None:
    array: Any = np.ma.array(
        [(1, 2.0), (3, 4.0)],
        mask=[(True, False), (False, True)],
        dtype=[("a", "i4"), ("b", "f8")],
    )
    again = send(array)
    assert again.tolist() == array.tolist()
    assert again.dtype == array.dtype
    assert again.mask.dtype == array.mask.dtype


def test_a_masked_array_with_its_own_default_fill_value() -> None:
    again = send(np.ma.array([1, 2], mask=[False, True]))
    assert again._fill_value is None
    assert again.tolist() == [1, None]


def test_the_masked_constant_is_itself() -> None:
    assert send(np.ma.masked) is np.ma.masked


class Tagged(np.ndarray[Any, Any]):
    """A subclass."""


def test_subclasses_arrive_as_they_are() -> None:
    array = np.arange(6).reshape(2, 3).view(Tagged)
    again = send(array)
    assert type(again) is Tagged
    assert_same(again.view(np.ndarray), array.view(np.ndarray))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_mapped_file(tmp_path: Path, mode: Any) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.arange(THRESHOLD, dtype="f4"))
    array = np.load(path, mmap_mode=mode)
    assert_same(np.asarray(send(array)), np.asarray(array))


@pytest.mark.parametrize(
    "value",
    [np.float32(1.5), np.datetime64("2026-01-02", "us"), np.str_("x"), np.bool_(1)],
    ids=repr,
)
def test_scalars(value: Any) -> None:
    again = send(value)
    assert type(again) is type(value)
    assert again == value


# Arrays inside of something.


@dataclasses.dataclass
class Field:
    """An array in a record."""

    name: str
    values: Array


@pytest.mark.parametrize("size", [3, THRESHOLD])
def test_nested_arrays(size: int) -> None:
    array = np.arange(size, dtype="f8")
    value = {"list": [array, array * 2], "field": Field("x", array * 3)}
    again = send(value)
    assert again["field"].name == "x"
    for one, two in zip(
        [*again["list"], again["field"].values],
        [*value["list"], value["field"].values],  # type: ignore[attr-defined,misc]
        strict=True,
    ):
        assert_same(one, two)


def test_one_array_in_two_places_is_sent_once() -> None:
    array = np.zeros(THRESHOLD)
    frame, buffers = encode([array, array], "it")
    assert len(buffers) == 1
    first, second = decode(frame, [bytearray(buffers[0])])
    assert first is second


def test_arrays_of_a_closure_are_out_of_band() -> None:
    array = np.arange(float(THRESHOLD))
    frame, buffers = encode(lambda: array.sum(), "it")
    assert len(buffers) == 1
    assert len(frame) < 2000
    assert decode(frame, [bytearray(buffers[0])])() == array.sum()


def test_objects_in_an_array_of_objects() -> None:
    inner = np.arange(float(THRESHOLD))
    array = np.empty(2, object)
    array[:] = [inner, {"deep": inner * 2}]
    again = send(array)
    assert_same(again[0], inner)
    assert_same(again[1]["deep"], inner * 2)
