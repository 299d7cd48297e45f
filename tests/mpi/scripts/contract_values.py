"""Checks of what can be an argument and a result: it arrives equal, and writable."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from support import Occupied, double, echo, fresh

import mpitasks as mt

BIG = 40_000
"""Enough items for an array of any dtype below to travel out of band."""


class Colour(enum.IntEnum):
    """An enum, which is an int too."""

    RED = 1


@dataclasses.dataclass
class Sample:
    """A dataclass with an array in it."""

    name: str
    values: np.ndarray[Any, Any]
    more: dict[str, Any]


def _arrays(count: int) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield arrays of every kind with about so many items."""
    numbers = np.arange(count)
    for kind in "?bBhHiIlLqQefdgFDG":
        yield kind, numbers.astype(kind)
    yield "big-endian", numbers.astype(">f8")
    yield "datetime64[ns]", numbers.astype("M8[ns]")
    yield "datetime64 NaT", np.array(["NaT", "2026-01-01"] * (count // 2), "M8[D]")
    yield "timedelta64", numbers.astype("m8[s]")
    yield "unicode", numbers.astype("U7")
    yield "bytes", numbers.astype("S7")
    point = np.dtype([("x", "<f4"), ("n", "i2", (3,)), ("t", "M8[us]")])
    structured = np.zeros(count, point)
    structured["x"] = numbers
    yield "structured", structured
    yield "aligned", np.zeros(count, np.dtype([("a", "i1"), ("b", "f8")], align=True))
    yield "records", structured.view(np.recarray)
    yield "objects", np.array([str(number) for number in numbers] + [None], object)
    yield "void", np.zeros(count, "V5")
    square = np.arange(float(4 * count)).reshape(4, count)
    yield "2-d", square
    yield "Fortran", np.asfortranarray(square)
    yield "Fortran 3-d", np.asfortranarray(square.reshape(2, 2, count))
    yield "transposed", square.reshape(2, 2, count).transpose(1, 0, 2)
    yield "strided", square[::2, ::3]
    yield "reversed", numbers[::-1]
    yield "broadcast", np.broadcast_to(np.float64(3), (2, count))
    frozen = numbers * 2
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "view", np.arange(count + 10)[5:-5]
    yield "field", structured["x"]
    yield "masked", np.ma.masked_less(numbers, count // 2)
    yield "masked 2-d", np.ma.masked_equal(square, 3.0)
    yield "no mask", np.ma.masked_array(numbers)
    if hasattr(np.dtypes, "StringDType"):
        yield "StringDType", np.array(["a" * 40, "b"] * count, np.dtypes.StringDType())


def _small_arrays() -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    yield "0-d", np.array(3.5)
    yield "0-d datetime", np.array("2026-01-01", "M8[s]")
    yield "0-d structured", np.zeros((), [("a", "i4")])
    yield "empty", np.array([])
    yield "empty 2-d", np.zeros((3, 0, 2), "i2")
    yield "empty Fortran", np.zeros((0, 3), order="F")
    yield "empty structured", np.zeros(0, [("a", "i4"), ("b", "O")])
    yield "empty masked", np.ma.masked_array([])
    yield "no itemsize", np.zeros(4, "U0")
    yield "all of all", np.ma.masked_all(3)


def _write_back(values: Any) -> tuple[Any, bool, int]:
    """Task: return the array, whether it is writable, and its address's remainder."""
    return values, values.flags.writeable, values.ctypes.data % 8


def _assert_same(sent: Any, back: Any, name: str) -> None:
    assert type(back) is type(sent), (name, type(back))
    assert back.dtype == sent.dtype, (name, back.dtype)
    assert back.shape == sent.shape, (name, back.shape)
    assert back.flags.writeable, name
    if sent.flags.f_contiguous and not sent.flags.c_contiguous:
        assert back.flags.f_contiguous, f"{name} is not in Fortran order any more"
    if isinstance(sent, np.ma.MaskedArray):
        assert (np.ma.getmaskarray(back) == np.ma.getmaskarray(sent)).all(), name
        assert (back.compressed() == sent.compressed()).all(), name
        assert back.fill_value == sent.fill_value, name
        return
    np.testing.assert_array_equal(back, sent, err_msg=name, strict=True)


def _check_arrays(ex: mt.Executor, arrays: list[tuple[str, Any]]) -> None:
    futures = [ex.submit(_write_back, values) for _, values in arrays]
    for (name, values), future in zip(arrays, futures, strict=True):
        back, writable, remainder = future.result(120)
        assert writable, f"{name} is read-only in the task"
        assert values.dtype.alignment < 8 or not remainder, f"{name} is not aligned"
        _assert_same(values, back, name)
    for (name, values), back in zip(
        arrays, ex.map(echo, [v for _, v in arrays]), strict=True
    ):
        _assert_same(values, back, f"{name} in a map")


def check_arrays(ex: mt.Executor) -> None:
    _check_arrays(ex, list(_arrays(10)))


def check_large_arrays(ex: mt.Executor) -> None:
    _check_arrays(ex, list(_arrays(BIG)))


def check_small_arrays(ex: mt.Executor) -> None:
    _check_arrays(ex, list(_small_arrays()))


def check_arrays_around_the_threshold(ex: mt.Executor) -> None:
    for nbytes in (65535, 65536, 65537, 1 << 20, (16 << 20) + 3):
        values = np.arange(nbytes, dtype=np.uint8)
        back = ex.submit(double, values).result(120)
        assert (back == 2 * values).all()
        back.fill(1)


def check_arrays_nested(ex: mt.Executor) -> None:
    values = np.arange(BIG)
    sample = Sample("s", values, {"again": values, "list": [values[:5], {"t": (1,)}]})
    back = ex.submit(echo, sample).result(120)
    assert type(back) is Sample
    assert back.values is back.more["again"]
    _assert_same(values, back.values, "nested")
    _assert_same(values[:5], back.more["list"][0], "deeply nested")
    assert back.more["list"][1] == {"t": (1,)}


def check_many_arrays_at_once(ex: mt.Executor) -> None:
    blocks = [np.full(30_000, n) for n in range(60)]
    futures = [ex.submit(double, block) for block in blocks]
    for number, future in enumerate(futures):
        assert (future.result(120) == 2 * number).all()
    pieces = [np.full(3, n) for n in range(2000)]
    back = ex.submit(echo, pieces).result(120)
    assert [int(piece[0]) for piece in back] == list(range(2000))
    assert sum(map(int, ex.map(np.sum, blocks))) == 30_000 * sum(range(60))


def check_large_frames(ex: mt.Executor) -> None:
    words = [f"{number:0200}" for number in range(100_000)]
    assert ex.submit(len, words).result(120) == len(words)
    assert ex.submit(_words, len(words)).result(120) == words


def _words(count: int) -> list[str]:
    return [f"{number:0200}" for number in range(count)]


def check_sent_is_a_copy(ex: mt.Executor) -> None:
    values = np.zeros(5)
    numbers = [1, 2, 3]
    with Occupied(ex):
        futures = ex.submit(fresh(np.sum), values), ex.submit(fresh(sum), numbers)
        values += 1
        numbers.append(4)
    assert futures[0].result(120) == 0
    assert futures[1].result(120) == 6


def _reusing(values: Any, count: int) -> Iterator[Any]:
    """Yield the same object again and again, with another number in it."""
    for number in range(count):
        values[0] = number
        yield values


def _first(values: Any, *more: int) -> int:
    return int(values[0])


def check_arguments_that_are_used_again(ex: mt.Executor) -> None:
    for values in (np.zeros(BIG), np.zeros(3), [0], bytearray(4 * BIG)):
        expected = list(range(50))
        futures = [ex.submit(_first, one) for one in _reusing(values, 50)]
        values[0] = 77
        assert [future.result(120) for future in futures] == expected
        isolated = ex.with_options(isolate=True, retries=1)
        futures = [isolated.submit(_first, one) for one in _reusing(values, 9)]
        assert [future.result(120) for future in futures] == expected[:9]
        assert list(ex.map(_first, _reusing(values, 50))) == expected
        assert list(ex.map(_first, _reusing(values, 50), buffersize=3)) == expected
        assert list(ex.map(_first, _reusing(values, 50), range(50))) == expected
        pairs = ((one, 1) for one in _reusing(values, 50))
        assert list(ex.starmap(_first, pairs, chunksize=7)) == expected
        assert sorted(ex.map_unordered(_first, _reusing(values, 50))) == [
            (at, at) for at in expected
        ]


_used_again: dict[str, Any] = {
    "large": np.zeros(BIG),
    "small": np.zeros(3),
    "list": [0],
    "bytes": bytearray(4 * BIG),
}


def _fill(number: int, kind: str) -> Any:
    _used_again[kind][0] = number % 256
    return _used_again[kind]


def check_results_that_are_used_again(ex: mt.Executor) -> None:
    for kind in _used_again:
        expected = list(range(50))
        kinds = [kind] * 50
        futures = [ex.submit(_fill, number, kind) for number in range(50)]
        assert [future.result(120)[0] for future in futures] == expected
        for results in (
            ex.map(_fill, range(50), kinds),
            ex.map(_fill, range(50), kinds, chunksize=25, retries=1),
            ex.map(_fill, range(50), kinds, chunksize=1),
            ex.map(_fill, range(50), kinds, isolate=True),
        ):
            assert [int(result[0]) for result in results] == expected


def check_task_has_its_own_copy(ex: mt.Executor) -> None:
    large, small = np.zeros(BIG), np.zeros(3)
    back = ex.submit(_increase, [large, small]).result(120)
    assert not large.any()
    assert not small.any()
    assert (back[0] == 1).all()
    assert (back[1] == 1).all()
    kept = ex.submit(_remember).result(120)
    kept += 1
    assert set(ex.map(_remembered, range(20))) <= {0.0}


def _increase(arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    for values in arrays:
        values += 1
    return arrays


_kept = np.zeros(BIG)


def _remember() -> np.ndarray[Any, Any]:
    return _kept


def _remembered(_: int) -> float:
    return float(_kept.max())


def check_plain_values_keep_their_types(ex: mt.Executor) -> None:
    now = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
    values: list[Any] = [
        None,
        True,
        Ellipsis,
        NotImplemented,
        0,
        -(10**5000),
        -0.0,
        math.inf,
        1 + 2j,
        "",
        "\udcff\N{SNOWMAN}",
        "x" * 100_000,
        b"",
        b"x" * 100_000,
        bytearray(b"12"),
        bytearray(100_000),
        range(3),
        slice(1, None),
        {1, 2},
        frozenset("ab"),
        collections.Counter("aab"),
        collections.deque([1], maxlen=2),
        collections.OrderedDict(b=1, a=2),
        array.array("d", [1.5]),
        decimal.Decimal("1.10"),
        now,
        pathlib.PurePosixPath("/a"),
        Colour.RED,
        np.float32(1.5),
        np.datetime64("2026-01-01"),
        np.True_,
        np.dtype("f4,i2"),
        int,
        len,
        {"nested": [{"deep": ({},)}]},
    ]
    futures = [ex.submit(echo, value) for value in values]
    for value, future in zip(values, futures, strict=True):
        back = future.result(120)
        assert type(back) is type(value), (value, back)
        assert back == value
    for value, back in zip(values, ex.map(echo, values), strict=True):
        assert type(back) is type(value), (value, back)
        assert back == value
    assert math.copysign(1, ex.submit(echo, -0.0).result(120)) == -1
    assert math.isnan(ex.submit(echo, math.nan).result(120))


def check_bytearrays_are_writable(ex: mt.Executor) -> None:
    back = ex.submit(_first_byte_seven, bytearray(1_000_000)).result(120)
    assert type(back) is bytearray
    assert back[0] == 7
    back[0] = 8
    assert len(back) == 1_000_000


def _first_byte_seven(values: bytearray) -> bytearray:
    values[0] = 7
    return values


def check_pandas(ex: mt.Executor) -> None:
    import pandas as pd

    for count in (3, BIG):
        frame = pd.DataFrame(
            {
                "x": np.arange(count, dtype=float),
                "t": pd.date_range("2026-01-01", periods=count, freq="min"),
                "s": [f"name {n % 5}" for n in range(count)],
                "c": pd.Categorical([n % 3 for n in range(count)]),
            }
        )
        back = ex.submit(_double_x, frame).result(120)
        pd.testing.assert_frame_equal(back, frame.assign(x=2 * frame["x"]))
        back.loc[0, "x"] = 9.0
        series = ex.submit(echo, frame["x"]).result(120)
        pd.testing.assert_series_equal(series, frame["x"])


def _double_x(frame: Any) -> Any:
    frame["x"] *= 2
    return frame


def check_pyarrow(ex: mt.Executor) -> None:
    import pyarrow as pa

    for count in (3, BIG):
        table = pa.table(
            {"n": np.arange(count), "s": [None, *map(str, range(count - 1))]}
        )
        assert ex.submit(echo, table).result(120).equals(table)
        assert ex.submit(_column, table).result(120).equals(table["n"])


def _column(table: Any) -> Any:
    return table["n"]


def check_random_generators(ex: mt.Executor) -> None:
    generator = np.random.default_rng(5)
    assert ex.submit(_draw, generator).result(120) == _draw(generator)


def _draw(generator: np.random.Generator) -> float:
    return float(generator.random())
