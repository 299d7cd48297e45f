"""Data frames and tables: they arrive equal, and their columns without a copy."""

from __future__ import annotations

import numpy as np
import pytest

from mpitasks.wire.codec import THRESHOLD, encode
from sending import send

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")


@pytest.mark.parametrize("rows", [0, 5, THRESHOLD])
def test_a_pandas_frame(rows: int) -> None:
    frame = pandas.DataFrame(
        {
            "number": np.arange(rows, dtype="f8"),
            "date": pandas.date_range("2026-01-01", periods=rows, freq="s"),
            "text": [str(at % 10) for at in range(rows)],
            "kind": pandas.Categorical([str(at % 3) for at in range(rows)]),
            "flag": np.arange(rows) % 2 == 0,
        }
    )
    again = send(frame)
    pandas.testing.assert_frame_equal(again, frame)
    again.loc[:, "number"] = 1.0
    assert (again["number"] == 1.0).all()


def test_the_numbers_of_a_pandas_frame_are_not_copied() -> None:
    frame = pandas.DataFrame(np.zeros((THRESHOLD, 3)))
    pickled, buffers = encode(frame, "it")
    source = frame.to_numpy()
    assert len(pickled) < 2000
    assert any(
        np.shares_memory(np.frombuffer(buffer, np.uint8), source) for buffer in buffers
    )


@pytest.mark.parametrize("rows", [0, 5, THRESHOLD])
def test_a_pyarrow_table(rows: int) -> None:
    table = pyarrow.table(
        {"n": pyarrow.array(range(rows)), "t": [str(at) for at in range(rows)]}
    )
    assert send(table).equals(table)


def test_the_columns_of_a_pyarrow_table_are_not_copied() -> None:
    table = pyarrow.table({"n": np.arange(THRESHOLD)})
    pickled, buffers = encode(table, "it")
    assert len(pickled) < 2000
    (source,) = [part for part in table["n"].chunk(0).buffers() if part is not None]
    addresses = [np.frombuffer(b, np.uint8).ctypes.data for b in buffers]
    assert source.address in addresses
