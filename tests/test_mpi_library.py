"""Why no MPI library could be loaded, in one line."""

from __future__ import annotations

import pytest

from mpitasks.wire.mpi_library import why_not

NONE = "cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("No module named 'mpi4py'", "No module named 'mpi4py'"),
        ("", "RuntimeError"),
        (f"cannot load\n/a/libmpi.so: {NONE}", f"cannot load /a/libmpi.so: {NONE}"),
        (
            f"cannot load\n/v/libmpi.so: {NONE}\nlibmpi.so.12: {NONE}",
            "cannot load: no /v/libmpi.so, no libmpi.so.12",
        ),
        (
            f"cannot load\n/v/libmpi.so: {NONE}\n/v/libmpi.so.12: file too short",
            "cannot load /v/libmpi.so.12: file too short",
        ),
    ],
)
def test_why_not(text: str, line: str) -> None:
    assert why_not(RuntimeError(text)) == line
